//! Clients that mean no good, or can't help it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use like_tests::gateway::{Gateway, Plan, like};
use like_tests::house::House;
use like_tests::http::{Answer, Request};
use like_tests::process::eventually;
use like_tests::promises;
use like_tests::soak::meter::rss_kib;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::{PROGRAM, opened};

#[test]
fn slow_clients_are_shown_the_door() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let began = Instant::now();
    // One says nothing, one never ends its head, one never ends its body, one stays idle after an answer.
    let mut mute = gateway.place.connect().expect("a connection");
    let mut slow_head = gateway.place.connect().expect("a connection");
    slow_head.write_all(b"GET /articles HTTP/1.1\r\nhost: localhost\r\nx-").expect("sent");
    let mut slow_body = gateway.place.connect().expect("a connection");
    let head =
        "POST /articles HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9";
    slow_body.write_all(format!("{head}\r\n\r\n{{").as_bytes()).expect("sent");
    let mut idle = gateway.place.connect().expect("a connection");
    idle.write_all(b"GET /articles HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    let mut ends = Vec::new();
    for stream in [&mut mute, &mut slow_head, &mut slow_body, &mut idle] {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an end");
        ends.push(answer);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(ends[0].is_empty() || ends[0].starts_with(b"HTTP/1.1 408"), "{:?}", ends[0]);
    assert!(ends[1].is_empty() || ends[1].starts_with(b"HTTP/1.1 408"), "{:?}", ends[1]);
    Answer::read(&ends[2]).expect("an answer").problem(408, "too_slow");
    assert!(ends[3].starts_with(b"HTTP/1.1 200"), "{:?}", ends[3]);
    gateway.get("/articles").expect(200);
}

/// A head that comes byte by byte is not kept alive by that: it has ten seconds in all.
#[test]
fn a_head_that_drips_has_no_more_time_than_one_that_stands_still() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let began = Instant::now();
    let mut dripping: Vec<_> = (0..20).map(|_| gateway.place.connect().expect("a connection")).collect();
    for stream in &mut dripping {
        stream.write_all(b"GET /articles HTTP/1.1\r\nhost: localhost\r\nx-slow: ").expect("sent");
    }
    while !dripping.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} still drip", dripping.len());
        gateway.get("/healthz").expect(200);
        std::thread::sleep(Duration::from_millis(250));
        dripping.retain_mut(|stream| stream.write_all(b"x").is_ok());
    }
    assert!(began.elapsed() > Duration::from_secs(5), "cut off though it had time: {:?}", began.elapsed());
}

/// As many subscribers as there may be, none of which ever reads.
#[test]
fn subscribers_that_never_read_cost_little_and_hold_up_nobody() {
    const STREAMS: usize = 64;
    const MORE_KIB_MAX: u64 = 32 * 1024;
    let (house, mut gateway) = opened();
    gateway.like(1, u64::from(u32::MAX)).expect(200);
    let pid = gateway.running().pid();
    let before = rss_kib(pid);
    let subscribe = || {
        let mut stream = gateway.place.connect().expect("a connection");
        stream.write_all(&Request::new("GET", "/events").bytes()).expect("sent");
        stream
    };
    let answered = |line: &[u8; 12]| {
        let mut first = [0; 12];
        subscribe().read_exact(&mut first).ok()?;
        (&first == line).then_some(())
    };
    let deaf: Vec<_> = (0..STREAMS).map(|_| subscribe()).collect();
    eventually("no room for another", || answered(b"HTTP/1.1 503"));
    // Likes are news to all of them, once a second. Each is answered, however busy the machine is: who is held up by a client
    // that reads nothing waits for good.
    let until = Instant::now() + Duration::from_secs(3);
    let mut users = 0;
    while users < 20 || Instant::now() < until {
        users += 1;
        gateway.like(1, users).expect(200);
    }
    let after = rss_kib(pid);
    assert!(after < before + MORE_KIB_MAX, "{before} KiB, then {after} KiB");
    drop(deaf);
    eventually("room for another", || answered(b"HTTP/1.1 200"));
    promises::kept(&house);
}

/// Its answer, if it answers with this status.
fn answers(gateway: &Gateway, status: u16) -> Option<Answer> {
    let answer = Request::new("GET", "/articles").send(&gateway.place).ok()?;
    (answer.status == status).then_some(answer)
}

fn has_no_room(gateway: &Gateway) -> Option<Value> {
    Some(answers(gateway, 503)?.problem(503, "busy"))
}

#[test]
fn who_comes_when_all_connections_are_taken_is_turned_away_with_an_answer() {
    let house = House::open(PROGRAM);
    let (gateway, _) = Gateway::start(&house, &Plan::with(&["--max-connections", "3"]));
    let taken: Vec<_> = (0..3).map(|_| gateway.place.connect().expect("a connection")).collect();
    eventually("no room", || has_no_room(&gateway));
    drop(taken);
    eventually("room", || answers(&gateway, 200));
}

/// Or the next segment of its log could not be made one day, and that is the end of a gateway.
#[test]
fn connections_leave_a_gateway_descriptors_of_its_own() {
    let house = House::open(PROGRAM);
    let (gateway, _) = Gateway::start(&house, &Plan::with(&[]).files_max(160));
    assert!(gateway.log().contains("files may be open"), "{}", gateway.log());
    eventually("no room", || {
        let _taken: Vec<_> = (0..40).map(|_| gateway.place.connect().expect("a connection")).collect();
        has_no_room(&gateway)
    });
    eventually("room", || answers(&gateway, 200));
}

#[test]
fn who_comes_while_no_file_can_be_opened_is_served_afterwards() {
    let house = House::open(PROGRAM);
    let plan = Plan::with(&[]).variable("RUST_LOG", "info,like_gateway=debug");
    let (mut gateway, _) = Gateway::start(&house, &plan);
    gateway.get("/healthz").expect(200);
    let process = Some(gateway.running().process());
    let few = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(process, Resource::Nofile, few).expect("its files can be limited");
    let mut client = gateway.place.connect().expect("a connection");
    client.write_all(&Request::new("GET", "/healthz").bytes()).expect("sent");
    eventually("no room", || gateway.log().contains("no connection could be accepted").then_some(()));
    prlimit(process, Resource::Nofile, before).expect("a limit as before");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an end");
    Answer::read(&answer).expect("a whole answer").expect(200);
}

#[test]
fn noise_and_clients_that_hang_up_harm_nobody() {
    let (house, gateway) = opened();
    let noises: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /articles/1/like HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for noise in noises {
        let answer = gateway.place.exchange(noise).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    // Each like is sent, and nobody waits for its answer.
    for user in 0..50 {
        let mut stream = gateway.place.connect().expect("a connection");
        stream.write_all(&like(1, user).bytes()).expect("sent");
        drop(stream);
    }
    gateway.like(1, 50).expect(200);
    eventually("quiet", || {
        let sagas = house.json(&["saga", "list", "--state", "running", "--state", "compensating"]);
        sagas.as_array()?.is_empty().then_some(())
    });
    promises::kept(&house);
}
