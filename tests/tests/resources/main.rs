//! What processes do when something runs out: disk, descriptors, connections, memory, patience. Memory stays bounded,
//! others are served, and nothing that was acknowledged is lost.
//!
//! Every test proves that its fault happened.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

mod connections;
mod disk;
mod flood;
mod journal;

use std::io::Write;

use like_tests::house::{House, Service};
use like_tests::soak::meter;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// Past the harness's capture: figures are part of the result.
fn say(what: &str) {
    let _nobody_looks = writeln!(std::io::stderr(), "resources: {what}");
}

/// A house with an article, whose article daemon has flags of its own.
fn house_with(flags: &[&str]) -> House {
    let mut house = House::closed(PROGRAM);
    house.start_prepared(Service::Article, |command| {
        command.args(flags);
    });
    house.start(Service::User);
    house.article(1);
    house
}

/// A daemon's resident memory.
fn memory_kib(house: &mut House, service: Service) -> u64 {
    meter::rss_kib(house.process(service).pid())
}

/// What a daemon has logged.
fn log(house: &House, service: &str) -> String {
    std::fs::read_to_string(house.path().join(format!("{service}.log"))).unwrap_or_default()
}

/// How often a step of others may be tried: about as often as a like has time for, where each attempt is answered at once.
const ATTEMPTS_MAX: u64 = 16;

/// Somebody else likes meanwhile, and is served before it has come too often, however long each time takes on this machine.
#[track_caller]
fn others_are_served(house: &House, user: u64) {
    let liked = house.json(&["--timeout", "10m", "like", "1", "--user", &user.to_string()]);
    let saga = house.json(&["saga", "show", liked["saga_id"].as_str().expect("an id")]);
    let attempts =
        saga["steps"].as_array().expect("steps").iter().filter_map(|step| step["attempts"].as_u64());
    assert!(attempts.max() <= Some(ATTEMPTS_MAX), "{saga}");
}
