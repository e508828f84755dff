//! The crash matrix: a process dies at every point that it passes, in every scenario, and whoever comes next makes it
//! good.
//!
//! * [`World`]: a domain as the matrix sees it: scenarios, processes, and what must hold, checked from outside.
//! * [`standing`]: what the saga log must say of a saga whose runner died at a point: the expectation, as a pure model.
//! * [`plan`]: which cases there are. Nothing is guessed: processes that pass a point leave a mark, and are counted.
//! * [`play`]: plays one case: kills, recovers, checks.
//! * [`likes`], [`wallet`]: the two worlds.

pub mod likes;
pub mod plan;
pub mod play;
pub mod standing;
pub mod wallet;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use like_protocol::failpoint::Failpoint;

use crate::process::{Armed, Ended, Fault};

/// How many cases are played at once, each in a world of its own.
const WORKERS: usize = 4;

/// A domain as the matrix sees it: daemons and a journal, and one stage in them on which a case is played.
pub trait World: Sized {
    /// What a victim is about to do.
    type Scenario: Copy + Debug + Send + Sync + 'static;
    /// One of its daemons.
    type Service: Copy + Debug + Send + Sync + 'static;
    /// All scenarios.
    const SCENARIOS: &'static [Self::Scenario];
    /// All daemons.
    const SERVICES: &'static [Self::Service];

    /// A world whose daemons run.
    fn open(program: &Path) -> Self;
    /// Where marks may be left.
    fn path(&self) -> &Path;
    /// Whether a rule turns the victim's saga back, so that it ends compensated if all goes well.
    fn turns_back(scenario: Self::Scenario) -> bool;
    /// Whether that takes a rival who is quicker: the victim is stopped meanwhile, once its beginning is durable.
    fn needs_rival(scenario: Self::Scenario) -> bool;

    /// Sets a stage: a journal and rows of its own, and whatever must have happened before.
    fn set(&mut self, scenario: Self::Scenario);
    /// The process that is to die.
    fn victim(&self) -> Command;
    /// Does what the victim wants to do, before it can. Ends well.
    fn beat_victim(&mut self);
    /// Another runner that comes along and finds the victim's slot.
    fn successor(&self) -> Command;
    /// The process that recovers.
    fn recovery(&self, mode: Mode) -> Command;
    /// Stops a daemon if it runs, and starts it anew with faults.
    fn restart(&mut self, service: Self::Service, faults: &[Fault]) -> Armed;
    /// Whether a daemon has ended by itself.
    fn has_died(&mut self, service: Self::Service) -> bool;
    /// How a daemon that has died ended.
    fn bury(&mut self, service: Self::Service) -> Ended;

    /// Every saga that stands in the stage's journal, and its state in likectl's words.
    fn sagas(&self) -> Vec<(Whose, String)>;
    /// Whether the victim was told, or told its caller, that what it wanted has happened.
    fn acknowledged(victim: &Ended) -> bool;
    /// Checks all rows from outside, given which of the sagas completed.
    fn check(&self, victim_completed: bool, successor_completed: bool);
    /// Goes on using what the victim used, and finds no lock left.
    fn use_again(&self, victim_completed: bool);
}

/// Whose a saga is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The process that was to die.
    Victim,
    /// The one that was quicker.
    Rival,
    /// The one that came along later.
    Successor,
}

/// How recovery is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `recover`.
    GoOn,
    /// `recover --resume`.
    Resume,
    /// `recover --compensate`.
    Compensate,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GoOn, Self::Resume, Self::Compensate];

    /// Its flag.
    pub const fn flag(self) -> &'static [&'static str] {
        match self {
            Self::GoOn => &[],
            Self::Resume => &["--resume"],
            Self::Compensate => &["--compensate"],
        }
    }
}

/// Who takes a dead runner's slot over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taker {
    /// Recovery.
    Recovery(Mode),
    /// A runner that has something of its own to do.
    Successor,
}

/// A passage of a point, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The point.
    pub point: Failpoint,
    /// The how-manieth passage of it.
    pub passage: u32,
}

/// One case of the matrix.
#[derive(Debug)]
pub enum Case<W: World> {
    /// A runner dies, and recovery finishes.
    Runner {
        /// What the runner is about to do.
        scenario: W::Scenario,
        /// Where it dies.
        at: At,
        /// How recovery is run.
        mode: Mode,
    },
    /// A runner dies, whoever takes over dies too, and recovery finishes.
    Takeover {
        /// What the first runner is about to do.
        scenario: W::Scenario,
        /// Where it dies.
        at: At,
        /// Who takes over.
        taker: Taker,
        /// Where that one dies.
        then: At,
        /// How recovery is run.
        mode: Mode,
    },
    /// A daemon dies under a runner and is restarted.
    Daemon {
        /// What the runner is about to do.
        scenario: W::Scenario,
        /// Which daemon.
        service: W::Service,
        /// Where it dies.
        at: At,
        /// Who finishes: the runner itself, or, as it is killed too, recovery.
        recovered: Option<Mode>,
    },
}

impl<W: World> Case<W> {
    /// Where the process dies that the case is about.
    pub fn point(&self) -> Failpoint {
        match self {
            Self::Runner { at, .. } | Self::Daemon { at, .. } => at.point,
            Self::Takeover { then, .. } => then.point,
        }
    }
}

/// Names the case in which a test fails.
struct Named<'a, W: World + Debug>(&'a Case<W>, &'a AtomicBool);

impl<W: World + Debug> Drop for Named<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1.store(true, Ordering::Relaxed);
            eprintln!("in {:?}", self.0);
        }
    }
}

/// Plans all cases of a world and plays them. `full` is the whole product, otherwise a covering part of it: every
/// passage of every point, with the modes of recovery in turn.
///
/// Returns the points at which a process has died.
///
/// # Panics
/// A promise is broken.
pub fn play_all<W: World + Debug>(program: &Path, full: bool) -> BTreeSet<&'static str> {
    let started = std::time::Instant::now();
    let cases = plan::cases::<W>(&mut W::open(program), full);
    let reached = cases.iter().map(|case| case.point().name()).collect();
    let total = cases.len();
    let count = |is: fn(&Case<W>) -> bool| cases.iter().filter(|case| is(case)).count();
    let runners = count(|case| matches!(case, Case::Runner { .. }));
    let takeovers = count(|case| matches!(case, Case::Takeover { .. }));
    let (missed, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let queue = Mutex::new(cases.into_iter());
    let next = || queue.lock().ok()?.next();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut world = W::open(program);
                while let Some(case) = next().filter(|_| !failed.load(Ordering::Relaxed)) {
                    let _named = Named(&case, &failed);
                    if !play::case(&mut world, &case) {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // Past the harness's capture: how much was tried is part of the result.
    let _ = writeln!(
        std::io::stderr(),
        "{}: {total} cases ({runners} runners, {takeovers} takeovers, {} daemons), {} not reached, {:.0} s",
        std::any::type_name::<W>(),
        total - runners - takeovers,
        missed.load(Ordering::Relaxed),
        started.elapsed().as_secs_f64(),
    );
    reached
}
