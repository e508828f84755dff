//! Power loss on real bytes: what real processes do to files is recorded, the states that a crash may leave are built
//! from that, and each is started from.
//!
//! * [`faults`]: what may go wrong with a disk, and how a process is told.
//! * [`record`]: what a process did to files.

pub mod faults;
pub mod record;
