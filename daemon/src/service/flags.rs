//! What was typed ([`Flags`]), and what was meant ([`Config`]).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, ValueEnum};
use nix::unistd::{Group, User};

use super::socket::{self, Socket, SocketError};
use super::{Program, VERSION};
use crate::net::Allowed;
use crate::store::logged_store::LOG_BYTES_MAX;

/// A daemon's flags as they were typed.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Flags {
    /// Listen on this Unix socket. Not needed under socket activation
    #[arg(long, value_name = "PATH", env = "LIKE_SOCKET")]
    socket: Option<PathBuf>,

    /// Keep the data in this directory; it is made if it does not exist
    #[arg(long, value_name = "DIR", env = "LIKE_DATA")]
    data: PathBuf,

    #[command(flatten)]
    allow: Allow,

    /// Let this many requests wait before answering busy
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queue: u32,

    /// Serve this many connections at once and turn away others
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_connections: u32,

    /// Make a checkpoint of the store when its commit log has grown to this many KiB, at most 1048576 (1 GiB: a start reads
    /// no more in its time). As much is held in memory several times over, and read at the next start; twice as much while
    /// a checkpoint is made. Five times as much free disk space is kept in reserve
    #[arg(long, value_name = "KIB", default_value_t = CHECKPOINT_KIB, value_parser = clap::value_parser!(u64).range(1..=CHECKPOINT_KIB_MAX))]
    checkpoint_kib: u64,

    /// How log lines look. RUST_LOG chooses which are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// The data directory is a copy brought back from a backup: give its store a new id, so that sagas which began
    /// with the original don't go on with it. For one start only
    #[arg(long)]
    restored: bool,
}

#[derive(Clone, Debug, Args)]
struct Allow {
    /// Serve this user too, besides root and the daemon's own user. Can be given more than once
    #[arg(long = "allow-user", value_name = "NAME|UID")]
    users: Vec<String>,

    /// Serve the members of this group too, supplementary ones included. Can be given more than once
    #[arg(long = "allow-group", value_name = "NAME|GID")]
    groups: Vec<String>,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// One line of text on standard error
    Text,
    /// One JSON document a line on standard error
    Json,
    /// Fields of the system journal
    Journald,
}

/// See [`LOG_BYTES_MAX`].
const CHECKPOINT_KIB: u64 = LOG_BYTES_MAX / 1024;

/// A start reads a MiB of log in some 26 ms. Where checkpoints keep up with their writer it finds no more than twice what makes one:
/// 53 s of those that it has ([`START_WAIT_MAX`](super::start::START_WAIT_MAX)).
const CHECKPOINT_KIB_MAX: u64 = 1024 * 1024;

impl Flags {
    /// The command line of `program`, for its help and its manual page.
    pub fn command(program: Program) -> clap::Command {
        <Self as CommandFactory>::command()
            .name(program.name)
            .bin_name(program.name)
            .about(program.about)
            .version(VERSION)
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// It makes no sense, or asks for help or the version: what is to be printed, and the exit code.
    pub fn parse(
        program: Program,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let matches = Self::command(program).try_get_matches_from(arguments)?;
        Self::from_arg_matches(&matches)
    }
}

/// What a daemon is to do, checked as far as that is possible beforehand.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub socket: Socket,
    /// Where the store is.
    pub data: PathBuf,
    /// Whether that was brought back from a backup.
    pub restored: bool,
    /// Who may connect.
    pub allowed: Allowed,
    /// How many requests may wait.
    pub queue_limit: usize,
    /// How many bytes of commit log make a checkpoint.
    pub log_bytes_max: u64,
    /// How many connections may be open.
    pub connections_max: u32,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why flags can't be followed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such user or group.
    #[error("there is no {kind} {name}: create it, or give a number ({flag})")]
    Unknown {
        /// User or group.
        kind: &'static str,
        /// What was typed.
        name: String,
        /// Where.
        flag: &'static str,
    },
    /// The system's list of users or groups can't be read.
    #[error("can't look up {kind} {name}: {source}")]
    Lookup {
        /// User or group.
        kind: &'static str,
        /// What was typed.
        name: String,
        /// Why.
        source: nix::Error,
    },
    /// There is nothing to listen on.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl Config {
    /// Makes sense of flags, together with the sockets that were passed to this process.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_flags(flags: Flags) -> Result<Self, ConfigError> {
        let uids = flags.allow.users.iter().map(|name| user_id(name)).collect::<Result<_, _>>()?;
        let gids = flags.allow.groups.iter().map(|name| group_id(name)).collect::<Result<_, _>>()?;
        Ok(Self {
            socket: socket::choose(flags.socket)?,
            data: flags.data,
            restored: flags.restored,
            allowed: Allowed::new(uids, gids),
            queue_limit: flags.queue as usize,
            log_bytes_max: flags.checkpoint_kib * 1024,
            connections_max: flags.max_connections,
            log_format: flags.log_format,
        })
    }
}

fn user_id(name: &str) -> Result<u32, ConfigError> {
    let look_up = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
    id_of("user", "--allow-user", name, look_up)
}

fn group_id(name: &str) -> Result<u32, ConfigError> {
    let look_up = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
    id_of("group", "--allow-group", name, look_up)
}

fn id_of(
    kind: &'static str,
    flag: &'static str,
    name: &str,
    look_up: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, ConfigError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let name = name.to_owned();
    match look_up(&name) {
        Ok(found) => found.ok_or(ConfigError::Unknown { kind, name, flag }),
        Err(source) => Err(ConfigError::Lookup { kind, name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::start::START_WAIT_MAX;
    use super::*;

    const PROGRAM: Program = Program { name: "like-articled", about: "test" };

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        Flags::parse(PROGRAM, ["like-articled"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_sound() {
        Flags::command(PROGRAM).debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let flags = parse(&["--data", "d"]).unwrap();
        assert_eq!((flags.queue, flags.max_connections, flags.log_format), (4096, 1024, LogFormat::Text));
        assert!(!flags.restored && flags.allow.users.is_empty() && flags.allow.groups.is_empty());
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        assert_eq!(parse(&["--data", "d", "--queue", "0"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--data", "d", "--colour"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--help"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn no_log_may_grow_longer_than_a_start_has_time_to_read() {
        let checkpoint_kib = |kib: u64| parse(&["--data", "d", "--checkpoint-kib", &kib.to_string()]);
        assert_eq!(checkpoint_kib(1024 * 1024).unwrap().checkpoint_kib, 1024 * 1024);
        assert_eq!(checkpoint_kib(1024 * 1024 + 1).unwrap_err().exit_code(), 2);
        let read_ms = 2 * CHECKPOINT_KIB_MAX / 1024 * 26;
        assert!(u128::from(read_ms) < START_WAIT_MAX.as_millis(), "{read_ms} ms");
        let help = Flags::command(PROGRAM).render_long_help().to_string();
        assert!(help.contains("1 GiB"), "{help}");
    }

    #[test]
    fn a_checkpoint_is_made_after_so_many_kib() {
        let flags = parse(&["--data", "d", "--socket", "s", "--checkpoint-kib", "3000"]).unwrap();
        assert_eq!(Config::from_flags(flags).unwrap().log_bytes_max, 3000 * 1024);
    }

    #[test]
    fn names_and_numbers_of_users_and_groups_are_understood() {
        assert_eq!(user_id("root").unwrap(), 0);
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!((user_id("4711").unwrap(), group_id("4712").unwrap()), (4711, 4712));
        for (unknown, told) in [
            (user_id("no-such"), "there is no user no-such: create it, or give a number (--allow-user)"),
            (group_id("no-such"), "there is no group no-such: create it, or give a number (--allow-group)"),
        ] {
            assert_eq!(unknown.unwrap_err().to_string(), told);
        }
    }
}
