//! How fast things are tried again: exponential backoff with jitter, so that many runners don't knock in step.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::rpc::Remote;
use crate::saga::event::FailureKind;

/// The pace of a saga that needs an operator: retried without end, but slowly.
pub const SLOW: Duration = Duration::from_secs(30);

/// How often a service that could not be reached is dialled during a longer pause.
const KNOCK: Duration = Duration::from_secs(1);

/// Pauses before the next attempt, at most until one of these services, which could not be reached, says hello. Nothing is written about
/// that, however long it takes.
pub async fn pause(at_most: Duration, unreached: impl Iterator<Item = &Remote>, within: Duration) {
    let mut hellos: FuturesUnordered<_> = unreached.map(|remote| said_hello(remote, within)).collect();
    tokio::select! {
        biased;
        Some(()) = hellos.next() => {}
        () = tokio::time::sleep(at_most) => {}
    }
}

async fn said_hello(remote: &Remote, within: Duration) {
    loop {
        tokio::time::sleep(KNOCK).await;
        if remote.connect(within).await.is_ok() {
            return;
        }
    }
}

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

    /// For who was told that a daemon has too much to do, and for whom nobody waits: it is there, and works through that in no
    /// time. Should it have too much for days, so many attempts are no burden on the log.
    pub fn of_busy() -> Self {
        Self::between(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// For an action past its saga's deadline: nobody waits, and an outage may last for days.
    fn of_overdue() -> Self {
        Self::between(Duration::from_millis(10), SLOW)
    }

    /// For compensations and settlements: nobody waits, and a daemon that restarts takes a while.
    pub fn of_compensation() -> Self {
        Self::between(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// The pace of an action that failed so.
    fn after(failure: FailureKind, overdue: bool) -> Self {
        match failure {
            FailureKind::Busy if overdue => Self::of_busy(),
            _ if overdue => Self::of_overdue(),
            FailureKind::Locked => Self::of_lock(),
            _ => Self::of_action(),
        }
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

/// The paces of a saga's actions: each slows down by itself, and begins anew when it fails in another way, or is overdue.
#[derive(Debug, Default)]
pub struct ActionPaces {
    failing: BTreeMap<usize, (FailureKind, bool, Pace)>,
}

impl ActionPaces {
    /// The next pause, after a step's action has failed so.
    pub fn after(&mut self, step: usize, failure: FailureKind, overdue: bool) -> Duration {
        let anew = || (failure, overdue, Pace::after(failure, overdue));
        let failing = self.failing.entry(step).or_insert_with(anew);
        if (failing.0, failing.1) != (failure, overdue) {
            *failing = anew();
        }
        failing.2.next()
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
            last = [paces.after(0, FailureKind::Unknown, false), paces.after(1, FailureKind::Locked, false)];
        }
        assert!(last[0] >= Duration::from_secs(1), "{last:?}");
        assert!(last[1] >= Duration::from_millis(100), "{last:?}");
        assert!(paces.after(0, FailureKind::Busy, false) < Duration::from_millis(100));
        assert!(paces.after(1, FailureKind::Locked, false) >= Duration::from_millis(100));
        assert!(
            paces.after(1, FailureKind::Locked, true) < Duration::from_millis(100),
            "overdue from now on"
        );
        assert!((0..20).map(|_| paces.after(1, FailureKind::Locked, true)).max() >= Some(SLOW));
        assert!(
            (0..20).map(|_| paces.after(1, FailureKind::Busy, true)).max() <= Some(Duration::from_secs(10))
        );
    }
}
