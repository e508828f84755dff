//! More requests than a daemon can take, and answers that nobody takes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use like_protocol::codec;
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{ArticleCommand, ArticleQuery};
use like_protocol::message::{PAGE_ROWS_MAX, ReplyBody, RequestBody, RetryReason};
use like_tests::house::{House, Service};
use like_tests::peer::{self, Peer};
use like_tests::promises;

use super::{house_with, memory_kib, others_are_served, say};

/// What a daemon may need more than before while it is flooded: the queue's bound (32 MiB), that on answers nobody takes
/// (32 MiB) and the group on top of it, buffers of the sessions, and what the allocator keeps of all that.
const FLOOD_KIB_MAX: u64 = 160 * 1024;

/// How many peers flood at once.
const PEERS: usize = 8;

fn query(id: u64, query: &ArticleQuery) -> Vec<u8> {
    peer::frame(&peer::request(id, RequestBody::Query(codec::encode(query).expect("a query"))))
}

/// Makes articles with the longest titles, so that a page of them is large.
fn fill(house: &House, articles: u64) {
    let mut peer = Peer::greet(&house.socket(Service::Article)).expect("there is room");
    for id in 2..=articles {
        let create = ArticleCommand::Create { id: Some(ArticleId(id)), title: "x".repeat(255) };
        let body = RequestBody::Command(codec::encode(&create).expect("a command"));
        peer.send(&peer::frame(&peer::request(id, body))).expect("sent");
        if id % 100 == 0 || id == articles {
            let waiting = if id % 100 == 0 { (id - 1).min(100) } else { (articles - 1) % 100 };
            (0..waiting.min(id - 1)).for_each(|_| drop(peer.reply()));
        }
    }
}

#[test]
fn a_flood_beyond_the_queue_is_answered_with_busy_and_others_are_served() {
    let mut house = house_with(&["--queue", "64"]);
    let socket = house.socket(Service::Article);
    let before = memory_kib(&mut house, Service::Article);
    let (stop, answered, busy) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut most = 0;
    std::thread::scope(|scope| {
        for _ in 0..PEERS {
            scope.spawn(|| {
                let mut peer = Peer::greet(&socket).expect("there is room");
                let burst: Vec<u8> =
                    (0..256).flat_map(|id| query(id, &ArticleQuery::Show(ArticleId(1)))).collect();
                while !stop.load(Ordering::Relaxed) {
                    peer.send(&burst).expect("sent");
                    for _ in 0..256 {
                        match peer.reply().expect("every request is answered").body {
                            ReplyBody::Retry(RetryReason::Busy) => busy.fetch_add(1, Ordering::Relaxed),
                            _ => answered.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(3);
        let mut user = 10;
        while Instant::now() < until {
            others_are_served(&house, user);
            user += 1;
            most = most.max(memory_kib(&mut house, Service::Article));
        }
        say(&format!("{} likes of others meanwhile", user - 10));
        stop.store(true, Ordering::Relaxed);
    });
    let (answered, busy) = (answered.into_inner(), busy.into_inner());
    let grown = most.saturating_sub(before);
    say(&format!("a flood of {} requests: {busy} told to come back, {grown} KiB more", answered + busy));
    assert!(busy > 0, "the queue was never full");
    assert!(grown < FLOOD_KIB_MAX, "{grown} KiB");
    promises::kept(&house);
}

#[test]
fn answers_that_nobody_takes_are_bounded_and_others_are_served() {
    let mut house = house_with(&[]);
    fill(&house, u64::from(PAGE_ROWS_MAX) + 44);
    let socket = house.socket(Service::Article);
    let before = memory_kib(&mut house, Service::Article);
    let page = ArticleQuery::List { after: None, limit: PAGE_ROWS_MAX };
    // Each asks for some 30 MiB at once and reads nothing of it.
    let mut deaf: Vec<_> = (0..PEERS)
        .map(|_| {
            let peer = Peer::greet(&socket).expect("there is room");
            let mut peer = peer.impatient(Duration::from_millis(200));
            let asked = (0..512).take_while(|id| peer.send(&query(*id, &page)).is_ok()).count();
            (peer, asked)
        })
        .collect();
    let mut most = 0;
    for user in 10..30 {
        others_are_served(&house, user);
        most = most.max(memory_kib(&mut house, Service::Article));
    }
    let asked: usize = deaf.iter().map(|(_, asked)| asked).sum();
    let grown = most.saturating_sub(before);
    // Whoever reads after all gets every answer: pages, until too much was unsent, and then busy.
    let (mut pages, mut busy) = (0, 0);
    for (peer, asked) in &mut deaf {
        for _ in 0..*asked {
            match peer.reply().expect("every request is answered").body {
                ReplyBody::Retry(RetryReason::Busy) => busy += 1,
                ReplyBody::Answer(_) => pages += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    say(&format!(
        "{asked} pages asked for and not read: {grown} KiB more; {pages} came, {busy} told to come back"
    ));
    assert!(busy > 0, "there was never too much unsent");
    assert!(grown < FLOOD_KIB_MAX, "{grown} KiB");
    promises::kept(&house);
}
