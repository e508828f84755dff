//! What a search covered and found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::losses::Loss;

/// What a search covered and found.
#[derive(Default, Debug)]
pub struct Report {
    /// By workload.
    pub workloads: Vec<WorkloadReport>,
}

/// What was covered and found in one workload.
#[derive(Debug)]
pub struct WorkloadReport {
    /// Its name.
    pub name: &'static str,
    /// At how many points of its records the power was cut.
    pub cuts: usize,
    /// How many states were met that no earlier one was equal to.
    pub states: usize,
    /// How often it was restarted: an equal state with other promises is tried again.
    pub restarts: usize,
    /// How many recoveries were recorded and cut as well.
    pub recoveries: usize,
    /// States by kind of loss.
    pub by_loss: BTreeMap<Loss, usize>,
    /// What broke.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub seconds: f64,
}

/// A state that breaks something.
#[derive(Debug)]
pub struct Finding {
    /// Of which workload.
    pub workload: &'static str,
    /// At which entry of the record the power was cut.
    pub at: usize,
    /// What kind of loss it was.
    pub loss: Loss,
    /// What is broken.
    pub why: String,
    /// Where the state is kept.
    pub kept: PathBuf,
}

impl WorkloadReport {
    /// Nothing yet.
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            cuts: 0,
            states: 0,
            restarts: 0,
            recoveries: 0,
            by_loss: BTreeMap::new(),
            findings: Vec::new(),
            seconds: 0.0,
        }
    }
}

impl Report {
    /// How many distinct states there were.
    pub fn states(&self) -> usize {
        self.workloads.iter().map(|workload| workload.states).sum()
    }

    /// What broke.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.workloads.iter().flat_map(|workload| &workload.findings)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>8} {:>8} {:>8} {:>10} {:>8} {:>7}",
            "workload", "cuts", "states", "restarts", "recoveries", "broken", "s"
        )?;
        let mut sum = WorkloadReport::of("all");
        for workload in &self.workloads {
            writeln!(f, "{workload}")?;
            sum.cuts += workload.cuts;
            sum.states += workload.states;
            sum.restarts += workload.restarts;
            sum.recoveries += workload.recoveries;
            sum.seconds += workload.seconds;
            for (loss, states) in &workload.by_loss {
                *sum.by_loss.entry(*loss).or_default() += states;
            }
        }
        let broken = self.findings().count();
        writeln!(
            f,
            "{:<24} {:>8} {:>8} {:>8} {:>10} {broken:>8} {:>7.1}",
            sum.name, sum.cuts, sum.states, sum.restarts, sum.recoveries, sum.seconds
        )?;
        let kinds: Vec<_> = sum.by_loss.iter().map(|(loss, states)| format!("{loss:?} {states}")).collect();
        writeln!(f, "distinct states by kind of loss: {}", kinds.join(", "))?;
        for finding in self.findings().take(20) {
            writeln!(f, "BROKEN: {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for WorkloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cuts, states, restarts, recoveries, findings, seconds, .. } = self;
        let broken = findings.len();
        write!(
            f,
            "{name:<24} {cuts:>8} {states:>8} {restarts:>8} {recoveries:>10} {broken:>8} {seconds:>7.1}"
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, at, loss, why, kept } = self;
        write!(f, "{workload}, cut at entry {at}, {loss:?}: {why} (kept in {})", kept.display())
    }
}
