//! A short run of the simulation. `cargo simulate` makes long ones.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use like_tests::sim::faults::{Chore, Fault, Fired, Flaw};
use like_tests::sim::{simulate, simulate_flawed};

/// So many seeds take some seconds where nothing is optimised.
const SEEDS: u64 = 10;

/// So many are tried at most until a host's flaw shows.
const FLAWED_SEEDS: u64 = 10;

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
        Fault::StoreTorn,
        Fault::StoreNameBack,
        Fault::CheckpointCutShort,
        Fault::MergeCutShort,
        Fault::RunCutShort,
    ] {
        assert!(fired.of(fault) > 0, "{fault:?} never happened");
    }
    for chore in Chore::ALL {
        assert!(fired.done(chore) > SEEDS, "{chore:?} hardly ever happened");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let mut hashes = BTreeSet::new();
    for seed in 1..=2 {
        let [first, second] = [(); 2].map(|()| simulate(seed, false));
        assert!(first.events > 1000, "{} events", first.events);
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(hashes.insert(first.hash), "seed {seed} is like another");
    }
}

/// Where the host itself breaks what all rests on, promises are broken: an oracle that says nothing then sees nothing.
#[test]
fn the_oracle_notices_a_host_that_lies() {
    for flaw in Flaw::ALL {
        let found = (1..=FLAWED_SEEDS).find_map(|seed| simulate_flawed(seed, flaw).failure);
        assert!(found.is_some(), "{flaw:?} is noticed in none of {FLAWED_SEEDS} seeds");
    }
}
