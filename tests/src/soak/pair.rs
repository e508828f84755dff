//! A user and an article, and what is certain about them.

use std::time::Duration;

use like_client::likes::UserService;
use like_protocol::likes::{USER_ROLE, UserId};
use serde_json::Value;

use crate::house::House;

/// A user and an article, and what is certain about them.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Who. Nobody else acts for this user.
    pub user: u64,
    /// What.
    pub article: u64,
    /// What is certain.
    pub stands: Stands,
    /// Keys, each with its act and the first answer to it.
    pub answered: Vec<(&'static str, String, Value)>,
}

/// What is certain about a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stands {
    /// The user likes the article: this record was answered.
    Liked(Value),
    /// The user does not.
    NotLiked,
    /// A runner died without a word, and its saga may still be on its way.
    Unknown,
}

impl Pair {
    /// A user who has not done anything yet.
    pub fn new(user: u64, article: u64) -> Self {
        Self { user, article, stands: Stands::NotLiked, answered: Vec::new() }
    }

    /// Whether it is known how it stands.
    pub fn is_certain(&self) -> bool {
        self.stands != Stands::Unknown
    }

    /// Whether first answers to keys are known.
    pub fn has_keys(&self) -> bool {
        !self.answered.is_empty()
    }

    /// Insists that a list of the user's likes, as likectl prints it, says what is certain.
    ///
    /// # Panics
    /// It says something else.
    pub fn agrees(&self, likes: &Value) {
        let likes = likes.as_array().expect("a list");
        assert!(likes.len() <= 1, "liked more than once: {self:?}: {likes:?}");
        match &self.stands {
            Stands::Liked(record) => {
                let found = likes.first().map(|like| &like["user_record_id"]);
                assert_eq!(found, Some(record), "lost: {self:?}");
            }
            Stands::NotLiked => assert!(likes.is_empty(), "there again: {self:?}: {likes:?}"),
            Stands::Unknown => {}
        }
    }

    /// Checks what is certain by likectl, and that every key still gets its first answer.
    ///
    /// # Panics
    /// A promise is broken.
    pub fn check(&self, house: &House) {
        self.agrees(&house.json(&["user", "likes", &self.user.to_string()]));
        for (act, key, first) in &self.answered {
            let (article, user) = (self.article.to_string(), self.user.to_string());
            let again = house.json(&[act, &article, "--user", &user, "--key", key]);
            assert_eq!(again, *first, "a retry gets the first answer: {self:?}");
        }
    }
}

/// Checks what is certain of all of them, asking the user service itself.
///
/// # Panics
/// A promise is broken.
pub fn all_stand(house: &House, pairs: &[Pair]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let context = house.context();
        let remote = context.participants.find(USER_ROLE).expect("a service").clone();
        let users = UserService::new(remote, Duration::from_secs(10));
        for pair in pairs {
            let likes = users.likes_of(UserId(pair.user), None, 10).await.expect("a page");
            assert!(likes.iter().all(|like| !like.pending && like.article.0 == pair.article), "{likes:?}");
            let told = likes
                .iter()
                .map(|like| serde_json::json!({ "user_record_id": like.record.map(|id| id.to_string()) }));
            pair.agrees(&told.collect());
        }
    });
}
