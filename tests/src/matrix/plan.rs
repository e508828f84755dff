//! Which cases there are: every passage of every point in every scenario, found by looking at a run in which nothing
//! fails.

use like_protocol::failpoint::Failpoint;

use super::{At, Case, Mode, Taker, World, play};
use crate::process::{Armed, Ended, Fault};

/// Where a first runner dies before somebody takes over, unless the plan is full: when the log does not know yet what
/// was done, or undone, and when nobody knows of the end.
const FIRST_DEATHS: [Failpoint; 3] =
    [Failpoint::ActionReplied, Failpoint::CompensationReplied, Failpoint::EndWritten];

/// Who may take over besides recovery as it is commonly run.
const TAKERS: [Taker; 3] =
    [Taker::Successor, Taker::Recovery(Mode::Compensate), Taker::Recovery(Mode::Resume)];

/// Who may finish what a daemon's death has interrupted: its runner itself, or recovery.
const FINISHERS: [Option<Mode>; 4] = [None, Some(Mode::GoOn), Some(Mode::Compensate), Some(Mode::Resume)];

/// All cases, or a covering part of them.
pub fn cases<W: World>(world: &mut W, full: bool) -> Vec<Case<W>> {
    let mut modes = InTurn { all: &Mode::ALL, full, turn: 0 };
    let mut takers = InTurn { all: &TAKERS, full, turn: 0 };
    let mut finishers = InTurn { all: &FINISHERS, full, turn: 0 };
    let mut cases = Vec::new();
    for &scenario in W::SCENARIOS {
        let deaths = runner_deaths(world, scenario);
        for &at in &deaths {
            cases.extend(modes.next().iter().map(|&mode| Case::Runner { scenario, at, mode }));
        }
        for &at in deaths.iter().filter(|at| full || is_first_death(**at, &deaths)) {
            // Recovery as it is commonly run is always among those who take over.
            let others = takers.next().iter();
            for &taker in [Taker::Recovery(Mode::GoOn)].iter().chain(others) {
                for then in taker_deaths(world, scenario, at, taker) {
                    let modes = modes.next().iter();
                    cases.extend(modes.map(|&mode| Case::Takeover { scenario, at, taker, then, mode }));
                }
            }
        }
        for &service in W::SERVICES {
            for at in daemon_deaths(world, scenario, service) {
                let finishers = finishers.next().iter();
                cases.extend(finishers.map(|&recovered| Case::Daemon { scenario, service, at, recovered }));
            }
        }
    }
    cases
}

/// All of something every time, or one after the other.
struct InTurn<T: 'static> {
    all: &'static [T],
    full: bool,
    turn: usize,
}

impl<T> InTurn<T> {
    fn next(&mut self) -> &'static [T] {
        if self.full {
            return self.all;
        }
        let turn = self.turn % self.all.len();
        self.turn += 1;
        &self.all[turn..=turn]
    }
}

/// Of several passages of a point the last one, where most has happened.
fn is_first_death(at: At, deaths: &[At]) -> bool {
    let last = deaths.iter().rev().find(|death| death.point == at.point);
    FIRST_DEATHS.contains(&at.point) && last == Some(&at)
}

fn runner_deaths<W: World>(world: &mut W, scenario: W::Scenario) -> Vec<At> {
    world.set(scenario);
    // Up to the beginning a runner that will be beaten does just what any other does.
    let from = if W::needs_rival(scenario) { Failpoint::ActionSentWritten } else { Failpoint::SlotLocked };
    let watched = points(|point| !point.is_of_daemon() && point >= from);
    let (ended, armed) = play::victim(world, scenario, &passes(&watched));
    play::expect_end::<W>(scenario, &ended);
    passages(&watched, &armed)
}

fn taker_deaths<W: World>(world: &mut W, scenario: W::Scenario, at: At, taker: Taker) -> Vec<At> {
    world.set(scenario);
    play::victim(world, scenario, &[Fault::Kill(at.point, at.passage)]);
    let mut command = play::taker(world, taker);
    let watched = points(|point| !point.is_of_daemon());
    let armed = Armed::arm(&mut command, world.path(), &passes(&watched));
    Ended::of(&mut command).expect_code(0);
    passages(&watched, &armed)
}

fn daemon_deaths<W: World>(world: &mut W, scenario: W::Scenario, service: W::Service) -> Vec<At> {
    world.set(scenario);
    let watched = points(Failpoint::is_of_daemon);
    let (victim, armed) = play::under(world, scenario, service, &passes(&watched));
    play::expect_end::<W>(scenario, &victim.end());
    // It has left its last mark when it has stopped.
    world.restart(service, &[]);
    passages(&watched, &armed)
}

fn points(which: impl Fn(Failpoint) -> bool) -> Vec<Failpoint> {
    Failpoint::ALL.into_iter().filter(|point| which(*point)).collect()
}

fn passes(watched: &[Failpoint]) -> Vec<Fault> {
    watched.iter().copied().map(Fault::Pass).collect()
}

fn passages(watched: &[Failpoint], armed: &Armed) -> Vec<At> {
    let of = |point: Failpoint| (1..=armed.marks(point)).map(move |passage| At { point, passage });
    watched.iter().copied().flat_map(of).collect()
}
