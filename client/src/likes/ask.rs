//! One question to a service outside any saga: connect, ask, wait, and ask again while that can do no harm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use like_protocol::codec;
use like_protocol::ids::{SagaId, StoreId};
use like_protocol::message::{DaemonStatus, DamagedRow, Payload, ReplyBody, RequestBody, RetryReason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::pages;
use crate::rpc::{Lost, Remote, Unreachable};

/// How long after a failed try the next one follows; grows from there.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a question has no answer. `R` is what the service's rules forbid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError<R: std::fmt::Debug> {
    /// The service can't be reached: nothing was asked.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// No answer came: a command may or may not have been carried out.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The service had no room for it in all the time there was: nothing was done.
    #[error("the {role} service would not take the request: {reason}")]
    Retry {
        /// Which service.
        role: &'static str,
        /// Why, in words.
        reason: &'static str,
        /// Why.
        kind: RetryReason,
    },
    /// A rule forbids it: nothing was done.
    #[error("refused by a rule: {0:?}")]
    Rejected(R),
    /// A row that the answer needs is damaged: nothing was done, and trying again is in vain.
    #[error("the {role} service can't tell: {row}")]
    Damaged {
        /// Which service.
        role: &'static str,
        /// The row.
        row: DamagedRow,
    },
    /// The two sides misunderstand each other: a bug, or versions that don't fit.
    #[error("the {role} service and this program misunderstand each other: {detail}")]
    Misunderstood {
        /// Which service.
        role: &'static str,
        /// What happened.
        detail: String,
    },
}

/// How long is waited before a question is asked again, time after time.
fn pauses_between() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

/// A service, and how long one question to it may take in all.
#[derive(Clone)]
pub(super) struct Asker {
    remote: Arc<Remote>,
    within: Duration,
}

impl Asker {
    pub(super) fn new(remote: Arc<Remote>, within: Duration) -> Self {
        Self { remote, within }
    }

    pub(super) fn within(&self, within: Duration) -> Self {
        Self { remote: self.remote.clone(), within }
    }

    /// How long one question may take in all.
    pub(super) fn limit(&self) -> Duration {
        self.within
    }

    /// The store of the service, while there is a connection to it.
    pub(super) fn store(&self) -> Option<StoreId> {
        Some(self.remote.open()?.welcome().store)
    }

    pub(super) async fn status<R: std::fmt::Debug>(&self) -> Result<DaemonStatus, AskError<R>> {
        match self.exchange(RequestBody::Status, true).await? {
            ReplyBody::Status(status) => Ok(*status),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The sagas that have unsettled steps at the service.
    pub(super) async fn unsettled<R: std::fmt::Debug>(&self) -> Result<BTreeSet<SagaId>, AskError<R>> {
        let page = |after, limit| async move {
            match self.exchange(RequestBody::Unsettled { after, limit }, true).await? {
                ReplyBody::Unsettled(steps) => Ok(steps),
                other => Err(self.unexpected(&other)),
            }
        };
        let steps = pages::fetch(None, u64::MAX, page, |step| step.id).await?;
        Ok(steps.iter().map(|step| step.id.saga).collect())
    }

    /// Asks for domain data. A question whose answer was lost is asked again.
    pub(super) async fn query<Q, A, R>(&self, query: &Q) -> Result<A, AskError<R>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        R: DeserializeOwned + std::fmt::Debug,
    {
        let body = RequestBody::Query(self.encode(query)?);
        self.answer(self.exchange(body, true).await?)
    }

    /// Changes domain data. A command whose answer was lost is not sent again: it may have been carried out.
    pub(super) async fn command<C, A, R>(&self, command: &C) -> Result<A, AskError<R>>
    where
        C: Serialize,
        A: DeserializeOwned,
        R: DeserializeOwned + std::fmt::Debug,
    {
        let body = RequestBody::Command(self.encode(command)?);
        self.answer(self.exchange(body, false).await?)
    }

    async fn exchange<R: std::fmt::Debug>(
        &self,
        body: RequestBody,
        again_if_lost: bool,
    ) -> Result<ReplyBody, AskError<R>> {
        let until = Instant::now() + self.within;
        let left = || until.saturating_duration_since(Instant::now());
        let mut pauses = None;
        loop {
            let connection = self.remote.connect(left()).await?;
            let failure = match connection.call(body.clone(), left()).await {
                Ok(ReplyBody::Retry(kind)) => {
                    AskError::Retry { role: self.remote.role(), reason: in_words(kind), kind }
                }
                Ok(reply) => return Ok(reply),
                Err(lost) if again_if_lost => AskError::Lost(lost),
                Err(lost) => return Err(AskError::Lost(lost)),
            };
            let pause = pauses.get_or_insert_with(pauses_between).next().unwrap_or(LONGEST_PAUSE);
            if left() <= pause {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn answer<A: DeserializeOwned, R: DeserializeOwned + std::fmt::Debug>(
        &self,
        reply: ReplyBody,
    ) -> Result<A, AskError<R>> {
        match reply {
            ReplyBody::Answer(payload) => self.decode(&payload),
            ReplyBody::Rejected(payload) => Err(AskError::Rejected(self.decode(&payload)?)),
            ReplyBody::Damaged(row) => Err(AskError::Damaged { role: self.remote.role(), row: *row }),
            other => Err(self.unexpected(&other)),
        }
    }

    fn encode<T: Serialize, R: std::fmt::Debug>(&self, value: &T) -> Result<Payload, AskError<R>> {
        codec::encode(value).map_err(|error| self.misunderstood(error.to_string()))
    }

    fn decode<T: DeserializeOwned, R: std::fmt::Debug>(&self, payload: &Payload) -> Result<T, AskError<R>> {
        codec::decode(&payload.0).map_err(|error| self.misunderstood(error.to_string()))
    }

    fn unexpected<R: std::fmt::Debug>(&self, reply: &ReplyBody) -> AskError<R> {
        match reply {
            ReplyBody::Invalid(detail) => self.misunderstood(detail.clone()),
            other => self.misunderstood(format!("unexpected reply {other:?}")),
        }
    }

    pub(super) fn misunderstood<R: std::fmt::Debug>(&self, detail: String) -> AskError<R> {
        AskError::Misunderstood { role: self.remote.role(), detail }
    }
}

fn in_words(reason: RetryReason) -> &'static str {
    match reason {
        RetryReason::Busy => "its queue is full",
        RetryReason::Storage => "its disk space is short, or can't be told",
        RetryReason::Draining => "it is shutting down",
    }
}
