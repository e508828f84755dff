//! `likectl man`: manual pages, made from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::args::Cli;
use crate::cli::error::CliError;
use crate::cli::output;
use crate::cli::tools::Tools;

/// Where to.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Write the pages of likectl and all its commands into this directory, instead of printing likectl's
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs `likectl man`.
///
/// # Errors
/// The directory can't be written, or stdout is gone.
pub fn run(tools: &Tools, args: &ManArgs) -> Result<(), CliError> {
    let Some(directory) = &args.directory else {
        return output::raw(&render(Cli::command().disable_help_subcommand(true)));
    };
    for path in write_pages(Cli::command(), directory)? {
        tools.output.note(path.display());
    }
    Ok(())
}

/// Writes the manual pages of a command and all its commands into a directory, which is made if it isn't there. Any
/// program of this house can have its pages made so.
///
/// # Errors
/// The directory can't be written.
pub fn write_pages(command: Command, directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let unwritable = |path: &Path, error| CliError::File(path.display().to_string(), error);
    fs::create_dir_all(directory).map_err(|e| unwritable(directory, e))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let name = command.get_name().to_owned();
    add_pages(&command, &name, &mut pages);
    let written = pages.into_iter().map(|(name, page)| {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|e| unwritable(&path, e))?;
        Ok(path)
    });
    written.collect()
}

fn add_pages(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    pages.push((format!("{name}.1"), render(command.clone().display_name(name.to_owned()))));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        add_pages(sub, &format!("{name}-{}", sub.get_name()), pages);
    }
}

fn render(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = Man::new(command).render(&mut page);
    page
}
