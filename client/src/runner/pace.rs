//! How fast things are tried again: exponential backoff with jitter, so that many runners don't knock in step.

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
    pub fn after(failure: FailureKind) -> Self {
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
