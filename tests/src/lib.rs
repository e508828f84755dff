//! What the tests of the whole share: real processes in a throwaway directory.
//!
//! * [`house`]: both daemons and `likectl`, started, killed, stopped and asked.
//! * [`promises`]: what must hold after any crash, checked from outside by `likectl` alone.
//! * [`wallet`]: a third domain on the same engine, which knows nothing about likes.

pub mod house;
pub mod process;
pub mod promises;
pub mod wallet;
