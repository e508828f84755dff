//! All programs in one: the first argument says which. For `cargo demo` and for tests, which so need no other
//! package's binaries; and the long searches among them, as commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use like_tests::{cut, http_load, matrix, soak, wallet};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let name = arguments.peek().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    match name.as_str() {
        "likectl" => like_client::cli::main(),
        "like-articled" => like_daemon::cli::article_main(),
        "like-userd" => like_daemon::cli::user_main(),
        "like-gateway" => like_gateway::main(),
        "man" => man(arguments.nth(1)),
        "crash-matrix" => searches(matrix::program::main, arguments),
        "power-cut" => searches(cut::program::main, arguments),
        "soak" => searches(soak::program::main, arguments),
        "http-load" => searches(http_load::main, arguments),
        other => {
            let rest: Vec<_> = arguments.skip(1).filter_map(|word| word.into_string().ok()).collect();
            wallet::program::main(other, &rest).unwrap_or_else(usage)
        }
    }
}

/// Runs a search that starts this program's other programs. Its name comes first among the arguments.
fn searches<A: Iterator<Item = OsString>>(
    search: impl FnOnce(PathBuf, Vec<String>) -> ExitCode,
    arguments: A,
) -> ExitCode {
    match std::env::current_exe() {
        Ok(program) => search(program, arguments.filter_map(|word| word.into_string().ok()).collect()),
        Err(e) => {
            eprintln!("can't find this program: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the manual pages of all programs into a directory.
fn man(directory: Option<OsString>) -> ExitCode {
    let Some(directory) = directory.map(PathBuf::from) else { return usage() };
    let daemons = [like_daemon::cli::ARTICLE, like_daemon::cli::USER].map(like_daemon::cli::command);
    let clients = [like_client::cli::command(), like_gateway::command()];
    for command in daemons.into_iter().chain(clients) {
        if let Err(error) = like_client::cli::commands::man::write_pages(command, &directory) {
            eprintln!("{error:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: like-multicall man DIRECTORY | likectl|like-gateway|like-articled|like-userd|walletd|wallet-... ARGUMENT..."
    );
    ExitCode::from(2)
}
