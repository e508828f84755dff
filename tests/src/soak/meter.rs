//! What processes use: memory, descriptors, disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Round;
use super::front::{FRONTS, Fronts};
use crate::house::{House, Service};

/// How often processes are looked at under load.
const EVERY: Duration = Duration::from_millis(500);

/// What is looked at: both daemons, then the gateways.
pub const LASTING: usize = 2 + FRONTS;

/// What each of the lasting processes used at most.
#[derive(Clone, Copy, Default, Debug)]
pub struct Peaks {
    /// Resident memory in KiB.
    pub rss_kib: [u64; LASTING],
    /// Open descriptors.
    pub descriptors: [u64; LASTING],
}

impl Peaks {
    /// The greater of both.
    pub fn merge(&mut self, other: &Self) {
        for at in 0..LASTING {
            self.rss_kib[at] = self.rss_kib[at].max(other.rss_kib[at]);
            self.descriptors[at] = self.descriptors[at].max(other.descriptors[at]);
        }
    }
}

/// Looks at daemons and gateways, whoever they are just now.
#[derive(Default, Debug)]
pub struct Meter {
    pids: [AtomicU32; LASTING],
    rss_kib: [AtomicU64; LASTING],
    descriptors: [AtomicU64; LASTING],
}

impl Meter {
    /// Says which processes they are from now on.
    pub fn look_at(&self, house: &mut House, fronts: &mut Fronts) {
        for (at, pid) in pids(house, fronts).into_iter().enumerate() {
            self.pids[at].store(pid, Ordering::Relaxed);
        }
    }

    /// Looks until the round is over, and says so every time.
    pub fn watch(&self, round: &Round<'_>, looked: impl Fn()) {
        while round.goes_on() {
            std::thread::sleep(EVERY);
            looked();
            for at in 0..LASTING {
                let pid = self.pids[at].load(Ordering::Relaxed);
                self.rss_kib[at].fetch_max(rss_kib(pid), Ordering::Relaxed);
                self.descriptors[at].fetch_max(descriptors(pid), Ordering::Relaxed);
            }
        }
    }

    /// The most that was seen.
    pub fn peaks(&self) -> Peaks {
        let of = |seen: &[AtomicU64; LASTING]| std::array::from_fn(|at| seen[at].load(Ordering::Relaxed));
        Peaks { rss_kib: of(&self.rss_kib), descriptors: of(&self.descriptors) }
    }
}

/// A look at everything while nothing happens.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many acts on likes there have been.
    pub acts: u64,
    /// What daemons and gateways use now.
    pub lasting: Peaks,
    /// How large their stores are, in bytes.
    pub stores: [u64; 2],
    /// How large the journal is, in bytes, and how many files and directories it has.
    pub journal: (u64, u64),
}

impl Sample {
    /// Takes it.
    pub fn at_rest(house: &mut House, fronts: &mut Fronts, acts: u64) -> Self {
        let pids = pids(house, fronts);
        let lasting = Peaks { rss_kib: pids.map(rss_kib), descriptors: pids.map(descriptors) };
        let stores = Service::BOTH.map(|service| size(&house.data(service)).0);
        Self { acts, lasting, stores, journal: size(&house.journal()) }
    }
}

fn pids(house: &mut House, fronts: &mut Fronts) -> [u32; LASTING] {
    let [article, user] = Service::BOTH.map(|service| house.process(service).pid());
    let [one, other] = fronts.pids();
    [article, user, one, other]
}

/// Resident memory of a process in KiB; zero if it is gone.
pub fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How many descriptors a process has open; zero if it is gone.
pub fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

/// How many bytes the files below a directory have, and how many files and directories there are.
pub fn size(directory: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(directory) else { return (0, 0) };
    entries.filter_map(Result::ok).fold((0, 0), |(bytes, count), entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => {
            let (below, many) = size(&entry.path());
            (bytes + below, count + many + 1)
        }
        Ok(meta) => (bytes + meta.len(), count + 1),
        Err(_) => (bytes, count),
    })
}
