//! `cargo compare`: what durable likes cost here, against what durability costs elsewhere, in one interleaved run.
//!
//! Absolute figures move by a factor from minute to minute on a shared machine; figures of one run, taken in turns,
//! hardly do. So every line is a ratio: in each round all sides take their turns one after the other, the ratios are
//! those of one round, and what is printed is their median with the range. `docs/performance.md` says what the sides
//! are, what the lines mean, and what limits each.
//!
//! * [`sides`]: the limits (raw logs), SQLite and Redis behind their sockets, and us.
//! * [`large`]: stores with many likes in them, which [`fill`] makes.
//! * [`moments`]: what has no peer: a new process, takeover, recovery, reads, idleness.
//! * [`report`]: the table and the JSON document.

// A comparison that can't go on panics and says why.
#![allow(clippy::expect_used)]

mod fill;
mod large;
mod load;
mod machine;
mod moments;
mod ready;
mod report;
mod sides;
mod turn;

use std::io::IsTerminal;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use report::Report;
use sides::sqlite::Grouped;
use sides::{House, RawLogs, Redis, Sqlite};
use turn::Turn;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many rounds.
    pub rounds: usize,
    /// How long each side works in a turn.
    pub turn: Duration,
    /// How many new processes, and how many takeovers, are timed.
    pub processes: usize,
    /// How many unfinished sagas are recovered.
    pub sagas: usize,
    /// For how long idle daemons are looked at.
    pub idle: Duration,
    /// How many likes are in the large store.
    pub likes: u64,
}

const QUICK: Effort = Effort {
    rounds: 3,
    turn: Duration::from_millis(1000),
    processes: 20,
    sagas: 20_000,
    idle: Duration::from_secs(5),
    likes: 300_000,
};

const FULL: Effort = Effort {
    rounds: 9,
    turn: Duration::from_millis(2000),
    processes: 100,
    sagas: 100_000,
    idle: Duration::from_secs(20),
    likes: 10_000_000,
};

/// The parts, by the words that choose them.
const PARTS: [&str; 6] = ["ratios", "idle", "process", "takeover", "recovery", "large"];

/// Compares what durable likes cost here with what durability costs elsewhere
#[derive(Parser)]
#[command(name = "cargo compare")]
struct Asked {
    /// Fewer and shorter turns: rougher figures
    #[arg(long)]
    quick: bool,

    /// So many rounds of turns
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,

    /// Only one part of it
    #[arg(long, value_name = "PART", value_parser = PARTS)]
    only: Option<String>,

    /// So many likes in the large store (300,000 or 10,000,000)
    #[arg(long, value_name = "N")]
    likes: Option<NonZeroU64>,

    /// The daemons and likectl of another build
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

impl Asked {
    fn effort(&self) -> Effort {
        let usual = if self.quick { QUICK } else { FULL };
        let rounds = self.rounds.map_or(usual.rounds, NonZeroUsize::get);
        Effort { rounds, likes: self.likes.map_or(usual.likes, NonZeroU64::get), ..usual }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == sides::sqlite::SERVE).is_some() {
        let grouped = Grouped::of(&words.next().unwrap_or_default());
        let paths: Vec<_> = words.map(PathBuf::from).collect();
        sides::sqlite::serve(grouped, &paths[0], &paths[1]);
        return ExitCode::SUCCESS;
    }
    compare(&Asked::parse());
    ExitCode::SUCCESS
}

fn compare(asked: &Asked) {
    let effort = asked.effort();
    let programs = asked.programs.clone().map_or_else(build_programs, |directory| Programs { directory });
    let mut report = Report::begin(machine::describe());
    let wanted = |part: &str| {
        let wanted = asked.only.as_ref().is_none_or(|only| only == part);
        if wanted {
            progress(part);
        }
        wanted
    };
    if wanted("ratios") {
        rounds(&effort, &programs, &mut report);
    }
    if wanted("idle") {
        report.idle = Some(moments::idle(&programs, effort.idle));
    }
    if wanted("process") {
        report.new_process_ms = moments::new_processes(&programs, effort.processes);
    }
    if wanted("takeover") {
        report.takeover_ms = moments::takeovers(&programs, effort.processes);
    }
    if wanted("recovery") {
        report.recovery = Some(moments::recovery(&programs, effort.sagas));
    }
    // It takes longer than all the rest, and some gigabytes of disk.
    if asked.only.as_deref() == Some("large") && wanted("large") {
        report.large = Some(large::large(&programs, &effort));
    }
    if asked.json { report.print_json() } else { report.print() }
}

/// The turns that are compared with each other, round after round. Each round begins with nothing stored on any side: otherwise
/// what has piled up by the later ones, and is merged then, would say more than what differs from side to side.
fn rounds(effort: &Effort, programs: &Programs, report: &mut Report) {
    for number in 1..=effort.rounds {
        let say = |what: &str| progress(&format!("round {number} of {}: {what}", effort.rounds));
        report.rounds.push(round(effort.turn, programs, say));
    }
}

fn round(turn: Duration, programs: &Programs, say: impl Fn(&str)) -> report::Round {
    let mut raw = RawLogs::open();
    let mut sqlite = Sqlite::start(Grouped::Together);
    let mut sqlite_each = Sqlite::start(Grouped::Each);
    let mut redis = Redis::find();
    let mut house = House::start(programs);
    let mut turns = report::Round::default();
    let mut take = |name: &'static str, turn: &mut dyn FnMut() -> Turn| {
        say(name);
        turns.add(name, turn());
    };
    take("limit, 1", &mut || raw.one_at_a_time(turn));
    take("us, 1", &mut || house.sagas(1, turn));
    take("us with checks, 1", &mut || house.likes(1, turn));
    take("SQLite, 1", &mut || sqlite.likes(1, turn));
    take("SQLite, 64", &mut || sqlite.likes(64, turn));
    take("SQLite each, 64", &mut || sqlite_each.likes(64, turn));
    take("us, 64", &mut || house.sagas(64, turn));
    take("us with checks, 64", &mut || house.likes(64, turn));
    take("limit, 64", &mut || raw.group_committed(64, turn));
    take("us, 1024", &mut || house.sagas(1024, turn));
    take("reads, 64", &mut || house.reads(64, turn));
    if let Some(redis) = &mut redis {
        take("Redis, 1", &mut || redis.likes(1, turn));
        take("Redis, 64", &mut || redis.likes(64, turn));
    }
    say("counts of all sides");
    sqlite.check();
    sqlite_each.check();
    house.check();
    if let Some(redis) = &redis {
        redis.check();
    }
    turns
}

/// The product's own binaries: built here, since `cargo run` builds those of one package only.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// A command of one of them.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.directory.join(name));
        command.env("RUST_BACKTRACE", "0");
        command
    }
}

fn build_programs() -> Programs {
    progress("release build of the programs");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--bins", "-p", "like-daemon", "-p", "like-client"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo can be run");
    assert!(built.success(), "the programs can't be built");
    let own = std::env::current_exe().expect("this program's path");
    Programs { directory: own.parent().expect("a directory").to_owned() }
}

/// One line on a terminal, written over by the next.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}
