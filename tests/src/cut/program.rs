//! Power cuts as a command.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

use super::image::{FileSystem, run};
use super::{Report, Settings, cut_on};
use crate::random::fresh_seed;

/// What the kernel tells every process of its boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Cuts the power of real file systems while they are used, and checks every promise after each cut. Needs root.
#[derive(Parser, Debug)]
#[command(name = "power-cut")]
struct Flags {
    /// On which file systems; all that can be made here if none is given
    #[arg(long, value_name = "NAME", value_enum)]
    file_system: Vec<FileSystem>,

    /// How often on each
    #[arg(long, value_name = "N", default_value_t = 10)]
    cuts: u64,

    /// What all choices follow from; one is chosen, and told, if none is given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// The file that stands in the place of the boot id, where this process is the one that may mount
    #[arg(long, value_name = "FILE", hide = true)]
    boot_id: Option<PathBuf>,
}

/// Its main. `program` holds all programs.
///
/// # Panics
/// This process may not mount, or a tool is missing.
pub fn main(program: PathBuf, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let flags = Flags::parse_from(&arguments);
    let Some(boot_id) = flags.boot_id else { return in_a_place_of_its_own(&program, &arguments) };
    run("mount", ["--bind".as_ref(), boot_id.as_os_str(), BOOT_ID.as_ref()]);
    let seed = flags.seed.unwrap_or_else(fresh_seed);
    let all = || FileSystem::ALL.into_iter().filter(|kind| kind.can_be_made());
    let chosen = if flags.file_system.is_empty() { all().collect() } else { flags.file_system };
    eprintln!("power-cut: --seed {seed}, {} cuts on each of {chosen:?}", flags.cuts);
    let mut kept = true;
    for file_system in chosen {
        let settings = Settings {
            program: program.clone(),
            file_system,
            cuts: flags.cuts,
            seed,
            boot_id: boot_id.clone(),
        };
        let report = cut_on(&settings, |report| {
            if std::io::stderr().is_terminal() {
                let _nobody_looks =
                    write!(std::io::stderr(), "\r{file_system:?}: {} of {} cuts  ", report.cuts, flags.cuts);
            }
        });
        println!("{file_system:?}: {}", told(&report));
        kept &= report.broken.is_none() && report.lost > 0;
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(report: &Report) -> String {
    let Report { cuts, lost, certain, under_way, recovered, broken, kept } = report;
    let verdict = match (broken, kept) {
        (Some(broken), Some(kept)) => format!("BROKEN: {broken} (kept: {})", kept.display()),
        _ if *lost == 0 => "a run in which nothing is lost proves nothing".to_owned(),
        _ => "every promise kept".to_owned(),
    };
    format!(
        "{cuts} cuts, {lost} of which lost something that was written; {certain} users known to like or not, \
         {under_way} acts under way, {recovered} sagas recovered; {verdict}"
    )
}

/// Runs this program again where its mounts are seen by nobody else, and gone with it however it ends.
fn in_a_place_of_its_own(program: &PathBuf, arguments: &[String]) -> ExitCode {
    let boot_id = tempfile::NamedTempFile::new().expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program).args(arguments);
    let status = command.arg("--boot-id").arg(boot_id.path()).status().expect("unshare can be run");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
