//! A third small domain, to show that the engine is generic: accounts, and a saga that moves money between two of them.
//!
//! Nothing here knows about likes, and nothing in the engine about money.
//!
//! * [`domain`]: what the wallet service keeps, and its rules: plugs into the daemon's engine.
//! * [`transfer`]: the saga, withdraw and then deposit: plugs into the client's engine.
//! * [`program`]: the daemon and a small runner, as programs.
//! * [`bank`]: the daemon and a journal in a throwaway directory, for tests.

pub mod bank;
pub mod domain;
pub mod program;
pub mod transfer;

/// The role under which the wallet service's store is made, and which its hello names.
pub const WALLET_ROLE: &str = "wallet";
