//! What all simulated processes of one host share: time, chance, disk, stores, network, and what has gone wrong.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use like_protocol::ids::{BootId, SagaId};
pub use like_protocol::likes::Service;
use like_protocol::time::{Clock, Now};

use super::disk::DiskState;
use super::faults::{Fault, Fired, Flaw};
use super::network::Network;
use super::oracle::Oracle;
use super::plan::Plan;
use super::store::StoreState;
use super::trace::Trace;
use crate::random::Random;

/// When every simulation begins, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// How many of a hundred processes that die at an operation take the whole host with them.
const POWER_FAILS_PERCENT: u64 = 15;

/// The operation by which names become durable.
pub const SYNCS_DIRECTORY: &str = "syncs directory";

/// The operation by which a store's commit log becomes durable.
pub const SYNCS_STORE: &str = "commits";

/// Work that is done step by step, until it says that there is no more, and what it is called.
pub type Background = (&'static str, Box<dyn FnMut() -> bool + Send>);

/// What a store calls merging its runs.
pub const MERGE: &str = "merge";

/// One host.
pub struct World {
    /// What it is like.
    pub plan: Plan,
    /// In what the host is not to be trusted.
    pub flaw: Option<Flaw>,
    /// What has happened.
    pub trace: Trace,
    /// Which faults had an effect.
    pub fired: Fired,
    /// The disk that the saga log is on.
    pub disk: Mutex<DiskState>,
    /// All connections.
    pub network: Network,
    /// The daemons' stores.
    pub stores: [Mutex<StoreState>; 2],
    /// What the daemons' stores have to do besides.
    pub background: [Mutex<Vec<Background>>; 2],
    /// What was promised to whom.
    pub oracle: Mutex<Oracle>,
    random: Mutex<Random>,
    now_ms: AtomicU64,
    boot: Mutex<Boot>,
    lives: Mutex<BTreeMap<u32, Arc<Life>>>,
    failure: Mutex<Option<String>>,
    calm: AtomicBool,
    power_fails: AtomicBool,
}

#[derive(Clone, Copy)]
struct Boot {
    number: u64,
    began_ms: u64,
}

/// One process: whether it lives, and how long still.
#[derive(Debug)]
pub struct Life {
    /// Its number.
    pub pid: u32,
    /// What it is.
    pub name: &'static str,
    dead: AtomicBool,
    /// Until when it is stopped.
    pub stopped_until_ms: AtomicU64,
    /// How many operations it has left, of which sort if not of any; 0 is without end.
    fuse: AtomicU64,
    fuse_at: Mutex<Option<&'static str>>,
}

impl Life {
    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// It will die at the operation of this number from now on, counted from 1; of one sort, or of any.
    pub fn light_fuse(&self, operations: u64, at: Option<&'static str>) {
        self.fuse.store(operations, Ordering::Relaxed);
        *lock(&self.fuse_at) = at;
    }

    /// Counts an operation; true if it is the last one.
    fn burns_down(&self, what: &str) -> bool {
        match self.fuse.load(Ordering::Relaxed) {
            0 => false,
            _ if lock(&self.fuse_at).is_some_and(|at| at != what) => false,
            left => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                left == 1
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process that was killed sees of its operations, for as long as its last step still runs.
fn killed() -> io::Error {
    io::Error::other("killed")
}

impl World {
    /// A daemon is gone, and with it what its store had to do besides.
    pub fn cut_short(&self, role: Service) {
        let left = std::mem::take(&mut *lock(&self.background[role as usize]));
        if left.iter().any(|(what, _)| *what == MERGE) {
            self.fault(Fault::MergeCutShort, 0);
        }
    }

    /// The world of a seed at its beginning.
    pub fn new(seed: u64, aloud: bool, flaw: Option<Flaw>) -> Arc<Self> {
        let mut random = Random::of(seed ^ 0x6c69_6b65_2073_6167);
        fastrand::seed(random.any());
        NAMES.set((random.any(), 0));
        let plan = Plan::draw(&mut random);
        Arc::new(Self {
            plan,
            flaw,
            trace: Trace::new(aloud),
            fired: Fired::default(),
            disk: Mutex::default(),
            network: Network::default(),
            stores: Default::default(),
            background: Default::default(),
            oracle: Mutex::default(),
            random: Mutex::new(random),
            now_ms: AtomicU64::new(1),
            boot: Mutex::new(Boot { number: 1, began_ms: 0 }),
            lives: Mutex::default(),
            failure: Mutex::default(),
            calm: AtomicBool::new(false),
            power_fails: AtomicBool::new(false),
        })
    }

    /// Milliseconds since the simulation began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Wall time.
    pub fn wall_ms(&self) -> u64 {
        EPOCH_MS + self.now_ms()
    }

    /// The boot clock.
    pub fn now(&self) -> Now {
        let boot = *lock(&self.boot);
        let mut id = [0xb0; 16];
        id[..8].copy_from_slice(&boot.number.to_be_bytes());
        Now { boot: BootId::from_bytes(id), at_ms: self.now_ms() - boot.began_ms }
    }

    /// Boots anew: another boot id, and a clock that begins anew.
    pub fn boot_anew(&self) {
        let mut boot = lock(&self.boot);
        boot.number += 1;
        boot.began_ms = self.now_ms().saturating_sub(self.below(50));
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        lock(&self.random).below(limit.max(1))
    }

    /// Whether the host has this flaw.
    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Whether something of so many percent happens.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Whether something that happens every so many milliseconds on average happens in this one; never for 0.
    pub fn happens(&self, every_ms: u64) -> bool {
        every_ms > 0 && self.below(every_ms) == 0
    }

    /// Notes what happened to a process.
    pub fn note(&self, pid: u32, what: &str, a: u64, b: u64) {
        self.trace.note(self.now_ms(), pid, what, a, b);
    }

    /// Says something to whoever reads the trace.
    pub fn say<T: Display + 'static>(&self, pid: u32, text: impl FnOnce() -> T) {
        self.trace.say(self.now_ms(), pid, || Box::new(text()));
    }

    /// Whether no faults happen any more.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Begins or ends the time without faults.
    pub fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// Counts a fault that has an effect now.
    pub fn fault(&self, fault: Fault, pid: u32) {
        self.fired.count(fault);
        self.say(pid, || format!("FAULT {fault:?}"));
    }

    /// A promise is broken: the first one found is what the simulation reports.
    pub fn broken(&self, what: impl Into<String>) {
        let what = what.into();
        self.say(0, {
            let what = what.clone();
            move || format!("BROKEN {what}")
        });
        lock(&self.failure).get_or_insert(what);
    }

    /// A service found its rows as its own rules can't have left them; after a forced end they may be so.
    pub fn said(&self, words: &str) {
        if lock(&self.oracle).forced == 0 {
            self.broken(words);
        }
    }

    /// The promise that was found broken first.
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// A new process.
    pub fn new_life(&self, name: &'static str) -> Arc<Life> {
        let mut lives = lock(&self.lives);
        let pid = lives.keys().next_back().map_or(1, |last| last + 1);
        let life = Arc::new(Life {
            pid,
            name,
            dead: AtomicBool::new(false),
            stopped_until_ms: AtomicU64::new(0),
            fuse: AtomicU64::new(0),
            fuse_at: Mutex::default(),
        });
        lives.insert(pid, Arc::clone(&life));
        life
    }

    /// The process of a number.
    pub fn life(&self, pid: u32) -> Option<Arc<Life>> {
        lock(&self.lives).get(&pid).cloned()
    }

    /// The process is dead from now on: nothing that it still does has any effect. Its locks are free.
    pub fn kill(&self, life: &Life) {
        if !life.dead.swap(true, Ordering::Relaxed) {
            self.note(life.pid, "dies", 0, 0);
            lock(&self.disk).release_all_of(life.pid);
        }
    }

    /// Whether the power has failed at an operation, which nobody has dealt with yet.
    pub fn power_fails(&self) -> bool {
        self.power_fails.swap(false, Ordering::Relaxed)
    }

    /// One operation of a process on its world: it may be the one at which the process dies, or at which all do for want
    /// of power, before or after it took effect.
    ///
    /// # Errors
    /// The operation's own, or the process is dead.
    pub fn operate<T>(
        &self,
        life: &Life,
        what: &str,
        effect: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if life.is_dead() {
            return Err(killed());
        }
        if !life.burns_down(what) {
            return effect();
        }
        let fails_percent = match what {
            // Names are unsynced only for an instant: there the power fails more often.
            SYNCS_DIRECTORY => 80,
            // What a participant has just made durable may rest on something in the log that is not.
            SYNCS_STORE => 50,
            _ => POWER_FAILS_PERCENT,
        };
        let (after, all) = (self.percent(50), self.percent(fails_percent));
        let fault = if all { Fault::PowerLostAtOperation } else { Fault::KilledAtOperation };
        self.fault(fault, life.pid);
        self.note(life.pid, what, u64::from(after), u64::from(all));
        let result = if after { effect() } else { Err(killed()) };
        if all {
            self.power_fails.store(true, Ordering::Relaxed);
            let everybody: Vec<_> = lock(&self.lives).values().cloned().collect();
            everybody.iter().for_each(|life| self.kill(life));
        } else {
            self.kill(life);
        }
        result
    }
}

/// A process and its world.
#[derive(Clone)]
pub struct Host {
    /// The world.
    pub world: Arc<World>,
    /// The process.
    pub life: Arc<Life>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.life.name, self.life.pid)
    }
}

impl Clock for Host {
    fn now(&self) -> Now {
        self.world.now()
    }
}

thread_local! {
    /// What ids of sagas are drawn from: a number of the seed, and a count.
    static NAMES: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Names a new saga of the simulation that runs in this thread.
pub fn new_saga() -> SagaId {
    let (seed, count) = NAMES.get();
    NAMES.set((seed, count + 1));
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(EPOCH_MS + count).to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&Random::of(seed ^ count).any().to_be_bytes());
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    SagaId::from_bytes(bytes)
}

/// How many sagas have been named in this thread's simulation.
pub fn sagas_named() -> u64 {
    NAMES.get().1
}
