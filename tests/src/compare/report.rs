//! The table of ratios against their targets, and the same as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::large::Large;
use crate::moments::{Idle, Recovered};
use crate::turn::{Turn, median, quantile};

/// The turns of one round, by side.
#[derive(Default, Debug)]
pub struct Round {
    turns: BTreeMap<&'static str, Turn>,
}

impl Round {
    /// Adds a side's turn.
    pub fn add(&mut self, side: &'static str, turn: Turn) {
        self.turns.insert(side, turn);
    }
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    machine: String,
    /// What was interleaved.
    pub rounds: Vec<Round>,
    /// Wall times of new processes.
    pub new_process_ms: Vec<f64>,
    /// Times from a runner's death to its sagas' ends.
    pub takeover_ms: Vec<f64>,
    /// A recovery of many sagas.
    pub recovery: Option<Recovered>,
    /// Idle daemons.
    pub idle: Option<Idle>,
    /// A store with many likes in it.
    pub large: Option<Large>,
}

/// One line of the table.
struct Line {
    what: &'static str,
    /// The figure of each round, or the one figure.
    figures: Vec<f64>,
    unit: &'static str,
    target: f64,
    at_most: bool,
}

impl Line {
    fn at_most(what: &'static str, figures: Vec<f64>, unit: &'static str, target: f64) -> Self {
        Self { what, figures, unit, target, at_most: true }
    }

    fn at_least(what: &'static str, figures: Vec<f64>, unit: &'static str, target: f64) -> Self {
        Self { what, figures, unit, target, at_most: false }
    }

    fn is_reached(&self) -> bool {
        let figure = median(&self.figures);
        if self.at_most { figure <= self.target } else { figure >= self.target }
    }
}

fn large_lines(large: &Large) -> [Line; 4] {
    let rate = large.rates.clone();
    let disk = large.disk_per_like.iter().sum();
    let restart = large.restart_seconds.into_iter().fold(0.0, f64::max);
    [
        Line::at_least("large stores: rate / empty", rate, "x", 0.7),
        Line::at_most("large stores: restart", vec![restart], "s", 5.0),
        Line::at_most("large stores: disk for a like", vec![disk], "B", 300.0),
        Line::at_most("large stores: memory, scanned", vec![large.user_mib[2]], "MiB", 1024.0),
    ]
}

impl Report {
    /// Nothing measured yet.
    pub fn begin(machine: String) -> Self {
        Self {
            machine,
            rounds: Vec::new(),
            new_process_ms: Vec::new(),
            takeover_ms: Vec::new(),
            recovery: None,
            idle: None,
            large: None,
        }
    }

    /// A figure of each round in which these sides had their turns.
    fn each<const N: usize>(&self, sides: [&str; N], figure: impl Fn([&Turn; N]) -> f64) -> Vec<f64> {
        let turns = |round: &Round| {
            let found: Option<Vec<&Turn>> = sides.iter().map(|side| round.turns.get(side)).collect();
            found.and_then(|turns| turns.try_into().ok()).map(&figure)
        };
        // The borrow of each round outlives the closure's call only.
        self.rounds.iter().filter_map(turns).collect()
    }

    fn lines(&self) -> Vec<Line> {
        let p50 = |[us, peer]: [&Turn; 2]| us.quantile_us(0.5) / peer.quantile_us(0.5);
        let rate = |[us, peer]: [&Turn; 2]| us.per_second() / peer.per_second();
        let cpu = |[us, peer]: [&Turn; 2]| us.cpu_per_1000() / peer.cpu_per_1000();
        let tail = |[us]: [&Turn; 1]| us.quantile_us(0.99) / us.quantile_us(0.5);
        let mut lines = vec![
            Line::at_most("1 saga: p50 / limit", self.each(["us, 1", "limit, 1"], p50), "x", 1.5),
            Line::at_least("64 sagas: rate / SQLite", self.each(["us, 64", "SQLite, 64"], rate), "x", 1.0),
            Line::at_least(
                "64 sagas: rate / SQLite each",
                self.each(["us, 64", "SQLite each, 64"], rate),
                "x",
                1.0,
            ),
            Line::at_least("64 sagas: rate / Redis", self.each(["us, 64", "Redis, 64"], rate), "x", 1.0),
            Line::at_least(
                "1024 sagas: rate / SQLite, 64",
                self.each(["us, 1024", "SQLite, 64"], rate),
                "x",
                1.2,
            ),
            Line::at_least(
                "1024 sagas: rate / SQLite each",
                self.each(["us, 1024", "SQLite each, 64"], rate),
                "x",
                1.2,
            ),
            Line::at_most("1024 sagas: p99 / p50", self.each(["us, 1024"], tail), "x", 4.0),
            Line::at_most(
                "1024 sagas: CPU / SQLite, 64",
                self.each(["us, 1024", "SQLite, 64"], cpu),
                "x",
                1.3,
            ),
            Line::at_most(
                "1024 sagas: CPU / SQLite each",
                self.each(["us, 1024", "SQLite each, 64"], cpu),
                "x",
                1.3,
            ),
            Line::at_least(
                "reads, 64 in flight",
                self.each(["reads, 64"], |[us]| us.per_second()),
                "/s",
                100_000.0,
            ),
        ];
        if !self.new_process_ms.is_empty() {
            lines.push(Line::at_most("`likectl like`: p50", vec![median(&self.new_process_ms)], "ms", 12.0));
        }
        if !self.takeover_ms.is_empty() {
            let p99 = quantile(&self.takeover_ms, 0.99);
            lines.push(Line::at_most("takeover: p99", vec![p99], "ms", 50.0));
        }
        if let Some(Recovered { sagas, seconds, .. }) = self.recovery {
            lines.push(Line::at_least("recovery", vec![sagas as f64 / seconds], "/s", 10_000.0));
        }
        if let Some(Idle { mib, wake_ups_per_minute }) = self.idle {
            lines.push(Line::at_most("idle daemon: memory", vec![mib], "MiB", 20.0));
            lines.push(Line::at_most("idle daemons: wake-ups", vec![wake_ups_per_minute], "/min", 0.0));
        }
        if let Some(large) = &self.large {
            lines.extend(large_lines(large));
        }
        lines.retain(|line| !line.figures.is_empty());
        lines
    }

    /// Prints the table for people.
    pub fn print(&self) {
        println!("\r\x1b[K{}", self.machine);
        println!("\n{:<30} {:>12} {:>21}  {:>12}", "", "median", "range", "target");
        for line in self.lines() {
            let (low, high) = (quantile(&line.figures, 0.0), quantile(&line.figures, 1.0));
            let range = if line.figures.len() > 1 {
                format!("{} - {}", show(low), show(high))
            } else {
                String::new()
            };
            let sign = if line.at_most { "<=" } else { ">=" };
            println!(
                "{:<30} {:>12} {:>21}  {:>12}  {}",
                line.what,
                format!("{} {}", show(median(&line.figures)), line.unit),
                range,
                format!("{sign} {} {}", show(line.target), line.unit),
                if line.is_reached() { "reached" } else { "NOT reached" },
            );
        }
        if !self.rounds.is_empty() {
            self.print_turns();
        }
        self.print_moments();
    }

    fn print_turns(&self) {
        println!(
            "\n{:<30} {:>12} {:>10} {:>10} {:>14}",
            "medians of turns", "per second", "p50 us", "p99 us", "CPU s per 1000"
        );
        for side in self.sides() {
            println!(
                "{:<30} {:>12} {:>10} {:>10} {:>14}",
                side,
                show(median(&self.each([side], |[turn]| turn.per_second()))),
                show(median(&self.each([side], |[turn]| turn.quantile_us(0.5)))),
                show(median(&self.each([side], |[turn]| turn.quantile_us(0.99)))),
                show(median(&self.each([side], |[turn]| turn.cpu_per_1000()))),
            );
        }
        if !self.sides().contains(&"Redis, 64") {
            println!("Redis: no redis-server on PATH, so not compared");
        }
        println!();
    }

    fn print_moments(&self) {
        for (what, ms) in [("new process", &self.new_process_ms), ("takeover", &self.takeover_ms)] {
            if !ms.is_empty() {
                println!("{what}: p50 {} ms, p99 {} ms", show(median(ms)), show(quantile(ms, 0.99)));
            }
        }
        if let Some(Recovered { sagas, seconds, peak_mib }) = self.recovery {
            println!("recovery: {sagas} sagas in {} s, {} MiB at most", show(seconds), show(peak_mib));
        }
        if let Some(large) = &self.large {
            print_large(large);
        }
    }

    /// The sides that had turns, in order.
    fn sides(&self) -> Vec<&'static str> {
        self.rounds.first().map(|round| round.turns.keys().copied().collect()).unwrap_or_default()
    }

    /// Prints everything as one JSON document.
    pub fn print_json(&self) {
        let lines: Vec<_> = self.lines().iter().map(|line| json!({
            "what": line.what, "median": median(&line.figures), "figures": line.figures, "unit": line.unit,
            "target": line.target, "at_most": line.at_most, "reached": line.is_reached(),
        })).collect();
        let rounds: Vec<_> = self
            .rounds
            .iter()
            .map(|round| {
                let turns = round.turns.iter().map(|(side, turn)| ((*side).to_owned(), document(turn)));
                Value::Object(turns.collect())
            })
            .collect();
        let recovery = self.recovery.map(|Recovered { sagas, seconds, peak_mib }| {
            json!({ "sagas": sagas, "seconds": seconds, "peak_mib": peak_mib })
        });
        let large = self.large.as_ref().map(large_document);
        println!(
            "{}",
            json!({
                "machine": self.machine, "lines": lines, "rounds": rounds, "recovery": recovery, "large": large,
                "new_process_ms": self.new_process_ms, "takeover_ms": self.takeover_ms,
            })
        );
    }
}

fn print_large(large: &Large) {
    let [article_disk, user_disk] = large.disk_per_like.map(show);
    let [article_start, user_start] = large.restart_seconds.map(show);
    let [worked, started, scanned] = large.user_mib.map(show);
    println!(
        "large stores: {} likes, filled in {} s, audited in {} s\n  \
         disk for a like: article service {article_disk} B, user service {user_disk} B\n  \
         answers again after: article service {article_start} s, user service {user_start} s\n  \
         memory of the user service: {worked} MiB at work, {started} MiB after a start, {scanned} MiB after the audit, \
         {} MiB at most",
        large.likes,
        show(large.fill_seconds),
        show(large.scan_seconds),
        show(large.user_peak_mib),
    );
}

fn large_document(large: &Large) -> Value {
    json!({
        "likes": large.likes, "fill_seconds": large.fill_seconds, "audit_seconds": large.scan_seconds,
        "article_disk_per_like": large.disk_per_like[0], "user_disk_per_like": large.disk_per_like[1],
        "article_restart_s": large.restart_seconds[0], "user_restart_s": large.restart_seconds[1],
        "user_mib": { "at_work": large.user_mib[0], "started": large.user_mib[1], "scanned": large.user_mib[2],
            "peak": large.user_peak_mib },
    })
}

fn document(turn: &Turn) -> Value {
    json!({
        "done": turn.done, "per_second": turn.per_second(), "cpu_s_per_1000": turn.cpu_per_1000(),
        "p50_us": turn.quantile_us(0.5), "p99_us": turn.quantile_us(0.99),
    })
}

/// Three digits that matter.
fn show(figure: f64) -> String {
    let places = match figure.abs() {
        large if large >= 100.0 => 0,
        middling if middling >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.places$}")
}
