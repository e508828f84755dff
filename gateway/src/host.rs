//! The runner that this process hosts, and recovery beside it.
//!
//! A runner owns one slot of the journal. This one drives the likes that come by HTTP, and at its start whatever an
//! earlier gateway left in the slot it gets; beside it the journal is watched, and what other dead runners leave is
//! taken over the moment they die.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use like_client::likes::{
    self, ActError, ArticleService, CHECK_TIMEOUT, LikeAnswer, Likes, UnlikeAnswer, UserService,
};
use like_client::log::{Journal, JournalError, LogEnded, Slot};
use like_client::rpc::Remote;
use like_client::runner::watch::{self, Notice};
use like_client::runner::{Context, Options, Order, Runner};
use like_protocol::likes::user::CallerKey;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::time::Clock;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acts::AT_ONCE_MAX;
use crate::flags::Config;
use crate::timed::{SyncTimes, Timed};

/// How many likes and unlikes may be under way at once, those whose client is gone included: as many as a daemon lets
/// wait by default.
const ACTS_MAX: usize = 4096;

/// How long a question to a service may take.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);

/// Hosts a runner, and reaches the services.
pub struct Host {
    context: Context,
    syncs: Timed,
    /// The article service, for questions outside any saga.
    pub articles: ArticleService,
    /// The user service, for questions outside any saga.
    pub users: UserService,
    /// How long a saga may try.
    pub timeout: Duration,
    current: Mutex<Arc<Hosted>>,
    acts: Arc<Semaphore>,
    /// Places for acts on sagas.
    pub(crate) acting: Arc<Semaphore>,
    /// Taken by whoever replaces the runner.
    pub(crate) replacing: tokio::sync::Mutex<()>,
    /// Cancelled once the saga log can't be written any more.
    log_ended: CancellationToken,
}

/// A runner, and the acts that go through it.
struct Hosted {
    runner: Runner,
    likes: Likes,
    acts: TaskTracker,
}

/// Why an act has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// As many acts as allowed are under way: nothing was begun.
    #[error("as many likes as allowed are under way")]
    Busy,
    /// See [`ActError`].
    #[error(transparent)]
    Act(#[from] ActError),
}

impl Host {
    /// Takes a slot, and drives on what is found in it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The journal can't be used.
    pub fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, JournalError> {
        let remote =
            |role, path: &std::path::Path| Arc::new(Remote::unix(role, path.to_owned(), Arc::clone(&clock)));
        let article = remote(ARTICLE_ROLE, &config.article_socket);
        let user = remote(USER_ROLE, &config.user_socket);
        let syncs = Timed::default();
        let journal = Journal::open_on(Arc::new(syncs.disk()), &config.journal)?;
        let options = Options { attention_after: config.attention_after, ..Options::default() };
        let context = likes::context(journal, [&article, &user], clock, options);
        let articles = ArticleService::new(article, QUESTION_WITHIN);
        let users = UserService::new(user, QUESTION_WITHIN);
        let hosted = Hosted::start(&context, &articles, &users)?;
        Ok(Self {
            context,
            syncs,
            articles,
            users,
            timeout: config.timeout,
            current: Mutex::new(Arc::new(hosted)),
            acts: Arc::new(Semaphore::new(ACTS_MAX)),
            acting: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            replacing: tokio::sync::Mutex::default(),
            log_ended: CancellationToken::new(),
        })
    }

    /// What its runner works with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The syncs of its log so far.
    pub fn syncs(&self) -> SyncTimes {
        self.syncs.times()
    }

    /// The longest that an act takes to be answered: with the checks before it, a service that says no hello at first, and one that
    /// does not answer at the end.
    pub fn patience(&self) -> Duration {
        CHECK_TIMEOUT + self.timeout + 2 * self.context.options.attempt_timeout
    }

    /// A user likes an article. Dropping the future changes nothing about the like; `ended` is told of its end all the same.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn like(
        self: &Arc<Self>,
        user: UserId,
        article: ArticleId,
        key: Option<CallerKey>,
        ended: impl FnOnce(Option<&HostError>) + Send + 'static,
    ) -> Result<LikeAnswer, HostError> {
        let timeout = self.timeout;
        self.act(async move |likes| likes.like(user, article, key, timeout).await, ended).await
    }

    /// A user likes an article no longer. Dropping the future changes nothing about the unlike; `ended` is told of its end all
    /// the same.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn unlike(
        self: &Arc<Self>,
        user: UserId,
        article: ArticleId,
        key: Option<CallerKey>,
        ended: impl FnOnce(Option<&HostError>) + Send + 'static,
    ) -> Result<UnlikeAnswer, HostError> {
        let timeout = self.timeout;
        self.act(async move |likes| likes.unlike(user, article, key, timeout).await, ended).await
    }

    /// Runs an act in a task of its own, so that it holds its place until it has ended, whether its client waits or not.
    async fn act<T, F>(
        self: &Arc<Self>,
        act: impl FnOnce(Likes) -> F,
        ended: impl FnOnce(Option<&HostError>) + Send + 'static,
    ) -> Result<T, HostError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ActError>> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.acts).try_acquire_owned() else {
            ended(Some(&HostError::Busy));
            return Err(HostError::Busy);
        };
        let (host, hosted) = (Arc::clone(self), self.current());
        let (act, acts) = (act(hosted.likes.clone()), hosted.acts.clone());
        let answer = acts.spawn(async move {
            let answer = act.await.map_err(HostError::Act);
            if let Err(HostError::Act(ActError::LogEnded { source, .. })) = &answer {
                host.heed_end_of(&hosted, source);
            }
            ended(answer.as_ref().err());
            drop((place, hosted));
            answer
        });
        answer.await.unwrap_or_else(|e| Err(ActError::Internal(e.to_string()).into()))
    }

    /// The log of a runner has ended. That of one which was replaced was let go.
    fn heed_end_of(&self, hosted: &Arc<Hosted>, why: &LogEnded) {
        if Arc::ptr_eq(hosted, &self.current()) {
            tracing::error!("{why}");
            self.log_ended.cancel();
        }
    }

    fn current(&self) -> Arc<Hosted> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The slot of the runner that new acts go through.
    pub(crate) fn slot(&self) -> Slot {
        self.current().runner.log().slot().clone()
    }

    /// Lets new acts go through a fresh runner in another slot, gives what is under way in the old one `grace` to end,
    /// and lets go of its slot. What is left in it is for whoever takes its lock: an administrator's act, or recovery.
    pub(crate) async fn replace_runner(&self, grace: Duration) -> Result<(), JournalError> {
        let (context, articles, users) = (self.context.clone(), self.articles.clone(), self.users.clone());
        // Locking and syncing files: not for the thread that serves connections.
        let starting = tokio::task::spawn_blocking(move || Hosted::start(&context, &articles, &users));
        let Ok(fresh) = starting.await else { return std::future::pending().await };
        let fresh = Arc::new(fresh?);
        let old = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        tracing::info!(slot = old.runner.log().slot().number(), "letting go of a slot");
        old.close(grace).await;
        Ok(())
    }

    /// Waits until the saga log can't be written any more. Nothing can be done then but to start again.
    pub async fn log_ended(&self) {
        self.log_ended.cancelled().await;
    }

    /// Takes over what dead runners leave, until `stop`.
    ///
    /// # Errors
    /// The journal can't be watched.
    pub async fn recover(&self, stop: impl Future<Output = ()>) -> Result<(), JournalError> {
        let (notices, mut told) = mpsc::unbounded_channel();
        let telling = async {
            while let Some(notice) = told.recv().await {
                tell(&notice);
            }
        };
        tokio::select! {
            ended = watch::watch(&self.context, Order::GoOn, notices, stop) => ended,
            () = telling => Ok(()),
        }
    }

    /// Waits for what is under way for at most `grace`, settles what has ended, and lets go of the slot. What is left
    /// stands in the log.
    pub async fn close(&self, grace: Duration) {
        self.current().close(grace).await;
    }
}

impl Hosted {
    fn start(
        context: &Context,
        articles: &ArticleService,
        users: &UserService,
    ) -> Result<Self, JournalError> {
        let runner = Runner::start(context.clone())?;
        let likes = Likes::new(runner.clone(), articles.clone(), users.clone());
        Ok(Self { runner, likes, acts: TaskTracker::new() })
    }

    async fn close(&self, grace: Duration) {
        self.acts.close();
        let _left_to_recovery = tokio::time::timeout(grace, self.acts.wait()).await;
        self.runner.clone().close(Duration::ZERO).await;
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::TakenOver { slot, unfinished } => {
            tracing::info!(slot, unfinished, "taking over what a dead runner left");
        }
        Notice::LetGo { slot, report, .. } => {
            tracing::info!(
                slot,
                completed = report.completed,
                compensated = report.compensated,
                unfinished = report.unfinished,
                needs_attention = report.needs_attention,
                quarantined = report.quarantined,
                "let go of a dead runner's slot"
            );
        }
        // The watch has said so itself.
        Notice::Skipped { .. } => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;
    use std::task::Poll;

    use clap::Parser;
    use futures::poll;
    use like_protocol::ids::SagaId;
    use like_protocol::time::BootClock;
    use tempfile::TempDir;

    use super::*;
    use crate::acts::{Act, ActOnError};
    use crate::flags::Flags;

    /// Services that take connections and say nothing: whatever is begun waits.
    pub type Silence = (TempDir, [UnixListener; 2]);

    /// A host before silent services.
    pub fn host() -> (Arc<Host>, Silence) {
        let temp = tempfile::tempdir().unwrap();
        let place = |name: &str| temp.path().join(name).display().to_string();
        let silent = ["article", "user"].map(|service| UnixListener::bind(place(service)).unwrap());
        let flags = ["journal", "article-socket", "user-socket"];
        let places = ["journal", "article", "user"].map(place);
        let flags = flags.iter().zip(&places).map(|(flag, place)| format!("--{flag}={place}"));
        let flags = Flags::try_parse_from([crate::NAME.to_owned()].into_iter().chain(flags)).unwrap();
        let config = Config::from_flags(flags).unwrap();
        let host = Host::start(&config, Arc::new(BootClock::open().unwrap())).unwrap();
        (Arc::new(host), (temp, silent))
    }

    #[tokio::test]
    async fn so_many_likes_are_under_way_and_no_more_though_their_clients_have_hung_up() {
        let (host, _silence) = host();
        let like = |user| Box::pin(host.like(UserId(user), ArticleId(1), None, |_| ()));
        for user in 0..ACTS_MAX as u64 {
            assert!(poll!(&mut like(user)).is_pending(), "{user}");
        }
        let answer = poll!(&mut like(ACTS_MAX as u64));
        assert!(matches!(answer, Poll::Ready(Err(HostError::Busy))), "{answer:?}");
    }

    #[tokio::test]
    async fn so_many_acts_are_carried_out_and_no_more_though_their_administrators_have_hung_up() {
        let (host, _silence) = host();
        let act = || Box::pin(host.act_on(SagaId::from_bytes([7; 16]), Act::Retry, "somebody", "to see"));
        for _ in 0..AT_ONCE_MAX {
            assert!(poll!(&mut act()).is_pending());
        }
        let done = poll!(&mut act());
        assert!(matches!(done, Poll::Ready(Err(ActOnError::Busy))), "{done:?}");
    }
}
