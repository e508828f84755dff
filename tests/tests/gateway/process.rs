//! The gateway as a process: start, stop, supervisor.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::{House, Service};
use like_tests::process::{Ended, eventually, program};
use like_tests::promises;
use rustix::process::Signal;

use crate::{PROGRAM, opened};

#[test]
fn a_stop_answers_what_is_under_way_and_exits_with_0() {
    let (house, mut gateway) = opened();
    gateway.like(1, 6).expect(200);
    house.freeze(Service::User);
    let place = gateway.place.clone();
    let waiting = std::thread::spawn(move || like(1, 7).send(&place));
    eventually("a like under way", || {
        let running = house.json(&["saga", "list", "--state", "running"]);
        (running.as_array()?.len() == 1).then_some(())
    });
    gateway.running().signal(Signal::TERM);
    eventually("a gateway that takes no more", || gateway.place.connect().is_err().then_some(()));
    assert!(!gateway.running().has_ended(), "somebody still waits for an answer");
    house.thaw(Service::User);
    let answer = waiting.join().expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.json()["current_likes"], 2);
    assert_eq!(gateway.end().code(), Some(0));
    promises::kept(&house);
}

#[test]
fn the_supervisor_is_told_of_readiness_life_and_stop() {
    let house = House::open(PROGRAM);
    let socket = house.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).expect("a socket");
    supervisor.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let told = || {
        let mut buffer = [0; 1024];
        let length = supervisor.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let plan = Plan::with(&[]).variable("NOTIFY_SOCKET", socket.display()).variable("WATCHDOG_USEC", 300_000);
    let (mut gateway, _) = Gateway::start(&house, &plan);
    let mut heard = String::new();
    while !(heard.contains("READY=1") && heard.matches("WATCHDOG=1").count() >= 3) {
        heard.push_str(&told());
    }
    assert!(heard.contains("STATUS=Serving unix:"), "{heard}");
    gateway.running().signal(Signal::TERM);
    while !heard.contains("STOPPING=1") {
        heard.push_str(&told());
    }
    assert_eq!(gateway.end().code(), Some(0));
}

#[test]
fn a_place_that_is_taken_is_said_in_one_line() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let like_tests::http::Place::Unix(socket) = &gateway.place else { unreachable!("a Unix socket") };
    let mut second = program(house.program(), "like-gateway");
    second.arg("--journal").arg(house.journal()).arg("--listen").arg(format!("unix:{}", socket.display()));
    let ended = Ended::of(&mut second).expect_code(1);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("another process listens"), "{ended:?}");
    gateway.get("/articles").expect(200);
}

/// A supervisor passes one that it has accepted itself where it was told to (`Accept=yes`).
#[test]
fn a_passed_socket_that_does_not_listen_is_refused() {
    let house = House::open(PROGRAM);
    let (_theirs, passed) = UnixStream::pair().expect("a pair");
    // Stays open in a child, as the original does not.
    let passed = rustix::io::dup(&passed).expect("a descriptor");
    let mut gateway = program(house.program(), "like-gateway");
    gateway.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", passed.as_raw_fd().to_string());
    gateway.arg("--journal").arg(house.journal());
    let ended = Ended::of(&mut gateway).expect_code(2);
    assert!(ended.stderr.contains("can't be used: it does not listen"), "{ended:?}");
}

#[test]
fn flags_that_cannot_be_followed_exit_with_2_and_one_line() {
    let house = House::open(PROGRAM);
    let missing = house.path().join("no-token").display().to_string();
    for (flags, named) in [(["--timeout", "2h"], "--timeout"), (["--admin-token-file", &missing], &missing)] {
        let mut gateway = program(house.program(), "like-gateway");
        gateway.arg("--journal").arg(house.journal()).args(flags);
        let ended = Ended::of(&mut gateway).expect_code(2);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(named), "{ended:?}");
    }
}
