//! The crash matrix as a command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::World;
use super::likes::Likes;
use super::plan::Cover;
use super::run::{Extent, WORKERS, play_all};
use super::wallet::Transfers;

/// Kills and stops processes wherever they stand, recovers, and checks every promise.
///
/// The whole product: {every passage of every point, by any process} x {whoever is struck} x {killed, stopped past the
/// deadline and continued, stopped past it and killed} x {who finishes} x {no second crash, one at every passage of
/// whoever finishes and of the daemons meanwhile}.
#[derive(Parser, Debug)]
#[command(name = "crash-matrix")]
struct Flags {
    /// The whole product instead of a covering part
    #[arg(long)]
    full: bool,

    /// The I-th of N parts of the whole product: each is a fair sample of it
    #[arg(long, value_name = "I/N", value_parser = part, requires = "full", default_value = "1/1")]
    part: (usize, usize),

    /// Only cases of the whole product whose name contains this
    #[arg(long, value_name = "TEXT", requires = "full", default_value = "")]
    only: String,

    /// Only this world: likes or wallet
    #[arg(long, value_name = "NAME")]
    world: Option<String>,

    /// How many cases are played at once
    #[arg(long, value_name = "N", default_value_t = WORKERS)]
    workers: usize,
}

fn part(typed: &str) -> Result<(usize, usize), String> {
    let numbers = typed.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(i, n)| (1..=*n).contains(i)).ok_or_else(|| "a part is 1/4, 2/4 ...".to_owned())
}

/// Its main. `program` holds all programs, and was built with failpoints.
pub fn main(program: PathBuf, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let flags = Flags::parse_from(arguments);
    let wanted = |name| flags.world.as_deref().is_none_or(|world| world == name);
    if wanted(Likes::NAME) {
        report::<Likes>(&program, &flags, Extent::Covering(Cover::Modes));
    }
    if wanted(Transfers::NAME) {
        report::<Transfers>(&program, &flags, Extent::Covering(Cover::Kinds));
    }
    ExitCode::SUCCESS
}

fn report<W: World + Send>(program: &Path, flags: &Flags, covering: Extent) {
    let (part, of) = flags.part;
    let full = Extent::Full { part, of, only: flags.only.clone() };
    let table = play_all::<W>(program, if flags.full { &full } else { &covering }, flags.workers);
    println!("{table}{}: {}", W::NAME, table.sum());
    for missed in table.missed() {
        println!("  not reached: {missed}");
    }
}
