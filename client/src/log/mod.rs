//! The saga log: where events are kept, and how they survive.
//!
//! # On disk
//!
//! ```text
//! <journal>/               one directory for all runners of a host (group-writable)
//!   0/ 1/ 2/ ...           slots; the lock (`flock`) is on the directory itself, and a slot is never removed
//!     00000001.log         segments; the one with the highest number that ends its carry-over is the head
//! ```
//!
//! A segment is a header, records (see [`record`]), and zeros: space for more. A runner owns one slot and writes to its head. Start, takeover
//! and rotation are one procedure ([`takeover`]): read the head, write everything that is unfinished or not known to be
//! settled into a new segment that ends with a mark, sync it and both directories, and only then send, cut or delete.
//! So the head alone says what is left to do, and older segments are history, kept for the retention time.
//!
//! Only the holder of a slot's lock writes in it. Readers ([`history`]) take no lock, cut nothing, and don't call the
//! live end of a segment damage.
//!
//! # What survives what
//!
//! A record is safe from `kill -9` of its writer once [`SagaLog::written`] has returned, and from power loss once
//! [`SagaLog::durable`] has. Of what was not yet durable a power loss may keep any part: a bad record above the highest
//! offset that the segment itself calls durable begins a torn tail, which is cut; below it, it is damage, which is
//! reported and costs at most the saga it hits ([`scan`]). Whatever a takeover cuts it names ([`Cut`]).

pub mod disk;
pub mod history;
pub mod owner;
pub mod record;
mod room;
pub mod scan;
pub mod segment;
pub mod slot;
pub mod story;
pub mod takeover;
pub mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use disk::{Disk, wall_ms};
pub use owner::Owner;
pub use record::SagaRecord;
pub use scan::Damage;
pub use slot::{Journal, JournalError, Slot, SlotLock};
pub use story::Story;
pub use takeover::{Cut, Found, Keeping, TakenOver, find, take_over};
pub use writer::{LacksRoom, LogEnded, Position, SagaLog};
