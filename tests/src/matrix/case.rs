//! What a case is: who stands where, who is struck and how, who takes over and where that one dies.

use std::fmt::{self, Display};

use like_protocol::failpoint::Failpoint;

use super::World;

/// A process of a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process<S> {
    /// A runner: the victim, or whoever takes over.
    Runner,
    /// A daemon.
    Daemon(S),
}

/// A passage of a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage<S> {
    /// Who passes.
    pub by: Process<S>,
    /// The point.
    pub point: Failpoint,
    /// The how-manieth passage of it, counted from 1.
    pub nth: u32,
}

/// How a process is struck.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// By SIGKILL.
    Kill,
    /// By SIGSTOP; when the saga's deadline has passed it is continued.
    StopThenGoOn,
    /// By SIGSTOP; when the saga's deadline has passed it is killed.
    StopThenKill,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kill, Self::StopThenGoOn, Self::StopThenKill];
}

/// The first fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First<S> {
    /// Where the process stands that says when.
    pub at: Passage<S>,
    /// Who is struck then: that process or another.
    pub whom: Process<S>,
    /// How.
    pub how: How,
}

/// How recovery is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `recover`.
    GoOn,
    /// `recover --resume`.
    Resume,
    /// `recover --compensate`.
    Compensate,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GoOn, Self::Resume, Self::Compensate];

    /// Its flag.
    pub const fn flag(self) -> &'static [&'static str] {
        match self {
            Self::GoOn => &[],
            Self::Resume => &["--resume"],
            Self::Compensate => &["--compensate"],
        }
    }
}

/// Who finishes what the first fault has interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taker {
    /// Recovery. A runner that still lives after a daemon was struck is killed for it.
    Recovery(Mode),
    /// The runner itself, which lives on after a daemon was struck. Recovery looks after it.
    Itself,
    /// Another runner, which has something of its own to do and finds the victim's slot.
    Successor,
}

impl Taker {
    /// How recovery is run at last.
    pub fn mode(self) -> Mode {
        match self {
            Self::Recovery(mode) => mode,
            Self::Itself | Self::Successor => Mode::GoOn,
        }
    }

    /// Who may finish after such a fault.
    pub fn after<S>(whom: &Process<S>, how: How) -> Vec<Self> {
        let fourth = match (whom, how) {
            (Process::Daemon(_), _) => Some(Self::Itself),
            (Process::Runner, How::Kill | How::StopThenKill) => Some(Self::Successor),
            // It ends by itself in any case.
            (Process::Runner, How::StopThenGoOn) => None,
        };
        Mode::ALL.map(Self::Recovery).into_iter().chain(fourth).collect()
    }
}

/// One case of the matrix.
#[derive(Debug)]
pub struct Case<W: World> {
    /// What the victim is about to do.
    pub scenario: W::Scenario,
    /// The first fault.
    pub first: First<W::Service>,
    /// Who finishes.
    pub taker: Taker,
    /// Where whoever finishes is killed, or a daemon under it.
    pub second: Option<Passage<W::Service>>,
}

impl<W: World> Clone for Case<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: World> Copy for Case<W> {}

impl<W: World> Case<W> {
    /// The same with a second crash.
    pub fn then(self, second: Passage<W::Service>) -> Self {
        Self { second: Some(second), ..self }
    }

    /// The kind of its first fault.
    pub fn kind(&self) -> String {
        format!("{} {}", self.first.how, self.first.whom)
    }

    /// Its name: what `--only` looks for.
    pub fn name(&self) -> String {
        let second = self.second.map_or_else(|| "none".to_owned(), |second| second.to_string());
        let (kind, taker) = (self.kind(), self.taker);
        format!("{}/{:?}/{}/{kind}/{taker}/{second}", W::NAME, self.scenario, self.first.at)
    }
}

impl<S: fmt::Debug> Display for Process<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runner => f.write_str("runner"),
            Self::Daemon(service) => f.write_str(&format!("{service:?}").to_lowercase()),
        }
    }
}

impl<S: fmt::Debug> Display for Passage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.by, self.point.name(), self.nth)
    }
}

impl Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::StopThenGoOn => "stop and continue",
            Self::StopThenKill => "stop and kill",
        })
    }
}

impl Display for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recovery(Mode::GoOn) => "recover",
            Self::Recovery(Mode::Resume) => "recover --resume",
            Self::Recovery(Mode::Compensate) => "recover --compensate",
            Self::Itself => "itself",
            Self::Successor => "successor",
        })
    }
}
