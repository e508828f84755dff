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

/// Somebody else likes meanwhile, and is answered in time: milliseconds, were it not for the machine's other work.
#[track_caller]
fn others_are_served(house: &House, user: u64) {
    house.likectl(&["--json", "--timeout", "20s", "like", "1", "--user", &user.to_string()]).expect_code(0);
}
