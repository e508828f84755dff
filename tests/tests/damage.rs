//! Damaged rows in real stores: the daemons start, name them, and serve everything else.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::fs;

use like_protocol::failpoint::Failpoint;
use like_tests::house::{House, Service};
use like_tests::process::{Armed, Fault, Running, eventually};
use like_tests::promises;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

fn key(tag: u8, numbers: &[u64]) -> Vec<u8> {
    [tag].into_iter().chain(numbers.iter().flat_map(|number| number.to_be_bytes())).collect()
}

fn house_with_likes() -> House {
    let house = House::open(PROGRAM);
    for article in 1..=3 {
        house.article(article);
        for user in ["1", "2"] {
            house.json(&["like", &article.to_string(), "--user", user]);
        }
    }
    house
}

/// The damaged rows that a service's status names.
fn damaged(house: &House, service: usize) -> Vec<Value> {
    let status = house.json(&["status"]);
    let rows = status["services"][service]["damaged_rows"].as_array().expect("a list").clone();
    assert_eq!(status["services"][service]["damaged"], rows.len());
    rows
}

#[test]
fn a_damaged_article_and_a_damaged_like_record_cost_nobody_else_anything() {
    let mut house = house_with_likes();
    house.damage(Service::Article, &key(0x11, &[2]));
    house.damage(Service::User, &key(0x10, &[2, 1]));
    let log = fs::read_to_string(house.path().join("article.log")).expect("a log");
    assert!(log.contains("the count of article 2") && log.contains("110000000000000002"), "{log}");
    assert_eq!(damaged(&house, 0)[0]["what"], "the count of article 2");
    assert_eq!(damaged(&house, 1)[0]["what"], "the like record of user 2 on article 1");

    house.json(&["like", "1", "--user", "3"]);
    house.json(&["unlike", "3", "--user", "1"]);
    for refused in
        [&["like", "2", "--user", "3"][..], &["unlike", "1", "--user", "2"], &["article", "show", "2"]]
    {
        let told =
            house.likectl(&[&["--json"][..], refused].concat()).expect_code(7).error()["error"].clone();
        assert_eq!((&told["kind"], &told["saga_id"]), (&json!("damaged"), &Value::Null), "{told}");
    }
    let listed = house.json(&["article", "list"]);
    assert_eq!((&listed[0]["likes"], &listed[2]["likes"]), (&json!(3), &json!(1)));
    assert!(listed[1]["damaged"].is_string(), "{listed}");
    let likers = house.json(&["article", "likers", "1"]);
    assert_eq!(likers[1]["user_record_id"], Value::Null);
    assert!(likers[0]["user_record_id"].is_string() && likers[2]["user_record_id"].is_string());

    for list in [&["article", "list"][..], &["article", "likers", "1"]] {
        let told = house.likectl(list).expect_code(0).stdout;
        assert!(told.contains("  damaged\n") && !told.contains('\u{fffd}'), "{told}");
    }

    let audit = house.likectl(&["--json", "audit"]).expect_code(7);
    let found = audit.json();
    assert_eq!((&found["articles_checked"], &found["drift"]), (&json!(1), &json!([])), "{found}");
    assert_eq!(found["damaged"].as_array().expect("a list").len(), 2, "{found}");
    promises::every_saga_has_ended(&house);
}

#[test]
fn a_damaged_operation_record_costs_its_saga_alone_and_goes_by_force() {
    let mut house = house_with_likes();
    let mut command = house.command(&["--json", "unlike", "3", "--user", "2"]);
    let armed = Armed::arm(&mut command, house.path(), &[Fault::Stop(Failpoint::ActionSentWritten, 2)]);
    let like = Running::start(&mut command);
    eventually("a runner that stops in the middle", || like.is_stopped().then_some(()));
    assert!(armed.all_fired());
    let saga = house.json(&["saga", "list", "--state", "running"])[0]["saga_id"].clone();
    let saga = saga.as_str().expect("an id").to_owned();
    like.kill();
    let bytes = u128::from_str_radix(&saga.replace('-', ""), 16).expect("a UUID").to_be_bytes();
    house.damage(Service::User, &[&[1][..], &bytes, &[0]].concat());
    let row = &damaged(&house, 1)[0];
    assert_eq!((row["saga_id"].as_str(), &row["step"]), (Some(&*saga), &json!(0)), "{row}");

    // Another like goes its way, and finishes what the dead runner left as far as it goes.
    house.json(&["like", "3", "--user", "8"]);
    eventually("all settled but this one", || {
        house.likectl(&["--json", "--timeout", "2s", "recover"]);
        let all = house.json(&["saga", "list"]);
        let unsettled = all.as_array().expect("a list").iter().filter(|saga| saga["settled"] == false);
        (unsettled.count() == 1).then_some(())
    });
    assert_eq!((house.likes(3), house.records(3)), (2, 2), "what it had done stands, so it completed");
    let shown = house.json(&["saga", "show", &saga]);
    assert_eq!((&shown["state"], &shown["settled"]), (&json!("completed"), &json!(false)), "{shown}");

    house.json(&["saga", "force", &saga, "--as", "completed", "--reason", "its record is damaged"]);
    assert_eq!(house.json(&["saga", "show", &saga])["settled"], true);
    assert!(damaged(&house, 1).is_empty());
    promises::kept(&house);
}
