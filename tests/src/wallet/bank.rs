//! A wallet service and a journal in a throwaway directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Armed, Ended, Fault, Running, program};

/// The wallet service and a journal. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Bank {
    program: PathBuf,
    walletd: Option<Running>,
    page: u32,
    directory: tempfile::TempDir,
}

impl Bank {
    /// A bank in this directory, whose service does not run yet. `program` holds all programs.
    pub fn within(program: impl Into<PathBuf>, directory: tempfile::TempDir) -> Self {
        Self { program: program.into(), walletd: None, page: 0, directory }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the service listens.
    pub fn socket(&self) -> PathBuf {
        self.path().join("wallet.sock")
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path().join(format!("journal-{}", self.page))
    }

    /// Goes on with a journal of its own: nothing of what was done so far stands in it.
    pub fn turn_page(&mut self) {
        self.page += 1;
    }

    /// Starts the service with faults, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn start_with(&mut self, faults: &[Fault]) -> Armed {
        let mut command = program(&self.program, "walletd");
        command.arg("--socket").arg(self.socket()).arg("--data").arg(self.path().join("data"));
        let armed = Armed::arm(&mut command, self.path(), faults);
        let log = self.path().join("wallet.log");
        self.walletd = Some(Running::start_listening(&mut command, &log, &self.socket()));
        armed
    }

    /// The service's process.
    ///
    /// # Panics
    /// It was not started.
    pub fn process(&mut self) -> &mut Running {
        self.walletd.as_mut().expect("the service was started")
    }

    /// A transfer with this deadline, to be started.
    pub fn transfer(&self, from: u64, to: u64, amount: u64, timeout: Duration) -> Command {
        let mut command = program(&self.program, "wallet-transfer");
        let timeout = u64::try_from(timeout.as_millis()).expect("not for ever");
        command.arg(self.socket()).arg(self.journal());
        command.args([from, to, amount, timeout].map(|number| number.to_string()));
        command
    }

    /// A recovery, to be started.
    pub fn recover(&self, mode: &[&str]) -> Command {
        let mut command = program(&self.program, "wallet-recover");
        command.arg(self.socket()).arg(self.journal()).args(mode);
        command
    }

    /// All accounts: `[{"account":1,"balance":70,"arriving":0,"leaving":0},...]`.
    ///
    /// # Panics
    /// They can't be read.
    #[track_caller]
    pub fn accounts(&self) -> Vec<Value> {
        let mut command = program(&self.program, "wallet-balances");
        command.arg(self.socket());
        list(Ended::of(&mut command))
    }

    /// All sagas on record: `[{"saga_id":"...","from":1,"state":"completed","settled":true},...]`.
    ///
    /// # Panics
    /// They can't be read.
    #[track_caller]
    pub fn sagas(&self) -> Vec<Value> {
        let mut command = program(&self.program, "wallet-sagas");
        command.arg(self.journal());
        list(Ended::of(&mut command))
    }
}

#[track_caller]
fn list(ended: Ended) -> Vec<Value> {
    ended.expect_code(0).json().as_array().expect("a list").clone()
}
