//! The saga log and a daemon's store under a scheduler that decides, at every lock, which of their threads goes on.
//!
//! Both are built here once more from the product's own source. All that is another one is `crate::sync`: the locks, atomics
//! and threads of [`shuttle`], where the product has those of the standard library. What a thread does between two of them
//! is one step.

// What is broken panics and says so.
#![allow(clippy::expect_used)]

/// A disk of a saga log in memory.
pub mod log_disk;
/// Threads that share a saga log.
pub mod log_world;
/// Seeds, and what they are tried with.
pub mod search;
/// A disk of a store in memory, and what stands in for sled.
pub mod store_disk;
/// A store, its checkpoints and its merges.
pub mod store_world;

#[path = "../../client/src/log/mod.rs"]
pub mod log;
#[path = "../../client/src/saga/mod.rs"]
pub mod saga;
#[path = "../../daemon/src/store/mod.rs"]
pub mod store;

pub mod sync;
