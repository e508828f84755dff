//! Connections: more than fit, idle ones, and ones that are never finished.

use std::process::Command;
use std::time::{Duration, Instant};

use like_protocol::codec::{self, REQUEST_FRAME_BYTES_MAX};
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::ArticleOperation;
use like_protocol::message::{
    Direction, ReplyBody, RequestBody, StepReply, StepRequest, ToDaemon, TurnedAway,
};
use like_protocol::time::{BootClock, Clock};
use like_tests::house::{House, Service};
use like_tests::peer::{self, Peer};
use like_tests::process::{Ended, eventually};
use like_tests::promises;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::{PROGRAM, house_with, log, memory_kib, others_are_served, say};

/// What an idle connection may cost a daemon: both of its buffers, its task, and as much again for the allocator.
const IDLE_CONNECTION_BYTES_MAX: u64 = 48 * 1024;

/// How many idle connections are made, if the limits of this machine allow it.
const IDLE_CONNECTIONS: u64 = 10_000;

/// Descriptors of this process that are not those connections.
const SPARE: u64 = 300;

/// Lets this process open as many files as it may at all; how many connections fit.
fn room_for_connections() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised to the hard one");
    limit.maximum.map_or(IDLE_CONNECTIONS, |most| most.saturating_sub(SPARE)).min(IDLE_CONNECTIONS)
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_the_next_one_is_turned_away() {
    let connections = room_for_connections();
    let mut house = house_with(&["--max-connections", &(connections + 2).to_string()]);
    let socket = house.socket(Service::Article);
    let before = memory_kib(&mut house, Service::Article);
    let started = Instant::now();
    let mut idle: Vec<_> = (0..connections).map(|_| Peer::greet(&socket).expect("there is room")).collect();
    let took = started.elapsed();
    others_are_served(&house, 7);
    let grown = memory_kib(&mut house, Service::Article).saturating_sub(before);
    let each = grown * 1024 / connections;
    say(&format!(
        "{connections} idle connections: {grown} KiB in all, {each} bytes each; made in {took:.1?}"
    ));
    assert!(each < IDLE_CONNECTION_BYTES_MAX, "{each} bytes for an idle connection");

    // Nobody else uses the last two: the next one is told, and so is whoever uses likectl.
    eventually("likectl's connections to be gone", || open_connections(&house, connections).then_some(()));
    idle.extend((0..2).map(|_| Peer::greet(&socket).expect("there is room for two more")));
    assert_eq!(Peer::greet(&socket).expect_err("there is none left"), TurnedAway::TooManyConnections);
    let told = house.likectl(&["--json", "like", "1", "--user", "8"]).expect_code(8);
    assert!(told.stderr.contains("as many connections as it allows"), "{told:?}");
    idle.truncate(8);
    eventually("room again", || (house.likectl(&["article", "show", "1"]).code() == Some(0)).then_some(()));
    others_are_served(&house, 8);
    promises::kept(&house);
}

/// Whether a daemon has so many connections and its own descriptors open, and no more.
fn open_connections(house: &House, connections: u64) -> bool {
    let status = house.likectl(&["--json", "status"]).json();
    // The one that asks is counted.
    status["services"][0]["connections"].as_u64() == Some(connections + 1)
}

#[test]
fn a_daemon_without_descriptors_goes_on_with_whom_it_has_and_recovers() {
    let mut house = house_with(&[]);
    let daemon = house.process(Service::Article).process();
    let mut known = Peer::greet(&house.socket(Service::Article)).expect("a connection");
    let all = limit_descriptors(daemon);
    // It waits in the backlog: nobody tells it anything.
    house.likectl(&["--timeout", "500ms", "article", "show", "1"]).expect_code(8);
    eventually("an accept that fails", || {
        log(&house, "article").contains("can't accept a connection").then_some(())
    });
    known.send(&peer::frame(&peer::request(1, RequestBody::Status))).expect("sent");
    known.reply().expect("whoever was there before is still served");
    prlimit(Some(daemon), Resource::Nofile, all).expect("the limit can be raised again");
    others_are_served(&house, 7);
    promises::kept(&house);
}

/// Lets a process open no more files than it has; its limit before.
fn limit_descriptors(daemon: Pid) -> Rlimit {
    // A child's hard limit is this process's.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = prlimit(Some(daemon), Resource::Nofile, Rlimit { current: Some(3), maximum });
    limit.expect("the limit of a child can be set")
}

/// A house with an article, whose article daemon may open so many files, is started with some that are open, and has flags of
/// its own.
fn house_with_descriptors(most: u32, handed: std::ops::Range<u32>, flags: &[&str]) -> House {
    let open: String = handed.map(|descriptor| format!("exec {descriptor}</dev/null; ")).collect();
    let mut house = House::closed(PROGRAM);
    house.start_prepared(Service::Article, |command| {
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new("sh");
        command.args(["-c", &format!("{open}exec prlimit --nofile={most}:{most} -- \"$@\""), "sh"]);
        command.arg(program).args(arguments).args(flags);
    });
    house.start(Service::User);
    house.article(1);
    house
}

#[test]
fn a_low_limit_of_descriptors_leaves_the_store_its_own() {
    let house = house_with_descriptors(60, 3..3, &[]);
    let mut taken = all_that_fit(&house);
    assert!(log(&house, "article").contains("files may be open"), "the daemon says so when it starts");
    assert!(!log(&house, "article").contains("can't accept"), "no accept has failed");
    say(&format!("with 60 descriptors {} connections fit", taken.len()));
    taken.truncate(2);
    eventually("room again", || (house.likectl(&["article", "show", "1"]).code() == Some(0)).then_some(()));
    others_are_served(&house, 7);
    promises::kept(&house);
}

/// As many connections as a daemon allows.
fn all_that_fit(house: &House) -> Vec<Peer> {
    let socket = house.socket(Service::Article);
    let mut taken = Vec::new();
    let away = loop {
        match Peer::greet(&socket) {
            Ok(peer) => taken.push(peer),
            Err(away) => break away,
        }
        assert!(taken.len() < 60, "more connections than descriptors");
    };
    assert_eq!(away, TurnedAway::TooManyConnections);
    taken
}

#[test]
fn what_a_daemon_is_started_with_counts_among_its_descriptors() {
    let few = all_that_fit(&house_with_descriptors(60, 3..10, &[])).len();
    let more = all_that_fit(&house_with_descriptors(60, 3..3, &[])).len();
    assert_eq!(few + 7, more);
}

#[test]
fn a_burst_of_connections_leaves_the_store_its_descriptors_and_everybody_is_told() {
    let house = house_with_descriptors(84, 3..3, &["--max-connections", "20", "--checkpoint-kib", "1"]);
    let socket = house.socket(Service::Article);
    let mut busy = Peer::greet(&socket).expect("there is room");
    let mut idle: Vec<_> = (1..20).map(|_| Peer::greet(&socket).expect("there is room")).collect();
    for _ in 0..5 {
        // All of this is there at once when it goes on: connections to accept, and changes that need new files.
        house.freeze(Service::Article);
        (0..LIKES).for_each(|id| busy.send(&peer::frame(&a_like(id))).expect("sent"));
        let mut burst: Vec<_> = (0..BURST).map(|_| Peer::connect(&socket)).collect();
        house.thaw(Service::Article);
        for peer in &mut burst {
            assert_eq!(peer.welcomed().expect_err("all are taken"), TurnedAway::TooManyConnections);
            assert!(peer.is_closed());
        }
        for _ in 0..LIKES {
            let reply = busy.reply().expect("whoever was there before is still served");
            assert!(matches!(reply.body, ReplyBody::Step(StepReply::Done(_))), "{reply:?}");
        }
    }
    assert!(!log(&house, "article").contains("can't accept"), "no accept has failed");
    idle.truncate(8);
    eventually("room again", || (house.likectl(&["article", "show", "1"]).code() == Some(0)).then_some(()));
}

/// Connections that wait to be accepted at once: far more than a daemon has descriptors left.
const BURST: usize = 120;

/// Changes that come with them.
const LIKES: u64 = 64;

/// A like more for the article, by a saga of its own.
fn a_like(id: u64) -> ToDaemon {
    let deadline = BootClock::open().expect("a boot id").now().deadline_in(Duration::from_secs(60));
    let step = StepRequest {
        id: StepId { saga: SagaId::generate(), step: 0 },
        direction: Direction::Action,
        deadline,
        operation: codec::encode(&ArticleOperation::AddLike(ArticleId(1))).expect("an operation"),
    };
    peer::request(id, RequestBody::Step(step))
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut command = Command::new("prlimit");
    command.args(["--nofile=30:30", "--", PROGRAM, "like-articled", "--socket"]);
    command.arg(directory.path().join("socket")).arg("--data").arg(&data);
    let refused = Ended::of(&mut command).expect_code(1);
    assert!(refused.stderr.contains("only 30 files may be open"), "{refused:?}");
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn whoever_never_finishes_what_it_says_is_left_behind() {
    let mut house = house_with(&[]);
    let socket = house.socket(Service::Article);
    let hello = peer::frame(&peer::hello());
    let half = &hello[..hello.len() / 2];
    let started = Instant::now();
    // Some say nothing, some half of a hello, some a byte now and then.
    let silent: Vec<_> = (0..50).map(|_| Peer::connect(&socket)).collect();
    let mut halves: Vec<_> = (0..50).map(|_| Peer::connect(&socket)).collect();
    halves.iter_mut().for_each(|peer| peer.send(half).expect("sent"));
    let mut trickling: Vec<_> = (0..20).map(|_| Peer::connect(&socket)).collect();
    // And some stop in the middle of the largest frame there is, after a proper hello.
    let frames = 200;
    let before = memory_kib(&mut house, Service::Article);
    let mut largest = (REQUEST_FRAME_BYTES_MAX as u32).to_be_bytes().to_vec();
    largest.resize(REQUEST_FRAME_BYTES_MAX, 0);
    let mut stuck: Vec<_> = (0..frames).map(|_| Peer::greet(&socket).expect("there is room")).collect();
    stuck.iter_mut().for_each(|peer| peer.send(&largest).expect("sent"));
    others_are_served(&house, 7);
    let grown = memory_kib(&mut house, Service::Article).saturating_sub(before);
    say(&format!("{frames} frames that are never finished: {} KiB each", grown / frames));
    // A frame, and while it grew to that, at worst as much again.
    assert!(grown / frames < 3 * REQUEST_FRAME_BYTES_MAX as u64 / 1024, "{grown} KiB");
    let mut sent = 0;
    while started.elapsed() < Duration::from_secs(9) {
        for peer in &mut trickling {
            // Where that takes long, they are cut off meanwhile.
            let trickled = peer.send(&hello[sent..=sent]).is_ok();
            assert!(trickled || started.elapsed() >= Duration::from_secs(10), "cut off already");
        }
        sent += 1;
        others_are_served(&house, 100 + started.elapsed().as_millis() as u64);
        std::thread::sleep(Duration::from_secs(1));
    }
    // After ten seconds without a hello they are cut off, however busily they trickled.
    assert!(silent.into_iter().chain(halves).chain(trickling).all(|mut peer| peer.is_closed()));
    let away = started.elapsed();
    assert!(away >= Duration::from_secs(10), "cut off after {away:?} already");
    eventually("a line for each of them", || {
        (log(&house, "article").matches("none came in time").count() == 120).then_some(())
    });
    promises::kept(&house);
}

#[test]
fn frames_that_claim_too_much_end_their_own_session_only() {
    let mut house = house_with(&[]);
    let socket = house.socket(Service::Article);
    let before = memory_kib(&mut house, Service::Article);
    let claims = [u32::MAX, u32::MAX / 2, REQUEST_FRAME_BYTES_MAX as u32 + 1];
    for round in 0..100 {
        for claim in claims {
            // Before the hello, and after it.
            let mut early = Peer::connect(&socket);
            let _it_may_be_closed_by_now = early.send(&[&claim.to_be_bytes()[..], &[7; 64]].concat());
            assert!(early.is_closed(), "{claim}");
            let mut late = Peer::greet(&socket).expect("there is room");
            let _it_may_be_closed_by_now = late.send(&[&claim.to_be_bytes()[..], &[7; 64]].concat());
            assert!(late.is_closed(), "{claim}");
        }
        if round % 50 == 0 {
            others_are_served(&house, 10 + round);
        }
    }
    let grown = memory_kib(&mut house, Service::Article).saturating_sub(before);
    say(&format!("600 frames that claim up to 4 GiB: {grown} KiB"));
    assert!(grown < 16 * 1024, "{grown} KiB for frames that were never taken");
    eventually("a line for each of them", || {
        (log(&house, "article").matches("a session was ended").count() >= 600).then_some(())
    });
    promises::kept(&house);
}
