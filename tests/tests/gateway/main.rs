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

/// The program that holds all programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");
