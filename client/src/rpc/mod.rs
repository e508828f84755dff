//! Connections to participants, and what is certain about a request that was not answered.
//!
//! * [`dial`](Dial): how a byte stream comes about: a Unix socket, or whatever a simulation brings.
//! * [`Remote`]: one participant. Dials when it must, one attempt at a time, and shares one connection.
//! * [`Connection`]: requests and replies, pipelined and matched by id.
//!
//! Two kinds of failure never mix. [`Unreachable`]: the peer's hello was not read, so the request was *certainly*
//! never sent, since nothing leaves before it. [`Lost`]: the request may have been sent, and *nothing* is known.

mod calls;
mod connection;
mod dial;
mod error;
mod hello;
mod remote;
#[cfg(test)]
pub(crate) mod tests;

pub use calls::{Came, Mailbox};
pub use connection::{Asked, Connection, Grounds, TOGETHER_MAX, WITHIN_MAX};
pub use dial::{Dial, Stream};
pub use error::{Lost, LostKind, Unreachable, UnreachableKind};
pub use remote::Remote;
