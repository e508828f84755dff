//! The named points at which a process stands between two durable actions.
//!
//! Crash tests iterate over [`Failpoint::ALL`] and kill a process at each. Without the `failpoints` feature
//! [`reach`] is empty and nothing of this module is left in a binary; only the test package turns the feature on.
//!
//! A test arms a point through the environment of the process it starts: `FAILPOINTS=log-begin-synced=return(kill)`
//! (the `fail` crate's syntax, so `2*off->1*return(kill)` dies at the third passage). Before a process dies or stops
//! it appends the point's name to the file that `LIKE_FAILPOINT_MARK` names: the proof that the fault fired. One that
//! only passes leaves its mark as well: so a test learns how often a process comes by.
//!
//! A process that runs for many tests is told later: armed with `return(ask)` it leaves its mark at every passage and looks
//! into the file that `LIKE_FAILPOINT_ORDERS` names. A line `group-synced 7 kill` there (or `stop`) is meant for the
//! seventh passage of that point in the life of the process.

/// Every point between two durable actions of a runner or a daemon, in the order in which a saga's life passes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Failpoint {
    /// Runner: the slot is locked and was read, nothing has been written.
    SlotLocked,
    /// Runner: the new segment holds the carry-over but not its mark, nothing is synced.
    CarryWritten,
    /// Runner: the new segment is complete and synced, the old ones still stand.
    CarrySynced,
    /// Runner: old segments are cut or deleted, nothing has been sent.
    CarryDone,
    /// Runner: `Begin` has its place in the log, and is neither written nor synced.
    BeginAppended,
    /// Runner: `Begin` is synced, nothing has been sent.
    BeginSynced,
    /// Runner: `Sent` of an action is written, the request has not left.
    ActionSentWritten,
    /// Runner: an action's reply has arrived, nothing of it is written.
    ActionReplied,
    /// Runner: an action's outcome has its place in the log, and is written with what follows from it.
    ActionOutcomeAppended,
    /// Runner: `Turned back` is written, not synced.
    TurnBackWritten,
    /// Runner: `Turned back` is synced, no compensation has left.
    TurnBackSynced,
    /// Runner: `Sent` of a compensation is written, the request has not left.
    CompensationSentWritten,
    /// Runner: a compensation's reply has arrived, nothing of it is written.
    CompensationReplied,
    /// Runner: the end is written, nobody has been told.
    EndWritten,
    /// Runner: the end is synced, no participant has been settled.
    EndSynced,
    /// Runner: the participants have confirmed the settlement, nothing of it is written.
    SettleReplied,
    /// Runner: `Settled` is written.
    SettledWritten,
    /// Daemon: a group is evaluated, nothing is in the store.
    GroupEvaluated,
    /// Daemon: a group is in the store, not synced.
    GroupApplied,
    /// Daemon: a group is synced, nobody has been answered.
    GroupSynced,
    /// Daemon: a group's replies are on their way.
    GroupAnswered,
}

impl Failpoint {
    /// All of them, in the order in which a saga's life passes them.
    pub const ALL: [Self; 21] = [
        Self::SlotLocked,
        Self::CarryWritten,
        Self::CarrySynced,
        Self::CarryDone,
        Self::BeginAppended,
        Self::BeginSynced,
        Self::ActionSentWritten,
        Self::ActionReplied,
        Self::ActionOutcomeAppended,
        Self::TurnBackWritten,
        Self::TurnBackSynced,
        Self::CompensationSentWritten,
        Self::CompensationReplied,
        Self::EndWritten,
        Self::EndSynced,
        Self::SettleReplied,
        Self::SettledWritten,
        Self::GroupEvaluated,
        Self::GroupApplied,
        Self::GroupSynced,
        Self::GroupAnswered,
    ];

    /// The name by which a test arms it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlotLocked => "slot-locked",
            Self::CarryWritten => "carry-written",
            Self::CarrySynced => "carry-synced",
            Self::CarryDone => "carry-done",
            Self::BeginAppended => "begin-appended",
            Self::BeginSynced => "begin-synced",
            Self::ActionSentWritten => "action-sent-written",
            Self::ActionReplied => "action-replied",
            Self::ActionOutcomeAppended => "action-outcome-appended",
            Self::TurnBackWritten => "turn-back-written",
            Self::TurnBackSynced => "turn-back-synced",
            Self::CompensationSentWritten => "compensation-sent-written",
            Self::CompensationReplied => "compensation-replied",
            Self::EndWritten => "end-written",
            Self::EndSynced => "end-synced",
            Self::SettleReplied => "settle-replied",
            Self::SettledWritten => "settled-written",
            Self::GroupEvaluated => "group-evaluated",
            Self::GroupApplied => "group-applied",
            Self::GroupSynced => "group-synced",
            Self::GroupAnswered => "group-answered",
        }
    }

    /// Whether a daemon passes it; a runner otherwise.
    pub const fn is_of_daemon(self) -> bool {
        matches!(self, Self::GroupEvaluated | Self::GroupApplied | Self::GroupSynced | Self::GroupAnswered)
    }
}

/// Reads the armed points from the environment. To be called once, first thing in `main`.
#[cfg(feature = "failpoints")]
pub fn arm_from_environment() {
    // The scenario must outlive every thread of the process: it is never torn down.
    std::mem::forget(fail::FailScenario::setup());
}

/// Nothing can be armed in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn arm_from_environment() {}

/// Passes a point: does nothing unless a test has armed it.
#[cfg(feature = "failpoints")]
pub fn reach(point: Failpoint) {
    if let Some(how) = fired(point) {
        armed::strike(point, &how);
    }
}

/// Nothing happens at any point in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_: Failpoint) {}

#[cfg(feature = "failpoints")]
fn fired(point: Failpoint) -> Option<String> {
    fail::fail_point!(point.name(), |how| Some(how.unwrap_or_default()));
    None
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    /// How often each point has been passed by a process that asks.
    static PASSED: [AtomicU32; Failpoint::ALL.len()] = [const { AtomicU32::new(0) }; Failpoint::ALL.len()];

    /// What the file of orders says for the passage that is just being made, if anything.
    fn ordered(point: Failpoint) -> Option<String> {
        let passage = PASSED[point as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let orders = std::fs::read_to_string(std::env::var_os("LIKE_FAILPOINT_ORDERS")?).ok()?;
        let meant = format!("{} {passage} ", point.name());
        orders.lines().find_map(|order| order.strip_prefix(&meant)).map(str::to_owned)
    }

    /// Leaves the mark, then dies (`return(kill)`) or stops (`return(stop)`) at once, or goes on (`return(pass)`), or
    /// does what it is told for this passage (`return(ask)`).
    pub(super) fn strike(point: Failpoint, how: &str) {
        if let Some(path) = std::env::var_os("LIKE_FAILPOINT_MARK") {
            let marked = std::fs::OpenOptions::new().create(true).append(true).open(&path);
            if let Err(e) = marked.and_then(|mut file| writeln!(file, "{}", point.name())) {
                eprintln!("failpoint {}: can't leave a mark in {path:?}: {e}", point.name());
            }
        }
        let told = (how == "ask").then(|| ordered(point).unwrap_or_else(|| "pass".to_owned()));
        let signal = match told.as_deref().unwrap_or(how) {
            "pass" => return,
            "stop" => Signal::STOP,
            _ => Signal::KILL,
        };
        if let Err(e) = kill_process(getpid(), signal) {
            eprintln!("failpoint {}: can't signal this process: {e}", point.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Failpoint::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }
}
