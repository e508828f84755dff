//! The soak as a command.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::{Settings, soak};
use crate::random::fresh_seed;

/// Random load on real processes, and random kills and stops of everything; then every promise is checked.
#[derive(Parser, Debug)]
#[command(name = "soak")]
struct Flags {
    /// For how many minutes there is load
    #[arg(long, value_name = "M", default_value_t = 10, conflicts_with = "hours")]
    minutes: u64,

    /// For how many hours
    #[arg(long, value_name = "H")]
    hours: Option<u64>,

    /// What all choices follow from; one is chosen, and told, if none is given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// How many users act at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,

    /// How many more act at once by HTTP, through two gateways
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    web_clients: u64,

    /// How many seconds pass between two checks of everything
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    round: u64,
}

/// Its main. `program` holds all programs.
pub fn main(program: PathBuf, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let flags = Flags::parse_from(arguments);
    let seed = flags.seed.unwrap_or_else(fresh_seed);
    let minutes = flags.hours.map_or(flags.minutes, |hours| hours * 60);
    let settings = Settings {
        program,
        time: Duration::from_secs(minutes * 60),
        round: Duration::from_secs(flags.round),
        seed,
        clients: flags.clients,
        web_clients: flags.web_clients,
    };
    eprintln!("soak: --seed {seed}, {minutes} minutes of load");
    let terminal = std::io::stderr().is_terminal();
    let report = soak(&settings, &|progress| {
        let _nobody_looks = match (terminal, progress.checked) {
            (true, _) => write!(std::io::stderr(), "\r{progress} of {minutes} minutes   "),
            (false, true) => writeln!(std::io::stderr(), "{progress}"),
            (false, false) => Ok(()),
        };
    });
    println!("\n{report}");
    if report.verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
