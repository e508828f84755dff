//! `cargo model`: searches worlds exhaustively.
//!
//! Without arguments all worlds are searched, then every rule is switched off in the smallest world that notices it.

// A program of the tests; one that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use like_tests::model::mutation::{self, SWITCHES, Switch};
use like_tests::model::search::{Report, Verdict, search};
use like_tests::model::world::{self, WORLDS, World};

/// Searches worlds exhaustively.
#[derive(Parser)]
#[command(name = "cargo model")]
struct Wanted {
    /// Only this world. Can be given more than once
    #[arg(long = "world", value_name = "NAME", value_parser = |name: &str| world::find(name).ok_or("there is no such world"))]
    worlds: Vec<&'static World>,

    /// Only with this rule off. Can be given more than once
    #[arg(long = "mutation", value_name = "NAME", value_parser = |name: &str| mutation::find(name).ok_or("there is no such mutation"))]
    switches: Vec<&'static Switch>,

    /// Says which there are
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let wanted = Wanted::parse();
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
