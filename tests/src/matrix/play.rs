//! Plays one case: kills, recovers, checks.

use std::process::Command;
use std::time::{Duration, Instant};

use like_client::saga::End;
use like_protocol::failpoint::Failpoint;
use rustix::process::Signal;

use super::standing::{Expected, Standing};
use super::{At, Case, Mode, Taker, Whose, World};
use crate::process::{Armed, Ended, Fault, Running, eventually};

/// How long a daemon may take to pass a point right after it has answered.
const STRAGGLE: Duration = Duration::from_secs(2);

/// Plays a case; whether its last fault fired. One that is beyond the first passage may not: several things happen at
/// once, and what was passed twice when it was planned can be passed once. Everything is checked all the same.
///
/// # Panics
/// A promise is broken, or a fault that must fire did not.
pub fn case<W: World>(world: &mut W, case: &Case<W>) -> bool {
    match *case {
        Case::Runner { scenario, at, mode } => {
            world.set(scenario);
            let (ended, standing, fired) = first_death(world, scenario, at);
            finish(world, scenario, standing, W::acknowledged(&ended), mode);
            fired
        }
        Case::Takeover { scenario, at, taker: who, then, mode } => {
            world.set(scenario);
            let (ended, standing, _) = first_death(world, scenario, at);
            let (standing, fired) = second_death(world, scenario, standing, who, then);
            finish(world, scenario, standing, W::acknowledged(&ended), mode);
            fired
        }
        Case::Daemon { scenario, service, at, recovered } => {
            world.set(scenario);
            daemon_death(world, scenario, service, at, recovered)
        }
    }
}

/// Runs the victim to its end, beaten by its rival if the scenario wants that.
pub fn victim<W: World>(world: &mut W, scenario: W::Scenario, faults: &[Fault]) -> (Ended, Armed) {
    let (running, armed) = start(world, scenario, faults);
    go(scenario, &running, world);
    (running.end(), armed)
}

/// Starts the victim with one of its daemons armed. It is running when this returns.
pub fn under<W: World>(
    world: &mut W,
    scenario: W::Scenario,
    service: W::Service,
    faults: &[Fault],
) -> (Running, Armed) {
    if !W::needs_rival(scenario) {
        let armed = world.restart(service, faults);
        return (Running::start(&mut world.victim()), armed);
    }
    let (running, _) = start(world, scenario, &[]);
    await_stop(&running);
    world.beat_victim();
    let armed = world.restart(service, faults);
    running.signal(Signal::CONT);
    (running, armed)
}

/// Insists that a victim that lives has done what it wanted, or has been told why it can't.
///
/// # Panics
/// It has not.
pub fn expect_end<W: World>(scenario: W::Scenario, ended: &Ended) {
    let codes: &[i32] = if W::turns_back(scenario) { &[4, 5] } else { &[0] };
    assert!(ended.code().is_some_and(|code| codes.contains(&code)), "{ended:?}");
}

/// Whoever takes over.
pub fn taker<W: World>(world: &W, taker: Taker) -> Command {
    match taker {
        Taker::Recovery(mode) => world.recovery(mode),
        Taker::Successor => world.successor(),
    }
}

fn start<W: World>(world: &W, scenario: W::Scenario, faults: &[Fault]) -> (Running, Armed) {
    let stop = W::needs_rival(scenario).then_some(Fault::Stop(Failpoint::BeginSynced, 1));
    let faults: Vec<_> = faults.iter().copied().chain(stop).collect();
    let mut command = world.victim();
    let armed = Armed::arm(&mut command, world.path(), &faults);
    (Running::start(&mut command), armed)
}

fn go<W: World>(scenario: W::Scenario, running: &Running, world: &mut W) {
    if W::needs_rival(scenario) {
        await_stop(running);
        world.beat_victim();
        running.signal(Signal::CONT);
    }
}

fn await_stop(running: &Running) {
    eventually("a runner that stops at its beginning", || running.is_stopped().then_some(()));
}

/// Insists that a fault fired and killed, unless it lay beyond the first passage.
fn fired(armed: &Armed, ended: &Ended, at: At) -> bool {
    let fired = armed.fired(at.point);
    assert_eq!(fired, ended.was_killed(), "{} and {ended:?}", at.point.name());
    assert!(fired || at.passage > 1, "never reached: {}", at.point.name());
    fired
}

fn first_death<W: World>(world: &mut W, scenario: W::Scenario, at: At) -> (Ended, Standing, bool) {
    let turns_back = W::turns_back(scenario);
    let (ended, armed) = victim(world, scenario, &[Fault::Kill(at.point, at.passage)]);
    let fired = fired(&armed, &ended, at);
    let before_begin = matches!(
        at.point,
        Failpoint::SlotLocked | Failpoint::CarryWritten | Failpoint::CarrySynced | Failpoint::CarryDone
    );
    let standing = match fired {
        true if before_begin => Standing::NotBegun,
        true => Standing::Forward.after_death(at.point, turns_back, Mode::GoOn),
        false => Standing::Forward.after_death(Failpoint::SettledWritten, turns_back, Mode::GoOn),
    };
    (ended, standing, fired)
}

fn second_death<W: World>(
    world: &mut W,
    scenario: W::Scenario,
    standing: Standing,
    who: Taker,
    at: At,
) -> (Standing, bool) {
    let turns_back = W::turns_back(scenario);
    let mut command = taker(world, who);
    let armed = Armed::arm(&mut command, world.path(), &[Fault::Kill(at.point, at.passage)]);
    let ended = Ended::of(&mut command);
    let fired = fired(&armed, &ended, at);
    let point = if fired { at.point } else { Failpoint::SettledWritten };
    let unchanged = standing.after_death(Failpoint::CarryDone, turns_back, Mode::GoOn);
    let standing = match (who, standing) {
        (Taker::Recovery(mode), _) => standing.after_death(point, turns_back, mode),
        // Two sagas are under way: whose the point was is not told.
        (Taker::Successor, Standing::Forward) if at.point > Failpoint::CarryDone => {
            Standing::ForwardOrCompleted
        }
        (Taker::Successor, _) => unchanged,
    };
    (standing, fired)
}

fn daemon_death<W: World>(
    world: &mut W,
    scenario: W::Scenario,
    service: W::Service,
    at: At,
    recovered: Option<Mode>,
) -> bool {
    let (mut running, armed) = under(world, scenario, service, &[Fault::Kill(at.point, at.passage)]);
    eventually("the death of a daemon", || (world.has_died(service) || running.has_ended()).then_some(()));
    let died = died_soon(world, service);
    assert_eq!(died, armed.fired(at.point), "{}", at.point.name());
    assert!(died || at.passage > 1, "never reached: {}", at.point.name());
    if died {
        assert!(world.bury(service).was_killed());
    }
    let turns_back = W::turns_back(scenario);
    let Some(mode) = recovered else {
        world.restart(service, &[]);
        let ended = running.end();
        expect_end::<W>(scenario, &ended);
        finish(world, scenario, Standing::Forward, !turns_back, Mode::GoOn);
        return died;
    };
    running.kill_now();
    let acknowledged = W::acknowledged(&running.end());
    world.restart(service, &[]);
    // It may have ended before it was killed.
    finish(world, scenario, Standing::ForwardOrCompleted, acknowledged, mode);
    died
}

/// The last thing that a daemon passes may come after its runner has gone.
fn died_soon<W: World>(world: &mut W, service: W::Service) -> bool {
    let until = Instant::now() + STRAGGLE;
    while !world.has_died(service) {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Recovers, and checks every promise.
fn finish<W: World>(
    world: &mut W,
    scenario: W::Scenario,
    standing: Standing,
    acknowledged: bool,
    mode: Mode,
) {
    Ended::of(&mut world.recovery(mode)).expect_code(0);
    let sagas = world.sagas();
    let state_of = |whose| sagas.iter().find(|(of, _)| *of == whose).map(|(_, state)| state.as_str());
    for (whose, state) in &sagas {
        assert!(matches!(state.as_str(), "completed" | "compensated"), "{whose:?} is {state}");
    }
    let victim = state_of(Whose::Victim);
    match standing.end(W::turns_back(scenario), mode) {
        Expected::NoSaga => assert_eq!(victim, None),
        Expected::Exactly(End::Completed) => assert_eq!(victim, Some("completed")),
        Expected::Exactly(End::Compensated) => assert_eq!(victim, Some("compensated")),
        Expected::Either => assert!(victim.is_some(), "forgotten"),
    }
    if W::needs_rival(scenario) {
        assert_eq!(state_of(Whose::Rival), Some("completed"));
    }
    let completed = victim == Some("completed");
    // The end is written before anyone is told, and `kill -9` loses nothing that is written: not even recovery that
    // compensates takes back what was acknowledged.
    assert!(completed || !acknowledged, "acknowledged and lost");
    world.check(completed, state_of(Whose::Successor) == Some("completed"));
    world.use_again(completed);
}
