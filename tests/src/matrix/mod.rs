//! The crash matrix: wherever a process stands, one of the processes is killed or stopped past the saga's deadline, in
//! every scenario; then it is recovered in every mode, while that is killed too; and every promise is kept.
//!
//! * [`World`]: a domain as the matrix sees it: scenarios, processes, and what must hold.
//! * [`case`]: what a case is, and its name.
//! * [`plan`]: which cases there are. Nothing is guessed: processes that pass a point leave a mark, and are counted.
//! * [`play`]: plays one case: strikes, recovers, checks. [`first`]: its first fault. [`hand`]: stopping and killing.
//! * [`standing`]: what the saga log says of a saga, and what it must say: the expectation, as a pure model.
//! * [`run`]: plays many, several at a time. [`table`]: what was played.
//! * [`likes`], [`wallet`]: the two worlds. [`program`]: all of it as a command.

pub mod case;
pub mod first;
pub mod hand;
pub mod likes;
pub mod plan;
pub mod play;
pub mod program;
pub mod run;
pub mod standing;
pub mod table;
pub mod wallet;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use like_client::log::Story;
use like_protocol::failpoint::Failpoint;

use crate::process::{Armed, Ended, Fault, Running};
use case::Mode;

/// After how many failures in a row recovery calls for an operator here: a daemon that takes seconds to start, on a machine
/// that does other things as well, is no broken promise.
pub const PATIENT: u32 = 1000;

/// A domain as the matrix sees it: daemons and a journal, and one stage in them on which a case is played.
pub trait World: Sized {
    /// What a victim is about to do.
    type Scenario: Copy + Debug + Send + Sync + 'static;
    /// One of its daemons.
    type Service: Copy + Debug + PartialEq + Send + Sync + 'static;
    /// What it is called.
    const NAME: &'static str;
    /// All scenarios.
    const SCENARIOS: &'static [Self::Scenario];
    /// All daemons.
    const SERVICES: &'static [Self::Service];

    /// A world whose daemons run, with [`daemon_faults`] armed.
    fn open(program: &Path) -> Self;
    /// Where marks may be left.
    fn path(&self) -> &Path;
    /// The stage's journal; it may not exist yet.
    fn journal(&self) -> PathBuf;
    /// Whether a rule turns the victim's saga back, so that it ends compensated if all goes well.
    fn turns_back(scenario: Self::Scenario) -> bool;
    /// Whether that takes a rival who is quicker: the victim is stopped meanwhile, once its beginning is durable.
    fn needs_rival(scenario: Self::Scenario) -> bool;

    /// Sets a stage: a journal and rows of its own, and whatever must have happened before.
    fn set(&mut self, scenario: Self::Scenario);
    /// The process that the case is about; its saga's deadline lies so far ahead.
    fn victim(&self, timeout: Duration) -> Command;
    /// Does what the victim wants to do, before it can. Ends well.
    fn beat_victim(&mut self);
    /// Another runner that comes along and finds the victim's slot.
    fn successor(&self) -> Command;
    /// The process that recovers. It calls for nobody, see [`PATIENT`].
    fn recovery(&self, mode: Mode) -> Command;

    /// A daemon's process.
    fn process(&mut self, service: Self::Service) -> &mut Running;
    /// What is armed in it.
    fn armed(&self, service: Self::Service) -> &Armed;
    /// Starts a daemon that was killed.
    fn start(&mut self, service: Self::Service);

    /// Whose a saga in the stage's journal is.
    fn whose(&self, story: &Story) -> Whose;
    /// Whether the victim told its caller that what it wanted has happened.
    fn acknowledged(victim: &Ended) -> bool;
    /// Whether both steps of what the victim wants have been done just now, settled or not.
    fn all_done(&self) -> bool;
    /// Checks all rows of the stage, given which of the sagas completed.
    fn check(&self, victim_completed: bool, successor_completed: bool);
    /// Goes on using what the victim used, and finds no lock left.
    fn use_again(&self, victim_completed: bool);
    /// Checks once more, by its own programs, that nothing is left of all the stages that were played.
    fn close(&self);
}

/// Whose a saga is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The process that the case is about.
    Victim,
    /// The one that was quicker.
    Rival,
    /// The one that came along later.
    Successor,
}

/// A daemon of a world runs for many cases: at each of its points it asks what to do.
pub fn daemon_faults() -> Vec<Fault> {
    Failpoint::ALL.into_iter().filter(|point| point.is_of_daemon()).map(Fault::Ask).collect()
}
