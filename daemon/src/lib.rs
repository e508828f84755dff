//! Two small daemons that keep their half of a like, and the engine under them.
//!
//! The engine, which knows nothing about likes:
//! * [`participant`]: the rules for every saga step: barrier, operation records, locks, settling, collecting. The heart.
//! * [`store`]: where rows are kept, and what makes them durable.
//! * [`commit`]: the queue and the one thread that evaluates, commits and answers, a group at a time.
//! * [`net`]: connections: who may speak, hello, requests in, replies out.
//! * [`service`]: a process around it: flags, sockets, systemd, start and stop.
//!
//! What plugs into it:
//! * [`likes`]: the article service and the user service, as two [`participant::domain::Domain`]s.
//! * [`cli`]: the daemons' mains.

pub mod cli;
pub mod commit;
pub mod likes;
pub mod net;
pub mod participant;
pub mod service;
pub mod store;
mod sync;
