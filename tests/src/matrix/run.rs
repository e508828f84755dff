//! Plays many cases, several at a time, each in a world of its own.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::World;
use super::case::Case;
use super::plan::{self, Cover, Looked};
use super::play;
use super::table::Table;
use crate::random::Random;

/// After so many cases a world is closed, for a last look at all it holds, and a new one opened.
const CASES_OF_A_WORLD: u32 = 60;

/// How many cases are played at once. Most of them wait for a deadline.
pub const WORKERS: usize = 12;

/// The parts of a full product are dealt by this seed: each is a fair sample of the whole.
const DEALT_BY: u64 = 1;

/// What is to be played.
#[derive(Clone, Debug)]
pub enum Extent {
    /// The whole product, or the `part`-th of `of` parts of it (counted from 1), and nothing whose name lacks `only`.
    Full {
        /// Which part.
        part: usize,
        /// Of how many.
        of: usize,
        /// What a name must contain.
        only: String,
    },
    /// A covering part, second crashes pairwise.
    Covering(Cover),
}

/// What is being played.
struct Work<W: World> {
    queue: VecDeque<Case<W>>,
    under_way: usize,
    /// First faults that are to be played with everything that may follow.
    firsts: usize,
    firsts_done: usize,
    table: Table,
    looked: Vec<Looked<W>>,
    failed: bool,
}

struct Run<'a, W: World> {
    program: &'a Path,
    extent: &'a Extent,
    started: Instant,
    work: Mutex<Work<W>>,
    changed: Condvar,
}

/// Plans and plays.
///
/// # Panics
/// A promise is broken.
pub fn play_all<W: World + Send>(program: &Path, extent: &Extent, workers: usize) -> Table {
    let mut world = W::open(program);
    let grounds = plan::survey(&mut world);
    drop(world);
    let cases = match extent {
        Extent::Full { part, of, .. } => {
            let mut all = plan::product(&grounds);
            shuffle(&mut all);
            let mine = all.into_iter().enumerate().filter(|(number, _)| number % of == part - 1);
            mine.map(|(_, case)| case).filter(|case| may_be_named(case, extent)).collect()
        }
        Extent::Covering(cover) => plan::covering(&grounds, *cover),
    };
    let work = Work {
        firsts: cases.len(),
        queue: cases.into(),
        under_way: 0,
        firsts_done: 0,
        table: Table::default(),
        looked: Vec::new(),
        failed: false,
    };
    let run =
        Run { program, extent, started: Instant::now(), work: Mutex::new(work), changed: Condvar::new() };
    run.play(workers);
    if let Extent::Covering(cover) = extent {
        let mut work = run.work();
        let seconds = plan::pairwise(&work.looked, *cover);
        work.queue.extend(seconds);
        drop(work);
        run.play(workers);
    }
    run.told(true);
    run.work().table.clone()
}

fn shuffle<T>(all: &mut [T]) {
    let mut random = Random::of(DEALT_BY);
    for last in (1..all.len()).rev() {
        all.swap(last, random.below(last as u64 + 1) as usize);
    }
}

/// Whether a case, or one that follows from it, has the name that is wanted.
fn may_be_named<W: World>(case: &Case<W>, extent: &Extent) -> bool {
    let Extent::Full { only, .. } = extent else { return true };
    let name = case.name();
    let stem = name.trim_end_matches("none");
    name.contains(only.as_str()) || only.starts_with(stem)
}

impl<W: World + Send> Run<'_, W> {
    fn work(&self) -> MutexGuard<'_, Work<W>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn play(&self, workers: usize) {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..workers).map(|_| scope.spawn(|| self.work_on())).collect();
            for worker in all {
                if let Err(panicked) = worker.join() {
                    std::panic::resume_unwind(panicked);
                }
            }
        });
    }

    fn work_on(&self) {
        let mut world = None;
        let mut played = 0;
        while let Some(case) = self.next() {
            let started = Instant::now();
            let named = Named(self, &case);
            let stage = world.get_or_insert_with(|| W::open(self.program));
            let came = play::case(stage, &case);
            played += 1;
            if played % CASES_OF_A_WORLD == 0 {
                stage.close();
                world = None;
            }
            drop(named);
            self.done(case, came, started.elapsed());
        }
        if let Some(world) = world {
            world.close();
        }
    }

    /// The next case, as soon as there is one; none if there will be none.
    fn next(&self) -> Option<Case<W>> {
        let mut work = self.work();
        loop {
            if work.failed {
                return None;
            }
            if let Some(case) = work.queue.pop_front() {
                work.under_way += 1;
                return Some(case);
            }
            if work.under_way == 0 {
                return None;
            }
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, case: Case<W>, played: play::Played<W::Service>, took: Duration) {
        let mut work = self.work();
        work.under_way -= 1;
        work.table.add(&case, &played, took);
        if case.second.is_none() {
            work.firsts_done += 1;
            if let Extent::Full { only, .. } = self.extent {
                let seconds = played.passages.iter().map(|second| case.then(*second));
                // What belongs to a first fault is played before the next one.
                seconds
                    .filter(|case| case.name().contains(only.as_str()))
                    .for_each(|case| work.queue.push_front(case));
            } else {
                work.looked.push((case, played.passages));
            }
        }
        drop(work);
        self.changed.notify_all();
        self.told(false);
    }

    /// Shows how far it is: always at the end, otherwise on a terminal, or now and then.
    fn told(&self, at_the_end: bool) {
        let work = self.work();
        let cases = work.table.cases();
        let terminal = std::io::stderr().is_terminal();
        if !at_the_end && !terminal && !cases.is_multiple_of(1000) {
            return;
        }
        let (start, end) = if terminal && !at_the_end { ("\r", "") } else { ("", "\n") };
        let left = work.queue.len() + work.under_way;
        let _ = write!(
            std::io::stderr(),
            "{start}{}: {cases} cases, {left} to come so far; {}/{} first faults; {:.0} s{end}",
            W::NAME,
            work.firsts_done,
            work.firsts,
            self.started.elapsed().as_secs_f64(),
        );
    }
}

/// Names the case in which a test fails, and lets the others end.
struct Named<'a, 'b, W: World + Send>(&'a Run<'b, W>, &'a Case<W>);

impl<W: World + Send> Drop for Named<'_, '_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\nin {}", self.1.name());
            self.0.work().failed = true;
            self.0.changed.notify_all();
        }
    }
}
