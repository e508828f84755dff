//! The command line as it is typed. What it means is decided in [`super::config`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::commands::{
    article, audit, bench, check, completions, import, like, man, recover, saga, top, user,
};
use super::demo;
use crate::view::duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// What stands below the list of commands.
const AFTER_HELP: &str = "\
Exit codes: 0 done, 2 usage, 3 not found, 4 refused by a rule, 5 undone, 6 unfinished,
7 an operator is needed, 8 a daemon can't be reached, 9 no permission, 10 drift, 130 Ctrl-C,
1 anything unexpected.

New here? `likectl demo` shows the whole story in a throwaway directory in under a minute.";

/// Likes articles durably, and looks after the sagas that do it.
///
/// A like concerns two services: the article's count and the user's record. likectl drives each like as a saga with a
/// durable log, so that both happen or neither, whatever dies in between.
#[derive(Parser, Debug)]
#[command(name = "likectl", version, styles = STYLES, after_help = AFTER_HELP, propagate_version = true)]
#[command(arg_required_else_help = true, subcommand_required = true, max_term_width = 100)]
pub struct Cli {
    /// Options that every command has.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The article service's socket
    #[arg(long, global = true, value_name = "PATH", env = "LIKECTL_ARTICLE_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/like/article.sock")]
    pub article_socket: PathBuf,

    /// The user service's socket
    #[arg(long, global = true, value_name = "PATH", env = "LIKECTL_USER_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/like/user.sock")]
    pub user_socket: PathBuf,

    /// The directory of the saga log
    #[arg(long, global = true, value_name = "DIR", env = "LIKECTL_JOURNAL", hide_env_values = true)]
    #[arg(default_value = "/var/lib/like/journal")]
    pub journal: PathBuf,

    /// How long a saga may try, or a question may take: 500ms, 10s, 5m
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_some)]
    pub timeout: Duration,

    /// After how many failed compensations in a row a saga needs an operator
    #[arg(long, global = true, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub attention_after: u32,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,

    /// Say more on stderr; twice: say everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// When to colour.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// On terminals, unless NO_COLOR is set; anywhere if CLICOLOR_FORCE is.
    Auto,
    /// Anywhere.
    Always,
    /// Nowhere.
    Never,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create and look at articles
    #[command(subcommand)]
    Article(article::ArticleCommand),
    /// Like an article
    Like(like::LikeArgs),
    /// Take a like back
    Unlike(like::LikeArgs),
    /// Look at users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Look at sagas, and act on one
    #[command(subcommand)]
    Saga(saga::SagaCommand),
    /// Finish what dead runners left
    Recover(recover::RecoverArgs),
    /// Fail if a saga needs an operator or hangs, or the journal is in trouble
    Check(check::CheckArgs),
    /// Compare likes with like records
    Audit(audit::AuditArgs),
    /// Show both daemons, the log, and what is unfinished
    Status,
    /// Watch both daemons and the sagas, live
    Top(top::TopArgs),
    /// Import likes in bulk
    ///
    /// FILE has a like on each line: `user,article` (CSV, with a header that names the columns or without one), or
    /// {"user":1,"article":2} (NDJSON). Each is imported as `likectl like` would do it, many at a time, and counts as
    /// imported once it is on disk in both stores. A like that is there already is no failure. An import that was cut
    /// short, by whatever, goes on where it stopped when the same command is run again.
    Import(import::ImportArgs),
    /// Measure durable likes per second
    Bench(bench::BenchArgs),
    /// Show the whole story in a throwaway directory
    Demo,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write all of them
    Man(man::ManArgs),
    /// One like by a runner that waits for a word on stdin; the demo kills it
    #[command(hide = true, name = demo::LIKER)]
    DemoLiker(demo::LikerArgs),
}

impl Command {
    /// Whether it may take the whole terminal, so that nothing else may be written there.
    pub fn draws(&self) -> bool {
        matches!(self, Self::Top(_))
    }

    /// Whether it goes on until it is ended.
    pub fn stays(&self) -> bool {
        matches!(self, Self::Recover(args) if args.watch)
            || matches!(self, Self::Saga(saga::SagaCommand::Watch))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
