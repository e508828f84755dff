//! Where the programs are that the demo starts.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::DemoError;

/// The program that is all programs: its first argument says which.
const MULTICALL: &str = "like-multicall";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    itself: PathBuf,
}

impl Programs {
    /// As this program finds them.
    ///
    /// # Errors
    /// This program doesn't know its own path.
    pub fn find() -> Result<Self, DemoError> {
        let itself = std::env::current_exe().map_err(|e| DemoError::io("find this program's own file", e))?;
        Ok(Self { itself })
    }

    /// A command that starts `likectl` as this very program.
    pub fn likectl(&self) -> Command {
        self.itself_as("likectl")
    }

    /// A command that starts a daemon: this very program if it is all of them, else the one beside it, else one in the
    /// search path.
    ///
    /// # Errors
    /// There is none.
    pub fn daemon(&self, name: &'static str) -> Result<Command, DemoError> {
        if self.is_multicall() {
            return Ok(self.itself_as(name));
        }
        self.beside_or_in_path(name).map(Command::new).ok_or(DemoError::NoProgram(name))
    }

    fn is_multicall(&self) -> bool {
        self.itself.file_name().is_some_and(|name| name == MULTICALL)
    }

    fn itself_as(&self, name: &str) -> Command {
        let mut command = Command::new(&self.itself);
        if self.is_multicall() {
            command.arg(name);
        }
        command
    }

    fn beside_or_in_path(&self, name: &str) -> Option<PathBuf> {
        let beside = self.itself.parent().map(Path::to_owned);
        let search = std::env::var_os("PATH").unwrap_or_default();
        let folders = beside.into_iter().chain(std::env::split_paths(&search));
        folders.map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}
