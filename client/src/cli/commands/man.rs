//! `likectl man`: manual pages, made from the definition of the command line.

use std::fs;
use std::path::PathBuf;

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
        return output::raw(&render(Cli::command().disable_help_subcommand(true))?);
    };
    let unwritable = |path: &std::path::Path, error| CliError::File(path.display().to_string(), error);
    fs::create_dir_all(directory).map_err(|e| unwritable(directory, e))?;
    for (name, page) in pages(Cli::command())? {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|e| unwritable(&path, e))?;
        tools.output.note(path.display());
    }
    Ok(())
}

/// The manual pages of a command and all its commands: file names and contents.
///
/// # Errors
/// None that could be provoked: pages are rendered in memory.
pub fn pages(command: Command) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let mut pages = Vec::new();
    add_pages(&command, &name, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CliError> {
    let page = render(command.clone().display_name(name.to_owned()))?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        add_pages(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

fn render(command: Command) -> Result<Vec<u8>, CliError> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|e| CliError::Internal(e.to_string()))?;
    Ok(page)
}
