//! Who is at the other end: hostile bytes, too many connections and requests, users who are not allowed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use like_protocol::codec::encode;
use like_protocol::ids::SagaId;
use like_protocol::message::*;
use rustix::process::Signal;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn hostile_bytes_end_their_own_session_and_no_other() {
    let place = Place::new(ARTICLED);
    let mut daemon = place.start();
    let mut honest = Client::connect(&place.socket()).await;
    honest.create_article(1).await;
    let hello = [&[0, 0, 0, 8, 0][..], b"likE", &[1, 1, b'x']].concat();
    let frames: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 4096],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 99, 99],
        &[0, 0, 0, 12, 1, 1, 2, 253, 0, 0, 0, 0, 0, 0, 0, 16],
        &[0, 1, 255, 255],
    ];
    for frame in frames {
        for after_hello in [false, true] {
            let mut stream = tokio::net::UnixStream::connect(place.socket()).await.unwrap();
            if after_hello {
                stream.write_all(&hello).await.unwrap();
            }
            stream.write_all(frame).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // The daemon may close while bytes are unread, which shows here as a reset.
            let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
            assert_eq!(honest.article(1).await.likes, 0);
        }
    }
    daemon.signal(Signal::TERM);
    daemon.wait();
    let log = daemon.stderr();
    assert!(log.contains("a session was ended"), "{log}");
}

#[tokio::test]
async fn connections_over_the_limit_are_turned_away_and_let_in_when_others_go() {
    let place = Place::new(ARTICLED);
    let _daemon = place.start_with(|command| {
        command.args(["--max-connections", "2"]);
    });
    let first = Client::connect(&place.socket()).await;
    let mut second = Client::connect(&place.socket()).await;
    let turned = hello_from(&place.socket()).await.unwrap();
    assert_eq!(turned, ServerHello::Turned { magic: MAGIC, away: TurnedAway::TooManyConnections });
    drop(first);
    while second.status().await.connections > 1 {
        tokio::task::yield_now().await;
    }
    Client::connect(&place.socket()).await;
}

#[tokio::test]
async fn a_queue_that_is_full_says_busy_and_nothing_is_lost() {
    let place = Place::new(ARTICLED);
    let _daemon = place.start_with(|command| {
        command.args(["--queue", "1"]);
    });
    let mut client = Client::connect(&place.socket()).await;
    client.create_article(1).await;
    let sagas: Vec<_> = (0..400).map(|_| SagaId::generate()).collect();
    for saga in &sagas {
        client.send(add_like(*saga)).await.unwrap();
    }
    let (mut done, mut busy) = (0, 0);
    for _ in &sagas {
        match client.reply().await.unwrap().body {
            ReplyBody::Step(StepReply::Done(_)) => done += 1,
            ReplyBody::Retry(RetryReason::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 0, "the queue was never full");
    assert_eq!(client.article(1).await.likes, done);
}

#[tokio::test]
async fn a_daemon_out_of_descriptors_goes_on() {
    let place = Place::new(ARTICLED);
    let shell =
        format!("ulimit -n 40; exec {} --socket {:?} --data {:?}", ARTICLED, place.socket(), place.data());
    let _daemon = place.start_with(|command| {
        *command = Command::new("sh");
        command.arg("-c").arg(&shell).stderr(Stdio::null());
    });
    let mut first = Client::connect(&place.socket()).await;
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(tokio::net::UnixStream::connect(place.socket()).await.unwrap());
    }
    first.create_article(1).await;
    assert_eq!(
        first.ask(add_like(SagaId::generate())).await,
        ReplyBody::Step(StepReply::Done(encode(&1u64).unwrap()))
    );
    drop(held);
    Client::connect(&place.socket()).await;
}

// Credentials. These need root, to be somebody else.

const AS_ANOTHER: &str = "LIKE_TEST_AS_ANOTHER_USER";

#[tokio::test]
#[ignore = "no test of its own: what the one on strangers runs as another user"]
async fn as_another_user() {
    let socket = std::env::var_os(AS_ANOTHER).expect("a socket");
    println!("heard: {:?}", hello_from(Path::new(&socket)).await);
}

fn hello_heard_by(socket: &Path, who: &[&str]) -> Option<String> {
    let itself = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(who)
        .arg(itself)
        .args(["--ignored", "--exact", "as_another_user", "--nocapture"])
        .env(AS_ANOTHER, socket)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().find(|line| line.contains("heard: ")).map(str::to_owned)
}

#[tokio::test]
async fn strangers_are_turned_away_and_members_of_an_allowed_group_are_served() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let place = Place::new(ARTICLED);
    let _daemon = place.start_with(|command| {
        command.args(["--allow-user", "4711", "--allow-group", "4712", "--allow-group", "0"]);
    });
    // The socket's mode would keep them out before the daemon sees them.
    for (path, mode) in [(place.temp.path().to_owned(), 0o755), (place.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // More than nearly anybody has, and the one that is allowed behind them.
    let many = (4600..=4712).map(|gid| gid.to_string()).collect::<Vec<_>>().join(",");
    let cases: [(&[&str], &str); 6] = [
        (&["--reuid", "4710", "--regid", "4710", "--clear-groups"], "NotAllowed"),
        (&["--reuid", "4710", "--regid", "4710", "--groups", "5000"], "NotAllowed"),
        (&["--reuid", "4711", "--regid", "4710", "--clear-groups"], "Welcome"),
        (&["--reuid", "4710", "--regid", "4712", "--clear-groups"], "Welcome"),
        (&["--reuid", "4710", "--regid", "4710", "--groups", "5000,4712"], "Welcome"),
        (&["--reuid", "4710", "--regid", "4710", "--groups", &many], "Welcome"),
    ];
    for (who, expected) in cases {
        let Some(heard) = hello_heard_by(&place.socket(), who) else {
            eprintln!("skipped: no setpriv, or this test's binary is out of other users' reach");
            return;
        };
        assert!(heard.contains(expected), "{who:?}: {heard}");
    }
}
