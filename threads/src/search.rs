//! A seed says what threads do, and seeds the schedulers under which they do it.

use std::ops::Range;
use std::panic::catch_unwind;

use clap::ValueEnum;
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler as TwiceEach,
};
use shuttle::{Config, FailurePersistence, Runner};

use crate::{log_world, store_world};

/// How many orders of its threads are tried of a seed, by each of two schedulers: one that chooses anew at every step, and one that
/// lets a thread go on until it waits, but for a few moments.
pub const ORDERS: usize = 10;

/// At how many moments, with the beginning, that one chooses who goes first.
const CHANGES: usize = 3;

/// What the stack of a thread holds at most.
const STACK_BYTES: usize = 256 * 1024;

/// What is searched.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    /// Threads that share a saga log.
    Log,
    /// A daemon's store, its checkpoints and its merges.
    Store,
}

impl World {
    /// The first of these seeds of which an order breaks a promise, or comes to a point where nobody can go on. It is said on
    /// standard error what happened.
    pub fn first_broken(self, seeds: Range<u64>) -> Option<u64> {
        seeds.into_iter().find(|seed| catch_unwind(|| self.try_orders(*seed)).is_err())
    }

    /// Whether all that happens follows from a seed, and from the choices of the scheduler.
    pub fn repeats(self, seed: u64) -> bool {
        catch_unwind(|| self.run(TwiceEach::new(RandomScheduler::new_from_seed(seed, ORDERS)), seed)).is_ok()
    }

    fn try_orders(self, seed: u64) {
        self.run(RandomScheduler::new_from_seed(seed, ORDERS), seed);
        self.run(PctScheduler::new_from_seed(seed, CHANGES, ORDERS), seed);
    }

    fn run(self, scheduler: impl Scheduler + 'static, seed: u64) {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        config.failure_persistence = FailurePersistence::None;
        // That it knows one order of memory for all threads is said in the documentation.
        config.silence_warnings = true;
        Runner::new(scheduler, config).run(move || match self {
            Self::Log => log_world::play(seed),
            Self::Store => store_world::play(seed),
        });
    }
}
