//! What commands reach for: services, journal, runner, all by the configuration.

use std::sync::Arc;

use like_protocol::ids::StoreId;
use like_protocol::likes::{ARTICLE_ROLE, USER_ROLE};
use like_protocol::time::{BootClock, Clock};

use super::config::Config;
use super::error::CliError;
use super::output::Output;
use crate::likes::audit::LiveBooks;
use crate::likes::{self, ActError, ArticleService, Likes, UserService};
use crate::log::{Journal, JournalError, Slot, Story, history};
use crate::rpc::Remote;
use crate::runner::{Context, Options, Runner};

/// What commands reach for. Nothing is opened before it is asked for.
pub struct Tools {
    /// The configuration.
    pub config: Config,
    /// What to print with.
    pub output: Output,
    clock: Arc<dyn Clock>,
    article: Arc<Remote>,
    user: Arc<Remote>,
}

impl Tools {
    /// By this configuration.
    ///
    /// # Errors
    /// This host has no boot clock that can be read.
    pub fn new(config: Config) -> Result<Self, CliError> {
        let clock: Arc<dyn Clock> =
            Arc::new(BootClock::open().map_err(|e| CliError::Internal(e.to_string()))?);
        let article = Remote::unix(ARTICLE_ROLE, config.article_socket.clone(), Arc::clone(&clock));
        let user = Remote::unix(USER_ROLE, config.user_socket.clone(), Arc::clone(&clock));
        let output = Output { json: config.json, quiet: config.quiet };
        Ok(Self { config, output, clock, article: Arc::new(article), user: Arc::new(user) })
    }

    /// The article service.
    pub fn articles(&self) -> ArticleService {
        ArticleService::new(Arc::clone(&self.article), self.config.timeout)
    }

    /// The user service.
    pub fn users(&self) -> UserService {
        UserService::new(Arc::clone(&self.user), self.config.timeout)
    }

    /// Both services, as an audit reads them.
    pub fn books(&self) -> LiveBooks {
        LiveBooks { articles: self.articles(), users: self.users() }
    }

    /// The connections to both services.
    pub fn remotes(&self) -> [&Arc<Remote>; 2] {
        [&self.article, &self.user]
    }

    /// The stores of both services. Where likes are many, one that can't be reached ends it here, before anything is begun.
    ///
    /// # Errors
    /// A service can't be reached.
    pub async fn stores(&self) -> Result<[StoreId; 2], CliError> {
        let [article, user] = self.remotes();
        let store = async |remote: &Remote| {
            let connection = remote.connect(self.config.timeout).await.map_err(ActError::Unavailable)?;
            Ok::<_, CliError>(connection.welcome().store)
        };
        Ok([store(article).await?, store(user).await?])
    }

    /// What a runner works with; the journal is made if there is none.
    ///
    /// # Errors
    /// The journal can't be used.
    pub fn context(&self) -> Result<Context, CliError> {
        let journal = Journal::open(&self.config.journal)?;
        let attention_after = self.config.attention_after;
        let options = Options { attention_after, sync_here: true, ..Options::default() };
        Ok(likes::context(journal, self.remotes(), Arc::clone(&self.clock), options))
    }

    /// A runner in a slot of its own, and what users do with articles through it.
    ///
    /// # Errors
    /// The journal can't be used.
    pub fn likes(&self) -> Result<(Runner, Likes), CliError> {
        let runner = Runner::start(self.context()?).map_err(CliError::of_start)?;
        let likes = Likes::new(runner.clone(), self.articles(), self.users());
        Ok((runner, likes))
    }

    /// The journal for reading; `None`, said aloud, if there is none yet.
    ///
    /// # Errors
    /// The journal exists and can't be read.
    pub fn journal_to_read(&self) -> Result<Option<Journal>, CliError> {
        match Journal::open_existing(&self.config.journal) {
            Ok(journal) => Ok(Some(journal)),
            Err(JournalError::Io { path, source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let path = path.display();
                self.output.note(format!("there is no journal at {path} yet: nothing has been recorded"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Shows every saga that the journal tells of, in no order and with little of it in memory; none if there is no journal
    /// yet. What can't be read is said aloud.
    ///
    /// # Errors
    /// The journal exists and can't be read.
    pub fn survey(&self, each: impl FnMut(&Slot, Story)) -> Result<(), CliError> {
        let Some(journal) = self.journal_to_read()? else { return Ok(()) };
        let gaps = history::survey(&journal, each)?;
        for (slot, error) in &gaps.skipped {
            let number = slot.number();
            self.output.warn(format!("warning: slot {number} of the journal can't be read: {error}"));
        }
        for damage in &gaps.damage {
            self.output.warn(format!("warning: the journal is damaged: {damage}"));
        }
        Ok(())
    }
}
