//! Every process dies by SIGKILL at every point between two durable actions, in every scenario in which it comes by;
//! then it is recovered in each mode, and every promise is checked from outside.
//!
//! By default a covering part is played: every passage of every point by every kind of process, with the modes of
//! recovery in turn. The whole product takes about an hour:
//!
//! ```text
//! LIKE_CRASH_MATRIX=full cargo test -p like-tests --test crash_matrix
//! ```

use std::path::Path;

use like_protocol::failpoint::Failpoint;
use like_tests::matrix::likes::Likes;
use like_tests::matrix::wallet::Transfers;
use like_tests::matrix::{World, play_all};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

fn every_point_of<W: World + std::fmt::Debug>() {
    let full = std::env::var("LIKE_CRASH_MATRIX").is_ok_and(|wanted| wanted == "full");
    let reached = play_all::<W>(Path::new(PROGRAM), full);
    for point in Failpoint::ALL {
        assert!(reached.contains(point.name()), "no scenario comes by {}", point.name());
    }
}

#[test]
fn a_like_keeps_every_promise_wherever_a_process_dies() {
    every_point_of::<Likes>();
}

#[test]
fn a_transfer_keeps_every_promise_wherever_a_process_dies() {
    every_point_of::<Transfers>();
}
