//! What was done, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::process::Ended;

/// Counted by everybody at once.
#[derive(Default, Debug)]
pub struct Tally(Mutex<Counted>);

/// What was counted.
#[derive(Clone, Default, Debug)]
pub struct Counted {
    /// Processes by what they did: how they ended.
    pub acts: BTreeMap<&'static str, Act>,
    /// Everything else that happened.
    pub events: BTreeMap<&'static str, u32>,
}

/// What came of one kind of process.
#[derive(Clone, Default, Debug)]
pub struct Act {
    /// How often it ended so: by exit code, -1 for a signal.
    pub ends: BTreeMap<i32, u32>,
    /// How long those took that exited with 0, in microseconds.
    pub took_us: Vec<u32>,
}

impl Act {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.ends.values().sum()
    }

    /// How many were answered.
    pub fn done(&self) -> u32 {
        self.ends.get(&0).copied().unwrap_or(0)
    }

    /// The time that so many of a thousand took at most, of those that were answered.
    pub fn permille(&self, permille: usize) -> Duration {
        let mut sorted = self.took_us.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
        Duration::from_micros(sorted.get(at).copied().unwrap_or(0).into())
    }
}

impl Tally {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a process that has ended.
    pub fn add(&self, kind: &'static str, ended: &Ended, took: Duration) {
        let mut counted = self.counted();
        let act = counted.acts.entry(kind).or_default();
        *act.ends.entry(ended.code().unwrap_or(-1)).or_default() += 1;
        if ended.code() == Some(0) {
            act.took_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Counts something else.
    pub fn count(&self, what: &'static str, times: u32) {
        *self.counted().events.entry(what).or_default() += times;
    }

    /// What was counted so far.
    pub fn copy(&self) -> Counted {
        self.counted().clone()
    }
}
