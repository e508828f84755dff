//! How daemons stop: with what they have taken in answered, whenever they are told to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use like_protocol::ids::SagaId;
use like_protocol::message::*;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use support::*;

#[tokio::test]
async fn sigterm_answers_what_was_taken_in_and_exits_with_0() {
    let place = Place::new(ARTICLED);
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = place.start();
        let mut client = Client::connect(&place.socket()).await;
        if signal == Signal::TERM {
            client.create_article(1).await;
        }
        let before = client.article(1).await.likes;
        let first = client.latest_id() + 1;
        let sagas: Vec<_> = (0..300).map(|_| SagaId::generate()).collect();
        for saga in &sagas {
            client.send(add_like(*saga)).await.unwrap();
        }
        let mut done = Vec::new();
        let mut put_off = 0;
        let mut note = |reply: Reply| match reply.body {
            ReplyBody::Step(StepReply::Done(_)) => done.push(sagas[(reply.id - first) as usize]),
            ReplyBody::Retry(RetryReason::Draining) => put_off += 1,
            other => panic!("{other:?}"),
        };
        note(client.reply().await.unwrap());
        daemon.signal(signal);
        while let Some(reply) = client.reply().await {
            note(reply);
        }
        assert!(daemon.wait().success(), "{}", daemon.stderr());
        assert!(!place.socket().exists(), "its own socket goes with it");
        let daemon = place.start();
        let mut client = Client::connect(&place.socket()).await;
        assert_eq!(client.article(1).await.likes, before + done.len() as u64, "{put_off} were put off");
        daemon.stop();
    }
}

#[tokio::test]
async fn an_open_but_silent_connection_does_not_hold_up_a_stop() {
    let place = Place::new(ARTICLED);
    let daemon = place.start();
    let mut client = Client::connect(&place.socket()).await;
    let _silent = tokio::net::UnixStream::connect(place.socket()).await.unwrap();
    let begun = std::time::Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(client.reply().await.is_none());
}

/// A start that reads from a pipe into which nobody writes: where it stands is known, and it never ends.
#[test]
fn who_is_told_to_stop_amid_its_start_stops_there() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new(ARTICLED);
        std::fs::create_dir(place.data()).unwrap();
        let marker = place.data().join("like-store");
        rustix::fs::mknodat(CWD, &marker, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut daemon = Daemon { child: place.command().spawn().unwrap() };
        let begun = Instant::now();
        let _never_written = loop {
            // Nobody can write into a pipe before somebody reads from it.
            match rustix::fs::open(&marker, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
                Err(Errno::NXIO) => assert!(begun.elapsed() < PATIENCE, "nobody reads the marker"),
                opened => break opened.unwrap(),
            }
        };
        daemon.signal(signal);
        let status = daemon.wait();
        let told = daemon.stderr();
        assert!(status.success(), "{status}: {told}");
        assert!(told.contains("stopped before it was ready"), "{told}");
    }
}

/// A pipe that is full: whoever writes into it waits until somebody reads.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let full = std::iter::repeat_with(|| writer.write(&[b'x'; 512])).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Whether a process blocks SIGTERM, from when on it is not ended by one.
fn holds_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(blocked.trim(), 16).unwrap() & 1 << (Signal::TERM.as_raw() - 1) != 0
}

/// The first thing that it says is what few connections fit, before it can hear any signal.
#[test]
fn who_is_told_to_stop_before_it_can_hear_it_hears_it_then() {
    let place = Place::new(ARTICLED);
    let (mut reader, writer) = full_pipe();
    let started =
        format!("ulimit -n 50; exec {ARTICLED} --socket {:?} --data {:?}", place.socket(), place.data());
    let mut command = Command::new("sh");
    command.args(["-c", &started]).stderr(writer);
    let mut daemon = Daemon { child: command.spawn().unwrap() };
    drop(command);
    let begun = Instant::now();
    while !holds_sigterm(daemon.child.id()) {
        assert!(begun.elapsed() < PATIENCE, "SIGTERM would end it");
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon.signal(Signal::TERM);
    let heard = std::thread::spawn(move || {
        let mut told = String::new();
        reader.read_to_string(&mut told).map(|_| told).unwrap()
    });
    let status = daemon.wait();
    let told = heard.join().unwrap();
    assert!(status.success(), "{status}: {told}");
    assert!(told.contains("connections fit") && told.contains("SIGTERM"), "{told}");
}
