//! What is played while it is recorded.

use super::crowd::Crowd;
use super::ledger::Act;
use super::stage::Stage;
use crate::house::Service;
use crate::process::eventually;

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is left out of a short search.
    pub is_long: bool,
    /// Its share of the states, in parts of the sum of all shares.
    pub share: u64,
    /// What is played before the power is cut: what it leaves is on disk.
    pub before: Option<fn(&mut Stage)>,
    /// Plays it.
    pub play: fn(&mut Stage),
}

/// All of them.
pub const ALL: &[Workload] = &[
    Workload { name: "fresh stores", is_long: false, share: 3, before: None, play: fresh },
    Workload { name: "likes of every kind", is_long: false, share: 4, before: None, play: likes },
    Workload { name: "restarts", is_long: false, share: 3, before: None, play: restarts },
    Workload { name: "dead runners", is_long: false, share: 4, before: None, play: dead_runners },
    Workload { name: "killed in the middle", is_long: false, share: 3, before: None, play: killed },
    Workload { name: "turned back", is_long: false, share: 3, before: None, play: turned_back },
    Workload { name: "many log segments", is_long: false, share: 2, before: None, play: log_segments },
    Workload { name: "collection", is_long: true, share: 2, before: None, play: collection },
    Workload { name: "many segments", is_long: true, share: 4, before: None, play: segments },
    Workload { name: "restarts of worn stores", is_long: true, share: 4, before: Some(segments), play: worn },
];

fn make(stage: &mut Stage, articles: u64) {
    (1..=articles).for_each(|article| drop(stage.act(Act::Make { article }).expect_code(0)));
}

fn like(user: u64, article: u64) -> Act {
    Act::Like { user, article, key: None }
}

fn unlike(user: u64, article: u64) -> Act {
    Act::Unlike { user, article }
}

fn crowd(articles: u64, first: u64, users: u64) -> Crowd {
    Crowd { articles, first, users, at_once: 16, undecided: 3, timeout_ms: 5000, segment_bytes: None }
}

fn fresh(stage: &mut Stage) {
    stage.start_both();
    make(stage, 1);
    stage.act(like(7, 1)).expect_code(0);
}

fn likes(stage: &mut Stage) {
    stage.start_both();
    make(stage, 2);
    let keyed = Act::Like { user: 7, article: 1, key: Some(0x1234) };
    stage.act(keyed).expect_code(0);
    stage.act(like(7, 1)).expect_code(4);
    stage.act(unlike(7, 1)).expect_code(0);
    stage.act(like(8, 2)).expect_code(0);
    stage.act(Act::Like { user: 9, article: 3, key: None }).expect_code(3);
    stage.crowd(&crowd(2, 20, 6));
    stage.stop(Service::User);
    // Nobody says hello: nothing is begun. A daemon that dies in the middle makes a saga turn back.
    stage.act_in_a_hurry(like(10, 1));
    stage.start(Service::User);
    stage.act(like(10, 1)).expect_code(0);
    stage.act(unlike(8, 2)).expect_code(0);
}

fn restarts(stage: &mut Stage) {
    for round in 0..3 {
        stage.start_both();
        if round == 0 {
            make(stage, 1);
        }
        stage.act(like(round, 1)).expect_code(0);
        stage.crowd(&crowd(1, 100 * (round + 1), 4));
        if round == 1 {
            Service::BOTH.into_iter().for_each(|service| stage.kill(service));
        } else {
            Service::BOTH.into_iter().for_each(|service| stage.stop(service));
        }
    }
    stage.start_both();
    stage.act(unlike(0, 1)).expect_code(0);
}

fn dead_runners(stage: &mut Stage) {
    stage.start_both();
    make(stage, 1);
    stage.act(like(1, 1)).expect_code(0);
    // A runner that takes a slot makes some ten changes before its saga begins.
    for (user, nth) in [(2, 9), (3, 11), (4, 13), (5, 14), (6, 15), (7, 16)] {
        stage.act_and_die(like(user, 1), nth);
    }
    stage.act(unlike(1, 1)).expect_code(0);
    stage.act_and_die(like(1, 1), 13);
    stage.run(&["recover"]);
    stage.act(like(8, 1)).expect_code(0);
}

fn killed(stage: &mut Stage) {
    stage.start_both();
    make(stage, 2);
    let mut crowd_ = stage.crowd_begins(&crowd(2, 30, 200));
    let lines = crowd_.lines();
    for _ in 0..30 {
        lines.recv().expect("the crowd is told something");
    }
    stage.kill(Service::User);
    stage.start(Service::User);
    for _ in 0..10 {
        lines.recv().expect("the crowd is told something");
    }
    crowd_.kill();
    stage.kill(Service::Article);
    stage.start(Service::Article);
    stage.run(&["recover"]);
    stage.run(&["audit"]);
    stage.act(like(5000, 1)).expect_code(0);
}

/// Between these changes of files a new runner takes its slot and begins its first sagas: where it stands there while a
/// daemon dies, some of them are given up that have said hello to that daemon and never send it anything.
const BEGINS: std::ops::Range<u64> = 7..12;

fn turned_back(stage: &mut Stage) {
    stage.start_both();
    make(stage, 2);
    stage.act(like(1, 1)).expect_code(0);
    for (round, nth) in (1..).zip(BEGINS) {
        for (first, service) in [(1000 * round, Service::Article), (1000 * round + 500, Service::User)] {
            let hasty = Crowd { timeout_ms: 150, undecided: 0, at_once: 3, ..crowd(1, first, 3) };
            stage.crowd_while_one_dies(&hasty, nth, service);
            stage.start(service);
        }
    }
    stage.act(like(2, 1)).expect_code(0);
}

fn log_segments(stage: &mut Stage) {
    stage.start_both();
    make(stage, 2);
    for round in 1..=2 {
        stage.crowd(&Crowd { segment_bytes: Some(4096), ..crowd(2, 100 * round, 12) });
    }
    stage.act(like(1, 1)).expect_code(0);
}

fn collection(stage: &mut Stage) {
    stage.start_both();
    make(stage, 2);
    for round in 1..4 {
        let hasty = Crowd { timeout_ms: 300, ..crowd(2, 100 * round, 30) };
        stage.crowd(&hasty);
        eventually("daemons that have forgotten what they may", || (stage.collectable() == 0).then_some(()));
    }
}

/// What sled writes its log in.
const SEGMENT_BYTES: u64 = 512 * 1024;

/// Likes that are taken back leave them full of what is no longer needed, so that
/// sled moves what is, and uses them again.
fn segments(stage: &mut Stage) {
    stage.start_both();
    make(stage, 4);
    for round in 1..=6 {
        let undecided = if round % 2 == 0 { 1 } else { 4 };
        stage.crowd(&Crowd { undecided, at_once: 64, timeout_ms: 1000, ..crowd(4, 1000 * round, 150) });
        eventually("daemons that have forgotten what they may", || (stage.collectable() == 0).then_some(()));
    }
    assert!(stage.log_bytes(Service::User) > 2 * SEGMENT_BYTES, "sled has begun more segments");
    Service::BOTH.into_iter().for_each(|service| stage.stop(service));
    stage.start_both();
    stage.crowd(&crowd(4, 50_000, 20));
}

fn worn(stage: &mut Stage) {
    for round in 0..2 {
        stage.start_both();
        stage.crowd(&crowd(4, 60_000 + 100 * round, 2));
        Service::BOTH.into_iter().for_each(|service| stage.kill(service));
        stage.start_both();
        Service::BOTH.into_iter().for_each(|service| stage.stop(service));
    }
    stage.start_both();
    stage.crowd(&crowd(4, 70_000, 2));
}
