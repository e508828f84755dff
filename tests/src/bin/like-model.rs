//! `cargo model [--world NAME]... [--mutation NAME]... [--list]`: searches worlds exhaustively.
//!
//! Without arguments all worlds are searched, then every rule is switched off in the smallest world that notices it.

// A program of the tests; one that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::io::IsTerminal;
use std::process::ExitCode;

use like_tests::model::mutation::{self, SWITCHES, Switch};
use like_tests::model::search::{Report, Verdict, search};
use like_tests::model::world::{self, WORLDS, World};

/// What was asked for.
#[derive(Default)]
struct Wanted {
    worlds: Vec<&'static World>,
    switches: Vec<&'static Switch>,
    list: bool,
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\nusage: cargo model [--world NAME]... [--mutation NAME]... [--list]");
            return ExitCode::from(2);
        }
    };
    if wanted.list {
        list();
        return ExitCode::SUCCESS;
    }
    let all = wanted.worlds.is_empty() && wanted.switches.is_empty();
    let mut failed = 0;
    let worlds = if all { WORLDS.iter().collect() } else { wanted.worlds.clone() };
    if wanted.switches.is_empty() {
        for world in worlds {
            failed += usize::from(!check_world(world));
        }
    }
    let switches = if all { SWITCHES.iter().collect() } else { wanted.switches };
    for switch in switches {
        failed += usize::from(!check_switch(switch, wanted.worlds.first().copied(), !all));
    }
    println!(
        "{}",
        if failed == 0 { "all is as it should be".to_owned() } else { format!("{failed} failed") }
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut name = || args.next().ok_or_else(|| format!("{arg} needs a name"));
        match arg.as_str() {
            "--list" => wanted.list = true,
            "--world" => {
                let name = name()?;
                wanted.worlds.push(world::find(&name).ok_or_else(|| format!("there is no world {name}"))?);
            }
            "--mutation" => {
                let name = name()?;
                let found = mutation::find(&name).ok_or_else(|| format!("there is no mutation {name}"))?;
                wanted.switches.push(found);
            }
            other => return Err(format!("{other} is not understood")),
        }
    }
    Ok(wanted)
}

fn list() {
    println!("worlds:");
    for world in WORLDS {
        println!("  {:24} {} ({})", world.name, world.about, world.bound());
    }
    println!("mutations:");
    for switch in SWITCHES {
        println!("  {:24} in {}: {:?}", switch.name, switch.world, switch.breaks);
    }
}

/// Searches a world with all rules in force; whether every promise holds.
fn check_world(world: &'static World) -> bool {
    println!("{}: {} ({})", world.name, world.about, world.bound());
    let report = search(world, None, progress);
    done();
    print(&report);
    report.holds()
}

/// Searches a world with a rule off; whether the check notices as it should.
fn check_switch(switch: &Switch, elsewhere: Option<&'static World>, told: bool) -> bool {
    let world = elsewhere.or_else(|| world::find(switch.world)).expect("a world of this name");
    println!("without the rule '{}' in {}:", switch.name, world.name);
    let report = search(world, Some(switch.mutation), progress);
    done();
    match &report.verdict {
        Verdict::Broken(property, _) if !told => {
            let seconds = report.took.as_secs_f64();
            println!("  {property:?} is broken after {} states, {seconds:.1} s", report.states);
        }
        _ => print(&report),
    }
    matches!(report.verdict, Verdict::Broken(property, _) if property == switch.breaks)
}

fn print(report: &Report) {
    let Report { states, transitions, depth, ends, took, verdict } = report;
    let seconds = took.as_secs_f64();
    println!("  {states} states, {transitions} transitions, depth {depth}, {ends} ends, {seconds:.1} s");
    match verdict {
        Verdict::Holds => println!("  every promise holds, and an end is reachable from everywhere"),
        Verdict::CutOff => println!("  CUT OFF by the bound of states: nothing is proved"),
        Verdict::Broken(property, story) => {
            println!("  {property:?} is broken:");
            for line in story {
                println!("  {line}");
            }
        }
    }
}

fn progress(known: usize, looked_at: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r  {looked_at} of {known} states ");
    }
}

fn done() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
