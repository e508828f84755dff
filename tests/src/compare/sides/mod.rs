//! The sides: each does durable likes, by its own means, with what it promises.

pub mod house;
pub mod raw;
pub mod redis;
pub mod sqlite;

pub use house::{House, TIMEOUT};
pub use raw::RawLogs;
pub use redis::Redis;
pub use sqlite::Sqlite;

use std::path::{Path, PathBuf};
use std::process::Command;

use like_tests::process::Running;

/// How many articles are liked, in turns: likes of a few popular articles, as they come.
pub const ARTICLES: u64 = 16;

/// The article and the user of like number `number`: nobody likes anything twice.
pub fn target(number: u64) -> (u64, u64) {
    (1 + number % ARTICLES, 1 + number / ARTICLES)
}

/// Which article and user a like of some number is of.
#[derive(Clone, Copy, Debug)]
pub enum Targets {
    /// As [`target`] has it: users one after the other.
    InTurn,
    /// All pairs of the articles and so many users (a power of two), in an order like that of chance: as likes come to a
    /// store that has grown over years. Nobody likes anything twice before all have liked everything.
    Scattered {
        /// How many users.
        users: u64,
    },
}

impl Targets {
    /// The article and the user of like number `number`.
    pub fn of(self, number: u64) -> (u64, u64) {
        match self {
            Self::InTurn => target(number),
            // An odd factor makes a permutation of any power of two.
            Self::Scattered { users } => target(number.wrapping_mul(0x9e37_79b1) % (users * ARTICLES)),
        }
    }

    /// So many users that half of all pairs are left when so many have been liked.
    pub fn scattered(likes: u64) -> Self {
        Self::Scattered { users: (2 * likes / ARTICLES).next_power_of_two() }
    }
}

/// A server that listens on a socket in a throwaway directory; gone when this is dropped.
#[derive(Debug)]
struct Server {
    socket: PathBuf,
    process: Running,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts it and waits until it listens.
    fn start(command: impl FnOnce(&Path, &Path) -> Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        let log = directory.path().join("log");
        let process = Running::start_listening(&mut command(directory.path(), &socket), &log, &socket);
        Self { socket, process, directory }
    }
}
