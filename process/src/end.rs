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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::thread;

    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_panic_of_any_thread_is_reported_and_ends_the_process() {
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--ignored", "--exact", "end::tests::a_thread_panics", "--nocapture"]);
        let output = other.output().unwrap();
        assert_eq!(output.status.signal(), Some(Signal::SIGABRT as i32), "{}", output.status);
        assert!(String::from_utf8_lossy(&output.stderr).contains("a thread's last words"));
    }

    #[test]
    #[ignore = "no test of its own: it ends its process"]
    fn a_thread_panics() {
        abort_on_panic();
        let _nothing_is_left_to_see_it = thread::spawn(|| panic!("a thread's last words")).join();
    }
}
