//! The HTTP front on real processes.

// What is expected here and does not come fails the test, as it should.
#![allow(clippy::expect_used)]

mod contract;
mod errors;
mod hostile;
mod kills;
mod likes;
mod looks;
mod operation;
mod page;
mod process;
mod sagas;

use like_tests::gateway::{Gateway, Plan};
use like_tests::house::House;

/// A gateway with usual flags, and article 1.
fn opened() -> (House, Gateway) {
    opened_as(&Plan::with(&[]))
}

/// The same with a gateway of this plan.
fn opened_as(plan: &Plan) -> (House, Gateway) {
    let house = House::open(PROGRAM);
    let (gateway, _) = Gateway::start(&house, plan);
    gateway.article(1);
    (house, gateway)
}

/// The program that holds all programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");
