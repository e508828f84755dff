//! The article service: articles and their number of likes.

use std::process::ExitCode;

fn main() -> ExitCode {
    like_daemon::cli::article_main()
}
