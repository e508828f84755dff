//! The article's API: what a like is to do, over HTTP.

use like_tests::gateway::{Gateway, Plan, like, unlike};
use like_tests::house::{House, Service};
use like_tests::http::Request;
use like_tests::process::eventually;
use like_tests::promises;
use serde_json::json;

use crate::{PROGRAM, opened, opened_as};

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

#[test]
fn a_like_answers_with_the_article_its_current_likes_and_the_record() {
    let (house, gateway) = opened();
    gateway.like(1, 7).expect(200);
    let answer = gateway.like(1, 8).expect(200).json();
    assert_eq!((&answer["article_id"], &answer["current_likes"]), (&1.into(), &2.into()), "{answer}");
    assert_eq!(answer["user_record_id"], answer["saga_id"], "a like record is named by its saga");
    assert_eq!(answer.as_object().expect("an object").len(), 4, "{answer}");
    let records = gateway.get("/users/8/likes").expect(200).json();
    assert_eq!(records[0]["user_record_id"], answer["user_record_id"]);
    assert_eq!(gateway.likes(1), 2);
    promises::kept(&house);
}

#[test]
fn a_user_service_that_fails_answers_500_and_leaves_the_likes_as_they_were() {
    let (mut house, gateway) = opened_as(&Plan::with(&["--timeout", "1s"]));
    gateway.like(1, 6).expect(200);
    house.kill(Service::User);
    // One whose deadline came before it was sent anywhere has met no service.
    eventually("a like that meets the service that is down", || {
        let problem = gateway.like(1, 7).problem(500, "compensated");
        let saga = problem["saga_id"].as_str().expect("the saga is named");
        assert_eq!(gateway.likes(1), 1, "the article is as it was while the user service is still down");
        assert_eq!(house.json(&["saga", "show", saga])["state"], "compensated");
        let listed = gateway.get("/sagas?state=compensated").expect(200).json();
        let why = listed[0]["last_failure"].as_str().expect("a list says why a saga was undone");
        why.contains("the user service").then_some(())
    });
    house.start(Service::User);
    promises::kept(&house);
    assert_eq!((house.likes(1), house.records(1)), (1, 1));
}

#[test]
fn a_service_that_cannot_be_reached_answers_503_and_no_saga_is_begun() {
    let mut house = House::with_article(PROGRAM);
    house.kill(Service::User);
    let gateway = Gateway::open(&house);
    let answer = gateway.like(1, 7);
    assert_eq!(answer.header("retry-after"), Some("1"));
    answer.problem(503, "unavailable");
    gateway.get("/users/7/likes").problem(503, "unavailable");
    assert_eq!(house.json(&["saga", "list"]), json!([]));
    house.start(Service::User);
    gateway.like(1, 7).expect(200);
    promises::kept(&house);
}

/// What was lost of a question is lost; of a command nobody knows whether it was carried out.
#[test]
fn a_question_without_a_reply_can_be_asked_again_and_a_command_must_be_looked_after() {
    let (house, gateway) = opened();
    house.freeze(Service::Article);
    let answer = gateway.get("/articles/1");
    assert_eq!(answer.header("retry-after"), Some("1"));
    answer.problem(503, "unavailable");
    gateway.post("/articles", &json!({ "title": "Perhaps" })).problem(502, "unknown");
    house.thaw(Service::Article);
    gateway.get("/articles/1").expect(200);
}

#[test]
fn a_like_whose_outcome_is_not_known_answers_202_with_its_saga() {
    let (house, gateway) = opened_as(&Plan::with(&["--timeout", "700ms"]));
    gateway.until(200, &like(1, 6));
    house.freeze(Service::User);
    let answer = gateway.until(202, &like(1, 7));
    let pending = answer.json();
    let saga = pending["saga_id"].as_str().expect("the saga is named");
    assert_eq!(answer.header("location"), Some(format!("/sagas/{saga}").as_str()));
    assert_eq!(pending["saga"], format!("/sagas/{saga}"));
    house.thaw(Service::User);
    eventually("the end of the saga", || {
        (house.json(&["saga", "show", saga])["state"] == "compensated").then_some(())
    });
    promises::kept(&house);
}

#[test]
fn who_speaks_must_be_said_and_be_a_number() {
    let (_house, gateway) = opened();
    gateway.send(&Request::new("POST", "/articles/1/like")).problem(422, "invalid");
    gateway.send(&Request::new("DELETE", "/articles/1/like")).problem(422, "invalid");
    for bad in ["", "alice", "-1", "7.0"] {
        let request = Request::new("POST", "/articles/1/like").header("X-User-ID", bad);
        gateway.send(&request).problem(422, "invalid");
    }
    assert_eq!(gateway.likes(1), 0);
}

#[test]
fn rules_are_told_by_their_statuses() {
    let (house, gateway) = opened();
    gateway.like(2, 7).problem(404, "not_found");
    gateway.send(&unlike(2, 7)).problem(404, "not_found");
    gateway.send(&unlike(1, 7)).problem(409, "not_liked");
    gateway.like(1, 7).expect(200);
    let problem = gateway.like(1, 7).problem(409, "already_liked");
    assert!(problem["saga_id"].is_string(), "{problem}");
    let gone = gateway.send(&unlike(1, 7)).expect(200).json();
    assert_eq!((&gone["article_id"], &gone["current_likes"]), (&1.into(), &0.into()));
    gateway.like(1, 7).expect(200);
    gateway.like(1, 8).expect(200);
    assert_eq!((gateway.likes(1), house.records(1)), (2, 2));
    promises::kept(&house);
}

#[test]
fn a_retry_with_the_same_key_gets_the_first_answer_from_another_gateway_too() {
    let (house, gateway) = opened();
    gateway.article(2);
    let request = like(1, 7).header("Idempotency-Key", KEY);
    let first = gateway.send(&request).expect(200).json();
    gateway.like(1, 8).expect(200);
    assert_eq!(gateway.send(&request).expect(200).json(), first);
    let quoted = like(1, 7).header("Idempotency-Key", format!("\"{KEY}\""));
    assert_eq!(gateway.send(&quoted).expect(200).json(), first);
    gateway.send(&like(2, 7).header("Idempotency-Key", KEY)).problem(422, "invalid");
    gateway.send(&unlike(1, 7).header("Idempotency-Key", KEY)).problem(422, "invalid");
    gateway.send(&like(2, 7).header("Idempotency-Key", "order-1")).problem(422, "invalid");
    let again = unlike(1, 8).header("Idempotency-Key", KEY.replace('8', "9"));
    let gone = gateway.send(&again).expect(200).json();
    gateway.like(1, 8).expect(200);
    assert_eq!(gateway.send(&again).expect(200).json(), gone);
    gateway.kill();

    let gateway = Gateway::open(&house);
    assert_eq!(gateway.send(&request).expect(200).json(), first);
    // And from the command line.
    assert_eq!(house.json(&["like", "1", "--user", "7", "--key", KEY]), first);
    assert_eq!(gateway.likes(1), 2);
    promises::kept(&house);
}

#[test]
fn articles_are_made_read_and_listed() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let made = gateway.post("/articles", &json!({ "title": "Über Sagas" })).expect(201);
    assert_eq!(made.header("location"), Some("/articles/1"));
    assert_eq!(made.json(), json!({ "article_id": 1, "title": "Über Sagas", "likes": 0, "pending": 0 }));
    gateway.post("/articles", &json!({ "article_id": 5, "title": "Five" })).expect(201);
    gateway.post("/articles", &json!({ "article_id": 5, "title": "Five" })).problem(409, "already_exists");
    gateway.post("/articles", &json!({ "title": "" })).problem(422, "invalid");
    gateway.post("/articles", &json!({ "title": "x".repeat(256) })).problem(422, "invalid");
    gateway.like(5, 7).expect(200);
    let all = gateway.get("/articles").expect(200).json();
    let numbers = |page: &serde_json::Value| -> Vec<u64> {
        let rows = page.as_array().expect("a list").iter();
        rows.map(|article| article["article_id"].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers(&all), [1, 5]);
    assert_eq!(all[1]["likes"], 1);
    assert_eq!(numbers(&gateway.get("/articles?limit=1").expect(200).json()), [1]);
    assert_eq!(numbers(&gateway.get("/articles?after=1").expect(200).json()), [5]);
    gateway.get("/articles/2").problem(404, "not_found");
    gateway.get("/articles/two").problem(422, "invalid");
    gateway.get("/articles?limit=many").problem(422, "invalid");
    gateway.get("/articles?colour=red").problem(422, "invalid");
    let likers = gateway.get("/articles/5/likes").expect(200).json();
    assert_eq!((&likers[0]["user_id"], &likers[0]["article_id"]), (&7.into(), &5.into()));
    assert!(likers[0]["created_at"].as_str().expect("a time").ends_with('Z'));
}

#[test]
fn a_page_has_as_many_rows_as_were_asked_for_though_a_service_gives_fewer_at_a_time() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let file = house.path().join("likes.csv");
    let mut likes: String = (1..=300).map(|article| format!("7,{article}\n")).collect();
    likes.extend((8..=306).map(|user| format!("{user},1\n")));
    std::fs::write(&file, likes).expect("a file");
    house.json(&["import", "--create-articles", file.to_str().expect("a path")]);
    for (list, id) in
        [("articles", "article_id"), ("users/7/likes", "article_id"), ("articles/1/likes", "user_id")]
    {
        let page = |query: &str| {
            let page = gateway.get(&format!("/{list}?{query}")).expect(200).json();
            let rows = page.as_array().expect("a list").iter();
            rows.map(|row| row[id].as_u64().expect("a number")).collect::<Vec<_>>()
        };
        let all = page("limit=1000");
        assert_eq!(all.len(), 300, "{list}");
        assert_eq!(page("limit=299"), all[..299], "{list}");
        assert_eq!(page(&format!("limit=299&after={}", all[0])), all[1..], "{list}");
    }
}
