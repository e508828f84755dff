//! The first domain: articles and their number of likes, users and their like records.
//!
//! These types travel as [`Payload`](crate::message::Payload)s inside the engine's messages.

pub mod article;
pub mod user;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role under which the article service's store is made, and which its hello names.
pub const ARTICLE_ROLE: &str = "article";

/// The role of the user service.
pub const USER_ROLE: &str = "user";

/// One of the two services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// The article service.
    Article,
    /// The user service.
    User,
}

impl Service {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Article, Self::User];

    /// Its role.
    pub const fn role(self) -> &'static str {
        match self {
            Self::Article => ARTICLE_ROLE,
            Self::User => USER_ROLE,
        }
    }

    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Article => "like-articled",
            Self::User => "like-userd",
        }
    }
}

/// Names an article.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ArticleId(pub u64);

/// Names a user. Users are known by their ids alone; the user service keeps no list of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UserId(pub u64);

impl fmt::Display for ArticleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was to be an id is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an id is a number from 0 to {}", u64::MAX)]
pub struct NoId;

impl FromStr for ArticleId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| NoId)
    }
}

impl FromStr for UserId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| NoId)
    }
}
