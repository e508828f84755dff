//! Searches seeds for one whose simulation breaks a promise, or replays one aloud.

// Bad arguments end it with a message.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use like_tests::sim::faults::{Chore, Fault, Fired};
use like_tests::sim::simulate;

/// Simulates the whole system, one host for every seed, and checks every promise.
#[derive(Parser)]
#[command(name = "cargo simulate")]
struct Arguments {
    /// How many seeds to try.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// How many at a time [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Replays one seed, and prints what happens.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
}

/// With so many seeds, every kind of fault must have had an effect.
const SEEDS_FOR_ALL_FAULTS: u64 = 500;

#[derive(Default)]
struct Search {
    next: AtomicU64,
    done: AtomicU64,
    sagas: AtomicU64,
    events: AtomicU64,
    simulated_ms: AtomicU64,
    fired: Fired,
    failed: Mutex<BTreeMap<u64, String>>,
    stop: AtomicBool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => replay(seed),
        None => search(&arguments),
    }
}

fn replay(seed: u64) -> ExitCode {
    let report = simulate(seed, true);
    println!("trace {:016x} of {} events, {} sagas", report.hash, report.events, report.sagas);
    match report.failure {
        Some(failure) => {
            println!("BROKEN: {failure}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn search(arguments: &Arguments) -> ExitCode {
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let search = Search::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..jobs).map(|_| scope.spawn(|| work(&search, arguments.start, arguments.seeds))).collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(200));
            if std::io::stderr().is_terminal() {
                eprint!("\r{}", search.summary(arguments.seeds, began));
            }
            let _ = std::io::stderr().flush();
        }
    });
    eprintln!();
    search.report(arguments, began)
}

fn work(search: &Search, start: u64, seeds: u64) {
    loop {
        let number = search.next.fetch_add(1, Ordering::Relaxed);
        if number >= seeds || search.stop.load(Ordering::Relaxed) {
            return;
        }
        let seed = start + number;
        let report = simulate(seed, false);
        search.done.fetch_add(1, Ordering::Relaxed);
        search.sagas.fetch_add(report.sagas, Ordering::Relaxed);
        search.events.fetch_add(report.events, Ordering::Relaxed);
        search.simulated_ms.fetch_add(report.simulated_ms, Ordering::Relaxed);
        search.fired.add(&report.world.fired);
        if let Some(failure) = report.failure {
            let mut failed = search.failed.lock().expect("no worker panics");
            failed.insert(seed, failure);
            search.stop.store(failed.len() >= 10, Ordering::Relaxed);
        }
    }
}

impl Search {
    fn summary(&self, seeds: u64, began: Instant) -> String {
        let (done, sagas) = (self.done.load(Ordering::Relaxed), self.sagas.load(Ordering::Relaxed));
        let seconds = began.elapsed().as_secs_f64();
        let failed = self.failed.lock().expect("no worker panics").len();
        format!(
            "{done} of {seeds} seeds, {sagas} sagas, {:.0} a second, {seconds:.0} s, {failed} failed",
            sagas as f64 / seconds
        )
    }

    fn report(&self, arguments: &Arguments, began: Instant) -> ExitCode {
        println!("{}", self.summary(arguments.seeds, began));
        println!(
            "{} events in {} s of simulated time",
            self.events.load(Ordering::Relaxed),
            self.simulated_ms.load(Ordering::Relaxed) / 1000
        );
        for chore in Chore::ALL {
            println!("  {:>10}  {chore:?}", self.fired.done(chore));
        }
        for fault in Fault::ALL {
            println!("  {:>10}  {fault:?}", self.fired.of(fault));
        }
        let failed = self.failed.lock().expect("no worker panics");
        for (seed, failure) in failed.iter() {
            println!("\nseed {seed}: {failure}\n  cargo simulate --seed {seed}");
        }
        let faults = Fault::ALL.into_iter().filter(|fault| self.fired.of(*fault) == 0);
        let chores = Chore::ALL.into_iter().filter(|chore| self.fired.done(*chore) == 0);
        let never: Vec<_> = faults
            .map(|fault| format!("{fault:?}"))
            .chain(chores.map(|chore| format!("{chore:?}")))
            .collect();
        let too_few = self.done.load(Ordering::Relaxed) >= SEEDS_FOR_ALL_FAULTS && !never.is_empty();
        if too_few {
            println!("\nnever happened: {}", never.join(", "));
        }
        if failed.is_empty() && !too_few { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
