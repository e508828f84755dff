//! All programs in one: the first argument says which. For `cargo demo` and for tests, which so need no other
//! package's binaries.

use std::process::ExitCode;

use like_tests::wallet;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let name = arguments.peek().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    match name.as_str() {
        "likectl" => like_client::cli::main(),
        "like-articled" => like_daemon::cli::article_main(),
        "like-userd" => like_daemon::cli::user_main(),
        other => {
            let rest: Vec<_> = arguments.skip(1).filter_map(|word| word.into_string().ok()).collect();
            wallet::program::main(other, &rest).unwrap_or_else(usage)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: like-multicall likectl|like-articled|like-userd|walletd|wallet-... ARGUMENT...");
    ExitCode::from(2)
}
