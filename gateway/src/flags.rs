//! What was typed ([`Flags`]), and what was meant ([`Config`]).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use like_client::view::duration;
use like_protocol::time::DEADLINE_AHEAD_MAX;

use crate::admin::{AdminConfigError, Administrators};
use crate::listen::{self, Address, Listen, ListenError};

/// Serves likes and sagas over HTTP, and drives the sagas itself.
///
/// Who a request speaks for is taken from its X-User-ID header: whatever stands in front of the gateway has to
/// authenticate people and set that header.
#[derive(Clone, Debug, Parser)]
#[command(name = crate::NAME, version, max_term_width = 100)]
pub struct Flags {
    /// Listen here: ADDRESS:PORT, or unix:PATH. Not needed under socket activation
    #[arg(long, value_name = "WHERE", env = "LIKE_GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    listen: Address,

    /// Answer to this host name too, besides localhost and addresses. Can be given more than once
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,

    /// The article service's socket
    #[arg(
        long,
        value_name = "PATH",
        env = "LIKECTL_ARTICLE_SOCKET",
        default_value = "/run/like/article.sock"
    )]
    article_socket: PathBuf,

    /// The user service's socket
    #[arg(long, value_name = "PATH", env = "LIKECTL_USER_SOCKET", default_value = "/run/like/user.sock")]
    user_socket: PathBuf,

    /// The directory of the saga log
    #[arg(long, value_name = "DIR", env = "LIKECTL_JOURNAL", default_value = "/var/lib/like/journal")]
    journal: PathBuf,

    /// How long a saga may try: 500ms, 10s, 5m
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_some)]
    timeout: Duration,

    /// After how many failed compensations in a row a saga needs an operator
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attention_after: u32,

    /// Whoever shows the token in this file may administer sagas. It is read once, and not everybody may read it
    #[arg(long, value_name = "PATH", env = "LIKE_GATEWAY_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,

    /// This user may administer sagas over a Unix socket. Can be given more than once
    #[arg(long = "admin-user", value_name = "NAME|UID")]
    admin_users: Vec<String>,

    /// Serve this many connections at once and turn away others
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_connections: u32,

    /// How log lines look. RUST_LOG chooses which are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
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

/// What the gateway is to do, checked as far as that is possible beforehand.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Host names it answers to besides localhost and addresses, in lower case.
    pub hosts: Vec<String>,
    /// The article service's socket.
    pub article_socket: PathBuf,
    /// The user service's socket.
    pub user_socket: PathBuf,
    /// The directory of the saga log.
    pub journal: PathBuf,
    /// How long a saga may try. At most [`DEADLINE_AHEAD_MAX`].
    pub timeout: Duration,
    /// After how many failed compensations in a row a saga needs an operator.
    pub attention_after: u32,
    /// Who may administer sagas.
    pub administrators: Administrators,
    /// How many connections may be open.
    pub connections_max: u32,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why flags can't be followed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The administrators can't be set up.
    #[error(transparent)]
    Admin(#[from] AdminConfigError),
    /// No request is ever for such a name.
    #[error("--host {0}: give the name alone, without scheme, port or path")]
    Host(String),
    /// The daemons would refuse such a deadline.
    #[error("--timeout: no daemon accepts a deadline more than {} ahead", duration::show(DEADLINE_AHEAD_MAX))]
    TimeoutTooLong,
}

impl Config {
    /// Makes sense of flags, together with the sockets that were passed to this process.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_flags(flags: Flags) -> Result<Self, ConfigError> {
        if flags.timeout > DEADLINE_AHEAD_MAX {
            return Err(ConfigError::TimeoutTooLong);
        }
        if let Some(host) = flags.hosts.iter().find(|host| host.contains([':', '/'])) {
            return Err(ConfigError::Host(host.clone()));
        }
        Ok(Self {
            listen: listen::choose(flags.listen)?,
            hosts: flags.hosts.iter().map(|host| host.to_lowercase()).collect(),
            article_socket: flags.article_socket,
            user_socket: flags.user_socket,
            journal: flags.journal,
            timeout: flags.timeout,
            attention_after: flags.attention_after,
            administrators: Administrators::new(flags.admin_token_file.as_deref(), &flags.admin_users)?,
            connections_max: flags.max_connections,
            log_format: flags.log_format,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        Flags::try_parse_from([crate::NAME].iter().chain(arguments))
    }

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn it_listens_on_loopback_unless_told_otherwise() {
        let flags = parse(&[]).unwrap();
        assert_eq!(flags.listen, Address::Tcp("127.0.0.1:8080".parse().unwrap()));
        assert_eq!((flags.timeout, flags.max_connections), (Duration::from_secs(10), 1024));
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        assert_eq!(parse(&["--listen", "nowhere"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--timeout", "10"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--help"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn a_host_that_no_request_can_name_is_refused() {
        for host in ["likes.example:8080", "https://likes.example", "likes.example/"] {
            let refused = Config::from_flags(parse(&["--host", host]).unwrap()).unwrap_err();
            assert!(refused.to_string().contains("without scheme"), "{refused}");
        }
        let hosts = Config::from_flags(parse(&["--host", "Likes.example"]).unwrap()).unwrap().hosts;
        assert_eq!(hosts, ["likes.example"]);
    }

    #[test]
    fn a_timeout_that_no_daemon_accepts_is_refused() {
        let refused = Config::from_flags(parse(&["--timeout", "2h"]).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("--timeout"), "{refused}");
    }
}
