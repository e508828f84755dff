//! A gateway that dies in the middle of requests.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use like_protocol::failpoint::Failpoint;
use like_tests::gateway::{Gateway, Plan, like, until_done};
use like_tests::house::{House, Service};
use like_tests::http::Request;
use like_tests::process::{Fault, eventually};
use like_tests::promises;
use serde_json::Value;

use crate::PROGRAM;

fn key(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[test]
fn a_like_in_flight_is_finished_after_a_kill_and_its_retry_gets_its_answer() {
    let house = House::open(PROGRAM);
    // From a beginning that is durable to an end that was never told.
    for (number, point) in [Failpoint::BeginSynced, Failpoint::ActionOutcomeAppended, Failpoint::EndWritten]
        .into_iter()
        .enumerate()
    {
        let article = number as u64 + 1;
        house.article(article);
        let fault = Fault::Kill(point, 1);
        let (gateway, armed) = Gateway::start(&house, &Plan::with(&[]).faults(&[fault]));
        let request = like(article, 7).header("Idempotency-Key", key(number));
        assert!(request.send(&gateway.place).is_err(), "killed before it could answer");
        assert!(gateway.end().was_killed() && armed.all_fired(), "{point:?}");

        let gateway = Gateway::open(&house);
        eventually("the end of the like", || {
            (house.json(&["saga", "list", "--state", "completed"]).as_array()?.len() > number).then_some(())
        });
        let answer = gateway.send(&request).expect(200).json();
        // A retry that met the first try's lock has begun a saga of its own, which is compensated.
        let sagas = house.json(&["saga", "list", "--state", "completed"]);
        let saga = sagas.as_array().and_then(|sagas| sagas.last()).expect("a saga");
        assert_eq!(answer["saga_id"], saga["saga_id"], "answered by the first try's saga, {point:?}");
        assert_eq!(answer["current_likes"], 1);
        assert_eq!((house.likes(article), house.records(article)), (1, 1));
        gateway.kill();
    }
    promises::kept(&house);
}

#[test]
fn what_a_gateway_leaves_that_dies_is_finished_by_the_one_beside_it() {
    let house = House::with_article(PROGRAM);
    let _beside = Gateway::open(&house);
    let (dying, _) = Gateway::start(&house, &Plan::with(&[]).named("dying"));
    dying.like(1, 6).expect(200);
    house.freeze(Service::User);
    let mut client = dying.place.connect().expect("a connection");
    client.write_all(&like(1, 7).bytes()).expect("sent");
    let in_state = |state| house.json(&["saga", "list", "--state", state]).as_array().map_or(0, Vec::len);
    eventually("a like under way", || (in_state("running") == 1).then_some(()));
    dying.kill();
    house.thaw(Service::User);
    eventually("its end", || (in_state("running") + in_state("compensating") == 0).then_some(()));
    promises::kept(&house);
}

/// Likes of one article by many users at once, through a gateway that is killed again and again.
#[test]
fn kills_in_the_middle_of_requests_lose_and_double_nothing() {
    const CLIENTS: usize = 8;
    const LIKES: usize = 240;
    const KILLS: usize = 5;
    let house = House::with_article(PROGRAM);
    let mut gateway = Gateway::open(&house);
    let place = gateway.place.clone();
    let (next, done, kills_are_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let unanswered = AtomicUsize::new(0);
    let answers = Mutex::new(HashMap::new());
    let request =
        |number: usize| -> Request { like(1, number as u64).header("Idempotency-Key", key(number)) };
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= LIKES && kills_are_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let first = request(number).send(&place);
                    if first.is_err() {
                        unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                    let answer = until_done(&request(number), &place);
                    answers.lock().expect("no panic").insert(number, answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 1..=KILLS {
            let enough = kill * LIKES / (KILLS + 1);
            eventually("some likes", || (done.load(Ordering::Relaxed) >= enough).then_some(()));
            gateway.running().kill_now();
            eventually("its end", || gateway.running().has_ended().then_some(()));
            gateway = Gateway::open(&house);
        }
        kills_are_over.store(true, Ordering::Relaxed);
    });
    assert!(unanswered.load(Ordering::Relaxed) > 0, "no kill hit a request");
    let answers: HashMap<usize, Value> = answers.into_inner().expect("no panic");
    // What was answered once is answered so again, and stands there.
    for (number, answer) in &answers {
        assert_eq!(&gateway.send(&request(*number)).expect(200).json(), answer);
    }
    assert_eq!(gateway.likes(1), answers.len() as u64);
    gateway.running().signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.end().code(), Some(0));
    promises::kept(&house);
}
