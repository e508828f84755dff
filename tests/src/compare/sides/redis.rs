//! Redis, if there is one: both writes of a like in one script, `appendfsync always`; no saga.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{ARTICLES, Server, target};
use crate::load::{self, Wire};
use crate::turn::Turn;

/// The record first: a like that there is already leaves nothing.
const SCRIPT: &str = "if redis.call('SETNX', KEYS[2], ARGV[1]) == 0 then return -1 end \
                      return redis.call('INCR', KEYS[1])";

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    script: String,
    next: u64,
}

impl Redis {
    /// Starts the `redis-server` on `PATH`, if there is one.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program: PathBuf =
            std::env::split_paths(&path).map(|at| at.join("redis-server")).find(|file| file.is_file())?;
        let server = Server::start(|directory, socket| {
            let mut command = Command::new(program);
            command.args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
            command.arg("--unixsocket").arg(socket).arg("--dir").arg(directory);
            command
        });
        let loaded = ask(&server, &["SCRIPT", "LOAD", SCRIPT]);
        let script = loaded.lines().nth(1).expect("the script's name").to_owned();
        Some(Self { server, script, next: 0 })
    }

    /// Likes by so many clients.
    pub fn likes(&mut self, clients: usize, length: Duration) -> Turn {
        let pid = self.server.process.pid();
        let mut wire = Resp { script: self.script.clone() };
        load::turn(&self.server.socket, &mut wire, pid, clients, length, &mut self.next)
    }

    /// Every like that was answered is there.
    ///
    /// # Panics
    /// It is not.
    pub fn check(&self) {
        let counted = (1..=ARTICLES).map(|article| {
            let likes = ask(&self.server, &["GET", &format!("a:{article}")]);
            likes.lines().nth(1).and_then(|likes| likes.parse::<u64>().ok()).unwrap_or(0)
        });
        assert_eq!(counted.sum::<u64>(), self.next, "Redis has lost likes");
    }
}

/// One command and its reply as it came.
fn ask(server: &Server, words: &[&str]) -> String {
    let mut stream = UnixStream::connect(&server.socket).expect("Redis listens");
    stream.write_all(&command(words)).expect("Redis reads");
    let mut reply = [0; 512];
    let count = stream.read(&mut reply).expect("Redis answers");
    String::from_utf8_lossy(&reply[..count]).into_owned()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    out.into_bytes()
}

struct Resp {
    script: String,
}

impl Wire for Resp {
    fn request(&mut self, number: u64) -> Vec<u8> {
        let (article, user) = target(number);
        let (article_key, like_key) = (format!("a:{article}"), format!("l:{user}:{article}"));
        command(&["EVALSHA", &self.script, "2", &article_key, &like_key, "1700000000"])
    }

    fn is_reply(&self, received: &[u8]) -> bool {
        assert_eq!(received.first(), Some(&b':'), "{}", String::from_utf8_lossy(received));
        received.ends_with(b"\r\n")
    }
}
