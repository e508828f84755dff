//! How a process ends that can't do what it is for.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Says in one line on standard error which program failed and why: its exit code. Whoever has closed their end of standard
/// error is told by that alone.
pub fn failed(program: &str, why: impl Display, code: ExitCode) -> ExitCode {
    let _nobody_listens = writeln!(io::stderr(), "{program}: {why}");
    code
}

/// Lets every panic end the whole process, once it is reported: it stops rather than limps.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
