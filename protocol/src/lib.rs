//! What the daemons and their clients say to each other.
//!
//! * [`ids`], [`time`]: names of things, and the only notion of time that takes part in safety.
//! * [`message`]: the engine's vocabulary: hello, saga steps, settlements, queries. It knows nothing about likes.
//! * [`codec`]: how a message becomes bytes and frames; the one file that names the encoding. [`checksum`]: over bytes that stand
//!   in several places, for what either side keeps.
//! * [`file_system`]: where neither side may keep anything.
//! * [`socket`]: a Unix socket that wakes its owner for what comes only.
//! * [`likes`]: the first domain: operations of the article service and of the user service.
//! * [`failpoint`]: the named points between two durable actions at which crash tests kill a process.
//!
//! No socket is opened here, nothing is stored, no terminal is touched.

pub mod checksum;
pub mod codec;
pub mod failpoint;
pub mod file_system;
pub mod ids;
pub mod likes;
pub mod message;
mod payload;
pub mod socket;
pub mod time;
