//! The first domain: what the article service and the user service keep, and their rules.

pub mod article;
pub mod user;
