//! A user and an article, and what is certain about them.

use std::time::Duration;

use like_client::likes::UserService;
use like_protocol::likes::{USER_ROLE, UserId};
use serde_json::Value;

use super::front::Fronts;
use crate::gateway::{like, unlike};
use crate::house::House;
use crate::http::Request;

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
    /// The saga that says how it stands, if nobody was told how that ended.
    pub pending: Option<Pending>,
}

/// An act whose saga was named, and whose end was not told.
#[derive(Clone, Debug)]
pub struct Pending {
    /// like or unlike.
    pub act: &'static str,
    /// Its saga.
    pub saga: String,
    /// How it stood before.
    pub before: Stands,
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

impl Stands {
    /// After an act that this saga has done: it names the like record too.
    pub fn after(act: &str, saga: &Value) -> Self {
        if act == "like" { Self::Liked(saga.clone()) } else { Self::NotLiked }
    }
}

impl Pair {
    /// A user who has not done anything yet.
    pub fn new(user: u64, article: u64) -> Self {
        Self { user, article, stands: Stands::NotLiked, answered: Vec::new(), pending: None }
    }

    /// Learns from the log how a saga has ended of which nobody was told. All must be quiet.
    ///
    /// # Panics
    /// It has not ended, or is not there.
    pub fn learn(&mut self, house: &House) {
        if let Some(Pending { act, saga, before }) = self.pending.take() {
            let state = &house.json(&["saga", "show", &saga])["state"];
            self.stands = match state.as_str() {
                Some("completed") => Stands::after(act, &Value::String(saga)),
                Some("compensated") => before,
                _ => panic!("{act} by {saga} is {state}: {self:?}"),
            };
        }
    }

    /// An act was answered: it is done, and its key has its first answer.
    pub fn done(&mut self, act: &'static str, key: Option<String>, answer: Value) {
        self.stands = Stands::after(act, &answer["saga_id"]);
        self.answered.extend(key.map(|key| (act, key, answer)));
    }

    /// The request that likes, or unlikes.
    pub fn request(&self, act: &str, key: Option<&str>) -> Request {
        let request =
            if act == "like" { like(self.article, self.user) } else { unlike(self.article, self.user) };
        match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        }
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

    /// Checks what is certain by likectl, and that every key still gets its first answer, from every gateway too.
    ///
    /// # Panics
    /// A promise is broken.
    pub fn check(&self, house: &House, fronts: &Fronts) {
        self.agrees(&house.json(&["user", "likes", &self.user.to_string()]));
        self.check_keys(house);
        for (act, key, first) in &self.answered {
            fronts.answer_again(&self.request(act, Some(key)), first);
        }
    }

    /// Checks that every key still gets its first answer from likectl.
    ///
    /// # Panics
    /// One does not.
    pub fn check_keys(&self, house: &House) {
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
