//! The one place where errors become exit codes, kinds, messages and hints.

use std::io;

use like_protocol::ids::SagaId;
use like_protocol::likes::article::ArticleRejection;
use like_protocol::message::RetryReason;
use serde::Serialize;

use super::{CliError, files};
use crate::likes::ActError;
use crate::likes::AskError;
use crate::likes::answer::Rule;
use crate::likes::articles;
use crate::likes::users;
use crate::log::JournalError;
use crate::rpc::{Unreachable, UnreachableKind};
use crate::runner::admin::AdminError;
use crate::saga::event::FailureKind;
use crate::view::advice::acts_itself;

/// The group whose members may use the sockets and the journal.
const GROUP: &str = "like";

/// The documented exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Unexpected.
    Internal = 1,
    /// What was typed makes no sense.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// A rule forbids it; nothing changed.
    Refused = 4,
    /// The saga failed and was undone.
    Compensated = 5,
    /// The outcome stands in the log.
    Unfinished = 6,
    /// An operator is needed.
    NeedsAttention = 7,
    /// A daemon can't be reached; no saga was started.
    Unavailable = 8,
    /// Says which group or path.
    PermissionDenied = 9,
    /// An audit found drift.
    Drift = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

/// An error as it is told.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(skip)]
    pub(super) exit: Exit,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) saga_id: Option<String>,
}

/// An error as `--json` tells it.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) error: &'a Told,
}

impl CliError {
    /// What happened, to what, and what to do next.
    pub fn told(&self) -> Told {
        match self {
            Self::Usage(usage) => told_usage(usage),
            Self::Article(error) => told_ask(error, told_article_rule),
            Self::User(error) => told_ask(error, |r| told(Exit::Refused, "invalid", users::explain(r))),
            Self::Act(error) => told_act(error),
            Self::Journal(error) => told_journal(error),
            Self::Admin(error) => told_admin(error),
            Self::NoSuchSaga(saga) => {
                told(Exit::NotFound, "not_found", format!("no saga {saga} stands in the journal"))
                    .hint("`likectl saga list` shows what does; `--journal` names another journal")
            }
            Self::Unfinished(1) => told(Exit::Unfinished, "unfinished", "one saga is still unfinished")
                .hint("run `likectl recover` again once both services answer; `likectl saga list` shows it"),
            Self::Unfinished(many) => {
                told(Exit::Unfinished, "unfinished", format!("{many} sagas are still unfinished")).hint(
                    "run `likectl recover` again once both services answer; `likectl saga list` shows them",
                )
            }
            Self::NotEnded(saga) => {
                told(Exit::Unfinished, "unfinished", format!("saga {saga} has not ended yet"))
                    .hint(format!("`likectl saga show {saga}` says why and what may be done next"))
                    .saga(*saga)
            }
            Self::NeedsAttention(what, saga) => Told {
                saga_id: saga.map(|saga| saga.to_string()),
                ..told(Exit::NeedsAttention, "needs_attention", what)
            }
            .hint(format!(
                "`likectl saga show {}` says what an operator may safely do next",
                saga.map_or("ID".to_owned(), |saga| saga.to_string())
            )),
            Self::NoRoom(what) => told(Exit::NeedsAttention, "needs_attention", what)
                .hint("free some space there, or mount it for writing; nothing of this has to be restarted"),
            Self::JournalTrouble(what) => told(Exit::NeedsAttention, "needs_attention", what).hint(
                "give group `like` back what it may not use, look after the disk (free some space, if it is full), use the \
                 release that wrote it, or move what is damaged out of the journal",
            ),
            Self::Drift(articles) => told_drift(*articles),
            Self::Damaged(what) => told_damaged(what),
            Self::NoDaemon(unreachable) => told_no_daemon(unreachable),
            Self::Interrupted(saga) => told_interrupted(*saga),
            Self::File(path, error) => files::told_file("write", path, error),
            Self::Input(path, error) => files::told_file("read", path, error),
            Self::Unreadable(line, why) => {
                told(Exit::Refused, "invalid", format!("line {line}: {why}")).hint("mend that line")
            }
            Self::Stopped { what, how_to_go_on, unfinished, why } => {
                files::told_stopped(what, how_to_go_on, *unfinished, why)
            }
            Self::NotAllImported(rejected, lines, rejects) => {
                files::told_rejected(*rejected, *lines, rejects.as_deref())
            }
            Self::TooFewDescriptors { limit, needed } => {
                let what = format!("only {limit} files may be open, and {needed} are needed");
                told(Exit::Internal, "internal", what).hint("raise the limit (ulimit -n, LimitNOFILE=)")
            }
            Self::Output(error) => {
                told(Exit::Internal, "internal", format!("can't write to stdout: {error}")).hint(
                    "only the answer is lost; what was asked for may have been done: look before you repeat it, or give the same --key",
                )
            }
            Self::Demo(error) => told(Exit::Internal, "internal", error.to_string()),
            Self::Internal(detail) => told(Exit::Internal, "internal", detail).hint(
                "this should not happen: please report it with the output of the same command and `-vv`",
            ),
        }
    }
}

pub(super) fn told(exit: Exit, kind: &'static str, message: impl ToString) -> Told {
    Told { exit, kind, message: message.to_string(), hint: None, saga_id: None }
}

impl Told {
    /// What it is called in JSON.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What happened, to what.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a person should do next, if anything is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The saga that it is about, if it is about one.
    pub fn saga_id(&self) -> Option<&str> {
        self.saga_id.as_deref()
    }

    pub(super) fn hint(self, hint: impl ToString) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    fn saga(self, saga: SagaId) -> Self {
        Self { saga_id: Some(saga.to_string()), ..self }
    }
}

/// What is wrong is told in the first paragraph; behind it stand tips, and how the command is used.
fn told_usage(usage: &clap::Error) -> Told {
    let text = usage.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut paragraphs =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    told(Exit::Usage, "usage", what).hint(paragraphs.collect::<Vec<_>>().join("; "))
}

fn told_ask<R: std::fmt::Debug>(error: &AskError<R>, rejected: impl Fn(&R) -> Told) -> Told {
    match error {
        AskError::Unreachable(unreachable) => told_unreachable(unreachable),
        AskError::Lost(lost) => told(Exit::Unavailable, "unavailable", &lost.message)
            .hint("look whether it was done before you try again; `likectl status` shows how the service is"),
        AskError::Retry { kind: RetryReason::Storage, .. } => told(Exit::Compensated, "storage", error)
            .hint("free disk space on the file system of the service's data directory; nothing was changed"),
        AskError::Retry { .. } => told(Exit::Compensated, "busy", error)
            .hint("nothing was changed: try again, or give it more --timeout"),
        AskError::Rejected(rejection) => rejected(rejection),
        AskError::Damaged { .. } => told_damaged(error),
        AskError::Misunderstood { .. } => told(Exit::Refused, "incompatible", error)
            .hint("`likectl --version` and `likectl status` show the versions of both sides"),
    }
}

fn told_article_rule(rejection: &ArticleRejection) -> Told {
    let message = articles::explain(rejection);
    match rejection {
        ArticleRejection::NotFound(_) => no_such_article(message),
        ArticleRejection::AlreadyExists(_) => {
            told(Exit::Refused, "already_exists", message).hint("leave `--id` out to get the next one")
        }
        ArticleRejection::NoNextId => told(Exit::Refused, "invalid", message).hint("`--id` gives it one"),
        _ => told(Exit::Refused, "invalid", message),
    }
}

fn no_such_article(message: String) -> Told {
    told(Exit::NotFound, "not_found", message).hint("`likectl article list` shows those that exist")
}

fn told_unreachable(unreachable: &Unreachable) -> Told {
    let Unreachable { role, kind, message } = unreachable;
    let option = format!("--{role}-socket");
    match kind {
        UnreachableKind::PermissionDenied => told(Exit::PermissionDenied, "permission_denied", message).hint(format!(
            "join the group `{GROUP}` (sudo usermod -aG {GROUP} \"$USER\") and log in again, or have the daemon \
             started with --allow-user or --allow-group"
        )),
        UnreachableKind::WrongRole => {
            told(Exit::Refused, "incompatible", message).hint(format!("check {option}: the two sockets may be swapped"))
        }
        UnreachableKind::Incompatible => told(Exit::Refused, "incompatible", message)
            .hint(format!("check {option}, and that likectl and the daemons are of the same release")),
        UnreachableKind::ClockSkew => told(Exit::Refused, "incompatible", message)
            .hint("run likectl on the daemons' host and in their time namespace"),
        UnreachableKind::NoSocket | UnreachableKind::Refused => told(Exit::Unavailable, "unavailable", message)
            .hint(format!("start it (systemctl start like-{role}.socket), or name its socket with {option}")),
        UnreachableKind::TooManyConnections => told(Exit::Unavailable, "unavailable", message)
            .hint("try again; if it lasts, find who keeps connections open, or raise --max-connections"),
        UnreachableKind::NoHello | UnreachableKind::Closed | UnreachableKind::Other => {
            told(Exit::Unavailable, "unavailable", message)
                .hint(format!("see what the daemon says (journalctl -u like-{role}.service); nothing was changed"))
        }
    }
}

fn told_no_daemon(unreachable: &[Unreachable]) -> Told {
    match unreachable {
        [only] => told_unreachable(only),
        [..] if unreachable.iter().all(is_down) => told(Exit::Unavailable, "unavailable", "no service can be reached")
            .hint("start them (systemctl start like.target), or name their sockets with --article-socket and --user-socket"),
        [first, ..] => {
            let told = told_unreachable(first);
            Told { message: format!("no service can be reached: {}", told.message), ..told }
        }
        [] => told(Exit::Unavailable, "unavailable", "no service can be reached"),
    }
}

fn is_down(unreachable: &Unreachable) -> bool {
    matches!(unreachable.kind, UnreachableKind::NoSocket | UnreachableKind::Refused)
}

fn told_act(error: &ActError) -> Told {
    match error {
        ActError::Forbidden { rule, saga } => {
            Told { saga_id: saga.map(|saga| saga.to_string()), ..told_rule(rule) }
        }
        ActError::Compensated { saga, last, detail } => {
            let kind = match last {
                Some(FailureKind::Locked) => "locked",
                Some(FailureKind::Busy) => "busy",
                Some(FailureKind::Storage) => "storage",
                Some(FailureKind::Damaged) => "damaged",
                _ => "compensated",
            };
            let again = if kind == "damaged" {
                "look after the disk"
            } else {
                // An earlier try with that key may have been done, and its answer lost.
                "it can be tried again, with the same --key if it had one"
            };
            told(Exit::Compensated, kind, format!("this try was undone and has changed nothing: {detail}"))
                .hint(format!("{again}; `likectl saga show {saga}` tells what happened"))
                .saga(*saga)
        }
        ActError::Unfinished { saga, .. } => told(Exit::Unfinished, "unfinished", error)
            .hint(format!(
                "don't repeat it without the same --key; `likectl saga show {saga}` tells where it stands"
            ))
            .saga(*saga),
        ActError::Damaged { .. } => told_damaged(error),
        ActError::Unavailable(unreachable) => told_unreachable(unreachable),
        ActError::LacksRoom(_) => told(Exit::Compensated, "storage", error)
            .hint("free some space there, or name another directory with --journal; no saga was begun, and nothing was changed"),
        ActError::LogEnded { saga, .. } => told(Exit::Unfinished, "unfinished", error)
            .hint(format!(
                "check the disk of the journal, then run `likectl recover`; if `likectl saga show {saga}` does not find it then, \
                 it was never begun, and nothing has changed"
            ))
            .saga(*saga),
        ActError::Internal(detail) => told(Exit::Internal, "internal", detail),
    }
}

fn told_rule(rule: &Rule) -> Told {
    match rule {
        Rule::NoSuchArticle(_) => no_such_article(rule.to_string()),
        Rule::AlreadyLiked { .. } => told(Exit::Refused, "already_liked", rule)
            .hint("a like counts once per user; a retry that gives the same --key gets the first answer"),
        Rule::NotLiked { user, .. } => told(Exit::Refused, "not_liked", rule)
            .hint(format!("`likectl user likes {user}` shows what they like")),
        Rule::KeyOfAnother(_) => {
            told(Exit::Refused, "invalid", rule).hint("draw a new key for every new act; nothing was changed")
        }
        Rule::Other(_) => told(Exit::Refused, "invalid", rule),
    }
}

fn told_journal(error: &JournalError) -> Told {
    match error {
        JournalError::Io { source, .. } if is_no_place(source) => {
            told(Exit::PermissionDenied, "permission_denied", error)
                .hint("name a directory with --journal or LIKECTL_JOURNAL; what is missing of its path is made")
        }
        JournalError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            told(Exit::PermissionDenied, "permission_denied", error)
                .hint("mount its file system for writing, or name another directory with --journal")
        }
        JournalError::Io { .. } if error.is_full() => told(Exit::Internal, "internal", error)
            .hint("free some space there; `likectl saga list` shows what had begun, if anything had"),
        JournalError::Io { source, .. } if is_broken(source) => told(Exit::Internal, "internal", error)
            .hint("see what the kernel says of its disk (dmesg); sagas that have begun are finished once it can be read"),
        JournalError::Io { what, path, source } if is_unwritable(what, source) => {
            told(Exit::PermissionDenied, "permission_denied", error).hint(format!(
                "{} must be writable: join the group `{GROUP}` (sudo usermod -aG {GROUP} \"$USER\") and log in again, \
                 or name another directory with --journal",
                path.display()
            ))
        }
        JournalError::Io { .. } => told(Exit::Internal, "internal", error),
        JournalError::HeadLost { .. } => told(Exit::NeedsAttention, "needs_attention", error),
        JournalError::NewerFormat { .. } => told(Exit::Refused, "incompatible", error),
        JournalError::DataDirectory(_) => told(Exit::Refused, "invalid", error)
            .hint("name the journal with --journal or LIKECTL_JOURNAL; a data directory is its daemon's alone (--data)"),
        JournalError::NetworkFileSystem { .. } => told(Exit::Refused, "invalid", error),
    }
}

/// Whether no permission could help: the path itself leads nowhere.
fn is_no_place(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists)
}

/// Whether the disk failed, or its file system was shut down.
fn is_broken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A journal that can't even be made is one that can't be written, whatever the system's reason is.
fn is_unwritable(what: &str, error: &io::Error) -> bool {
    what.contains("journal") || error.kind() == io::ErrorKind::PermissionDenied
}

fn told_admin(error: &AdminError) -> Told {
    match error {
        AdminError::Journal(error) => told_journal(error),
        AdminError::NotFound(saga) => CliError::NoSuchSaga(*saga).told(),
        AdminError::BadReason => told(Exit::Refused, "invalid", error),
        AdminError::Owned { saga, owner } => {
            let stopped = owner.as_ref().is_some_and(|owner| owner.stopped);
            let hint = match (owner, stopped) {
                (Some(owner), true) => format!(
                    "a stopped process keeps its sagas: let it go on (kill -CONT {0}) or end it (kill -9 {0})",
                    owner.pid
                ),
                (Some(owner), _) if acts_itself(owner) => format!(
                    "that gateway drives the saga and tries again by itself: act on it there, on its page or by `POST \
                     /sagas/{saga}/retry`, `/compensate` or `/force`; or end it first"
                ),
                _ => "it drives the saga itself: wait for it, or end that process first".to_owned(),
            };
            told(Exit::Compensated, "locked", error).hint(hint).saga(*saga)
        }
        AdminError::Ended { saga, end, .. } => told(Exit::Refused, "invalid", error)
            .hint(format!(
                "`likectl saga show {saga}` tells its story; if `audit` calls it orphaned, `likectl saga force {saga} --as {end} \
                 --reason TEXT` tells the services of its end once more"
            ))
            .saga(*saga),
        AdminError::Quarantined(saga) => told(Exit::NeedsAttention, "needs_attention", error)
            .hint(format!("`likectl saga show {saga}` shows what is left of its record"))
            .saga(*saga),
        AdminError::LogEnded(_) => told(Exit::Unfinished, "unfinished", error)
            .hint("check the disk of the journal, then run `likectl recover`"),
    }
}

fn told_damaged(what: impl ToString) -> Told {
    told(Exit::NeedsAttention, "damaged", what).hint(
        "nothing was changed, and everything else is served: `likectl status` shows what is damaged; look after the disk, \
         and restore the store from a backup",
    )
}

fn told_drift(articles: usize) -> Told {
    let what = match articles {
        1 => "one article has a count that is not its number of like records".to_owned(),
        many => format!("{many} articles have a count that is not their number of like records"),
    };
    told(Exit::Drift, "drift", what)
        .hint("`likectl audit --repair --yes` sets the counts to the records; without --yes it shows what it would do")
}

fn told_interrupted(saga: Option<SagaId>) -> Told {
    match saga {
        None => told(Exit::Interrupted, "interrupted", "interrupted"),
        Some(saga) => {
            told(Exit::Interrupted, "interrupted", format!("interrupted; saga {saga} stands in the log"))
                .hint(format!(
                    "`likectl recover` finishes it, `likectl saga show {saga}` tells where it stands"
                ))
                .saga(saga)
        }
    }
}
