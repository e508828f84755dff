//! What was played, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::time::Duration;

use super::World;
use super::case::{Case, Process};
use super::play::Played;

/// Rows by the kind of the first fault, who took over, and what the second crash was.
#[derive(Clone, Default, Debug)]
pub struct Table {
    rows: BTreeMap<[String; 3], Row>,
    /// The points at which somebody was struck first, and those of second crashes.
    points: [BTreeSet<String>; 2],
    missed: Vec<String>,
    /// How many cases were played more than once, and how many plays that took beyond the first.
    again: [u32; 2],
}

#[derive(Clone, Copy, Default, Debug)]
struct Row {
    cases: u32,
    reached: u32,
    late: u32,
    took: Duration,
}

impl Table {
    /// Adds a case.
    pub fn add<W: World>(&mut self, case: &Case<W>, played: &Played<W::Service>, took: Duration) {
        let second = case.second.map_or_else(
            || "none".to_owned(),
            |second| match second.by {
                // Whoever took over is not the runner that was struck first.
                Process::Runner => "whoever takes over".to_owned(),
                daemon => daemon.to_string(),
            },
        );
        let row = self.rows.entry([case.kind(), case.taker.to_string(), second]).or_default();
        row.cases += 1;
        row.reached += u32::from(played.reached);
        row.late += u32::from(played.late);
        row.took += took;
        self.again[0] += u32::from(played.plays > 1);
        self.again[1] += played.plays - 1;
        if !played.reached {
            self.missed.push(case.name());
            return;
        }
        for (points, at) in self.points.iter_mut().zip([Some(case.first.at), case.second]) {
            points.extend(at.map(|at| format!("{} {}", at.by, at.point.name())));
        }
    }

    /// How many cases there were.
    pub fn cases(&self) -> u32 {
        self.rows.values().map(|row| row.cases).sum()
    }

    /// In how many of them every fault came about.
    pub fn reached(&self) -> u32 {
        self.rows.values().map(|row| row.reached).sum()
    }

    /// The points (with who passes them) at which somebody was struck first, and those of second crashes.
    pub fn points(&self) -> &[BTreeSet<String>; 2] {
        &self.points
    }

    /// The cases in which a fault did not come about.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }

    /// In one line.
    pub fn sum(&self) -> String {
        let seconds = self.rows.iter().filter(|(key, _)| key[2] != "none");
        let late: u32 = self.rows.values().map(|row| row.late).sum();
        format!(
            "{} cases, {} with a second crash; {} reached ({} not at once: {} more plays); in {late} a stopped process passed the \
             deadline; {} points struck, {} in second crashes",
            self.cases(),
            seconds.map(|(_, row)| row.cases).sum::<u32>(),
            self.reached(),
            self.again[0],
            self.again[1],
            self.points[0].len(),
            self.points[1].len(),
        )
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["first fault", "finished by", "second crash"];
        writeln!(
            f,
            "{:27}{:22}{:20}{:>7}{:>9}{:>7}{:>10}",
            heads[0], heads[1], heads[2], "cases", "reached", "late", "seconds"
        )?;
        for ([kind, taker, second], Row { cases, reached, late, took }) in &self.rows {
            let seconds = took.as_secs_f64();
            writeln!(f, "{kind:27}{taker:22}{second:20}{cases:>7}{reached:>9}{late:>7}{seconds:>10.1}")?;
        }
        Ok(())
    }
}
