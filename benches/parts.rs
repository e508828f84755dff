//! The parts that a like passes through, each alone: where a change made something slower, these say where.
//!
//! * [`wire`]: a step and its reply, encoded and decoded.
//! * [`saga_log`]: the records of a like written, made durable, and read again.
//! * [`participant`]: a group of steps, and one of settlements, decided on a store in memory.
//! * [`commit_log`]: what a group changes written, made durable, and read again.
//!
//! `cargo parts` runs them. How fast the whole is, against other things, `cargo compare` says.

// A measurement that can't go on panics and says why.
#![allow(clippy::expect_used, missing_docs)]

mod commit_log;
mod participant;
mod saga_log;
mod wire;

criterion::criterion_group!(parts, wire::bench, saga_log::bench, participant::bench, commit_log::bench);
criterion::criterion_main!(parts);
