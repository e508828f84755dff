//! `likectl completions`.

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::error::CliError;
use crate::cli::output;

/// For which shell.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Runs `likectl completions`.
///
/// # Errors
/// stdout is gone.
pub fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut without_hidden(&Cli::command()), "likectl", &mut script);
    output::raw(&script)
}

/// The generators offer hidden commands too.
fn without_hidden(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    Command::new("likectl")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(command.get_arguments().cloned())
        .subcommands(shown)
}
