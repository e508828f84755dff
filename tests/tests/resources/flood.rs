//! More requests than a daemon can take, and answers that nobody takes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use like_daemon::commit::unsent::UNSENT_BYTES_MAX;
use like_daemon::net::session::SEND_STALL_MAX;
use like_protocol::codec;
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{ArticleCommand, ArticleQuery};
use like_protocol::message::{PAGE_ROWS_MAX, ReplyBody, RequestBody, RetryReason};
use like_tests::house::{House, Service};
use like_tests::peer::{self, Peer};
use like_tests::process::eventually;
use like_tests::promises;

use super::{house_with, memory_kib, others_are_served, say};

/// What a daemon may need more than before while it is flooded: the queue's bound (32 MiB), that on answers nobody takes
/// (32 MiB) and the group on top of it, buffers of the sessions, and what the allocator keeps of all that.
const FLOOD_KIB_MAX: u64 = 160 * 1024;

/// More than the kernel takes of what nobody reads from a Unix socket, unless somebody has told it otherwise.
const SOCKET_BYTES_MAX: usize = 220 * 1024;

/// How many peers flood at once.
const PEERS: usize = 8;

fn query(id: u64, query: &ArticleQuery) -> Vec<u8> {
    peer::frame(&peer::request(id, RequestBody::Query(codec::encode(query).expect("a query"))))
}

/// Makes articles with the longest titles, so that a page of them is large.
fn fill(house: &House, articles: u64) {
    let mut peer = Peer::greet(&house.socket(Service::Article)).expect("there is room");
    for id in 2..=articles {
        let create = ArticleCommand::Create { id: Some(ArticleId(id)), title: "\u{1f600}".repeat(255) };
        let body = RequestBody::Command(codec::encode(&create).expect("a command"));
        peer.send(&peer::frame(&peer::request(id, body))).expect("sent");
        if id % 100 == 0 || id == articles {
            let waiting = if id % 100 == 0 { (id - 1).min(100) } else { (articles - 1) % 100 };
            (0..waiting.min(id - 1)).for_each(|_| drop(peer.reply()));
        }
    }
}

/// Sets what others look at, when it goes.
struct SetsAtEnd<'a>(&'a AtomicBool);

impl Drop for SetsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
        // Nobody floods any more if this fails.
        let over = SetsAtEnd(&stop);
        let mut users = 10..;
        let until = Instant::now() + Duration::from_secs(3);
        eventually("a full queue", || {
            others_are_served(&house, users.next().expect("a user"));
            most = most.max(memory_kib(&mut house, Service::Article));
            (busy.load(Ordering::Relaxed) > 0 && Instant::now() >= until).then_some(())
        });
        say(&format!("{} likes of others meanwhile", users.start - 10));
        drop(over);
    });
    let (answered, busy) = (answered.into_inner(), busy.into_inner());
    let grown = most.saturating_sub(before);
    say(&format!("a flood of {} requests: {busy} told to come back, {grown} KiB more", answered + busy));
    assert!(grown < FLOOD_KIB_MAX, "{grown} KiB");
    promises::kept(&house);
}

/// How many peers read a long page.
const READERS: u64 = 200;

/// What one of them may cost a daemon afterwards: as much as one that is idle from the start.
const READER_KIB_MAX: u64 = 48;

#[test]
fn who_has_read_a_long_page_costs_as_little_as_who_is_idle() {
    let mut house = house_with(&[]);
    fill(&house, PAGE_ROWS_MAX.into());
    let page = query(1, &ArticleQuery::List { after: None, limit: PAGE_ROWS_MAX });
    let read = |house: &House| {
        let mut peer = Peer::greet(&house.socket(Service::Article)).expect("there is room");
        peer.send(&page).expect("sent");
        let ReplyBody::Answer(page) = peer.reply().expect("a reply").body else { panic!("no page") };
        assert!(page.0.len() as u64 > 4 * 1024 * READER_KIB_MAX, "{} bytes are no long page", page.0.len());
        peer
    };
    // What the first one takes is there for all others.
    let _first = read(&house);
    let before = memory_kib(&mut house, Service::Article);
    let _idle: Vec<_> = (0..READERS).map(|_| read(&house)).collect();
    let grown = memory_kib(&mut house, Service::Article).saturating_sub(before);
    say(&format!("{READERS} connections that have read a long page: {grown} KiB more"));
    assert!(grown < READERS * READER_KIB_MAX, "{grown} KiB");
}

/// How many bytes the first pages of each length have.
fn page_bytes(house: &House) -> Vec<usize> {
    let mut peer = Peer::greet(&house.socket(Service::Article)).expect("there is room");
    let mut bytes_of = |limit| {
        peer.send(&query(1, &ArticleQuery::List { after: None, limit })).expect("sent");
        match peer.reply().expect("every request is answered").body {
            ReplyBody::Answer(page) => page.0.len(),
            other => panic!("{other:?}"),
        }
    };
    (0..=PAGE_ROWS_MAX).map(&mut bytes_of).collect()
}

/// The lengths of pages that together have more bytes than may be unsent, by more than the first of them has, which no socket
/// takes as a whole. So it helps nobody that a part of it is on its way.
fn too_much(page_bytes: &[usize]) -> Vec<u32> {
    let longest = |bytes_max| page_bytes.iter().rposition(|bytes| *bytes <= bytes_max).unwrap_or_default();
    let first = longest(SOCKET_BYTES_MAX) + 1;
    let (mut limits, mut left) = (vec![first], UNSENT_BYTES_MAX - page_bytes[first]);
    while left > page_bytes[1] {
        let next = longest(left);
        left -= page_bytes[next];
        limits.push(next);
    }
    limits.push(page_bytes.len() - 1);
    assert!(page_bytes[page_bytes.len() - 1] - left > page_bytes[first], "{left} bytes are left");
    limits.into_iter().map(|limit| limit as u32).collect()
}

#[test]
fn answers_that_nobody_takes_are_bounded_and_others_are_served() {
    let mut house = house_with(&[]);
    fill(&house, u64::from(PAGE_ROWS_MAX) + 44);
    let socket = house.socket(Service::Article);
    let limits = too_much(&page_bytes(&house));
    let before = memory_kib(&mut house, Service::Article);
    let pages = limits.iter().map(|limit| ArticleQuery::List { after: None, limit: *limit });
    let pages: Vec<u8> = (0..).zip(pages).flat_map(|(id, page)| query(id, &page)).collect();
    // Each asks for some 32 MiB at once and reads nothing of it.
    let deaf_since = Instant::now();
    let mut deaf: Vec<_> = (0..PEERS)
        .map(|_| {
            let mut peer = Peer::greet(&socket).expect("there is room");
            peer.send(&pages).expect("sent");
            peer
        })
        .collect();
    let mut most = 0;
    let mut good = Peer::greet(&socket).expect("there is room");
    for user in 10..30 {
        good.send(&query(user, &ArticleQuery::Show(ArticleId(1)))).expect("sent");
        let reply = good.reply().expect("every request is answered").body;
        assert!(matches!(reply, ReplyBody::Answer(_)), "for others' sake: {reply:?}");
        others_are_served(&house, user);
        most = most.max(memory_kib(&mut house, Service::Article));
        // Later they are shown the door for that.
        if deaf_since.elapsed() >= SEND_STALL_MAX / 3 {
            break;
        }
    }
    let grown = most.saturating_sub(before);
    // Whoever reads after all gets every answer: pages, until too much was unsent, and then busy.
    let (mut came, mut busy) = (0, 0);
    for peer in &mut deaf {
        for _ in &limits {
            match peer.reply().map(|reply| reply.body) {
                Ok(ReplyBody::Retry(RetryReason::Busy)) => busy += 1,
                Ok(ReplyBody::Answer(_)) => came += 1,
                // It was not its turn to be read before.
                Err(_) if deaf_since.elapsed() >= SEND_STALL_MAX => break,
                other => panic!("every request is answered: {other:?}"),
            }
        }
    }
    let asked = PEERS * limits.len();
    say(&format!(
        "{asked} pages asked for and not read: {grown} KiB more; {came} came, {busy} told to come back"
    ));
    assert!(busy > 0 || came == 0, "there was never too much unsent");
    assert!(grown < FLOOD_KIB_MAX, "{grown} KiB");
    promises::kept(&house);
}
