//! SQLite: one transaction for both writes of a like, no saga; behind a Unix socket, with group commit.
//!
//! The server is as lean as it gets: one thread reads whatever its clients have sent, makes all of it durable together (write-ahead
//! log), and answers. A like is 16 bytes (user, article), its answer the article's likes in 8. See [`Grouped`] for what a group is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{ARTICLES, Server, target};
use crate::load::{self, Wire};
use crate::ready::Ready;
use crate::turn::Turn;

/// The word by which this program becomes the server.
pub const SERVE: &str = "serve-sqlite";

const REQUEST_BYTES: usize = 16;
const REPLY_BYTES: usize = 8;

/// The name of the listener among the sockets that are watched.
const LISTENER: u64 = u64::MAX;

/// How the likes of a group are committed.
#[derive(Clone, Copy, Debug)]
pub enum Grouped {
    /// In one transaction, by `synchronous=FULL`: durable on commit. The likes of a group share its pages.
    Together,
    /// Each in a transaction of its own, which is committed without a sync; then the log is synced, once for all of the group: as durable
    /// as by `synchronous=FULL`, which would sync for each.
    Each,
}

impl Grouped {
    fn word(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Each => "each",
        }
    }

    /// What the server was told.
    pub fn of(word: &str) -> Self {
        if word == Self::Each.word() { Self::Each } else { Self::Together }
    }

    fn synchronous(self) -> &'static str {
        match self {
            Self::Together => "FULL",
            Self::Each => "NORMAL",
        }
    }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE article (id INTEGER PRIMARY KEY, likes INTEGER NOT NULL);
    CREATE TABLE likes (user INTEGER, article INTEGER, at INTEGER, PRIMARY KEY (user, article)) WITHOUT ROWID;
    CREATE INDEX likers ON likes (article, user);";

/// A running server.
#[derive(Debug)]
pub struct Sqlite {
    server: Server,
    next: u64,
}

impl Sqlite {
    /// Starts one over an empty database.
    pub fn start(grouped: Grouped) -> Self {
        let server = Server::start(|directory, socket| {
            let mut command = Command::new(std::env::current_exe().expect("this program's path"));
            command.args([SERVE, grouped.word()]).arg(socket).arg(directory.join("likes.db"));
            command
        });
        Self { server, next: 0 }
    }

    /// Likes by so many clients.
    pub fn likes(&mut self, clients: usize, length: Duration) -> Turn {
        let pid = self.server.process.pid();
        load::turn(&self.server.socket, &mut Frames, pid, clients, length, &mut self.next)
    }

    /// Every like that was answered is there.
    ///
    /// # Panics
    /// It is not.
    pub fn check(&self) {
        let db = Connection::open(self.server.directory.path().join("likes.db")).expect("the database");
        let count = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count");
        assert_eq!(count("SELECT sum(likes) FROM article"), self.next as i64, "SQLite has lost likes");
        assert_eq!(count("SELECT count(*) FROM likes"), self.next as i64, "SQLite has lost records");
    }
}

struct Frames;

impl Wire for Frames {
    fn request(&mut self, number: u64) -> Vec<u8> {
        let (article, user) = target(number);
        [user.to_le_bytes(), article.to_le_bytes()].concat()
    }

    fn is_reply(&self, received: &[u8]) -> bool {
        received.len() == REPLY_BYTES
    }
}

/// Is the server until it is killed.
///
/// # Panics
/// The database or the socket fails.
pub fn serve(grouped: Grouped, socket: &Path, database: &Path) {
    let db = Connection::open(database).expect("a database");
    db.execute_batch(SCHEMA).expect("the schema");
    db.pragma_update(None, "synchronous", grouped.synchronous()).expect("a mode");
    let listener = UnixListener::bind(socket).expect("a socket");
    let ready = Ready::new();
    ready.watch(&listener, LISTENER);
    for article in 1..=ARTICLES as i64 {
        db.execute("INSERT INTO article VALUES (?, 0)", [article]).expect("an article");
    }
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let log = File::options().write(true).open(log).expect("the write-ahead log");
    let mut clients = HashMap::new();
    for name in 0.. {
        let mut asked = Vec::new();
        for ready_one in ready.wait() {
            if ready_one == LISTENER {
                let (stream, _) = listener.accept().expect("a client");
                ready.watch(&stream, name);
                clients.insert(name, stream);
            } else if let Some(request) = read_request(&clients[&ready_one]) {
                asked.push((ready_one, request));
            } else {
                clients.remove(&ready_one);
            }
        }
        if asked.is_empty() {
            continue;
        }
        let likes = match grouped {
            Grouped::Together => commit(&db, &asked),
            Grouped::Each => {
                let likes = asked.iter().flat_map(|like| commit(&db, std::slice::from_ref(like))).collect();
                log.sync_data().expect("a sync");
                likes
            }
        };
        for (client, likes) in likes {
            // A client that is gone wants no answer.
            let _ = (&clients[&client]).write_all(&likes.to_le_bytes());
        }
    }
}

fn read_request(mut client: &UnixStream) -> Option<[u8; REQUEST_BYTES]> {
    let mut request = [0; REQUEST_BYTES];
    client.read_exact(&mut request).is_ok().then_some(request)
}

/// All of these in one transaction. A like that there is already would be refused and leave nothing.
fn commit(db: &Connection, asked: &[(u64, [u8; REQUEST_BYTES])]) -> Vec<(u64, i64)> {
    let sql = |sql| db.prepare_cached(sql).expect("SQL");
    let (mut begin, mut end) = (sql("BEGIN"), sql("COMMIT"));
    let mut insert = sql("INSERT INTO likes VALUES (?, ?, unixepoch())");
    let mut count = sql("UPDATE article SET likes = likes + 1 WHERE id = ? RETURNING likes");
    begin.execute([]).expect("a transaction");
    let like = |(client, request): &(u64, [u8; REQUEST_BYTES])| {
        let number = |at: usize| i64::from_le_bytes(request[at..at + 8].try_into().expect("8 bytes"));
        let (user, article) = (number(0), number(8));
        insert.execute(params![user, article]).expect("a new like");
        (*client, count.query_row([article], |row| row.get(0)).expect("an article"))
    };
    let answers = asked.iter().map(like).collect();
    end.execute([]).expect("a commit");
    answers
}
