//! Connections: who may speak, requests in, replies out.
//!
//! * [`listener`]: accepts, and turns away whom it must.
//! * [`peer`]: who is at the other end, and who is allowed.
//! * [`session`]: one connection, over any pair of byte streams.

pub mod listener;
pub mod peer;
pub mod session;

pub use listener::Server;
pub use peer::Allowed;
