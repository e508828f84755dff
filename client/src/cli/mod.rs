//! `likectl`: the only part that touches a terminal.
//!
//! What was typed ([`args`]) becomes a checked configuration ([`config`]); [`tools`] make of it what [`commands`] reach
//! for. Commands print results through [`output`] and return errors; [`error`] alone knows what an error is called, how
//! the process exits for it, and what a person should do next.

pub mod args;
pub mod commands;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod error;
pub mod json;
pub mod output;
pub mod pages;
pub mod signals;
pub mod timeline;
pub mod tools;

use std::ffi::OsString;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, ValueEnum};
use like_protocol::ids::SagaId;
use tracing_subscriber::EnvFilter;

use args::{Cli, Color, Command};
use config::Config;
use error::CliError;
use output::Output;
use tools::Tools;

/// The program's name.
const NAME: &str = "likectl";

/// `likectl`'s main.
pub fn main() -> ExitCode {
    like_protocol::failpoint::arm_from_environment();
    let cli = match Cli::try_parse_from(own_arguments()) {
        Ok(cli) => cli,
        Err(usage) => return tell(without_environment(usage)),
    };
    let config = match Config::of(&cli.global) {
        Ok(config) => config,
        Err(usage) => return tell(Cli::command().error(ErrorKind::ValueValidation, usage)),
    };
    set_up_streams(&config, &cli.command);
    let output = Output { json: config.json, quiet: config.quiet };
    match run(config, &cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&output),
    }
}

/// The command line of `likectl`, for a program that writes the manual pages of all programs.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The process's arguments. In a binary that is several programs the first one names this program; it is left out.
fn own_arguments() -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os().peekable();
    let own = arguments.next();
    arguments.next_if(|first| first == NAME);
    own.into_iter().chain(arguments)
}

/// Tells what is wrong with the command line, or what was asked for instead of a command: help, the version.
fn tell(usage: clap::Error) -> ExitCode {
    let options: Vec<_> = own_arguments().take_while(|typed| typed != "--").collect();
    let json = options.iter().any(|typed| typed == "--json");
    if let Some(color) = typed_color(&options) {
        set_color(color);
    }
    if !(json && usage.use_stderr()) {
        usage.exit()
    }
    CliError::Usage(usage).report(&Output { json, quiet: false })
}

/// The colours that were asked for by a command line of which not all can be understood.
fn typed_color(options: &[OsString]) -> Option<Color> {
    let mut options = options.iter().filter_map(|typed| typed.to_str());
    let asked = options.find_map(|typed| typed.strip_prefix("--color"))?;
    let when = if asked.is_empty() { options.next()? } else { asked.strip_prefix('=')? };
    Color::from_str(when, false).ok()
}

/// The same error for who has set no environment variables: a usage line would show as required what they give.
fn without_environment(usage: clap::Error) -> clap::Error {
    if !usage.use_stderr() {
        return usage;
    }
    let command = Cli::command().mut_args(|argument| argument.env(None));
    let mut usage = command.try_get_matches_from(own_arguments()).err().unwrap_or(usage);
    // Where a command is missing, those are named that help does not show.
    if let Some(ContextValue::Strings(names)) = usage.get(ContextKind::ValidSubcommand) {
        let shown = names.iter().filter(|name| *name != demo::LIKER).cloned().collect();
        usage.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
    }
    usage
}

fn set_up_streams(config: &Config, command: &Command) {
    set_color(config.color);
    let colored = anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    // A script that asked for documents gets one error document on stderr, not events before it. A command that stays has
    // nothing but its events to tell of itself.
    let documents = config.json && !command.stays() && config.log_level <= tracing::Level::WARN;
    let level = if documents || command.draws() { "off" } else { config.log_level.as_str() };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("off,like_client={level}")))
        .with_writer(std::io::stderr)
        .with_ansi(colored)
        .with_target(false)
        // Told on stderr too, where that is what fails, and a failure there is a panic.
        .log_internal_errors(false)
        .init();
}

fn set_color(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => ColorChoice::Always.write_global(),
        Color::Never => ColorChoice::Never.write_global(),
    }
}

fn run(config: Config, command: &Command) -> Result<(), CliError> {
    descriptors::enough()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::Internal(format!("can't start: {e}")))?;
    let done = runtime.block_on(async {
        signals::outlive_limits_of_files();
        let tools = Tools::new(config)?;
        dispatch(&tools, command).await
    });
    // A thread that waits in the kernel for a slot's lock would otherwise be waited for.
    runtime.shutdown_background();
    done
}

async fn dispatch(tools: &Tools, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Article(command) => or_interrupted(commands::article::run(tools, command)).await,
        Command::User(command) => or_interrupted(commands::user::run(tools, command)).await,
        Command::Saga(command) => {
            or_interrupted_at(command.acts_on(), commands::saga::run(tools, command)).await
        }
        Command::Check(args) => or_interrupted(commands::check::run(tools, args)).await,
        Command::Audit(args) => or_interrupted(commands::audit::run(tools, args)).await,
        Command::Status => or_interrupted(commands::status::run(tools)).await,
        // It looks at signals itself: it has a terminal to give back.
        Command::Top(args) => commands::top::run(tools, args).await,
        Command::DemoLiker(args) => or_interrupted(demo::run_liker(tools, args)).await,
        // These look at signals themselves: they have something to say, or to clear up.
        Command::Like(args) => commands::like::run_like(tools, args).await,
        Command::Unlike(args) => commands::like::run_unlike(tools, args).await,
        Command::Bench(args) => commands::bench::run(tools, args).await,
        Command::Import(args) => commands::import::run(tools, args).await,
        Command::Recover(args) => commands::recover::run(tools, args).await,
        Command::Demo => demo::run(tools).await,
        Command::Completions(args) => commands::completions::run(args),
        Command::Man(args) => commands::man::run(tools, args),
    }
}

/// Nothing is lost by dropping what a command does at any of its waits: sagas stand in the log.
async fn or_interrupted(doing: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    or_interrupted_at(None, doing).await
}

/// The same for a command that acts on one saga, which is named then.
async fn or_interrupted_at(
    saga: Option<SagaId>,
    doing: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    tokio::select! {
        done = doing => done,
        () = signals::interrupted() => Err(CliError::Interrupted(saga)),
    }
}
