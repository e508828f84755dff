//! What an administrator may do to one saga through this process.
//!
//! Every act takes the lock of the saga's slot. If that is this gateway's own, its runner is replaced first: new likes
//! go through a fresh runner in another slot, the old one finishes what it can, and lets go of its slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use like_client::log::JournalError;
use like_client::runner::admin::{self, AdminError};
use like_client::saga::End;
use like_protocol::ids::SagaId;

use crate::host::Host;

/// The longest reason, in characters: who acts is recorded behind it.
pub const REASON_CHARS_MAX: usize = 800;

/// How long likes under way may take to end in a runner that is replaced. Healthy ones take milliseconds.
const REPLACE_GRACE: Duration = Duration::from_secs(2);

/// How long the lock of a slot is waited for while this process's own recovery has it, which lets go every few seconds.
const OWN_PATIENCE: Duration = Duration::from_secs(12);

/// How many acts are carried out at once. Each takes a thread that reads the log.
pub(crate) const AT_ONCE_MAX: usize = 8;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Try it now, with a new deadline if it goes forward.
    Retry,
    /// Turn it back, every step of it.
    Compensate,
    /// End it by the administrator's word.
    Force {
        /// As what it counts from now on.
        end: End,
        /// Also if nothing is known of it but its id.
        even_if_unknown: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// Of a forced end: which invariants may be left broken.
    pub leaves_broken: Vec<String>,
}

/// Why an act was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActOnError {
    /// See [`AdminError`].
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// As many acts as allowed are being carried out.
    #[error("as many acts as allowed are being carried out")]
    Busy,
    /// The runner could not be replaced.
    #[error(transparent)]
    Start(#[from] JournalError),
}

impl Host {
    /// Carries an act out, in a task of its own: whoever asked for it may hang up, and a runner that is being replaced must
    /// still let go of its slot. Only so many are carried out at once: one that waits for a lock holds up no other.
    ///
    /// # Errors
    /// See [`ActOnError`].
    pub async fn act_on(
        self: &Arc<Self>,
        saga: SagaId,
        act: Act,
        who: &str,
        reason: &str,
    ) -> Result<Done, ActOnError> {
        let place = Arc::clone(&self.acting).try_acquire_owned().map_err(|_| ActOnError::Busy)?;
        tracing::warn!(saga_id = %saga, ?act, by = who, reason, "an administrator acts");
        let reason = format!("{reason} (by {who}, over HTTP)");
        let host = Arc::clone(self);
        let acting = tokio::spawn(async move {
            let _place = place;
            host.reach_and_carry_out(saga, act, reason).await
        });
        match acting.await {
            Ok(done) => done,
            // Cancelled with the runtime: nobody is left to be told.
            Err(_) => std::future::pending().await,
        }
    }

    async fn reach_and_carry_out(&self, saga: SagaId, act: Act, reason: String) -> Result<Done, ActOnError> {
        let until = Instant::now() + OWN_PATIENCE;
        loop {
            let done = match self.let_go(saga).await? {
                true => None,
                false => Some(self.carry_out(saga, act, reason.clone()).await),
            };
            match done {
                Some(Err(AdminError::Owned { owner: Some(owner), .. }))
                    if owner.pid == std::process::id() && Instant::now() < until => {}
                Some(done) => return Ok(done?),
                None => {}
            }
        }
    }

    /// Replaces this process's runner if it holds a saga; whether it did. Only one does so at a time, and whoever comes next
    /// looks again: the runner may not be the same any more.
    async fn let_go(&self, saga: SagaId) -> Result<bool, ActOnError> {
        let _alone = self.replacing.lock().await;
        let holds = self.holds(saga).await?;
        if holds {
            self.replace_runner(REPLACE_GRACE).await?;
        }
        Ok(holds)
    }

    /// Whether a saga stands in the slot of this process's runner.
    async fn holds(&self, saga: SagaId) -> Result<bool, AdminError> {
        let (context, own) = (self.context().clone(), self.slot());
        let found = tokio::task::spawn_blocking(move || admin::find(&context, saga)).await;
        let found = found.unwrap_or(Ok(None))?;
        Ok(found.is_some_and(|(slot, story)| slot == own && story.is_open()))
    }

    async fn carry_out(&self, saga: SagaId, act: Act, reason: String) -> Result<Done, AdminError> {
        let (context, wait) = (self.context().clone(), self.timeout);
        let runtime = tokio::runtime::Handle::current();
        // Reading, locking and syncing files: not for the thread that serves connections.
        let acting = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                match act {
                    Act::Retry => admin::retry(&context, saga, wait).await.map(|_| Vec::new()),
                    Act::Compensate => admin::compensate(&context, saga, wait).await.map(|_| Vec::new()),
                    Act::Force { even_if_unknown: false, .. } if admin::find(&context, saga)?.is_none() => {
                        Err(AdminError::NotFound(saga))
                    }
                    Act::Force { end, .. } => admin::force(&context, saga, end, reason, wait)
                        .await
                        .map(|forced| forced.leaves_broken),
                }
            })
        });
        match acting.await {
            Ok(done) => done.map(|leaves_broken| Done { leaves_broken }),
            // Cancelled with the runtime: nobody is left to be told.
            Err(_) => std::future::pending().await,
        }
    }
}
