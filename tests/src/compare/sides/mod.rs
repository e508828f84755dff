//! The sides: each does durable likes, by its own means, with what it promises.

pub mod house;
pub mod raw;
pub mod redis;
pub mod sqlite;

pub use house::House;
pub use raw::RawLogs;
pub use redis::Redis;
pub use sqlite::Sqlite;

use std::path::{Path, PathBuf};
use std::process::Command;

use like_tests::process::{Running, eventually};

/// How many articles are liked, in turns: likes of a few popular articles, as they come.
pub const ARTICLES: u64 = 16;

/// The article and the user of like number `number`: nobody likes anything twice.
pub fn target(number: u64) -> (u64, u64) {
    (1 + number % ARTICLES, 1 + number / ARTICLES)
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
        let process = Running::start_logged(&mut command(directory.path(), &socket), &log);
        eventually("a server's socket", || std::os::unix::net::UnixStream::connect(&socket).ok());
        Self { socket, process, directory }
    }
}
