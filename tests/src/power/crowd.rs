//! Many users at once in one process: they like articles, some take it back, and each word they get is told at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use like_client::likes::{self, ActError, ArticleService, Likes, UserService};
use like_client::log::{Journal, Keeping};
use like_client::rpc::Remote;
use like_client::runner::{Options, Runner};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::time::{BootClock, Clock};
use serde::{Deserialize, Serialize};

use super::ledger::Act;

/// What a crowd does: every user likes every article, in turn.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Crowd {
    /// The articles, which exist.
    pub articles: u64,
    /// The first user.
    pub first: u64,
    /// How many users.
    pub users: u64,
    /// How many act at the same time.
    pub at_once: usize,
    /// Every so many users take back each like at once; 0 for none.
    pub undecided: u64,
    /// How long each act may take; so long its records are kept.
    pub timeout_ms: u64,
    /// How far its log's segments grow, if not as far as usual.
    pub segment_bytes: Option<u64>,
}

impl Crowd {
    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let articles = self.articles;
        (self.first..self.first + self.users)
            .flat_map(move |user| (1..=articles).map(move |article| (user, article)))
    }

    fn takes_back(&self, user: u64) -> bool {
        self.undecided > 0 && user.is_multiple_of(self.undecided)
    }

    /// All that it does.
    pub fn acts(&self) -> Vec<Act> {
        let acts = self.pairs().flat_map(|(user, article)| {
            let unlike = self.takes_back(user).then_some(Act::Unlike { user, article });
            [Some(Act::Like { user, article, key: None }), unlike]
        });
        acts.flatten().collect()
    }

    async fn act(&self, likes: &Likes, user: u64, article: u64) {
        let timeout = Duration::from_millis(self.timeout_ms);
        let (who, what) = (UserId(user), ArticleId(article));
        let tell = |liked: bool, saga: String| {
            let told = serde_json::json!({"user": user, "article": article, "liked": liked, "saga_id": saga});
            println!("{told}");
        };
        let tell_error = |liked: bool, error: ActError| {
            let certain = !matches!(
                error,
                ActError::Unfinished { .. } | ActError::LogEnded { .. } | ActError::Internal(_)
            );
            let kind = if certain { "failed" } else { "unfinished" };
            let error = serde_json::json!({"kind": kind, "message": error.to_string()});
            let told = serde_json::json!({"user": user, "article": article, "liked": liked, "error": error});
            eprintln!("{told}");
        };
        match likes.like(who, what, None, timeout).await {
            Ok(answer) => tell(true, answer.saga.to_string()),
            Err(error) => return tell_error(true, error),
        }
        if self.takes_back(user) {
            match likes.unlike(who, what, None, timeout).await {
                Ok(answer) => tell(false, answer.saga.to_string()),
                Err(error) => tell_error(false, error),
            }
        }
    }

    async fn go(&self, [article, user]: [PathBuf; 2], journal: PathBuf) {
        use futures::StreamExt;
        let clock: Arc<dyn Clock> = Arc::new(BootClock::open().expect("a boot id"));
        let remote = |role, path| Arc::new(Remote::unix(role, path, Arc::clone(&clock)));
        let (article, user) = (remote(ARTICLE_ROLE, article), remote(USER_ROLE, user));
        let mut keeping = Keeping::default();
        keeping.segment_bytes_max = self.segment_bytes.unwrap_or(keeping.segment_bytes_max);
        let journal = Journal::open(&journal).expect("a journal");
        let options = Options { keeping, ..Options::default() };
        let context = likes::context(journal, [&article, &user], clock, options);
        let runner = Runner::start(context).expect("a runner");
        let within = Duration::from_secs(5);
        let likes =
            Likes::new(runner.clone(), ArticleService::new(article, within), UserService::new(user, within));
        let acts = self.pairs().map(|(user, article)| self.act(&likes, user, article));
        futures::stream::iter(acts).buffer_unordered(self.at_once).collect::<Vec<()>>().await;
        runner.close(within).await;
    }
}

/// The program: the crowd as JSON, both sockets, and the journal.
pub fn main(arguments: &[String]) -> Option<ExitCode> {
    let [crowd, article, user, journal] = arguments else { return None };
    let crowd: Crowd = serde_json::from_str(crowd).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(crowd.go([article, user].map(PathBuf::from), journal.into()));
    Some(ExitCode::SUCCESS)
}
