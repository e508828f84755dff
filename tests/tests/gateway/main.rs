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

use like_tests::gateway::Gateway;
use like_tests::house::House;

/// A gateway with usual flags, and article 1.
fn opened() -> (House, Gateway) {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    gateway.article(1);
    (house, gateway)
}

/// The program that holds all programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");
