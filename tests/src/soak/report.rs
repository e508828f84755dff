//! What a soak tells.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::meter::{Peaks, Sample};
use super::tally::{Counted, Tally};
use super::{ARTICLES, Settings};
use crate::house::House;

/// A daemon that needs more memory than this under this load has a leak: its store's cache and the bounds on what waits
/// for it allow for about half.
const RSS_KIB_MAX: u64 = 256 * 1024;

/// At rest a daemon may have so many descriptors more than at the beginning: connections that have not been noticed to
/// be gone.
const DESCRIPTORS_MORE: u64 = 16;

/// What the journal may take per act: a saga's story is kept for days, twice while it is carried over.
const JOURNAL_PER_ACT: u64 = 16 * 1024;

/// What both stores may take per act: its rows, and what the store has not yet cleaned up.
const STORES_PER_ACT: u64 = 16 * 1024;

/// What files may take however little was done.
const AT_LEAST: u64 = 64 * 1024 * 1024;

/// Names of exit codes.
const CODES: [(i32, &str); 9] = [
    (-1, "killed"),
    (0, "done"),
    (3, "not found"),
    (4, "refused"),
    (5, "undone"),
    (6, "unfinished"),
    (7, "needs attention"),
    (8, "unavailable"),
    (130, "interrupted"),
];

/// A soak so far.
#[derive(Clone, Debug)]
pub struct Report {
    settings: Settings,
    started: Instant,
    /// How long there was load.
    pub loaded: Duration,
    /// How many rounds there were.
    pub rounds: u32,
    /// Where the next round's users begin.
    pub next_user: u64,
    /// What was done.
    pub tally: Counted,
    /// What the daemons used at most under load.
    pub peaks: Peaks,
    /// What was used when nothing happened: at the beginning and after each round.
    pub samples: Vec<Sample>,
    /// How many users there were.
    pub pairs: usize,
    /// Of how many of them it is certain what they like.
    pub certain: usize,
    /// Sagas by their state at the end.
    pub ends: BTreeMap<String, u64>,
    /// A broken promise, if one was found.
    pub verdict: Result<(), String>,
    /// Where all of it still lies.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// Nothing has been done yet.
    pub fn begin(settings: &Settings, sample: Sample) -> Self {
        Self {
            settings: settings.clone(),
            started: Instant::now(),
            loaded: Duration::ZERO,
            rounds: 0,
            next_user: ARTICLES + 1,
            tally: Counted::default(),
            peaks: Peaks::default(),
            samples: vec![sample],
            pairs: 0,
            certain: 0,
            ends: BTreeMap::new(),
            verdict: Ok(()),
            kept: None,
        }
    }

    /// Holds what was used against its bounds.
    pub fn bound(&mut self) {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else { return };
        let rss = self.peaks.rss_kib.into_iter().max().unwrap_or(0);
        let most = first.lasting.descriptors.map(|at_first| at_first + DESCRIPTORS_MORE);
        let stores: u64 = last.stores.iter().sum();
        let bounds = [
            (rss > RSS_KIB_MAX, format!("a process used {rss} KiB of memory")),
            (
                last.lasting.descriptors.iter().zip(most).any(|(now, most)| *now > most),
                format!(
                    "descriptors at rest: {:?}, at first {:?}",
                    last.lasting.descriptors, first.lasting.descriptors
                ),
            ),
            (
                last.journal.0 > AT_LEAST + last.acts * JOURNAL_PER_ACT,
                format!("the journal has {} bytes after {} acts", last.journal.0, last.acts),
            ),
            (
                stores > AT_LEAST + last.acts * STORES_PER_ACT,
                format!("the stores have {stores} bytes after {} acts", last.acts),
            ),
        ];
        for (broken, what) in bounds {
            if broken && self.verdict.is_ok() {
                self.verdict = Err(what);
            }
        }
    }

    /// How many answers about likes were lost by HTTP.
    fn lost_answers(&self) -> u32 {
        let acts = ["http like", "http unlike"].iter().filter_map(|act| self.tally.acts.get(act));
        acts.filter_map(|act| act.ends.get(&-1)).sum()
    }

    /// Whether everything has happened at least once that is to happen: a run in which nothing fails proves nothing.
    pub fn everything_happened(&self) -> bool {
        let happened = |what| self.tally.events.get(what).copied().unwrap_or(0) > 0;
        ["like", "unlike", "http like", "http unlike"]
            .iter()
            .all(|act| self.tally.acts.get(act).is_some_and(|act| act.done() > 0))
            && [
                "killed a likectl",
                "stopped a likectl",
                "killed the article daemon",
                "killed the user daemon",
                "killed a gateway",
                "stopped a daemon",
                "http events",
            ]
            .into_iter()
            .all(happened)
            && (happened("retry by key") || happened("http retry by key"))
            && self.lost_answers() > 0
    }
}

/// How far a soak is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which round it is.
    pub round: u32,
    /// Whether that is over, checks and all.
    pub checked: bool,
    /// How long there was load.
    pub loaded: Duration,
    /// How many processes and requests have ended.
    pub ended: u32,
    /// How often something was killed, stopped or restarted.
    pub strikes: u32,
}

impl Progress {
    /// From what was counted.
    pub fn of(counted: &Counted, round: u32, checked: bool, loaded: Duration) -> Self {
        let is_strike =
            |what: &str| ["killed", "stopped", "restarted"].iter().any(|kind| what.starts_with(kind));
        let strikes = counted.events.iter().filter(|(what, _)| is_strike(what)).map(|(_, count)| count).sum();
        let ended = counted.acts.values().map(|act| act.count()).sum();
        Self { round, checked, loaded, ended, strikes }
    }
}

impl Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, checked, loaded, ended, strikes } = self;
        let checked = if *checked { ", checked" } else { "" };
        let seconds = loaded.as_secs_f64();
        write!(
            f,
            "round {round}{checked}: {seconds:.0} s of load, {ended} processes and requests, {strikes} strikes"
        )
    }
}

/// The name of an exit code, or of a status.
fn named(code: i32, by_http: bool) -> String {
    match (CODES.iter().find(|(known, _)| *known == code), by_http) {
        (_, true) if code < 0 => "lost".to_owned(),
        (Some((_, name)), false) => (*name).to_owned(),
        _ => code.to_string(),
    }
}

/// How many acts on likes were counted.
pub fn sagas(tally: &Tally) -> u64 {
    let counted = tally.copy();
    let of = |kind: &str, times: u64| counted.acts.get(kind).map_or(0, |act| u64::from(act.count()) * times);
    of("like", 1) + of("unlike", 1) + of("http like", 1) + of("http unlike", 1) + of("bench", 40)
}

/// Sagas by state, as the log tells them.
///
/// # Panics
/// It does not.
pub fn ends(house: &House) -> BTreeMap<String, u64> {
    let status = house.json(&["status"]);
    let by_state = status["log"]["by_state"].as_object().expect("sagas by state").clone();
    by_state.into_iter().map(|(state, count)| (state, Value::as_u64(&count).unwrap_or(0))).collect()
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, clients, web_clients, time, .. } = &self.settings;
        let took = self.started.elapsed().as_secs_f64();
        writeln!(
            f,
            "soak: seed {seed}, {clients} users and {web_clients} by HTTP at once, {:.0} s of load in {} rounds, {took:.0} s in all",
            time.as_secs_f64(),
            self.rounds
        )?;
        writeln!(
            f,
            "\n{:22}{:>8}{:>10}{:>10}{:>10}{:>10}  ends",
            "", "count", "p50 ms", "p90 ms", "p99 ms", "max ms"
        )?;
        for (kind, act) in &self.tally.acts {
            write!(f, "{kind:22}{:>8}", act.count())?;
            for permille in [500, 900, 990, 1000] {
                write!(f, "{:>10.1}", act.permille(permille).as_secs_f64() * 1000.0)?;
            }
            let by_http = kind.starts_with("http");
            let ends: Vec<_> =
                act.ends.iter().map(|(code, count)| format!("{} {count}", named(*code, by_http))).collect();
            writeln!(f, "  {}", ends.join(", "))?;
        }
        writeln!(f)?;
        for (what, count) in &self.tally.events {
            writeln!(f, "{what:42}{count:>8}")?;
        }
        let ends: Vec<_> = self.ends.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(
            f,
            "\nsagas at the end: {}; {} users, {} of them certain",
            ends.join(", "),
            self.pairs,
            self.certain
        )?;
        writeln!(
            f,
            "under load, article and user daemon and gateways: at most {:?} KiB of memory, {:?} descriptors",
            self.peaks.rss_kib, self.peaks.descriptors
        )?;
        writeln!(
            f,
            "\nat rest{:>9}{:>30}{:>18}{:>22}{:>14}{:>8}",
            "acts", "memory KiB", "descriptors", "stores bytes", "journal bytes", "files"
        )?;
        let every = self.samples.len().div_ceil(12);
        let shown = |at: &usize| at.is_multiple_of(every) || at + 1 == self.samples.len();
        for sample in (0..self.samples.len()).filter(shown).map(|at| &self.samples[at]) {
            let Sample { acts, lasting, stores, journal } = sample;
            let listed = |of: &[u64]| of.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            writeln!(
                f,
                "{acts:>16}{:>30}{:>18}{:>22}{:>14}{:>8}",
                listed(&lasting.rss_kib),
                listed(&lasting.descriptors),
                listed(stores),
                journal.0,
                journal.1
            )?;
        }
        match (&self.verdict, &self.kept) {
            (Ok(()), _) => writeln!(f, "\nevery promise was kept"),
            (Err(why), kept) => {
                let kept =
                    kept.as_deref().map_or_else(String::new, |kept| format!("kept in {}; ", kept.display()));
                writeln!(f, "\nA PROMISE IS BROKEN: {why}\n{kept}again: --seed {seed}")
            }
        }
    }
}
