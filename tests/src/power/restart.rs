//! A restart after a power loss, in this process: both stores are taken up as the daemons take them up, under a new
//! boot id; dead runners' slots are recovered; and what is found is compared with what was promised.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use like_client::likes::audit::{self, LiveBooks};
use like_client::likes::{self, ArticleService, Likes, UserService, pages};
use like_client::log::{Journal, history};
use like_client::rpc::{Dial, Remote};
use like_client::runner::{Context, Options, Order, Runner, recover};
use like_daemon::commit::writer::Identity;
use like_daemon::commit::{Gauges, Queue, Writer, space};
use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::net::session::{self, Service};
use like_daemon::participant::domain::Domain;
use like_daemon::service::start::{self, START_WAIT_MAX};
use like_daemon::store::StoreError;
use like_daemon::store::data_dir::DataDir;
use like_protocol::ids::BootId;
use like_protocol::likes::user::{CallerKey, LikeRecord, LikeTarget};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::message::PAGE_ROWS_MAX;
use like_protocol::time::{Clock, Now};
use tokio::sync::watch;

use super::ledger::Ledger;
use crate::process::eventually;

/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A user who plays in no workload.
const STRANGER: UserId = UserId(u64::MAX / 2);

/// How large a commit log grows before a checkpoint: so little that every restart makes some, or so much that none does.
const LOG_BYTES_MAX: [u64; 2] = [512, 1 << 30];

/// What is broken, in words.
pub type Broken = String;

fn broken(what: &str) -> impl FnOnce(&dyn std::fmt::Display) -> Broken {
    let what = what.to_owned();
    move |why| format!("{what}: {why}")
}

/// The clock of a boot that has just begun.
struct NewBoot {
    boot: BootId,
    began: Instant,
}

impl Clock for NewBoot {
    fn now(&self) -> Now {
        Now { boot: self.boot, at_ms: self.began.elapsed().as_millis() as u64 }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A daemon in this process.
struct Daemon {
    service: Arc<Service>,
    writer: JoinHandle<Result<(), StoreError>>,
}

impl Daemon {
    fn start<D: Domain>(
        domain: D,
        data: &Path,
        log_bytes_max: u64,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Broken> {
        let opened =
            DataDir::open(data, D::ROLE, false).map_err(|e| broken("a data directory is refused")(&e))?;
        let directory = opened.directory().map_err(|e| broken("a data directory is refused")(&e))?;
        let space = space::of(directory, log_bytes_max);
        let (looked_at, now) = (space.clone(), clock.now());
        let take_up = move || start::take_up(domain, opened, log_bytes_max, looked_at, now);
        let taken_up = runtime().block_on(start::within(START_WAIT_MAX, data, take_up));
        let (store, participant) = taken_up.map_err(|e| broken("a store is not taken up")(&e))?;
        let identity = Identity { role: D::ROLE, store: store.id(), software: "after".to_owned() };
        let queue = Arc::new(Queue::new(1024));
        let service = Arc::new(Service {
            queue: Arc::clone(&queue),
            identity: identity.clone(),
            clock: Arc::clone(clock),
        });
        let mut writer = Writer {
            participant,
            space,
            store,
            queue,
            clock: Arc::clone(clock),
            identity,
            gauges: Arc::new(Gauges::default()),
            heartbeat: None,
        };
        let writer = std::thread::spawn(move || runtime().block_on(writer.run()));
        Ok(Self { service, writer })
    }

    fn stop(self) -> Result<(), Broken> {
        self.service.queue.close();
        let ended = self.writer.join().map_err(|_| "a writer panicked".to_owned())?;
        ended.map_err(|e| broken("a store failed")(&e))
    }
}

/// Restarts on the state below `world`, recovers, and insists on what `ledger` says.
///
/// # Errors
/// What is broken.
pub fn restart(world: &Path, boot: [u8; 16], ledger: &Ledger) -> Result<(), Broken> {
    let clock: Arc<dyn Clock> = Arc::new(NewBoot { boot: BootId::from_bytes(boot), began: Instant::now() });
    let log_bytes_max = LOG_BYTES_MAX[usize::from(boot[0] & 4 == 4)];
    let start = || {
        let article = Daemon::start(Articles, &world.join("article-data"), log_bytes_max, &clock)?;
        match Daemon::start(Users, &world.join("user-data"), log_bytes_max, &clock) {
            Ok(user) => Ok((article, user)),
            Err(why) => article.stop().and(Err(why)),
        }
    };
    let (article, user) = start()?;
    let runtime = runtime();
    let found = runtime.block_on(async {
        let (_open, closing) = watch::channel(false);
        let remote = |role, daemon: &Daemon| {
            let (service, closing) = (Arc::clone(&daemon.service), closing.clone());
            let dial = Dial::new("this process", move || {
                let (near, far) = tokio::io::duplex(64 * 1024);
                let (read, write) = tokio::io::split(far);
                tokio::spawn(session::serve(read, write, Arc::clone(&service), closing.clone()));
                std::future::ready(Ok(near))
            });
            Arc::new(Remote::new(role, dial, Arc::clone(&clock)))
        };
        let (article, user) = (remote(ARTICLE_ROLE, &article), remote(USER_ROLE, &user));
        let survey = Survey {
            articles: ArticleService::new(Arc::clone(&article), PATIENCE),
            users: UserService::new(Arc::clone(&user), PATIENCE),
            ledger,
        };
        let journal = Journal::open(&world.join("journal"));
        let journal = journal.map_err(|e| broken("the journal is refused")(&e))?;
        let context = likes::context(journal, [&article, &user], Arc::clone(&clock), Options::default());
        if boot[0] & 1 == 1 {
            strangers(world, &context, ledger).await?;
        }
        // With a new deadline, what was given up goes on unless its log knows that it was.
        let resumed = Order::Resume { timeout: PATIENCE };
        recovered(&context, if boot[0] & 2 == 2 { resumed } else { Order::GoOn }).await?;
        survey.make().await
    });
    drop(runtime);
    found.and(article.stop()).and(user.stop())?;
    // What the power loss left behind must not be in the way of later starts either.
    // sled's own lock goes with the last of its threads, which in this process may be a moment later.
    let is_closing = |started: &Result<_, Broken>| {
        started.as_ref().is_err_and(|why: &Broken| why.contains("could not acquire lock"))
    };
    let again = eventually("sled's lock", || Some(start()).filter(|started| !is_closing(started)));
    let (article, user) = again.map_err(|why| format!("when it is started once more, {why}"))?;
    article.stop().and(user.stop())
}

/// Others use the services before anybody recovers, with a journal of their own: with what they ask for, the daemons forget
/// all that they may, and nothing of it is left.
async fn strangers(world: &Path, context: &Context, ledger: &Ledger) -> Result<(), Broken> {
    let Some((article, _)) = ledger.articles.iter().find(|(_, made)| **made) else { return Ok(()) };
    let journal = Journal::open(&world.join("journal-of-strangers"));
    let journal = journal.map_err(|e| broken("a new journal is refused")(&e))?;
    let runner = Runner::start(Context { journal, ..context.clone() });
    let runner = runner.map_err(|e| broken("a new journal has no slot")(&e))?;
    let remote = |role| context.participants.find(role).cloned().ok_or_else(|| format!("no {role} service"));
    let articles = ArticleService::new(remote(ARTICLE_ROLE)?, PATIENCE);
    let users = UserService::new(remote(USER_ROLE)?, PATIENCE);
    let service = Likes::new(runner.clone(), articles, users);
    let (user, article) = (STRANGER, ArticleId(*article));
    service.like(user, article, None, PATIENCE).await.map_err(|e| broken("a stranger can't like")(&e))?;
    let taken_back = service.unlike(user, article, None, PATIENCE).await;
    taken_back.map_err(|e| broken("a stranger can't take a like back")(&e))?;
    runner.close(PATIENCE).await;
    Ok(())
}

/// Takes over what dead runners left; everything must come to its end.
async fn recovered(context: &Context, order: Order) -> Result<(), Broken> {
    let report = recover::once(context, order, PATIENCE).await.map_err(|e| broken("recovery fails")(&e))?;
    if report.unfinished + report.needs_attention + report.quarantined > 0 {
        return Err(format!("recovery leaves something: {report:?}"));
    }
    let history = history::read(&context.journal).map_err(|e| broken("the journal can't be read")(&e))?;
    if let Some(damage) = history.gaps.damage.first() {
        return Err(format!("the journal is called damaged: {damage}"));
    }
    if let Some((slot, error)) = history.gaps.skipped.first() {
        return Err(format!("slot {} can't be used: {error}", slot.number()));
    }
    for (_, story) in &history.sagas {
        if story.is_open() {
            return Err(format!("a saga has no end that is settled: {story:?}"));
        }
    }
    Ok(())
}

/// A look at everything.
struct Survey<'a> {
    articles: ArticleService,
    users: UserService,
    ledger: &'a Ledger,
}

impl Survey<'_> {
    async fn make(&self) -> Result<(), Broken> {
        let books = LiveBooks { articles: self.articles.clone(), users: self.users.clone() };
        let findings = audit::audit(&books, || ()).await.map_err(|e| format!("the audit fails: {e:?}"))?;
        if !findings.drift.is_empty() || !findings.not_compared.is_empty() {
            return Err(format!("the audit finds {findings:?}"));
        }
        self.articles().await?;
        self.pairs().await?;
        self.keys().await
    }

    async fn articles(&self) -> Result<(), Broken> {
        let page = self
            .articles
            .page(None, PAGE_ROWS_MAX)
            .await
            .map_err(|e| broken("articles can't be read")(&e))?;
        let found: BTreeSet<_> = page.iter().map(|article| article.id().0).collect();
        for (article, made) in &self.ledger.articles {
            if *made && !found.contains(article) {
                return Err(format!("article {article} was told to be made and is gone"));
            }
        }
        match found.iter().find(|article| !self.ledger.articles.contains_key(article)) {
            Some(article) => Err(format!("nobody made article {article}")),
            None => Ok(()),
        }
    }

    async fn pairs(&self) -> Result<(), Broken> {
        let mut records = Vec::new();
        for article in self.ledger.articles.keys() {
            let page = |after, limit| self.users.likers_of(ArticleId(*article), after, limit);
            let theirs = pages::fetch(None, u64::MAX, page, |record| record.user).await;
            records.extend(theirs.map_err(|e| broken("records can't be read")(&e))?);
        }
        for ((user, article), pair) in &self.ledger.pairs {
            let is_theirs = |r: &&LikeRecord| (r.user.0, r.article.0) == (*user, *article);
            let theirs: Vec<_> = records.iter().filter(is_theirs).collect();
            if let Some(pending) = theirs.iter().find(|record| record.pending) {
                return Err(format!("{pending:?} is still pending"));
            }
            let record = theirs
                .first()
                .map(|found| found.record.map_or("damaged".to_owned(), |record| record.to_string()));
            if theirs.len() > 1 || !pair.admits(record.as_deref()) {
                return Err(format!("user {user} and article {article}: {theirs:?} where {pair:?}"));
            }
        }
        let known = |r: &&LikeRecord| !self.ledger.pairs.contains_key(&(r.user.0, r.article.0));
        records.iter().find(known).map_or(Ok(()), |record| Err(format!("nobody asked for {record:?}")))
    }

    /// Whoever tries again with a key that was answered gets that answer.
    async fn keys(&self) -> Result<(), Broken> {
        for (key, (user, article, saga)) in &self.ledger.keys {
            let key = CallerKey(uuid::Uuid::from_u128(*key));
            let target = LikeTarget { user: UserId(*user), article: ArticleId(*article), key: Some(key) };
            let standing =
                self.users.standing(target).await.map_err(|e| broken("a key can't be read")(&e))?;
            if standing.key.is_none_or(|first| first.saga.to_string() != *saga) {
                return Err(format!("a key told to be used by {saga} is found as {:?}", standing.key));
            }
        }
        Ok(())
    }
}
