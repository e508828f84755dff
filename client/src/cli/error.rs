//! What a command's errors are, and how they are told. What each is called, how the process exits for it and what a
//! person should do next stands in [`told`], and nowhere else.

use std::io;
use std::process::ExitCode;

use super::demo::DemoError;
use super::output::{BAD, DIM, Output, paint, printable};
use crate::likes::ActError;
use crate::likes::articles::ArticleError;
use crate::likes::audit::BooksError;
use crate::likes::users::UserError;
use crate::log::{JournalError, LacksRoom};
use crate::rpc::Unreachable;
use crate::runner::admin::AdminError;
use like_protocol::ids::SagaId;
use told::Document;
pub use told::{Exit, Told};

mod files;
pub mod told;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum CliError {
    /// What was typed makes no sense.
    Usage(clap::Error),
    /// The article service did not do it.
    Article(ArticleError),
    /// The user service did not do it.
    User(UserError),
    /// A like or an unlike came to nothing.
    Act(ActError),
    /// The journal can't be used.
    Journal(JournalError),
    /// An operator's act was not carried out.
    Admin(AdminError),
    /// No saga of this id stands in the journal.
    NoSuchSaga(SagaId),
    /// Sagas are left unfinished. How many.
    Unfinished(usize),
    /// One saga that an operator acted on has not ended. The word says which act.
    NotEnded(SagaId),
    /// Sagas need an operator, or hang. What, in words; the first of them.
    NeedsAttention(String, Option<SagaId>),
    /// Slots of the journal can't be read or used; perhaps it has no room for more as well. What, in words.
    JournalTrouble(String),
    /// The journal has no room for more, or may not be written. What, in words.
    NoRoom(String),
    /// An audit found so many articles that drift.
    Drift(usize),
    /// An audit met something damaged. What, in words.
    Damaged(String),
    /// No daemon can be reached.
    NoDaemon(Vec<Unreachable>),
    /// Ctrl-C; the saga that had been begun.
    Interrupted(Option<SagaId>),
    /// A file that was to be written can't be.
    File(String, io::Error),
    /// A file that was to be read can't be.
    Input(String, io::Error),
    /// From this line on a file can't be understood. Why.
    Unreadable(u64, String),
    /// Likes by the many stopped before their end.
    Stopped {
        /// What they were for.
        what: &'static str,
        /// What goes on with it.
        how_to_go_on: &'static str,
        /// How many of its sagas stand unfinished in the log.
        unfinished: usize,
        /// Why it stopped.
        why: Box<CliError>,
    },
    /// So many of all lines were not imported. The file that says which, if there is one.
    NotAllImported(u64, u64, Option<String>),
    /// So many files may be open, and so many are needed.
    TooFewDescriptors {
        /// How many may be.
        limit: u64,
        /// How many are needed.
        needed: u64,
    },
    /// stdout is gone.
    Output(io::Error),
    /// The demo can't go on.
    Demo(DemoError),
    /// Anything unexpected.
    Internal(String),
}

impl CliError {
    /// A runner did not get as far as a log of its own. Where there was no space for one, that is told as where little is left:
    /// nothing was begun in either case.
    pub fn of_start(error: JournalError) -> Self {
        if error.is_full() {
            return Self::Act(ActError::LacksRoom(LacksRoom { why: error.to_string() }));
        }
        Self::Journal(error)
    }

    /// Tells the error on stderr, and says how the process ends. That nobody reads stdout any more is no error.
    pub fn report(&self, output: &Output) -> ExitCode {
        if matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let told = self.told();
        if output.json {
            let document = serde_json::to_string(&Document { error: &told });
            output.warn(document.unwrap_or_else(|e| e.to_string()));
        } else {
            output.warn(format!("{} {}", paint(BAD, "error:"), shown(&told.message)));
            if let Some(saga) = told.saga_id.as_ref().filter(|saga| !told.message.contains(saga.as_str())) {
                output.warn(format!("{}  {saga}", paint(DIM, "saga:")));
            }
            if let Some(hint) = &told.hint {
                output.warn(format!("{}  {}", paint(DIM, "hint:"), shown(hint)));
            }
        }
        ExitCode::from(told.exit as u8)
    }
}

/// Parts of a message may be other programs' words; some have several lines.
fn shown(message: &str) -> String {
    message.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

impl From<ArticleError> for CliError {
    fn from(error: ArticleError) -> Self {
        Self::Article(error)
    }
}

impl From<UserError> for CliError {
    fn from(error: UserError) -> Self {
        Self::User(error)
    }
}

impl From<ActError> for CliError {
    fn from(error: ActError) -> Self {
        Self::Act(error)
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

impl From<DemoError> for CliError {
    fn from(error: DemoError) -> Self {
        Self::Demo(error)
    }
}

impl From<BooksError> for CliError {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Articles(error) => Self::Article(error),
            BooksError::Users(error) => Self::User(error),
        }
    }
}

#[cfg(test)]
mod tests;
