//! What the daemons and the gateway have in common as processes that serve others.
//!
//! * [`descriptors`]: how many may be open, and for what.
//! * [`end`]: how they end that can't do what they are for.
//! * [`socket`]: a Unix socket of one's own.
//! * [`stops`]: the signals by which they are told to stop, until they can hear them.
//! * [`supervisor`]: what their supervisor is told.
//!
//! Neither side of the protocol is known here.

pub mod descriptors;
pub mod end;
pub mod socket;
pub mod stops;
pub mod supervisor;
