//! A short run of the simulation. `cargo simulate` makes long ones.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use like_tests::sim::faults::{Fault, Fired};
use like_tests::sim::simulate;

/// So many seeds take some seconds where nothing is optimised.
const SEEDS: u64 = 14;

#[test]
fn a_short_run_keeps_every_promise() {
    let (next, sagas, fired) = (AtomicU64::new(1), AtomicU64::new(0), Fired::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    let report = simulate(seed, false);
                    assert_eq!(report.failure, None, "cargo simulate --seed {seed}");
                    sagas.fetch_add(report.sagas, Ordering::Relaxed);
                    fired.add(&report.world.fired);
                }
            });
        }
    });
    assert!(sagas.into_inner() > 20 * SEEDS, "too little happens");
    for fault in [
        Fault::ClientKilled,
        Fault::DaemonKilled,
        Fault::KilledAtOperation,
        Fault::PowerLost,
        Fault::Stopped,
        Fault::ConnectionCut,
        Fault::RequestsReplayed,
        Fault::LogTorn,
    ] {
        assert!(fired.of(fault) > 0, "{fault:?} never happened");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=3 {
        let [first, second] = [(); 2].map(|()| simulate(seed, false));
        assert!(first.events > 1000, "{} events", first.events);
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        let other = simulate(seed + 1, false);
        assert_ne!(first.hash, other.hash, "seeds {seed} and {}", seed + 1);
    }
}
