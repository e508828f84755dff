//! One simulation: a host whose processes are let run in turns, and what happens to them.

use std::sync::Arc;

use like_client::log::history;
use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::store::seal;

use super::faults::Flaw;
use super::process::{self, Kind, Process};
use super::workload::{self, Client};
use super::world::{Host, Life, Service, World, lock, sagas_named};
use super::{Report, daemon};

/// How long a round may take before it is ended.
const ROUND_MS_MAX: u64 = 60_000;

/// How long clients may go on when a round is over.
const LAST_ACTS_MS: u64 = 6_000;

/// How long everything may take to end once no faults happen any more: two slow retries of a stuck saga and the
/// longest timeout.
const QUIET_WITHIN_MS: u64 = 90_000;

/// How far ahead a deadline may lie, and some more.
const PAST_ALL_DEADLINES_MS: u64 = 3_700_000;

/// A simulation that is under way.
pub struct Simulation {
    pub(super) world: Arc<World>,
    pub(super) processes: Vec<Process>,
    pub(super) daemons_due_ms: [u64; 2],
    /// Whoever sends what was sent before.
    pub(super) ghost: Arc<Life>,
}

impl Simulation {
    /// Runs the simulation of a seed to its end.
    pub fn run(seed: u64, aloud: bool, flaw: Option<Flaw>) -> Report {
        let world = World::new(seed, aloud, flaw);
        world.say(0, || "the plan");
        if aloud {
            println!("{:#?}", world.plan);
        }
        let ghost = world.new_life("ghost");
        let mut simulation =
            Self { world: Arc::clone(&world), processes: Vec::new(), daemons_due_ms: [0; 2], ghost };
        simulation.set_up();
        for round in 0..world.plan.rounds {
            if world.failure().is_some() {
                break;
            }
            world.note(0, "round", round, 0);
            simulation.storm();
            simulation.heal();
        }
        simulation.collect();
        for process in &simulation.processes {
            world.kill(&process.host.life);
        }
        simulation.processes.clear();
        world.background.iter().for_each(|work| lock(work).clear());
        process::forget_panics();
        Report {
            failure: world.failure(),
            hash: world.trace.hash(),
            events: world.trace.events(),
            sagas: sagas_named(),
            simulated_ms: world.now_ms(),
            world,
        }
    }

    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        kind: Kind,
        main: impl FnOnce(Host) -> F,
    ) {
        self.processes.push(Process::start(&self.world, kind, main));
    }

    pub(super) fn count(&self, which: impl Fn(Kind) -> bool) -> usize {
        self.processes.iter().filter(|process| which(process.kind)).count()
    }

    /// Lets so much time pass for everybody, each in turn, in an order of chance.
    fn tick(&mut self, ms: u64) {
        let world = Arc::clone(&self.world);
        world.advance(ms);
        world.network.deliver(world.now_ms());
        self.supervise();
        let mut order: Vec<_> = (0..self.processes.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, world.below(at as u64 + 1) as usize);
        }
        for at in order {
            self.processes[at].tick();
            if world.power_fails() {
                return self.lose_power();
            }
        }
        self.bury();
    }

    /// Starts daemons that are not there.
    fn supervise(&mut self) {
        for role in Service::BOTH {
            let due = self.daemons_due_ms[role as usize] <= self.world.now_ms();
            if due && self.count(|kind| kind == Kind::Daemon(role)) == 0 {
                match role {
                    Service::Article => {
                        self.start(Kind::Daemon(role), |host| daemon::live(host, role, Articles));
                    }
                    Service::User => self.start(Kind::Daemon(role), |host| daemon::live(host, role, Users)),
                }
                self.strike_start();
            }
        }
    }

    /// Puts away the processes that are dead.
    fn bury(&mut self) {
        let world = &self.world;
        let (dead, alive) = std::mem::take(&mut self.processes)
            .into_iter()
            .partition::<Vec<_>, _>(|process| process.host.life.is_dead());
        self.processes = alive;
        for process in dead {
            let kind = process.kind;
            drop(process);
            if let Kind::Daemon(role) = kind {
                world.network.hush(world, role);
                world.cut_short(role);
                lock(&world.stores[role as usize]).lose(world, false);
                self.daemons_due_ms[role as usize] = world.now_ms() + 1 + world.below(300);
            }
        }
        process::forget_panics();
    }

    /// Runs a process in peace to its end.
    fn in_peace<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        what: &str,
        main: impl FnOnce(Host) -> F,
    ) {
        lock(&self.world.oracle).quiet = false;
        self.start(Kind::Reader, main);
        let until_ms = self.world.now_ms() + QUIET_WITHIN_MS;
        while !lock(&self.world.oracle).quiet && self.world.failure().is_none() {
            if self.world.now_ms() > until_ms {
                let open = self.open();
                return self.world.broken(format!("{what} is not done within {QUIET_WITHIN_MS} ms: {open}"));
            }
            self.tick(1);
        }
        // Whoever has done it ends.
        self.tick(1);
    }

    fn set_up(&mut self) {
        self.world.set_calm(true);
        self.in_peace("making the articles", workload::set_up);
    }

    /// Acts and faults, until all acts of the round have been asked for.
    fn storm(&mut self) {
        let world = Arc::clone(&self.world);
        lock(&world.oracle).begin_round(world.plan.acts);
        world.set_calm(false);
        let end_ms = world.now_ms() + ROUND_MS_MAX;
        let mut last_ms = end_ms;
        while world.failure().is_none() && world.now_ms() < last_ms {
            if lock(&world.oracle).round_is_over() {
                last_ms = last_ms.min(world.now_ms() + LAST_ACTS_MS);
                if self.count(|kind| matches!(kind, Kind::Runner | Kind::OneShot)) == 0 {
                    break;
                }
            } else {
                self.send_clients();
            }
            self.strike();
            self.tick(1);
        }
    }

    fn send_clients(&mut self) {
        let world = Arc::clone(&self.world);
        let runners = self.count(|kind| kind == Kind::Runner) as u64;
        if runners < world.plan.runners && world.percent(20) {
            let lifetime_ms = 50 + world.below(5000);
            self.start(Kind::Runner, |host| workload::serve(host, lifetime_ms));
        }
        if world.plan.one_shots > 0
            && world.below(1000) < world.plan.one_shots
            && self.count(|kind| kind == Kind::OneShot) < 5
        {
            self.start(Kind::OneShot, workload::act_once);
        }
    }

    /// No more faults: everything must end by itself, and every promise be kept.
    fn heal(&mut self) {
        let world = Arc::clone(&self.world);
        world.set_calm(true);
        lock(&world.disk).full_until_ms = 0;
        lock(&world.disk).fails_next = None;
        for store in &world.stores {
            lock(store).heal();
        }
        for process in &self.processes {
            process.host.life.light_fuse(0, None);
            process.host.life.stopped_until_ms.store(0, std::sync::atomic::Ordering::Relaxed);
            if !matches!(process.kind, Kind::Daemon(_)) {
                world.kill(&process.host.life);
            }
        }
        self.bury();
        self.in_peace("recovery", workload::recover_all);
        self.in_peace("the inspection", workload::inspect);
        if world.failure().is_none() {
            match self.told() {
                Ok(told) => lock(&world.oracle).judge(&world, &told),
                Err(e) => world.broken(format!("the logs can't be read in peace: {e}")),
            }
            self.nothing_is_left("an unsettled record", |_, value| {
                value.get(seal::SEAL_BYTES).is_none_or(|kind| kind & 0x80 == 0)
            });
        }
    }

    fn told(&self) -> Result<history::History, like_client::log::JournalError> {
        let reader = Host { world: Arc::clone(&self.world), life: self.world.new_life("judge") };
        history::read(&Client::new(&reader).journal()?)
    }

    /// What is open in the logs, for people.
    fn open(&self) -> String {
        match self.told() {
            Ok(told) => {
                let open = told.sagas.iter().filter(|(_, story)| story.is_open()).take(3);
                format!("{:?}", open.collect::<Vec<_>>())
            }
            Err(e) => e.to_string(),
        }
    }

    /// When all deadlines have passed, participants forget.
    fn collect(&mut self) {
        let world = Arc::clone(&self.world);
        if world.failure().is_some() {
            return;
        }
        for process in &self.processes {
            world.kill(&process.host.life);
        }
        self.bury();
        world.advance(PAST_ALL_DEADLINES_MS);
        (0..1500).for_each(|_| self.tick(1));
        self.nothing_is_left("a record that could be forgotten", |_, _| true);
        for (role, store) in Service::BOTH.iter().zip(&world.stores) {
            let is_at_rest = lock(&world.background[*role as usize]).is_empty();
            if let (true, Some(run)) = (is_at_rest, lock(store).base.nobodys()) {
                world.broken(format!("the {role:?} store keeps run {run}, which is in no list"));
            }
        }
    }

    fn nothing_is_left(&self, what: &str, is: impl Fn(&[u8], &[u8]) -> bool) {
        for (role, store) in Service::BOTH.iter().zip(&self.world.stores) {
            let store = lock(store);
            let left = store.rows().find(|(key, value)| key.first() == Some(&0x01) && is(key, value));
            if let Some((key, value)) = left {
                self.world.broken(format!("the {role:?} store still has {what}: {key:02x?} {value:02x?}"));
            }
        }
    }
}
