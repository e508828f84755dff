//! The daemons as processes: what they promise across kills and restarts, and how they start and stop.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use like_protocol::codec::encode;
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::ArticleId;
use like_protocol::likes::UserId;
use like_protocol::likes::article::ArticleOperation;
use like_protocol::likes::user::{LikeTarget, UserOperation, UserReply};
use like_protocol::message::*;
use rustix::process::Signal;
use support::*;

fn one_line(stderr: &str) -> &str {
    let text = stderr.trim_end();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

/// Runs an article service on these paths, which must fail at once: its exit code and what it printed.
fn fails_with(socket: &Path, data: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(ARTICLED);
    command.arg("--socket").arg(socket).arg("--data").arg(data).stderr(Stdio::piped());
    let mut daemon = Daemon { child: command.spawn().unwrap() };
    let code = daemon.wait().code();
    (code, daemon.stderr())
}

// What was acknowledged stays.

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_copies_are_answered_alike() {
    let place = Place::new(ARTICLED);
    let mut daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    client.create_article(1).await;
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        // Many in flight; the daemon dies while some are answered and some are not.
        let sagas: Vec<_> = (0..200).map(|_| SagaId::generate()).collect();
        for saga in &sagas {
            client.send(add_like(*saga)).await.unwrap();
        }
        let first = client.latest_id() + 1 - sagas.len() as u64;
        for _ in 0..1 + round * 37 {
            let reply = client.reply().await.unwrap();
            acknowledged.push((sagas[(reply.id - first) as usize], reply.body));
        }
        daemon.kill();
        while let Some(reply) = client.reply().await {
            acknowledged.push((sagas[(reply.id - first) as usize], reply.body));
        }
        daemon = place.start();
        client = Client::connect(&place.socket()).await;
    }
    let likes = client.article(1).await.likes;
    assert!(likes >= acknowledged.len() as u64, "{likes} likes, {} acknowledged", acknowledged.len());
    for (saga, reply) in &acknowledged {
        assert_eq!(&client.ask(add_like(*saga)).await, reply);
    }
    assert_eq!(client.article(1).await.likes, likes);
    assert_eq!(client.article(1).await.unsettled, u32::try_from(likes).unwrap(), "locks are rebuilt");
}

#[tokio::test]
async fn a_like_record_is_made_undone_and_made_again_across_kills() {
    let place = Place::new(USERD);
    let daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    let like = UserOperation::CreateLike(LikeTarget { user: UserId(7), article: ArticleId(1), key: None });
    let (first, second) = (SagaId::generate(), SagaId::generate());
    let made = |record| ReplyBody::Step(StepReply::Done(encode(&UserReply { record }).unwrap()));
    assert_eq!(client.ask(step(first, Direction::Action, &like)).await, made(first));
    daemon.kill();
    let daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    let locked = ReplyBody::Step(StepReply::Locked { by: first });
    assert_eq!(client.ask(step(second, Direction::Action, &like)).await, locked);
    assert_eq!(
        client.ask(step(first, Direction::Compensation, &like)).await,
        ReplyBody::Step(StepReply::Undone)
    );
    daemon.kill();
    let _daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    assert_eq!(client.ask(step(second, Direction::Action, &like)).await, locked);
    let (id, deadline) = (StepId { saga: first, step: 0 }, deadline());
    let settlement = Settlement { id, deadline, ending: Ending::Natural, note: None };
    assert_eq!(client.ask(RequestBody::Settle(vec![settlement])).await, ReplyBody::Settled);
    assert_eq!(client.ask(step(second, Direction::Action, &like)).await, made(second));
}

#[tokio::test]
async fn an_undo_that_comes_first_is_remembered_across_a_kill() {
    let place = Place::new(ARTICLED);
    let daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    client.create_article(1).await;
    let saga = SagaId::generate();
    let undo = step(saga, Direction::Compensation, &ArticleOperation::AddLike(ArticleId(1)));
    assert_eq!(client.ask(undo).await, ReplyBody::Step(StepReply::Undone));
    daemon.kill();
    let _daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    let refused = ReplyBody::Step(StepReply::Refused(Refusal::Compensated));
    assert_eq!(client.ask(add_like(saga)).await, refused);
    assert_eq!(client.article(1).await.likes, 0);
}

// Start.

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused_at_once() {
    let place = Place::new(ARTICLED);
    let _daemon = place.start();
    let other_socket = place.temp.path().join("other");
    let (code, stderr) = fails_with(&other_socket, &place.data());
    assert_eq!(code, Some(1));
    assert!(one_line(&stderr).contains("in use by another daemon"), "{stderr}");
    assert!(Client::connect(&place.socket()).await.welcome.role == "article");
}

/// Whose disk is not mounted is served by an empty store.
#[test]
fn a_store_that_is_made_is_told_of() {
    let place = Place::new(ARTICLED);
    let tells = || {
        let mut daemon = place.start();
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success());
        daemon.stderr().contains("a new one was made")
    };
    assert!(tells());
    assert!(!tells());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let place = Place::new(ARTICLED);
    place.start().kill();
    assert!(place.socket().exists(), "a killed daemon leaves its socket");
    let _daemon = place.start();
    let other = Place::new(ARTICLED);
    let (code, stderr) = fails_with(&place.socket(), &other.data());
    assert_eq!(code, Some(1));
    assert!(one_line(&stderr).contains("another process listens on"), "{stderr}");
    Client::connect(&place.socket()).await;
}

#[tokio::test]
async fn a_store_serves_its_own_service_only_and_keeps_its_id_until_it_is_restored() {
    let place = Place::new(ARTICLED);
    let daemon = place.start();
    let id = Client::connect(&place.socket()).await.welcome.store;
    daemon.stop();
    let wrong = Place { temp: place.temp, binary: USERD };
    let (code, stderr) = wrong.fails(|_| ());
    assert_eq!(code, Some(1));
    assert!(one_line(&stderr).contains("store of the article service"), "{stderr}");
    let place = Place { temp: wrong.temp, binary: ARTICLED };
    let daemon = place.start();
    assert_eq!(Client::connect(&place.socket()).await.welcome.store, id);
    daemon.stop();
    let daemon = place.start_with(|command| {
        command.arg("--restored");
    });
    let restored = Client::connect(&place.socket()).await.welcome.store;
    assert_ne!(restored, id);
    daemon.stop();
    let _daemon = place.start();
    assert_eq!(Client::connect(&place.socket()).await.welcome.store, restored);
}

#[test]
fn failures_print_one_line_and_exit_with_1_and_usage_with_2() {
    let place = Place::new(ARTICLED);
    let (code, stderr) = place.fails(|command| {
        command.args(["--allow-group", "no-such-group"]);
    });
    assert_eq!(code, Some(2));
    assert!(one_line(&stderr).contains("no-such-group"), "{stderr}");
    let bare =
        Command::new(ARTICLED).arg("--data").arg(place.data()).env_remove("LIKE_SOCKET").output().unwrap();
    assert_eq!(bare.status.code(), Some(2), "usage");
    assert!(one_line(&String::from_utf8_lossy(&bare.stderr)).contains("--socket"));
    assert_eq!(
        place
            .fails(|command| {
                command.arg("--colour");
            })
            .0,
        Some(2)
    );
    let version = Command::new(ARTICLED).arg("--version").output().unwrap();
    assert!(version.status.success());
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        concat!("like-articled ", env!("CARGO_PKG_VERSION"))
    );
}

/// By itself the system would end it with a signal.
#[test]
fn a_file_that_may_not_grow_is_a_failure_and_no_crash() {
    let place = Place::new(ARTICLED);
    let started =
        format!("ulimit -f 1; exec {ARTICLED} --socket {:?} --data {:?}", place.socket(), place.data());
    let ended = Command::new("sh").args(["-c", &started]).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(one_line(&stderr).contains("File too large"), "{stderr}");
}

/// Who stops a program amid its words hears none of them, and still gets its exit code.
#[test]
fn a_failure_that_nobody_hears_of_is_a_failure_and_no_crash() {
    let place = Place::new(ARTICLED);
    for (flags, expected) in
        [(["--socket", "/no/such/directory/s"], 1), (["--allow-group", "no-such-group"], 2)]
    {
        let (unread, stderr) = std::io::pipe().unwrap();
        drop(unread);
        let mut command = Command::new(ARTICLED);
        command.arg("--data").arg(place.data()).args(flags).stderr(stderr);
        let mut daemon = Daemon { child: command.spawn().unwrap() };
        assert_eq!(daemon.wait().code(), Some(expected), "{flags:?}");
    }
}

#[tokio::test]
async fn data_and_socket_are_private() {
    let place = Place::new(ARTICLED);
    let _daemon = place.start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&place.data()), mode(&place.socket())), (0o700, 0o660));
}

// Supervisors.

/// A directory's datagram socket that stands for the supervisor.
fn notified(path: &Path) -> std::os::unix::net::UnixDatagram {
    let socket = std::os::unix::net::UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn hear(socket: &std::os::unix::net::UnixDatagram) -> String {
    let mut message = [0; 512];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn the_supervisor_hears_ready_watchdog_and_stopping() {
    let place = Place::new(ARTICLED);
    let path = place.temp.path().join("notify");
    let supervisor = notified(&path);
    let mut daemon = place.start_with(|command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").env_remove("WATCHDOG_PID");
    });
    assert!(hear(&supervisor).contains("READY=1"));
    for _ in 0..3 {
        assert!(hear(&supervisor).contains("WATCHDOG=1"));
    }
    daemon.signal(Signal::TERM);
    while !hear(&supervisor).contains("STOPPING=1") {}
    assert!(daemon.wait().success());
}

#[tokio::test]
async fn behind_a_passed_socket_a_restart_loses_no_request() {
    let place = Place::new(ARTICLED);
    let passed = UnixListener::bind(place.socket()).unwrap();
    let start = || {
        let mut command = Command::new("sh");
        let exec = format!(
            "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec {ARTICLED} --data {:?}",
            place.data()
        );
        command.arg("-c").arg(exec).env_remove("LIKE_SOCKET").stderr(Stdio::piped());
        command.stdin(std::os::fd::OwnedFd::from(passed.try_clone().unwrap()));
        Daemon { child: command.spawn().unwrap() }
    };
    // The client is there first: its connection waits in the socket until there is a daemon.
    let early = tokio::spawn({
        let socket = place.socket();
        async move { Client::connect(&socket).await }
    });
    let daemon = start();
    let mut client = early.await.unwrap();
    client.create_article(1).await;
    assert!(matches!(client.ask(add_like(SagaId::generate())).await, ReplyBody::Step(StepReply::Done(_))));
    daemon.stop();
    assert!(place.socket().exists(), "the socket is the supervisor's");
    let waiting = tokio::spawn({
        let socket = place.socket();
        async move { Client::connect(&socket).await }
    });
    let _daemon = start();
    assert_eq!(waiting.await.unwrap().article(1).await.likes, 1);
}
