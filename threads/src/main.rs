//! Searches seeds for one of which some order of threads breaks a promise.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use like_threads::search::{ORDERS, World};

/// Tries many orders in which the threads of one process may go on, and checks every promise.
#[derive(Parser)]
#[command(name = "cargo threads")]
struct Arguments {
    /// What is searched.
    #[arg(long, value_enum)]
    world: World,
    /// How many seeds to try.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Tries this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let Arguments { world, seeds, start, seed } = Arguments::parse();
    let (first, end) = seed.map_or((start, start + seeds), |seed| (seed, seed + 1));
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let work = || {
        let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end);
        // Whoever finds one ends the search for all.
        let found = std::iter::from_fn(mine).find_map(|seed| world.first_broken(seed..seed + 1));
        found.inspect(|_| next.store(end, Ordering::Relaxed))
    };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect()
    });
    for seed in &found {
        println!(
            "BROKEN: cargo threads --world {} --seed {seed}",
            if world == World::Log { "log" } else { "store" }
        );
    }
    if !found.is_empty() {
        return ExitCode::FAILURE;
    }
    let orders = 2 * ORDERS as u64 * (end - first);
    println!("{} seeds, {orders} orders, {:.0} s, none broken", end - first, began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
