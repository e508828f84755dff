//! What a like is to do, point by point, on real processes.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::time::Duration;

use like_protocol::failpoint::Failpoint;
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::article::ArticleOperation;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId};
use like_protocol::message::{Direction, ReplyBody, RequestBody, StepReply, StepRequest};
use like_tests::house::{House, Service, in_time};
use like_tests::process::{Armed, Ended, Fault, Running, eventually};
use like_tests::promises;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// A like of `user` that stops dead once its beginning is durable, before anything is sent. Nothing if it had no time to
/// hear from the services before.
fn like_stopped_at_begin(house: &House, arguments: &[&str]) -> Option<Running> {
    let mut command = house.command(arguments);
    let fault = Fault::Stop(Failpoint::BeginSynced, 1);
    let armed = Armed::arm(&mut command, house.path(), &[fault]);
    let mut running = Running::start(&mut command);
    eventually("a runner that stops at its beginning", || {
        (running.is_stopped() || running.has_ended()).then_some(())
    });
    if !armed.all_fired() {
        running.end().expect_code(8);
        return None;
    }
    Some(running)
}

fn go_on(running: &Running) {
    running.signal(rustix::process::Signal::CONT);
}

#[test]
fn success_answers_with_the_article_its_current_likes_and_the_record() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    let answer = house.json(&["like", "1", "--user", "8"]);
    assert_eq!(answer["article_id"], 1);
    assert_eq!(answer["current_likes"], 2);
    assert_eq!(answer["user_record_id"], answer["saga_id"], "a like record is named by its saga");
    let records = house.json(&["user", "likes", "8"]);
    assert_eq!(records[0]["user_record_id"], answer["user_record_id"]);
    assert_eq!(house.likes(1), 2);
    promises::kept(&house);
}

#[test]
fn an_unlike_takes_the_like_back() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    let answer = house.json(&["unlike", "1", "--user", "7"]);
    assert_eq!((&answer["article_id"], &answer["current_likes"]), (&1.into(), &0.into()));
    assert_eq!((house.likes(1), house.records(1)), (0, 0));
    house.json(&["like", "1", "--user", "7"]);
    assert_eq!((house.likes(1), house.records(1)), (1, 1));
    promises::kept(&house);
}

#[test]
fn a_user_service_that_answers_with_an_error_leaves_the_likes_as_they_were() {
    let house = House::with_article(PROGRAM);
    // Both likes pass the checks before either has run; the user service takes only one of them.
    let late = like_stopped_at_begin(&house, &["--json", "--timeout", "10m", "like", "1", "--user", "7"]);
    let late = late.expect("services that answer");
    house.json(&["like", "1", "--user", "7"]);
    assert_eq!(house.likes(1), 1);
    go_on(&late);
    let ended = late.end().expect_code(4);
    let error = &ended.error()["error"];
    assert_eq!(error["kind"], "already_liked", "{ended:?}");
    assert_eq!((house.likes(1), house.records(1)), (1, 1));

    let saga = house.json(&["saga", "show", error["saga_id"].as_str().expect("the saga is named")]);
    assert_eq!(saga["state"], "compensated");
    assert_eq!(saga["steps"][0]["action"], "done", "{saga}");
    assert_eq!(saga["steps"][0]["compensation"], "done", "{saga}");
    promises::kept(&house);
}

#[test]
fn a_user_service_that_dies_leaves_the_likes_as_they_were() {
    let mut house = House::with_article(PROGRAM);
    let kill = |house: &mut House| house.kill(Service::User);
    let (ended, saga) = done_and_undone_at_article(&mut house, Duration::from_secs(1), 5, kill);
    assert_eq!(ended.error()["error"]["kind"], "compensated", "{ended:?}");
    assert_eq!(house.likes(1), 0, "the article is as it was while the user service is still down");
    assert_eq!(saga["state"], "compensated");
    assert_eq!(saga["steps"][1]["compensation"], Value::Null, "never sent: nothing to undo: {saga}");
    house.start(Service::User);
    promises::kept(&house);
}

/// A like that has time for the article's step, and to undo it, while the user service is struck before anything is sent: how it
/// ended, with this code, and its saga. Whoever had too little time tries again.
fn done_and_undone_at_article(
    house: &mut House,
    first: Duration,
    code: i32,
    strike: impl Fn(&mut House),
) -> (Ended, Value) {
    in_time("a like that has time for one step", first, |timeout| {
        let like =
            like_stopped_at_begin(house, &["--json", "--timeout", timeout, "like", "1", "--user", "7"])?;
        strike(house);
        go_on(&like);
        let ended = like.end();
        let saga =
            house.json(&["saga", "show", ended.error()["error"]["saga_id"].as_str().expect("its saga")]);
        if ended.code() == Some(code) && done_at_article(&saga) == ["main", "compensation"] {
            return Some((ended, saga));
        }
        // It was given up all the same, or is told to be unfinished.
        assert!(matches!(ended.code(), Some(5 | 6)), "{ended:?}");
        if house.runs(Service::User) {
            house.kill(Service::User);
        }
        house.start(Service::User);
        promises::kept(house);
        assert_eq!((house.likes(1), house.records(1)), (0, 0));
        house.turn_page();
        None
    })
}

/// What was done at the article service for a saga.
fn done_at_article(saga: &Value) -> Vec<&str> {
    let events = saga["events"].as_array().expect("events").iter();
    let done = events.filter(|event| event["service"] == "article" && event["status"] == "done");
    done.map(|event| event["action_type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn a_repeated_compensation_undoes_once() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    let context = house.context();
    let article = context.participants.find(ARTICLE_ROLE).expect("known");
    let connection = article.connect(Duration::from_secs(5)).await.expect("reachable");
    let id = StepId { saga: SagaId::generate(), step: 0 };
    let operation = like_protocol::codec::encode(&ArticleOperation::AddLike(ArticleId(1))).expect("encodes");
    let deadline = context.clock.now().deadline_in(Duration::from_secs(60));
    let send = |direction| {
        let step = StepRequest { id, direction, deadline, operation: operation.clone() };
        connection.call(RequestBody::Step(step), Duration::from_secs(5))
    };
    assert!(matches!(send(Direction::Action).await, Ok(ReplyBody::Step(StepReply::Done(_)))));
    assert_eq!(house.likes(1), 2);
    for _ in 0..5 {
        let undone = send(Direction::Compensation).await;
        assert!(matches!(undone, Ok(ReplyBody::Step(StepReply::Undone))), "{undone:?}");
        assert_eq!(house.likes(1), 1);
    }
    let late = send(Direction::Action).await;
    assert!(
        matches!(late, Ok(ReplyBody::Step(StepReply::Refused(_)))),
        "a late action must not hang: {late:?}"
    );
    assert_eq!(house.likes(1), 1);
}

#[test]
fn a_saga_times_out() {
    let mut house = House::with_article(PROGRAM);
    let freeze = |house: &mut House| house.freeze(Service::User);
    // The user service may have the request in its hands: the caller is told that the outcome stands in the log.
    let (ended, _) = done_and_undone_at_article(&mut house, Duration::from_millis(500), 6, freeze);
    assert_eq!(ended.error()["error"]["kind"], "unfinished");
    assert_eq!(house.likes(1), 0, "turned back after its deadline, and the article compensated");
    house.thaw(Service::User);
    promises::kept(&house);
    assert_eq!((house.likes(1), house.records(1)), (0, 0));
    house.kill(Service::User);
}

#[test]
fn what_hangs_is_finished_by_the_recovery_service() {
    let house = House::with_article(PROGRAM);
    let mut watch = house.command(&["--json", "recover", "--watch"]);
    let watch = Running::start(&mut watch);
    let mut command = house.command(&["like", "1", "--user", "7"]);
    let armed = Armed::arm(&mut command, house.path(), &[Fault::Kill(Failpoint::ActionOutcomeAppended, 1)]);
    let died = Running::start(&mut command).end();
    assert!(died.was_killed() && armed.all_fired(), "{died:?}");
    eventually("the like of a dead runner", || (house.records(1) == 1).then_some(()));
    eventually("its end on record", || {
        let sagas = house.json(&["saga", "list", "--state", "completed"]);
        (sagas.as_array().expect("a list").len() == 1).then_some(())
    });
    assert_eq!(house.likes(1), 1);
    watch.kill();
    promises::kept(&house);
}

#[test]
fn an_operator_is_alerted_when_a_compensation_keeps_failing() {
    let mut house = House::with_article(PROGRAM);
    stuck(&mut house);
    let recovered = house.likectl(&["--json", "--timeout", "10m", "recover"]).expect_code(7);
    assert_eq!(recovered.json()["needs_attention"], 1, "{recovered:?}");
    let check = house.likectl(&["--json", "check"]).expect_code(7);
    let sagas = house.json(&["saga", "list", "--needs-attention"]);
    let saga = sagas[0]["saga_id"].as_str().expect("a saga");
    assert!(check.stderr.contains(saga) || check.stdout.contains(saga), "the check names it: {check:?}");
    // Once the service is back, nobody is needed any more.
    house.start(Service::User);
    promises::kept(&house);
    house.likectl(&["check"]).expect_code(0);
    assert_eq!((house.likes(1), house.records(1)), (0, 0));
}

/// Leaves a saga that has turned back and can't compensate its user step: the service got the request and died.
fn stuck(house: &mut House) {
    let mut command = house.command(&["--timeout", "10m", "like", "1", "--user", "7"]);
    let faults =
        [Failpoint::BeginSynced, Failpoint::ActionOutcomeAppended].map(|point| Fault::Stop(point, 1));
    let armed = Armed::arm(&mut command, house.path(), &faults);
    let like = Running::start(&mut command);
    eventually("a like that has begun", || like.is_stopped().then_some(()));
    house.freeze(Service::User);
    go_on(&like);
    eventually("a like that is done at one service", || {
        (armed.all_fired() && like.is_stopped()).then_some(())
    });
    like.kill();
    house.kill(Service::User);
    eventually("a like that is undone there", || {
        house
            .likectl(&["--timeout", "10m", "--attention-after", "1", "recover", "--compensate"])
            .expect_code(7);
        (house.likes(1) == 0).then_some(())
    });
}

#[test]
fn an_administrator_can_force_an_end() {
    let mut house = House::with_article(PROGRAM);
    stuck(&mut house);
    let sagas = house.json(&["saga", "list"]);
    let saga = sagas[0]["saga_id"].as_str().expect("a saga").to_owned();
    house.likectl(&["saga", "force", &saga, "--as", "compensated"]).expect_code(2);
    let forced = house.likectl(&[
        "--json",
        "--timeout",
        "1s",
        "saga",
        "force",
        &saga,
        "--as",
        "compensated",
        "--reason",
        "the disk is gone",
    ]);
    assert!(matches!(forced.code(), Some(0 | 6)), "{forced:?}");
    let shown = house.json(&["saga", "show", &saga]);
    assert_eq!(shown["state"], "forced_compensated");
    assert!(shown.to_string().contains("the disk is gone"), "who, when and why stand in the log: {shown}");
    house.start(Service::User);
    house.likectl(&["--json", "recover"]).expect_code(0);
    house.likectl(&["check"]).expect_code(0);
    promises::no_drift(&house);
    house.json(&["like", "1", "--user", "7"]);
}

/// With the journal a saga is forgotten, but not by the services: what they hold by it is ended under its id.
#[test]
fn an_end_is_forced_on_what_only_the_services_know() {
    let mut house = House::with_article(PROGRAM);
    stuck(&mut house);
    let sagas = house.json(&["saga", "list"]);
    let saga = sagas[0]["saga_id"].as_str().expect("a saga").to_owned();
    std::fs::remove_dir_all(house.journal()).expect("a journal that is lost");
    let words = ["--timeout", "1s", "saga", "force", &saga, "--as", "compensated", "--reason", "lost"];
    let forced = house.likectl(&words).expect_code(0);
    assert!(forced.stderr.contains("stood in the journal"), "{forced:?}");
    house.start(Service::User);
    let told = house.json(&["recover"]);
    assert_eq!((&told["recovered"], &told["settled"]), (&0.into(), &1.into()), "{told}");
    house.json(&["like", "1", "--user", "7"]);
    promises::no_drift(&house);
}

/// Their ids stand nowhere else, and at the article service nobody meets their locks.
#[test]
fn an_audit_names_what_only_the_services_know_and_nothing_that_stands_in_the_log() {
    let mut house = House::with_article(PROGRAM);
    stuck(&mut house);
    house.start(Service::User);
    let audit = house.json(&["audit"]);
    assert_eq!((&audit["not_compared"], &audit["orphaned_sagas"]), (&json!([1]), &json!([])), "{audit}");
    let saga = house.json(&["saga", "list"])[0]["saga_id"].clone();
    std::fs::remove_dir_all(house.journal()).expect("a journal that is lost");
    let audit = house.json(&["audit"]);
    assert_eq!((&audit["not_compared"], &audit["orphaned_sagas"]), (&json!([1]), &json!([saga])), "{audit}");
    let saga = saga.as_str().expect("a saga");
    let told = house.likectl(&["audit"]).expect_code(0);
    assert!(told.stdout.contains(&format!("saga {saga} is open in no log here")), "{told:?}");
    house.json(&["saga", "force", saga, "--as", "compensated", "--reason", "lost"]);
    let audit = house.json(&["audit"]);
    assert_eq!((&audit["not_compared"], &audit["orphaned_sagas"]), (&json!([]), &json!([])), "{audit}");
    promises::no_drift(&house);
}

#[test]
fn the_status_of_every_saga_can_be_queried() {
    let house = House::with_article(PROGRAM);
    let liked = house.json(&["like", "1", "--user", "7"]);
    let saga = house.json(&["saga", "show", liked["saga_id"].as_str().expect("an id")]);
    assert_eq!(saga["kind"], "like");
    assert_eq!(saga["state"], "completed");
    assert_eq!((&saga["article_id"], &saga["user_id"]), (&1.into(), &7.into()));
    assert_eq!(saga["needs_attention"], false);
    assert!(saga["started_at"].is_string() && saga["ended_at"].is_string(), "{saga}");
    let steps = saga["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["action"] == "done" && step["attempts"] == 1), "{saga}");
    assert_eq!(house.json(&["saga", "list", "--state", "completed"]).as_array().expect("a list").len(), 1);
    assert_eq!(house.json(&["saga", "list", "--state", "running"]).as_array().expect("a list").len(), 0);
}

#[test]
fn several_users_liking_one_article_at_once_lose_no_like() {
    let house = House::with_article(PROGRAM);
    let likes: Vec<_> = (1..=24)
        .map(|user: u32| {
            let user = user.to_string();
            Running::start(&mut house.command(&["--json", "like", "1", "--user", &user]))
        })
        .collect();
    for like in likes {
        like.end().expect_code(0);
    }
    assert_eq!((house.likes(1), house.records(1)), (24, 24));
    promises::kept(&house);
}

#[test]
fn a_compensated_like_takes_back_its_own_like_and_nobody_elses() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    let mut command = house.command(&["--json", "--timeout", "10m", "like", "1", "--user", "8"]);
    let armed = Armed::arm(&mut command, house.path(), &[Fault::Stop(Failpoint::ActionSentWritten, 2)]);
    let like = Running::start(&mut command);
    eventually("a like of which only the article's step has left", || like.is_stopped().then_some(()));
    assert!(armed.all_fired());
    eventually("its +1", || (house.likes(1) == 2).then_some(()));
    // One of the others likes in its user's place.
    for user in (100..110).chain([8]) {
        house.json(&["like", "1", "--user", &user.to_string()]);
    }
    assert_eq!((house.likes(1), house.records(1)), (13, 12));
    go_on(&like);
    assert_eq!(like.end().expect_code(4).error()["error"]["kind"], "already_liked");
    assert_eq!(house.likes(1), 12, "only the failed like's own +1 is gone");
    promises::kept(&house);
    assert_eq!((house.likes(1), house.records(1)), (12, 12));
}
