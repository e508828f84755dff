//! The commands, one file each.

pub mod article;
pub mod audit;
pub mod bench;
pub mod check;
pub mod completions;
pub mod import;
pub mod like;
pub mod man;
pub mod recover;
pub mod saga;
pub mod status;
pub mod top;
pub mod user;
