//! An exhaustive check of the rules that participants and runners keep.
//!
//! In small worlds (two or three likes and unlikes of one user and article) everything is tried that can happen: every
//! message late, repeated or lost, lost answers, deadlines that pass, records that are forgotten, runners that die, sagas
//! that are taken over, resumed, turned back or ended by an operator, power losses that leave any written prefix of every
//! log. In every state every promise must hold, and from every state an end must be reachable.
//!
//! What decides is the shipped code: `Participant` over `MemoryStore` with both domains, `SagaState`, what is asked of
//! participants and what their answers and ends mean, the definitions of like and unlike, the stories of the log, the
//! checks before a saga, the answers to callers, the comparison of an audit. What the model has of its own is the order
//! in which a runner writes, syncs, sends and tells ([`runner`]).
//!
//! * [`world`]: who asks for what, and how much may happen.
//! * [`universe`]: a world and what has been computed in it. [`state`]: a state and the steps between states. [`expand`]: everything that can happen next.
//! * [`daemon`]: the two services. [`log`]: a saga's log. [`runner`]: what a runner does. [`caller`]: what callers are told.
//! * [`property`]: what must hold.
//! * [`mutation`], [`broken`]: rules switched off, one at a time; the check must notice each.
//! * [`search`]: the search itself. [`story`]: a counterexample in words. [`intern`]: what makes it fast.

pub mod broken;
pub mod caller;
pub mod daemon;
pub mod expand;
pub mod intern;
pub mod log;
pub mod mutation;
pub mod property;
pub mod runner;
pub mod search;
pub mod state;
pub mod story;
pub mod universe;
pub mod world;
