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
    /// Processes and requests by what they did: how they ended.
    pub acts: BTreeMap<&'static str, Act>,
    /// Everything else that happened.
    pub events: BTreeMap<&'static str, u32>,
}

/// What says that a process or a request has done what it was to do.
const DONE: [i32; 2] = [0, 200];

/// What came of one kind of process or request.
#[derive(Clone, Default, Debug)]
pub struct Act {
    /// How often it ended so: by exit code or status, -1 for a signal or a lost answer.
    pub ends: BTreeMap<i32, u32>,
    /// How long those took that were done, in microseconds.
    pub took_us: Vec<u32>,
}

impl Act {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.ends.values().sum()
    }

    /// How many were answered.
    pub fn done(&self) -> u32 {
        DONE.iter().filter_map(|code| self.ends.get(code)).sum()
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
        self.end(kind, ended.code().unwrap_or(-1), took);
    }

    /// Counts a process by its exit code, or a request by its status; -1 if it was killed, or its answer lost.
    pub fn end(&self, kind: &'static str, code: i32, took: Duration) {
        let mut counted = self.counted();
        let act = counted.acts.entry(kind).or_default();
        *act.ends.entry(code).or_default() += 1;
        if DONE.contains(&code) {
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
