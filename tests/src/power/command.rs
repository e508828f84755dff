//! `cargo power-loss [--states N] [--seed S] [--workload NAME]`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::search::Search;
use super::workloads;

const STATES: usize = 12_000;

/// Runs the search with the program that calls this, and prints what it covered. Nothing if the arguments make no sense.
pub fn main(arguments: &[String]) -> Option<ExitCode> {
    let (mut states, mut seed, mut chosen) = (STATES, 1, workloads::ALL.to_vec());
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--states" => states = value.parse().ok()?,
            "--seed" => seed = value.parse().ok()?,
            "--workload" => chosen.retain(|workload| workload.name == value),
            _ => return None,
        }
    }
    let program = std::env::current_exe().expect("this program");
    let keep = PathBuf::from("target/power-loss");
    let terminal = std::io::stderr().is_terminal();
    let progress = move |line: &str| {
        // Elsewhere than on a terminal, only what is done is worth a line.
        if terminal {
            eprint!("\r\x1b[K{line}");
            let _nobody_looks = std::io::stderr().flush();
        } else if !line.contains('%') {
            eprintln!("{line}");
        }
    };
    println!("power loss: about {states} states, seed {seed}");
    let report = Search::new(&program, seed, &keep, Box::new(progress)).run(&chosen, states);
    if terminal {
        eprint!("\r\x1b[K");
    }
    print!("{report}");
    Some(if report.findings().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
