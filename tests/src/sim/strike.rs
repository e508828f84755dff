//! When faults strike, and what they do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use like_client::runner::Order;

use super::disk::Failing;
use super::faults::Fault;
use super::process::Kind;
use super::simulation::Simulation;
use super::store::StoreFailing;
use super::workload;
use super::world::{Host, SYNCS_DIRECTORY, SYNCS_STORE, Service, lock};

/// How many operations a process that is to die at one has left at most.
const FUSE_MAX: u64 = 80;

/// How many of one sort, if it is to die at such a one.
const AIMED_FUSE_MAX: u64 = 3;

/// How many of a hundred daemons die at one of their first operations, which open the store, and how many those are.
const STARTS_CUT_PERCENT: u64 = 15;
const START_OPERATIONS: u64 = 8;

/// Operations that are rare, or after which everything may be different.
const CLIENT_AIMS: &[&str] = &["creates", "writes", "syncs", SYNCS_DIRECTORY, "removes", "send"];
const DAEMON_AIMS: &[&str] = &[
    "writes file",
    SYNCS_STORE,
    "send",
    "creates file",
    "syncs file",
    SYNCS_DIRECTORY,
    "renames file",
    "removes file",
    "feeds base",
    "syncs base",
];

impl Simulation {
    /// What goes wrong in this millisecond.
    pub(super) fn strike(&mut self) {
        let world = Arc::clone(&self.world);
        let every = world.plan.every_ms;
        if world.happens(every.power_lost) {
            world.fault(Fault::PowerLost, 0);
            return self.lose_power();
        }
        if world.happens(every.client_killed) {
            self.kill_one(|kind| !matches!(kind, Kind::Daemon(_)));
        }
        if world.happens(every.daemon_killed) {
            self.kill_one(|kind| matches!(kind, Kind::Daemon(_)));
        }
        if world.happens(every.fuse)
            && let Some(at) = self.any_process(|_| true)
        {
            let process = &self.processes[at];
            let aims = if let Kind::Daemon(_) = process.kind { DAEMON_AIMS } else { CLIENT_AIMS };
            match world.percent(50) {
                true => {
                    let aim = aims[world.below(aims.len() as u64) as usize];
                    process.host.life.light_fuse(1 + world.below(AIMED_FUSE_MAX), Some(aim));
                }
                false => process.host.life.light_fuse(1 + world.below(FUSE_MAX), None),
            }
        }
        if world.happens(every.stopped)
            && let Some(at) = self.any_process(|_| true)
        {
            let life = &self.processes[at].host.life;
            let for_ms = [50, 500, 6000][world.below(3) as usize];
            life.stopped_until_ms.store(world.now_ms() + 1 + world.below(for_ms), Ordering::Relaxed);
            world.fault(Fault::Stopped, life.pid);
        }
        if world.happens(every.cut) {
            world.network.cut(&world);
        }
        if world.happens(every.replayed) {
            let life = world.life(0).unwrap_or_else(|| Arc::clone(&self.ghost));
            world.network.replay(&world, &Host { world: Arc::clone(&world), life });
        }
        self.strike_disks();
        self.send_others();
    }

    /// A daemon that was just started may die while it opens its store.
    pub(super) fn strike_start(&mut self) {
        let world = &self.world;
        let strikes = world.plan.every_ms.fuse > 0 && !world.is_calm() && world.percent(STARTS_CUT_PERCENT);
        if let Some(started) = self.processes.last().filter(|_| strikes) {
            started.host.life.light_fuse(1 + world.below(START_OPERATIONS), None);
        }
    }

    fn strike_disks(&mut self) {
        let world = &self.world;
        let every = world.plan.every_ms;
        if world.happens(every.disk_full) {
            lock(&world.disk).full_until_ms = world.now_ms() + 1 + world.below(400);
        }
        if world.happens(every.disk_fails) {
            let how = [Failing::Sync, Failing::Read, Failing::Short][world.below(3) as usize];
            lock(&world.disk).fails_next = Some(how);
        }
        if world.happens(every.store_fails) {
            let how = if world.percent(50) { StoreFailing::Write } else { StoreFailing::Sync };
            let mut store = lock(&world.stores[world.below(2) as usize]);
            if world.percent(70) {
                store.files.fails_next = Some(how)
            } else {
                store.base.fails_next = Some(how)
            }
        }
        if world.happens(every.storage_low) {
            let until_ms = world.now_ms() + 1 + world.below(500);
            let mut store = lock(&world.stores[world.below(2) as usize]);
            store.low_until_ms = until_ms;
            store.files.full_until_ms = if world.percent(30) { until_ms } else { 0 };
        }
    }

    /// Recovery, operators and readers come along.
    fn send_others(&mut self) {
        let world = Arc::clone(&self.world);
        let every = world.plan.every_ms;
        if world.happens(every.recovery) && self.count(|kind| kind == Kind::Recovery) < 2 {
            let wait_ms = world.below(3000);
            let order = match world.below(if world.plan.operators { 8 } else { 1 }) {
                6 => Order::Resume { timeout: std::time::Duration::from_millis(1 + world.below(3000)) },
                7 => Order::Compensate,
                _ => Order::GoOn,
            };
            self.start(Kind::Recovery, |host| workload::recover_once(host, order, wait_ms));
        }
        if world.plan.operators && world.happens(every.operator) {
            self.start(Kind::Operator, workload::administrate);
        }
        if world.happens(every.reader) {
            self.start(Kind::Reader, workload::read);
        }
    }

    fn kill_one(&mut self, which: impl Fn(Kind) -> bool) {
        let Some(at) = self.any_process(which) else { return };
        let process = &self.processes[at];
        let fault = match process.kind {
            Kind::Daemon(_) => Fault::DaemonKilled,
            Kind::Recovery | Kind::Operator => Fault::RecoveryKilled,
            _ => Fault::ClientKilled,
        };
        self.world.fault(fault, process.host.life.pid);
        self.world.kill(&process.host.life);
    }

    fn any_process(&self, which: impl Fn(Kind) -> bool) -> Option<usize> {
        let candidates = self.processes.iter().enumerate().filter(|(_, process)| which(process.kind));
        let candidates: Vec<_> = candidates.map(|(at, _)| at).collect();
        let drawn = self.world.below(candidates.len() as u64) as usize;
        candidates.get(drawn).copied()
    }

    /// Everybody dies, what was not synced is what chance leaves of it, and the host boots anew.
    pub(super) fn lose_power(&mut self) {
        let world = Arc::clone(&self.world);
        for process in &self.processes {
            world.kill(&process.host.life);
        }
        self.processes.clear();
        world.network.lose_power();
        for role in Service::BOTH {
            world.cut_short(role);
            lock(&world.stores[role as usize]).lose(&world, true);
        }
        lock(&world.disk).lose_power(&world);
        world.advance(1 + world.below(1000));
        world.boot_anew();
        self.daemons_due_ms = [(); 2].map(|()| world.now_ms() + world.below(60));
        world.note(0, "boots", world.now().at_ms, 0);
    }
}
