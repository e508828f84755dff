//! What a store with many likes in it costs: speed against an empty one, disk, memory, and the time of a start.

use std::process::Stdio;
use std::time::{Duration, Instant};

use like_protocol::likes::{ARTICLE_ROLE, USER_ROLE};

use crate::moments::status_mib;
use crate::sides::{House, Targets};
use crate::turn::Turn;
use crate::{Effort, Programs, progress};

/// How many sagas are in flight.
const IN_FLIGHT: usize = 64;

/// What was found.
#[derive(Clone, Debug)]
pub struct Large {
    /// How many likes are in the large store.
    pub likes: u64,
    /// In how long it was filled.
    pub fill_seconds: f64,
    /// Rates of the large store against the empty one, a figure for each round.
    pub rates: Vec<f64>,
    /// Disk of the article and of the user store, in bytes for a like.
    pub disk_per_like: [f64; 2],
    /// In how long the article and the user daemon answer when they were killed and are started again.
    pub restart_seconds: [f64; 2],
    /// In how long an audit has read everything.
    pub scan_seconds: f64,
    /// Resident memory of the user daemon: after the turns, after its start, and after the audit.
    pub user_mib: [f64; 3],
    /// The most that it held.
    pub user_peak_mib: f64,
}

/// Fills a store, and looks at it beside an empty one.
pub fn large(programs: &Programs, effort: &Effort) -> Large {
    let likes = effort.likes;
    let targets = Targets::scattered(likes);
    progress(&format!("large: a store of {likes} likes is filled"));
    let began = Instant::now();
    let mut full = House::with_likes(programs, targets, likes);
    let fill_seconds = began.elapsed().as_secs_f64();
    let mut empty = House::with_likes(programs, targets, 0);
    let rates = (0..effort.rounds).map(|round| {
        progress(&format!("large: round {} of {}", round + 1, effort.rounds));
        let rate = |house: &mut House| Turn::per_second(&house.sagas(IN_FLIGHT, effort.turn));
        let (of_empty, of_full) = (rate(&mut empty), rate(&mut full));
        of_full / of_empty
    });
    let rates = rates.collect();
    drop(empty);
    let [_, user] = full.pids();
    let after_turns = status_mib(user, "VmRSS").expect("a daemon");
    let peak_of_turns = status_mib(user, "VmHWM").expect("a daemon");
    progress("large: restarts");
    let restart_seconds = [ARTICLE_ROLE, USER_ROLE].map(|role| full.restart(role).as_secs_f64());
    let stored = full.counted();
    let disk_per_like = [ARTICLE_ROLE, USER_ROLE].map(|role| full.disk_bytes(role) as f64 / stored as f64);
    let [_, user] = full.pids();
    let after_start = status_mib(user, "VmRSS").expect("a daemon");
    progress("large: an audit reads everything");
    let scan_seconds = audit(&full).as_secs_f64();
    let user_mib = [after_turns, after_start, status_mib(user, "VmRSS").expect("a daemon")];
    let user_peak_mib = status_mib(user, "VmHWM").expect("a daemon").max(peak_of_turns);
    Large {
        likes,
        fill_seconds,
        rates,
        disk_per_like,
        restart_seconds,
        scan_seconds,
        user_mib,
        user_peak_mib,
    }
}

fn audit(house: &House) -> Duration {
    let began = Instant::now();
    let audit = house.likectl("journal", &["--timeout", "1m", "audit"]).stderr(Stdio::inherit()).output();
    let audit = audit.expect("an audit");
    assert!(audit.status.success(), "drift: {}", String::from_utf8_lossy(&audit.stdout));
    began.elapsed()
}
