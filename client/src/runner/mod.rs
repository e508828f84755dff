//! Drives sagas: asks [`crate::saga`] what is next, writes it to [`crate::log`], does it by [`crate::rpc`].
//!
//! * [`context`]: what a runner works with: journal, kinds of saga, participants, options.
//! * [`run`]: the runner itself: one slot, its log, and the sagas it drives.
//! * `active`: those sagas, and the tasks that drive them.
//! * `convoy`: sagas that begin in the same moment, together for as long as all goes well.
//! * `drive`: one saga from wherever it stands to its end. `attempt`: one request of it and what came of that.
//! * `tell`: tells callers of ends, together. `settle`: tells participants of ends, in batches, and repeats it until they have confirmed.
//! * `hunt`: finishes what a dead runner holds, when somebody waits for it.
//! * [`recover`], [`watch`]: finish what dead runners left, once or the moment they die.
//! * [`admin`]: what an operator may do to one saga.
//!
//! What must be durable when: `Begun` before the first request leaves; `TurnedBack` before the first compensation
//! leaves or a failure is told to anyone; the end before it is settled. Everything else is written before what it
//! announces: `Sent` before the request leaves, the end before anyone is told. So a like costs its caller one
//! group-committed sync.

mod active;
pub mod admin;
mod attempt;
pub mod context;
mod convoy;
mod drive;
mod hunt;
mod pace;
pub mod recover;
pub mod run;
mod settle;
mod tell;
pub mod watch;

pub use context::{Context, Options, Origin, Participants};
pub use drive::Order;
pub use run::{Outcome, RunError, Runner};

#[cfg(test)]
mod tests;
