//! Deterministic simulation of the whole system from one seed.
//!
//! The real engine, saga log, participants, commit writer, sessions, codec, connections and like sagas, with their checks,
//! keys and audit, run on one thread; only clock, network, disks and sled are replaced. Every process has a runtime of its
//! own whose clock stands still between the ticks of the host, so a kill drops it at any await.
//!
//! * [`plan`]: what a seed's world is like. [`simulation`]: its course. [`strike`]: when faults strike.
//! * [`world`]: time, chance and death. [`process`]: a process. [`faults`], [`trace`], `ear`: what happened.
//! * [`network`], [`disk`], [`store_disk`], [`store_base`]: what is replaced, with what a power loss leaves of it.
//!   [`store`]: the real store on these, and what it must hold.
//! * [`daemon`], [`workload`]: what processes do.
//! * [`oracle`]: what was promised to whom, and whether it is so. `watch`: whether what is sent may be sent.
//! * `found`: the disk as a crash would leave it.

mod content;
pub mod daemon;
pub mod disk;
mod ear;
pub mod faults;
mod found;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod simulation;
pub mod store;
pub mod store_base;
pub mod store_disk;
pub mod strike;
pub mod trace;
mod watch;
pub mod workload;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use faults::Flaw;
use simulation::Simulation;
use world::World;

/// What came of one seed.
pub struct Report {
    /// The promise that was broken, if one was.
    pub failure: Option<String>,
    /// Stands for everything that happened, and its order.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// How many sagas were begun.
    pub sagas: u64,
    /// How long it took in the simulation.
    pub simulated_ms: u64,
    /// The world as it was at the end.
    pub world: Arc<World>,
}

/// Simulates a seed. The same seed of the same program always comes to the same.
pub fn simulate(seed: u64, aloud: bool) -> Report {
    simulate_on(seed, aloud, None)
}

/// Simulates a seed on a host that is not to be trusted in one respect: who tests the oracle.
pub fn simulate_flawed(seed: u64, flaw: Flaw) -> Report {
    simulate_on(seed, false, Some(flaw))
}

fn simulate_on(seed: u64, aloud: bool, flaw: Option<Flaw>) -> Report {
    process::catch_panics(true);
    let run = || tracing::subscriber::with_default(ear::Ear { aloud }, || Simulation::run(seed, aloud, flaw));
    let report = catch_unwind(AssertUnwindSafe(run));
    let panicked = process::panicked();
    process::catch_panics(false);
    report.unwrap_or_else(|_| Report {
        failure: Some(format!("the simulation panicked: {}", panicked.unwrap_or_default())),
        hash: 0,
        events: 0,
        sagas: 0,
        simulated_ms: 0,
        world: World::new(seed, false, flaw),
    })
}
