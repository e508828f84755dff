//! What was typed, checked: the configuration that commands work with.

use std::path::PathBuf;
use std::time::Duration;

use like_protocol::time::DEADLINE_AHEAD_MAX;

use super::args::{Color, GlobalArgs};
use crate::view::duration;

/// What commands work with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The article service's socket.
    pub article_socket: PathBuf,
    /// The user service's socket.
    pub user_socket: PathBuf,
    /// The directory of the saga log.
    pub journal: PathBuf,
    /// How long a saga may try, or a question may take. At most [`DEADLINE_AHEAD_MAX`].
    pub timeout: Duration,
    /// After how many failed compensations in a row a saga needs an operator.
    pub attention_after: u32,
    /// When to colour.
    pub color: Color,
    /// From which level on events are shown on stderr.
    pub log_level: tracing::Level,
    /// One JSON document instead of text.
    pub json: bool,
    /// Nothing on stderr but errors.
    pub quiet: bool,
}

impl Config {
    /// Checks what was typed.
    ///
    /// # Errors
    /// What is wrong, for a usage error.
    pub fn of(args: &GlobalArgs) -> Result<Self, String> {
        if args.timeout > DEADLINE_AHEAD_MAX {
            let most = duration::show(DEADLINE_AHEAD_MAX);
            return Err(format!("--timeout: no daemon accepts a deadline more than {most} ahead"));
        }
        let log_level = match (args.quiet, args.verbose) {
            (true, _) => tracing::Level::ERROR,
            (false, 0) => tracing::Level::WARN,
            (false, 1) => tracing::Level::INFO,
            (false, _) => tracing::Level::DEBUG,
        };
        Ok(Self {
            article_socket: args.article_socket.clone(),
            user_socket: args.user_socket.clone(),
            journal: args.journal.clone(),
            timeout: args.timeout,
            attention_after: args.attention_after,
            color: args.color,
            log_level,
            json: args.json,
            quiet: args.quiet,
        })
    }
}
