//! The gateway as a process: start, stop, supervisor.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::{House, Service};
use like_tests::http::Place;
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
    let Place::Unix(socket) = gateway.place.clone() else { unreachable!("a Unix socket") };
    assert_eq!(gateway.end().code(), Some(0));
    assert!(!socket.exists(), "a socket at which nobody listens is left");
    promises::kept(&house);
}

/// A gateway under a supervisor that wants to hear of it every 300 ms, and what it says next.
fn supervised(house: &House) -> (Gateway, impl Fn() -> String) {
    let socket = house.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).expect("a socket");
    supervisor.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let plan = Plan::with(&[]).variable("NOTIFY_SOCKET", socket.display()).variable("WATCHDOG_USEC", 300_000);
    let told = move || {
        let mut buffer = [0; 1024];
        let length = supervisor.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    (Gateway::start(house, &plan).0, told)
}

#[test]
fn the_supervisor_is_told_of_readiness_life_and_stop() {
    let house = House::open(PROGRAM);
    let (mut gateway, told) = supervised(&house);
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

/// Or it would kill a gateway that only does what it was asked to.
#[test]
fn the_supervisor_hears_of_life_until_the_last_like_has_ended() {
    for waits in [true, false] {
        let house = House::with_article(PROGRAM);
        let (mut gateway, told) = supervised(&house);
        gateway.like(1, 6).expect(200);
        house.freeze(Service::User);
        let mut client = gateway.place.connect().expect("a connection");
        client.write_all(&like(1, 7).bytes()).expect("sent");
        eventually("a like under way", || {
            (house.json(&["saga", "list"]).as_array()?.len() == 2).then_some(())
        });
        let client = waits.then_some(client);
        gateway.running().signal(Signal::TERM);
        while !told().contains("STOPPING=1") {}
        for _ in 0..5 {
            assert_eq!(told(), "WATCHDOG=1");
        }
        assert!(!gateway.running().has_ended());
        house.thaw(Service::User);
        assert_eq!(gateway.end().code(), Some(0));
        drop(client);
        promises::kept(&house);
    }
}

#[test]
fn a_place_that_is_taken_is_said_in_one_line() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let Place::Unix(socket) = &gateway.place else { unreachable!("a Unix socket") };
    let mut second = program(house.program(), "like-gateway");
    second.arg("--journal").arg(house.journal()).arg("--listen").arg(format!("unix:{}", socket.display()));
    let ended = Ended::of(&mut second).expect_code(1);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("another process listens"), "{ended:?}");
    gateway.get("/articles").expect(200);
}

#[test]
fn a_passed_socket_is_served_whatever_the_flags_say() {
    let house = House::open(PROGRAM);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let unix = UnixListener::bind(house.path().join("gateway.sock")).expect("a socket");
    let at = tcp.local_addr().expect("an address");
    // They stay open in a child, as the originals do not.
    let passed = [rustix::io::dup(&tcp), rustix::io::dup(&unix)].map(|passed| passed.expect("a descriptor"));
    for (passed, plan) in passed.iter().zip([Plan::with(&[]).tcp(), Plan::with(&[])]) {
        let plan = plan.variable("LISTEN_FDS", 1).variable("LISTEN_FDS_FIRST_FD", passed.as_raw_fd());
        let (mut gateway, _) = Gateway::start(&house, &plan);
        if let Place::Tcp(served) = gateway.place {
            assert_eq!(served, at);
        }
        gateway.get("/healthz").expect(200);
        gateway.get("/healthz").expect(200);
        gateway.running().signal(Signal::TERM);
        assert_eq!(gateway.end().code(), Some(0));
    }
    assert!(house.path().join("gateway.sock").exists(), "it is the supervisor's");
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
    // Nor is one of several chosen.
    gateway.env("LISTEN_FDS", "2");
    let ended = Ended::of(&mut gateway).expect_code(2);
    assert!(ended.stderr.contains("2 sockets were passed"), "{ended:?}");
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
