//! A short search of the states that a power loss may leave. `cargo power-loss` searches longer.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::path::Path;

use like_tests::power::disk::{Disk, Fate};
use like_tests::power::losses::losses;
use like_tests::power::record::{self, Entry};
use like_tests::power::search::Search;
use like_tests::power::tree::Tree;
use like_tests::power::workloads::{self, Workload};
use like_tests::power::{bulk, faults};
use like_tests::process::{Ended, program};
use like_tests::quick::quick_directory;
use like_tests::random::Random;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-recorded");

/// How many states are restarted on: some hundreds take half a minute in a debug build.
const STATES: usize = 400;

#[test]
fn nothing_acknowledged_is_lost_in_some_hundred_states_that_a_power_loss_may_leave() {
    let short: Vec<Workload> = workloads::ALL.iter().filter(|workload| !workload.is_long).copied().collect();
    let keep = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-loss");
    let report = Search::new(Path::new(PROGRAM), 7, &keep, Box::new(|_| ())).run(&short, STATES);
    println!("{report}");
    assert!(report.findings().next().is_none(), "{report}");
    assert!(report.states() >= STATES / 2, "{report}");
}

/// How many groups are written, each of some megabytes of sled's log.
const GROUPS: u32 = 5;

/// At every how many changes the power is cut.
const CUT_EVERY: usize = 9;

#[test]
fn a_group_of_many_batches_costs_earlier_groups_nothing() {
    let home = quick_directory();
    let (world, kept) = (home.path().join("world"), home.path().join("record"));
    std::fs::create_dir(&world).expect("a directory");
    let (nothing, inodes) = Tree::read(&world).expect("a directory");
    let mut command = program(Path::new(PROGRAM), "bulk");
    command.arg(world.join("data")).arg(GROUPS.to_string());
    faults::record(&mut command, &world, &kept, "bulk");
    Ended::of(&mut command).expect_code(0);
    let (mut random, mut disk) = (Random::of(3), Disk::of(&world, &nothing, &inodes));
    let (mut told, mut changes, mut states) = (0, 0, 0);
    for entry in record::read(&kept).expect("a record") {
        if let Entry::Told { as_error: false, .. } = entry {
            told += 1;
        }
        changes += usize::from(disk.apply(&entry));
        if !changes.is_multiple_of(CUT_EVERY) || told == 0 {
            continue;
        }
        let open = disk.open();
        let mut chosen = Random::of(random.any());
        for (loss, fates) in losses(&open, &mut chosen).skip(random.below(9) as usize).take(1) {
            let tree = disk.after(&|moment| fates.get(&moment).copied().unwrap_or(Fate::Lost));
            let state = quick_directory();
            tree.write(state.path()).expect("a state");
            let checked = bulk::check(&state.path().join("data"), told);
            checked.unwrap_or_else(|why| panic!("{loss:?} after group {told}: {why}"));
            states += 1;
        }
    }
    assert_eq!(told, GROUPS);
    assert!(states > 20, "{states}");
}
