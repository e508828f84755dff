//! Those who are about to do something in the same moment, and do it together.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those who are about to do something. Whoever is the first of so many as go together is to do it for all of them, once he has let
/// the others that are ready join.
pub(crate) struct Gathering<T> {
    forming: Mutex<Vec<T>>,
    together_max: usize,
}

impl<T> Gathering<T> {
    /// Nobody yet; so many go together at most.
    pub fn of(together_max: usize) -> Self {
        Self { forming: Mutex::default(), together_max }
    }

    /// One more joins. True for the first of those who go together, who is to have them depart.
    pub fn join(&self, member: T) -> bool {
        let mut forming = self.forming();
        forming.push(member);
        forming.len() % self.together_max == 1
    }

    /// The next ones: as many as go together. There are some for each time that `join` was true.
    pub fn depart(&self) -> Vec<T> {
        let mut forming = self.forming();
        let many = forming.len().min(self.together_max);
        let behind = forming.split_off(many);
        mem::replace(&mut forming, behind)
    }

    /// None of those who have joined departs.
    pub fn stop(&self) {
        self.forming().clear();
    }

    fn forming(&self) -> MutexGuard<'_, Vec<T>> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
