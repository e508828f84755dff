//! Durable sagas on one host: the client side.
//!
//! The engine, which knows nothing about likes:
//! * [`saga`]: what a saga is: its definition, its events, and the pure transition function. The heart.
//! * [`log`]: where events are kept: slots, segments, group commit, damage told apart from torn tails.
//! * [`rpc`]: connections to participants, and what is certain about a request that was not answered.
//! * [`runner`]: drives sagas: asks `saga` what is next, writes it to `log`, does it by `rpc`.
//!
//! `gathering` is for those, in any of these, who are about to do something in the same moment, and do it together.
//!
//! What plugs into it:
//! * [`likes`]: the like and unlike sagas, typed clients of the two services, the audit.
//! * [`view`]: what is shown of all that, whatever the front: documents and words.
//! * [`cli`]: `likectl`; the only part that touches a terminal.

pub mod cli;
mod gathering;
pub mod likes;
pub mod log;
pub mod rpc;
pub mod runner;
pub mod saga;
mod sync;
pub mod view;
