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
        (forming.len() - 1).is_multiple_of(self.together_max)
    }

    /// The next ones: as many as go together. There are some for each time that `join` was true.
    pub fn depart(&self) -> Vec<T> {
        let mut forming = self.forming();
        let many = forming.len().min(self.together_max);
        let behind = forming.split_off(many);
        mem::replace(&mut forming, behind)
    }

    /// All who have joined, none of whom departs any more.
    pub fn stop(&self) -> Vec<T> {
        mem::take(&mut self.forming())
    }

    fn forming(&self) -> MutexGuard<'_, Vec<T>> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_depart_as_there_was_a_first_for() {
        for together_max in 1..=3 {
            let gathering = Gathering::of(together_max);
            let firsts: Vec<_> = (0..7).filter(|member| gathering.join(*member)).collect();
            assert_eq!(firsts, (0..7).step_by(together_max).collect::<Vec<_>>());
            let departed: Vec<_> = firsts.iter().map(|_| gathering.depart()).collect();
            assert!(departed.iter().all(|together| (1..=together_max).contains(&together.len())));
            assert_eq!(departed.concat(), (0..7).collect::<Vec<_>>());
        }
    }
}
