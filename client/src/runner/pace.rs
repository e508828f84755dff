//! How fast things are tried again: exponential backoff with jitter, so that many runners don't knock in step.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::saga::event::FailureKind;

/// The pace of a saga that needs an operator: retried without end, but slowly.
pub const SLOW: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt, failure after failure.
#[derive(Debug)]
pub struct Pace {
    backoff: ExponentialBackoff,
}

impl Pace {
    /// For actions: a caller waits.
    pub fn of_action() -> Self {
        Self::between(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// For an action that meets a lock: it goes within milliseconds of its holder's end.
    pub fn of_lock() -> Self {
        Self::between(Duration::from_millis(2), Duration::from_millis(100))
    }

    /// For compensations and settlements: nobody waits, and a daemon that restarts takes a while.
    pub fn of_compensation() -> Self {
        Self::between(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// The pace of an action that failed so.
    fn after(failure: FailureKind) -> Self {
        if failure == FailureKind::Locked { Self::of_lock() } else { Self::of_action() }
    }

    fn between(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self { backoff: builder.build() }
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        // The iterator never ends; were it to, the slow pace is the safe one.
        self.backoff.next().unwrap_or(SLOW)
    }
}

/// The paces of a saga's actions: each slows down by itself, and begins anew when it fails in another way.
#[derive(Debug, Default)]
pub struct ActionPaces {
    failing: BTreeMap<usize, (FailureKind, Pace)>,
}

impl ActionPaces {
    /// The next pause, after a step's action has failed so.
    pub fn after(&mut self, step: usize, failure: FailureKind) -> Duration {
        let anew = || (failure, Pace::after(failure));
        let failing = self.failing.entry(step).or_insert_with(anew);
        if failing.0 != failure {
            *failing = anew();
        }
        failing.1.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_that_fail_side_by_side_each_slow_down_and_begin_anew_when_they_fail_in_another_way() {
        let mut paces = ActionPaces::default();
        let mut last = [Duration::ZERO; 2];
        for _ in 0..20 {
            last = [paces.after(0, FailureKind::Unknown), paces.after(1, FailureKind::Locked)];
        }
        assert!(last[0] >= Duration::from_secs(1), "{last:?}");
        assert!(last[1] >= Duration::from_millis(100), "{last:?}");
        assert!(paces.after(0, FailureKind::Busy) < Duration::from_millis(100));
        assert!(paces.after(1, FailureKind::Locked) >= Duration::from_millis(100));
    }
}
