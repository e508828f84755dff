//! Us: both daemons as processes, the runner in this one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use like_client::likes::acts::LIKE;
use like_client::likes::{self, ArticleService, Likes, UserService};
use like_client::log::Journal;
use like_client::rpc::Remote;
use like_client::runner::{Context, Options, Runner};
use like_protocol::likes::user::LikeTarget;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::time::{BootClock, Clock};
use like_tests::process::{Running, eventually};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::{ARTICLES, Targets};
use crate::Programs;
use crate::fill::fill;
use crate::turn::{Stopwatch, Turn};

/// Deadlines of the sagas: short, so that operation records are collected, and their collection paid for, in the turn
/// that made them.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);

/// Both daemons and a journal in a throwaway directory. Everything goes when it is dropped.
pub struct House {
    runtime: Runtime,
    programs: Programs,
    article: Running,
    user: Running,
    targets: Targets,
    next: u64,
    directory: tempfile::TempDir,
}

impl House {
    /// Starts both daemons, and makes the articles.
    pub fn start(programs: &Programs) -> Self {
        Self::with_likes(programs, Targets::InTurn, 0)
    }

    /// The same with so many likes in both stores already.
    pub fn with_likes(programs: &Programs, targets: Targets, likes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        if likes > 0 {
            let [article, user] = [ARTICLE_ROLE, USER_ROLE].map(|role| directory.path().join(role));
            fill(&article, &user, targets, likes);
        }
        let (article, user) =
            (daemon(programs, directory.path(), ARTICLE_ROLE), daemon(programs, directory.path(), USER_ROLE));
        // As `likectl` has it: one thread, since a hand-off between cores costs as much as a sync.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let house =
            Self { runtime, programs: programs.clone(), article, user, targets, next: likes, directory };
        if likes > 0 {
            return house;
        }
        let (articles, _) = house.services(&house.context("journal"));
        house.runtime.block_on(async {
            for id in 1..=ARTICLES {
                articles.create(Some(ArticleId(id)), format!("article {id}")).await.expect("an article");
            }
        });
        house
    }

    /// The daemons' process ids.
    pub fn pids(&self) -> [u32; 2] {
        [self.article.pid(), self.user.pid()]
    }

    /// Kills a daemon and starts it again; in how long it answers.
    pub fn restart(&mut self, role: &str) -> Duration {
        let daemon_of = if role == USER_ROLE { &mut self.user } else { &mut self.article };
        daemon_of.kill_now();
        eventually("the end of a daemon", || daemon_of.has_ended().then_some(()));
        let began = Instant::now();
        *daemon_of = daemon(&self.programs, self.directory.path(), role);
        let (articles, users) = self.services(&self.context("journal"));
        self.runtime.block_on(async {
            let answered = if role == USER_ROLE {
                users.standing(LikeTarget { user: UserId(1), article: ArticleId(1), key: None }).await.is_ok()
            } else {
                articles.show(ArticleId(1)).await.is_ok()
            };
            assert!(answered, "the {role} service does not answer");
        });
        began.elapsed()
    }

    /// How many bytes of disk the store of a role takes.
    pub fn disk_bytes(&self, role: &str) -> u64 {
        let files = std::fs::read_dir(self.directory.path().join(role)).expect("a store").flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512)).sum()
    }

    /// Where a journal of this name is.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A `likectl` command for a journal of this name.
    pub fn likectl(&self, journal: &str, arguments: &[&str]) -> Command {
        let mut command = self.programs.command("likectl");
        let socket = |role| socket(self.directory.path(), role);
        command.arg("--article-socket").arg(socket(ARTICLE_ROLE));
        command.arg("--user-socket").arg(socket(USER_ROLE));
        command.arg("--journal").arg(self.journal(journal)).arg("--json").args(arguments);
        command
    }

    /// What a runner in this process works with.
    pub fn context(&self, journal: &str) -> Context {
        let clock: Arc<dyn Clock> = Arc::new(BootClock::open().expect("a boot id"));
        let remotes = [ARTICLE_ROLE, USER_ROLE].map(|role| {
            Arc::new(Remote::unix(role, socket(self.directory.path(), role), Arc::clone(&clock)))
        });
        let journal = Journal::open(&self.journal(journal)).expect("a journal");
        let options = Options { sync_here: true, ..Options::default() };
        likes::context(journal, remotes.each_ref(), clock, options)
    }

    /// Both services, asked over the connections of a context.
    pub fn services(&self, context: &Context) -> (ArticleService, UserService) {
        let remote = |role| Arc::clone(context.participants.find(role).expect("a service"));
        (ArticleService::new(remote(ARTICLE_ROLE), QUESTION), UserService::new(remote(USER_ROLE), QUESTION))
    }

    /// Runs something on this process's runtime.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Like sagas, so many in flight, and nothing but sagas.
    pub fn sagas(&mut self, in_flight: usize, length: Duration) -> Turn {
        self.acts(in_flight, length, async |acts: &Acts, article, user| {
            let params = LIKE.params(&LikeTarget { user, article, key: None }).expect("parameters");
            let outcome = acts.runner.run(LIKE.kind, params, TIMEOUT).await.expect("an outcome");
            assert_eq!(outcome.state.ended(), Some(like_client::saga::End::Completed), "{:?}", outcome.state);
        })
    }

    /// Likes as `likectl bench` does them: each with the checks before its saga.
    pub fn likes(&mut self, in_flight: usize, length: Duration) -> Turn {
        self.acts(in_flight, length, async |acts: &Acts, article, user| {
            acts.likes.like(user, article, None, TIMEOUT).await.expect("a like");
        })
    }

    fn acts(
        &mut self,
        in_flight: usize,
        length: Duration,
        act: impl AsyncFn(&Acts, ArticleId, UserId),
    ) -> Turn {
        let (pids, first, targets) = (self.pids(), self.next, self.targets);
        let context = self.context("journal");
        let (articles, users) = self.services(&context);
        let (turn, next) = self.runtime.block_on(async {
            let runner = Runner::start(context).expect("a runner");
            let likes = Likes::new(runner.clone(), articles.clone(), users.clone());
            let acts = Acts { runner, likes };
            // Connections stand before the turn, as those of the peers' clients do.
            acts.likes
                .like(UserId(u64::MAX - first), ArticleId(1), None, TIMEOUT)
                .await
                .expect("a first like");
            let watch = std::cell::RefCell::new(Stopwatch::start(&pids, length));
            let next = std::cell::Cell::new(first);
            let client = async || {
                while !watch.borrow().is_over() {
                    let (article, user) = targets.of(next.replace(next.get() + 1));
                    let began = Instant::now();
                    act(&acts, ArticleId(article), UserId(user)).await;
                    watch.borrow_mut().note(began.elapsed());
                }
            };
            futures::future::join_all((0..in_flight).map(|_| client())).await;
            acts.runner.settled().await;
            collected(&articles, &users).await;
            acts.runner.close(TIMEOUT).await;
            (watch.into_inner().stop(), next.get())
        });
        self.next = next;
        turn
    }

    /// Reads of one article, so many in flight.
    pub fn reads(&mut self, in_flight: usize, length: Duration) -> Turn {
        let pids = self.pids();
        let (articles, _) = self.services(&self.context("journal"));
        self.runtime.block_on(async {
            articles.show(ArticleId(1)).await.expect("an article");
            let watch = std::cell::RefCell::new(Stopwatch::start(&pids, length));
            let reader = async |number: usize| {
                let article = ArticleId(1 + number as u64 % ARTICLES);
                while !watch.borrow().is_over() {
                    let began = Instant::now();
                    articles.show(article).await.expect("an article");
                    watch.borrow_mut().note(began.elapsed());
                }
            };
            futures::future::join_all((0..in_flight).map(reader)).await;
            watch.into_inner().stop()
        })
    }

    /// The likes of all articles.
    pub fn counted(&self) -> u64 {
        let (articles, _) = self.services(&self.context("journal"));
        self.runtime.block_on(async {
            let mut counted = 0;
            for id in 1..=ARTICLES {
                counted += articles.show(ArticleId(id)).await.expect("an article").likes;
            }
            counted
        })
    }

    /// Every like that was answered is there, by the product's own audit.
    ///
    /// # Panics
    /// It is not.
    pub fn check(&self) {
        let counted = self.counted();
        assert!(counted >= self.next, "likes are lost: {counted} of {}", self.next);
        let audit = self.likectl("journal", &["audit"]).output().expect("an audit");
        assert!(audit.status.success(), "drift: {}", String::from_utf8_lossy(&audit.stdout));
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for daemon in [&self.article, &self.user] {
            daemon.signal(Signal::KILL);
        }
    }
}

/// What acts are done with.
struct Acts {
    runner: Runner,
    likes: Likes,
}

/// Waits until neither daemon has any operation record left: their cost belongs to the turn that made them.
async fn collected(articles: &ArticleService, users: &UserService) {
    loop {
        let (article, user) =
            (articles.status().await.expect("a status"), users.status().await.expect("a status"));
        if [&article, &user].iter().all(|status| status.unsettled + status.collectable == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts a daemon and waits until it has a socket.
fn daemon(programs: &Programs, directory: &Path, role: &str) -> Running {
    let mut command = programs.command(if role == USER_ROLE { "like-userd" } else { "like-articled" });
    let socket = socket(directory, role);
    command.arg("--socket").arg(&socket).arg("--data").arg(directory.join(role));
    Running::start_listening(&mut command, &directory.join(format!("{role}.log")), &socket)
}

fn socket(directory: &Path, role: &str) -> PathBuf {
    directory.join(format!("{role}.sock"))
}
