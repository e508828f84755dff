//! A daemon's own socket when somebody else holds a lock on its directory: it neither hangs nor steals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

mod support;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use like_protocol::ids::SagaId;
use like_protocol::message::*;
use rustix::process::Signal;
use support::*;

/// Locks the directory of a place's socket, as any program may that can open it.
fn lock(place: &Place) -> File {
    let directory = File::open(place.temp.path()).unwrap();
    directory.lock().unwrap();
    directory
}

#[test]
fn a_socket_in_the_data_directory_is_refused() {
    let place = Place::new(ARTICLED);
    // Once where there is no data yet, once where there is.
    for _ in 0..2 {
        let mut command = Command::new(ARTICLED);
        command.arg("--socket").arg(place.data().join("sock")).arg("--data").arg(place.data());
        let mut daemon = Daemon { child: command.stderr(Stdio::piped()).spawn().unwrap() };
        assert_eq!(daemon.wait().code(), Some(1));
        let told = daemon.stderr();
        assert!(told.contains("in the data directory") && told.contains("--socket"), "{told}");
        place.start().stop();
    }
}

/// A supervisor passes one that it has accepted itself where it was told to (`Accept=yes`).
#[test]
fn a_passed_socket_that_does_not_listen_is_refused() {
    let place = Place::new(ARTICLED);
    let (_theirs, passed) = UnixStream::pair().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0; LISTEN_FDS=1 exec \"$@\"", "sh", ARTICLED, "--data"]).arg(place.data());
    command.stdin(OwnedFd::from(passed)).stderr(Stdio::piped());
    let mut daemon = Daemon { child: command.spawn().unwrap() };
    assert_eq!(daemon.wait().code(), Some(2));
    let told = daemon.stderr();
    assert!(told.contains("can't be used: it does not listen"), "{told}");
}

#[test]
fn a_start_does_not_hang_on_a_lock_and_says_what_holds_it_up() {
    let place = Place::new(ARTICLED);
    let locked = lock(&place);
    let (code, told) = place.fails(|_| ());
    assert_eq!(code, Some(1));
    assert!(told.contains("another program holds a lock on"), "{told}");
    assert!(told.contains(place.temp.path().to_str().unwrap()), "{told}");
    drop(locked);
    place.start().stop();
}

/// A place whose store has an article.
async fn place_with_article() -> Place {
    let place = Place::new(ARTICLED);
    let daemon = place.start();
    Client::connect(&place.socket()).await.create_article(1).await;
    daemon.stop();
    place
}

/// Stops a daemon amidst many requests while the directory of its socket is locked, and takes all of its answers.
async fn stopped_while_locked(place: &Place) -> (Daemon, File) {
    let daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    for _ in 0..300 {
        client.send(add_like(SagaId::generate())).await.unwrap();
    }
    let locked = lock(place);
    let mut answers = vec![client.reply().await.unwrap()];
    daemon.signal(Signal::TERM);
    while let Some(answer) = client.reply().await {
        answers.push(answer);
    }
    let done = |answer: &Reply| matches!(answer.body, ReplyBody::Step(StepReply::Done(_)));
    let put_off = |answer: &Reply| answer.body == ReplyBody::Retry(RetryReason::Draining);
    assert!(answers.iter().all(|answer| done(answer) || put_off(answer)), "{answers:?}");
    assert!(answers.iter().any(done), "{answers:?}");
    (daemon, locked)
}

#[tokio::test]
async fn a_stop_does_not_hang_on_a_lock_and_leaves_the_file() {
    let place = place_with_article().await;
    let (mut daemon, locked) = stopped_while_locked(&place).await;
    let status = daemon.wait();
    assert!(status.success(), "{status}: {}", daemon.stderr());
    assert!(place.socket().exists(), "nothing is removed without the lock");
    drop(locked);
    // The next one finds it stale.
    place.start().stop();
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn a_stop_answers_first_and_waits_for_the_lock_last() {
    let place = place_with_article().await;
    // Whoever lets go as soon as everything is answered is in time, but on a machine that stalls.
    for _ in 0..5 {
        let (mut daemon, locked) = stopped_while_locked(&place).await;
        drop(locked);
        let status = daemon.wait();
        assert!(status.success(), "{status}: {}", daemon.stderr());
        if !place.socket().exists() {
            return;
        }
    }
    panic!("the lock is waited for before everything is answered");
}
