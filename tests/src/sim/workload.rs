//! What client processes do: like and unlike, recover, administrate, read and audit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use like_client::likes::audit::{LiveBooks, audit};
use like_client::likes::{self, ArticleService, Likes, UserService};
use like_client::log::{Journal, JournalError, history};
use like_client::rpc::Remote;
use like_client::runner::{Context, Options, Order, Origin, Runner, admin, recover};
use like_client::saga::End;
use like_protocol::likes::user::{CallerKey, KeyUse};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::time::Clock;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::disk::SimDisk;
use super::faults::Fault;
use super::network;
use super::oracle::{Act, Told};
use super::world::{Host, Service, lock, new_saga};

/// Where the journal is.
pub const JOURNAL: &str = "/journal";

/// How long a question outside any saga may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// After how many failures of a compensation an operator is needed.
const ATTENTION_AFTER: u32 = 5;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client process's connections, and what a runner in it works with.
pub struct Client {
    host: Host,
    article: Arc<Remote>,
    user: Arc<Remote>,
}

impl Client {
    /// The clients of a process.
    pub fn new(host: &Host) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(host.clone());
        let remote =
            |role: Service| Arc::new(Remote::new(role.role(), network::dial(host, role), Arc::clone(&clock)));
        Self { host: host.clone(), article: remote(Service::Article), user: remote(Service::User) }
    }

    /// The journal.
    ///
    /// # Errors
    /// It can't be opened just now.
    pub fn journal(&self) -> Result<Journal, JournalError> {
        Journal::open_on(Arc::new(SimDisk(self.host.clone())), Path::new(JOURNAL))
    }

    /// What a runner works with.
    ///
    /// # Errors
    /// The journal can't be opened just now.
    pub fn context(&self) -> Result<Context, JournalError> {
        let plan = &self.host.world.plan;
        let options = Options {
            attempt_timeout: ms(plan.attempt_ms),
            attention_after: ATTENTION_AFTER,
            keeping: plan.keeping,
            sync_here: plan.sync_here,
            under_way_max: plan.under_way_max,
        };
        let (services, clock) = ([&self.article, &self.user], Arc::new(self.host.clone()));
        let context = likes::context(self.journal()?, services, clock, options);
        Ok(Context { origin: Origin { uid: 1000, new_saga }, ..context })
    }

    /// Both services, asked directly.
    pub fn books(&self) -> LiveBooks {
        LiveBooks {
            articles: ArticleService::new(Arc::clone(&self.article), ASK_WITHIN),
            users: UserService::new(Arc::clone(&self.user), ASK_WITHIN),
        }
    }

    fn likes(&self) -> Option<(Runner, Likes)> {
        let runner = Runner::start(self.context().ok()?).ok()?;
        let LiveBooks { articles, users } = self.books();
        Some((runner.clone(), Likes::new(runner, articles, users)))
    }
}

/// A runner with several callers, until all acts of the round have been asked for or its time is over.
pub async fn serve(host: Host, lifetime_ms: u64) {
    let client = Client::new(&host);
    let Some((runner, likes)) = client.likes() else { return };
    let until_ms = host.world.now_ms() + lifetime_ms;
    let mut callers = JoinSet::new();
    for _ in 0..host.world.plan.callers {
        let (host, likes) = (host.clone(), likes.clone());
        callers.spawn(async move {
            while host.world.now_ms() < until_ms {
                let Some(act) = lock(&host.world.oracle).next_act(&host.world) else { break };
                if !call(&host, &likes, act).await {
                    break;
                }
                tokio::time::sleep(ms(host.world.below(host.world.plan.rest_ms + 1))).await;
            }
        });
    }
    while callers.join_next().await.is_some() {}
    drop(likes);
    runner.close(ms(host.world.below(3000))).await;
}

/// A process for one act.
pub async fn act_once(host: Host) {
    let client = Client::new(&host);
    let Some((runner, likes)) = client.likes() else { return };
    let Some(act) = lock(&host.world.oracle).next_act(&host.world) else { return };
    call(&host, &likes, act).await;
    runner.close(ms(3000)).await;
}

/// Asks for one act, and tells the oracle what came of it. False if this process's log has ended.
async fn call(host: &Host, likes: &Likes, act: Act) -> bool {
    let (user, article) = (UserId(act.user), ArticleId(act.article));
    let key = act.key.map(|key| CallerKey(Uuid::from_u128(key)));
    let timeout = ms(act.timeout_ms);
    let asked = async {
        match act.usage {
            KeyUse::Like => likes.like(user, article, key, timeout).await.map(Told::Liked),
            KeyUse::Unlike => likes.unlike(user, article, key, timeout).await.map(Told::Unliked),
        }
    };
    let world = &host.world;
    world.note(host.life.pid, "asks", act.user, act.article);
    let answer = if world.percent(4) {
        let Ok(answer) = tokio::time::timeout(ms(world.below(act.timeout_ms)), asked).await else {
            world.fault(Fault::CallerGone, host.life.pid);
            return true;
        };
        answer
    } else {
        asked.await
    };
    if host.life.is_dead() {
        return false;
    }
    lock(&world.oracle).told(world, host.life.pid, &act, answer)
}

/// Recovers once.
pub async fn recover_once(host: Host, order: Order, wait_ms: u64) {
    let client = Client::new(&host);
    let Ok(context) = client.context() else { return };
    lock(&host.world.oracle).ordered(host.life.pid, host.world.wall_ms(), order);
    let _report = recover::once(&context, order, ms(wait_ms)).await;
}

/// Recovers until nothing is left open, and says so.
pub async fn recover_all(host: Host) {
    let client = Client::new(&host);
    loop {
        if let Ok(context) = client.context() {
            let _report = recover::once(&context, Order::GoOn, ms(20_000)).await;
            let slots = context.journal.slots().unwrap_or_default();
            if slots.iter().all(|slot| history::open_in(slot).is_ok_and(|open| open.is_empty())) {
                lock(&host.world.oracle).quiet = true;
                return;
            }
        }
        tokio::time::sleep(ms(100)).await;
    }
}

/// An operator takes any saga that stands in the journal, mostly an unfinished one, and does something to it.
pub async fn administrate(host: Host) {
    let client = Client::new(&host);
    let Ok(context) = client.context() else { return };
    let Ok(told) = history::read(&context.journal) else { return };
    let world = &host.world;
    let unfinished = told.sagas.iter().filter(|(_, story)| story.is_open()).map(|(_, story)| story.saga);
    let unfinished: Vec<_> = unfinished.collect();
    let saga = match unfinished.len() as u64 {
        0 => return,
        some if world.percent(90) => unfinished[world.below(some) as usize],
        _ => told.sagas[world.below(told.sagas.len() as u64) as usize].1.saga,
    };
    world.say(host.life.pid, || format!("an operator takes {saga}"));
    let wait = ms(world.below(2000));
    match world.below(if world.plan.forces { 4 } else { 2 }) {
        0 => drop(admin::retry(&context, saga, wait).await),
        1 => drop(admin::compensate(&context, saga, wait).await),
        _ => {
            let end = if world.percent(50) { End::Completed } else { End::Compensated };
            lock(&world.oracle).forced += 1;
            drop(admin::force(&context, saga, end, "it was stuck".to_owned(), wait).await);
        }
    }
}

/// Audits and reads the logs while everything goes on.
pub async fn read(host: Host) {
    let client = Client::new(&host);
    if let Ok(found) = audit(&client.books(), || {}).await
        && !host.life.is_dead()
    {
        lock(&host.world.oracle).audited(&host.world, &found);
    }
    if let Ok(journal) = client.journal()
        && let Ok(told) = history::read(&journal)
        && !host.life.is_dead()
    {
        lock(&host.world.oracle).read(&host.world, &told);
    }
}

/// Makes the articles.
pub async fn set_up(host: Host) {
    let client = Client::new(&host);
    let books = client.books();
    for article in 1..=host.world.plan.articles {
        // The daemons may just be starting.
        while books.articles.create(Some(ArticleId(article)), format!("article {article}")).await.is_err() {
            tokio::time::sleep(ms(5)).await;
        }
    }
    lock(&host.world.oracle).quiet = true;
}

/// Looks at everything by way of the protocol, when all is quiet.
pub async fn inspect(host: Host) {
    let client = Client::new(&host);
    let books = client.books();
    // The daemons may just be starting.
    let found = loop {
        match audit(&books, || {}).await {
            Ok(found) => break found,
            Err(_) => tokio::time::sleep(ms(5)).await,
        }
    };
    lock(&host.world.oracle).inspected(&host.world, &found);
    for user in 1..=host.world.plan.users {
        let likes = books.users.likes_of(UserId(user), None, 256).await;
        match likes {
            Ok(likes) => lock(&host.world.oracle).listed(&host.world, user, &likes),
            Err(e) => host.world.broken(format!("likes can't be listed in peace: {e}")),
        }
    }
    lock(&host.world.oracle).quiet = true;
}
