//! What the tests of the whole share: real processes in a throwaway directory.
//!
//! * [`browser`]: a real one, without a screen.
//! * [`contract`]: an OpenAPI document, and whether an answer is what it says.
//! * [`cut`]: power cuts on real file systems.
//! * [`gateway`]: the HTTP front as a process. [`http`]: an HTTP client that does what it is told. [`http_load`]: how fast
//!   likes go through it.
//! * [`hostile`]: hostile and damaged input, for fuzzing and for the default tests.
//! * [`house`]: both daemons and `likectl`, started, killed, stopped and asked.
//! * [`matrix`]: processes that are killed or stopped wherever they stand, in every scenario.
//! * [`model`]: every state of small worlds, reached by the shipped rules.
//! * [`peer`]: a peer that speaks the protocol as badly as it is told to.
//! * [`power`]: power loss on real bytes, and faults of the disk in real processes.
//! * [`promises`]: what must hold after any crash, checked from outside by `likectl` alone.
//! * [`quick`]: a directory that costs nothing to sync.
//! * [`random`]: random numbers that a seed repeats.
//! * [`sim`]: the whole system on one thread, from one seed.
//! * [`soak`]: random load, random kills, for as long as wanted.
//! * [`source`]: the source as architecture rules look at it.
//! * [`wallet`]: a third domain on the same engine, which knows nothing about likes.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

pub mod browser;
pub mod contract;
pub mod cut;
pub mod gateway;
pub mod hostile;
pub mod house;
pub mod http;
pub mod http_load;
pub mod matrix;
pub mod model;
pub mod peer;
pub mod power;
pub mod process;
pub mod promises;
pub mod quick;
pub mod random;
pub mod sim;
pub mod soak;
pub mod source;
pub mod wallet;
