//! One look at the daemons and the journal.

use like_protocol::message::DaemonStatus;

use super::follow::{Follower, Journaled};
use crate::cli::error::CliError;
use crate::cli::tools::Tools;
use crate::likes::{ArticleService, AskError, UserService};
use crate::view::moment;

/// A daemon that doesn't answer a question about itself within this time is shown as down.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_millis(700);

/// What was seen.
#[derive(Debug)]
pub struct Look {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The journal's directory.
    pub journal: String,
    /// Both services.
    pub services: Vec<ServiceSeen>,
    /// What the journal tells.
    pub log: Journaled,
    /// After how many failed compensations in a row a saga needs an operator.
    pub attention_after: u32,
}

/// A service as it was seen.
#[derive(Debug)]
pub struct ServiceSeen {
    /// Its role.
    pub service: &'static str,
    /// Where it listens.
    pub socket: String,
    /// How it says it is; or why it doesn't, and what may help.
    pub status: Result<DaemonStatus, (String, Option<String>)>,
}

/// Looks.
pub struct Looker<'a> {
    tools: &'a Tools,
    articles: ArticleService,
    users: UserService,
    follower: Follower,
}

impl<'a> Looker<'a> {
    /// Looks at what these tools reach.
    pub fn new(tools: &'a Tools) -> Self {
        Self {
            tools,
            articles: tools.articles().within(ANSWER_WITHIN),
            users: tools.users().within(ANSWER_WITHIN),
            follower: Follower::new(&tools.config.journal),
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// Reading the journal failed in a way that it never should.
    pub async fn look(self) -> Result<(Self, Look), CliError> {
        let at_ms = moment::now_ms();
        let Self { tools, articles, users, mut follower } = self;
        // A thread of its own: keys are answered while a large journal is read.
        let reading = tokio::task::spawn_blocking(move || {
            let seen = follower.look(at_ms);
            (follower, seen)
        });
        let (read, article, user) = futures::join!(reading, articles.status(), users.status());
        let (follower, log) = read.map_err(|e| CliError::Internal(e.to_string()))?;
        let [article_remote, user_remote] = tools.remotes();
        let services =
            vec![seen("article", article_remote.target(), article), seen("user", user_remote.target(), user)];
        let look = Look {
            at_ms,
            journal: tools.config.journal.display().to_string(),
            services,
            log,
            attention_after: tools.config.attention_after,
        };
        Ok((Self { tools, articles, users, follower }, look))
    }
}

fn seen<R: std::fmt::Debug>(
    service: &'static str,
    socket: String,
    status: Result<DaemonStatus, AskError<R>>,
) -> ServiceSeen {
    let status = status.map_err(|error| match error {
        AskError::Unreachable(unreachable) => {
            let told = CliError::NoDaemon(vec![unreachable]).told();
            (told.message().to_owned(), told.advice().map(str::to_owned))
        }
        error => (error.to_string(), None),
    });
    ServiceSeen { service, socket, status }
}
