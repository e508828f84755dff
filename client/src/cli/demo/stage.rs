//! Where the demo happens: a throwaway directory with two daemons, and `likectl` pointed at them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use like_protocol::likes::Service;
use like_protocol::time::{BootClock, Clock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::DemoError;
use super::programs::Programs;
use super::story::Story;
use crate::rpc::Remote;

/// How long a daemon may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a starting daemon is tried.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// The stage. Its children are killed when it goes, and the directory is removed.
pub struct Stage {
    /// What is told of it.
    pub story: Story,
    programs: Programs,
    directory: TempDir,
    color: bool,
    children: Vec<(Service, Child)>,
}

impl Stage {
    /// An empty stage in a directory of its own.
    ///
    /// # Errors
    /// A program is missing, or there is no room for the directory.
    pub fn set_up(story: Story, color: bool) -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new().prefix("like-demo-").tempdir();
        let directory = directory.map_err(|e| DemoError::io("make a throwaway directory", e))?;
        let programs = Programs::find()?;
        for service in Service::BOTH {
            programs.daemon(service.program())?;
        }
        Ok(Self { story, programs, directory, color, children: Vec::new() })
    }

    /// The throwaway directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A daemon's socket.
    pub fn socket(&self, service: Service) -> PathBuf {
        self.directory().join(format!("{}.sock", service.role()))
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.directory().join("journal")
    }

    /// Starts a daemon, and waits until it answers.
    pub async fn start(&mut self, service: Service) -> Result<(), DemoError> {
        let (name, role) = (service.program(), service.role());
        let log = self.directory().join(format!("{role}.log"));
        let said = File::options().create(true).append(true).open(&log);
        let said = said.map_err(|e| DemoError::io("write the daemon's log", e))?;
        let data = self.directory().join(role);
        self.story.happened(&format!("{name} --socket {role}.sock --data {role}/"));
        let mut command = self.programs.daemon(name)?;
        command.arg("--socket").arg(self.socket(service)).arg("--data").arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).kill_on_drop(true);
        let child = command.spawn().map_err(|e| DemoError::io(&format!("start {name}"), e))?;
        self.children.push((service, child));
        self.wait_until_it_answers(service, &log).await
    }

    async fn wait_until_it_answers(&mut self, service: Service, log: &Path) -> Result<(), DemoError> {
        let clock: Arc<dyn Clock> =
            Arc::new(BootClock::open().map_err(|e| DemoError::io("read the clock", e))?);
        let remote = Remote::unix(service.role(), self.socket(service), clock);
        let until = Instant::now() + START_TIMEOUT;
        while remote.connect(START_TIMEOUT).await.is_err() {
            let ended = self.child(service).is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > until {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(DemoError::DaemonFailed { name: service.program(), said });
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        Ok(())
    }

    /// Kills a daemon with SIGKILL: it gets no chance to do anything.
    pub async fn kill(&mut self, service: Service) -> Result<(), DemoError> {
        let name = service.program();
        self.story.happened(&format!("kill -9 $(pidof {name})"));
        if let Some(at) = self.children.iter().position(|(of, _)| *of == service) {
            let (_, mut child) = self.children.swap_remove(at);
            child.kill().await.map_err(|e| DemoError::io(&format!("kill {name}"), e))?;
        }
        Ok(())
    }

    /// Sends a daemon a signal.
    pub fn signal(&mut self, service: Service, signal: Signal) -> Result<(), DemoError> {
        let name = service.program();
        let word = if signal == Signal::STOP { "STOP" } else { "CONT" };
        self.story.happened(&format!("kill -{word} $(pidof {name})"));
        let id = self.child(service).and_then(|child| child.id());
        let pid = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| DemoError::Unexpected(format!("{name} is not running")))?;
        kill_process(pid, signal).map_err(|e| DemoError::io(&format!("signal {name}"), e.into()))
    }

    fn child(&mut self, service: Service) -> Option<&mut Child> {
        self.children.iter_mut().find(|(of, _)| *of == service).map(|(_, child)| child)
    }

    /// A command that runs `likectl` against this stage.
    pub fn likectl(&self) -> Command {
        let mut command = self.programs.likectl();
        command
            .env("LIKECTL_ARTICLE_SOCKET", self.socket(Service::Article))
            .env("LIKECTL_USER_SOCKET", self.socket(Service::User))
            .env("LIKECTL_JOURNAL", self.journal())
            .kill_on_drop(true);
        command
    }

    /// Runs `likectl`, and shows the command and what it says.
    pub async fn show(&mut self, arguments: &[&str]) -> Result<(), DemoError> {
        let quoted: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
        let typed = format!("likectl {}", quoted.join(" "));
        self.story.happened(&typed);
        let mut command = self.likectl();
        command.args(arguments).args(["--color", if self.color { "always" } else { "never" }]);
        command.args(self.story.is_document().then_some("--json"));
        let output =
            command.stdin(Stdio::null()).output().await.map_err(|e| DemoError::io("run likectl", e))?;
        match output.status.code() {
            Some(0) => self.story.came_of_it(&output),
            _ => {
                let (status, why) = (output.status, String::from_utf8_lossy(&output.stderr));
                Err(DemoError::Unexpected(format!("{typed} ended with {status}:\n{why}")))
            }
        }
    }

    /// Kills what still runs, waits for it, and removes the directory.
    pub async fn clear(mut self) {
        for (_, child) in &mut self.children {
            // One that has died already needs no killing.
            let _ = child.kill().await;
        }
        if let Err(e) = self.directory.close() {
            tracing::warn!("the throwaway directory is left behind: {e}");
        }
    }
}

fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}
