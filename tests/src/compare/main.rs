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
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

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

/// What was asked for.
struct Asked {
    effort: Effort,
    json: bool,
    /// Only one part of it.
    only: Option<String>,
    /// Where the programs are that are looked at, if they are not to be built.
    programs: Option<PathBuf>,
}

/// The parts, by the words that choose them.
const PARTS: [&str; 6] = ["ratios", "idle", "process", "takeover", "recovery", "large"];

const USAGE: &str = "usage: cargo compare [--quick] [--json] [--rounds N] [--only PART] [--likes N] [--programs DIR]\n\
    --quick         fewer and shorter turns: rougher figures\n\
    --rounds N      so many rounds of turns\n\
    --only PART     ratios, idle, process, takeover, recovery or large\n\
    --likes N       so many likes in the large store (300,000 or 10,000,000)\n\
    --programs DIR  the daemons and likectl of another build\n\
    --json          one JSON document on standard output";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == sides::sqlite::SERVE).is_some() {
        let grouped = Grouped::of(&words.next().unwrap_or_default());
        let paths: Vec<_> = words.map(PathBuf::from).collect();
        sides::sqlite::serve(grouped, &paths[0], &paths[1]);
        return ExitCode::SUCCESS;
    }
    match parse(words) {
        Ok(asked) => {
            compare(&asked);
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { effort: FULL, json: false, only: None, programs: None };
    let (mut rounds, mut likes) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => asked.effort = QUICK,
            "--json" => asked.json = true,
            "--only" => {
                let part = words.next().filter(|part| PARTS.contains(&part.as_str()));
                asked.only = Some(part.ok_or(USAGE)?);
            }
            "--rounds" => {
                let number = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                rounds = Some(number.ok_or("--rounds takes a number from 1 on")?);
            }
            "--likes" => {
                let number = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                likes = Some(number.ok_or("--likes takes a number from 1 on")?);
            }
            "--programs" => asked.programs = Some(words.next().ok_or(USAGE)?.into()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    asked.effort.rounds = rounds.unwrap_or(asked.effort.rounds);
    asked.effort.likes = likes.unwrap_or(asked.effort.likes);
    Ok(asked)
}

fn compare(asked: &Asked) {
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
        rounds(&asked.effort, &programs, &mut report);
    }
    if wanted("idle") {
        report.idle = Some(moments::idle(&programs, asked.effort.idle));
    }
    if wanted("process") {
        report.new_process_ms = moments::new_processes(&programs, asked.effort.processes);
    }
    if wanted("takeover") {
        report.takeover_ms = moments::takeovers(&programs, asked.effort.processes);
    }
    if wanted("recovery") {
        report.recovery = Some(moments::recovery(&programs, asked.effort.sagas));
    }
    // It takes longer than all the rest, and some gigabytes of disk.
    if asked.only.as_deref() == Some("large") && wanted("large") {
        report.large = Some(large::large(&programs, &asked.effort, asked.effort.likes));
    }
    if asked.json { report.print_json() } else { report.print() }
}

/// The turns that are compared with each other, round after round.
fn rounds(effort: &Effort, programs: &Programs, report: &mut Report) {
    let mut raw = RawLogs::open();
    let mut sqlite = Sqlite::start(Grouped::Together);
    let mut sqlite_each = Sqlite::start(Grouped::Each);
    let mut redis = Redis::find();
    let mut house = House::start(programs);
    for round in 0..effort.rounds {
        let mut turns = report::Round::default();
        let mut take = |name: &'static str, turn: &mut dyn FnMut() -> Turn| {
            progress(&format!("round {} of {}: {name}", round + 1, effort.rounds));
            turns.add(name, turn());
        };
        let turn = effort.turn;
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
        report.rounds.push(turns);
    }
    progress("counts of all sides");
    sqlite.check();
    sqlite_each.check();
    house.check();
    if let Some(redis) = &redis {
        redis.check();
    }
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
