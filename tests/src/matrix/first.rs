//! The first fault: the victim sets out, a process comes to its point, and somebody is struck.

use std::time::Duration;

use like_protocol::failpoint::Failpoint;

use super::World;
use super::case::{Case, How, Mode, Passage, Process, Taker};
use super::hand;
use crate::process::{Armed, Ended, Fault, Order, Running};

/// What the first fault leaves. No runner lives any more, and all daemons do.
#[derive(Debug)]
pub struct Struck {
    /// How the victim ended.
    pub victim: Ended,
    /// Whether the fault came about.
    pub fired: bool,
    /// Whether somebody was stopped until the saga's deadline had passed.
    pub late: bool,
}

/// A victim that has set out.
struct Victim {
    running: Running,
    armed: Armed,
    /// How many marks a daemon will have left that has orders.
    due: u32,
    /// How far ahead its saga's deadline lies, if the saga may not be written when somebody is struck.
    unwritten: Option<Duration>,
}

/// Strikes. The victim's saga gets `timeout`.
pub fn strike<W: World>(world: &mut W, case: &Case<W>, timeout: Duration) -> Struck {
    let mut victim = set_out(world, case, timeout);
    let at = case.first.at;
    let in_place = case.first.whom == at.by && case.first.how == How::Kill;
    let fired = match at.by {
        Process::Daemon(service) => hand::obeyed(world, service, at, victim.due, &mut victim.running),
        Process::Runner if in_place => {
            // It dies there, or it ends.
            hand::stopped(&mut victim.running);
            victim.armed.fired(at.point)
        }
        Process::Runner => hand::reached(&mut victim.running, &victim.armed, at.point),
    };
    if !fired {
        assert!(at.nth > 1 || case.first.how != How::Kill, "never reached: {}", case.name());
        return Struck { victim: victim.running.end(), fired, late: false };
    }
    let (victim, late) = match (case.first.whom, case.first.how) {
        (Process::Runner, How::Kill) => (kill_runner(world, victim, at), false),
        (Process::Runner, how) => stop_runner(world, victim, case, how),
        (Process::Daemon(service), How::Kill) => (kill_daemon(world, victim, case, service), false),
        (Process::Daemon(service), how) => stop_daemon(world, victim, case, service, how),
    };
    Struck { victim, fired, late }
}

/// Runs the victim to its end with every point of its own watched; the passages that were made by whom.
pub fn watch<W: World>(world: &mut W, scenario: W::Scenario) -> (Ended, Vec<Passage<W::Service>>) {
    // Up to the beginning a runner that will be beaten does just what any other does.
    let from = if W::needs_rival(scenario) { Failpoint::ActionSentWritten } else { Failpoint::SlotLocked };
    let watched: Vec<_> =
        Failpoint::ALL.into_iter().filter(|point| !point.is_of_daemon() && *point >= from).collect();
    let faults: Vec<_> = watched.iter().copied().map(Fault::Pass).collect();
    let mut before = Vec::new();
    let (running, armed) = start(world, scenario, &faults, super::play::AMPLE, |world| {
        before = W::SERVICES.iter().map(|service| hand::at_rest(world, *service)).collect();
    });
    let ended = running.end();
    let of = |by, point, times| (1..=times).map(move |nth| Passage { by, point, nth });
    let mut passages: Vec<_> =
        watched.into_iter().flat_map(|point| of(Process::Runner, point, armed.marks(point))).collect();
    for (service, before) in W::SERVICES.iter().zip(before) {
        let after = hand::at_rest(world, *service);
        let made = before.into_iter().zip(after).map(|((point, before), (_, after))| (point, after - before));
        passages.extend(made.flat_map(|(point, times)| of(Process::Daemon(*service), point, times)));
    }
    (ended, passages)
}

/// Starts the victim. `arm` is called when nothing but the victim's own acts is still to come.
fn start<W: World>(
    world: &mut W,
    scenario: W::Scenario,
    faults: &[Fault],
    timeout: Duration,
    arm: impl FnOnce(&mut W),
) -> (Running, Armed) {
    let rivaled = W::needs_rival(scenario);
    let stop = rivaled.then_some(Fault::Stop(Failpoint::BeginSynced, 1));
    let faults: Vec<_> = faults.iter().copied().chain(stop).collect();
    let mut command = world.victim(timeout);
    let armed = Armed::arm(&mut command, world.path(), &faults);
    if !rivaled {
        arm(world);
        return (Running::start(&mut command), armed);
    }
    let mut running = Running::start(&mut command);
    assert!(hand::reached(&mut running, &armed, Failpoint::BeginSynced), "a victim that begins");
    world.beat_victim();
    arm(world);
    hand::go_on(&mut running);
    (running, armed)
}

fn set_out<W: World>(world: &mut W, case: &Case<W>, timeout: Duration) -> Victim {
    let (at, whom, how) = (case.first.at, case.first.whom, case.first.how);
    let faults = match at.by {
        Process::Runner if whom == at.by && how == How::Kill => vec![Fault::Kill(at.point, at.nth)],
        Process::Runner => vec![Fault::Stop(at.point, at.nth)],
        Process::Daemon(_) => Vec::new(),
    };
    let mut due = 0;
    let (running, armed) = start(world, case.scenario, &faults, timeout, |world| {
        if let Process::Daemon(service) = at.by {
            // Where the victim dies with it, both stand still until they do.
            let dies = whom == at.by && how == How::Kill && case.taker == Taker::Itself;
            let what = if dies { Order::Kill } else { Order::Stop };
            due = hand::order(world, at, service, what);
        }
    });
    let unwritten = (at.point == Failpoint::BeginAppended).then_some(timeout);
    Victim { running, armed, due, unwritten }
}

/// Lets the process go on that said when, unless it is the one that is struck.
fn release<W: World>(world: &mut W, victim: &mut Victim, case: &Case<W>) {
    if case.first.at.by != case.first.whom {
        hand::go_on(hand::process(world, &mut victim.running, case.first.at.by));
    }
}

fn kill_runner<W: World>(world: &mut W, mut victim: Victim, at: Passage<W::Service>) -> Ended {
    victim.running.kill_now();
    let ended = victim.running.end();
    if let Process::Daemon(service) = at.by {
        hand::go_on(world.process(service));
    }
    ended
}

fn stop_runner<W: World>(world: &mut W, mut victim: Victim, case: &Case<W>, how: How) -> (Ended, bool) {
    let stopped = hand::stop(&mut victim.running);
    release(world, &mut victim, case);
    let late = hand::pass_deadline(world, victim.unwritten);
    if how == How::StopThenKill {
        victim.running.kill_now();
    } else {
        if stopped {
            leaves_alone(world, case.taker.mode());
        }
        hand::go_on(&mut victim.running);
    }
    (victim.running.end(), late && stopped)
}

/// A stopped runner keeps its slot: recovery touches nothing of it.
fn leaves_alone<W: World>(world: &W, mode: Mode) {
    let before = hand::standing(world);
    Ended::of(&mut world.recovery(mode)).expect_code(0);
    let after = hand::standing(world);
    assert!(before.is_like(after), "a stopped runner's saga was {before:?} and is {after:?}");
}

fn kill_daemon<W: World>(world: &mut W, mut victim: Victim, case: &Case<W>, service: W::Service) -> Ended {
    if case.taker == Taker::Itself {
        hand::kill(world, service);
        release(world, &mut victim, case);
        world.start(service);
        return victim.running.end();
    }
    // Both die at that moment: a victim that went on meanwhile would be somewhere else each time.
    victim.running.kill_now();
    let ended = victim.running.end();
    hand::kill(world, service);
    if let Process::Daemon(at) = case.first.at.by
        && at != service
    {
        hand::go_on(world.process(at));
    }
    world.start(service);
    ended
}

fn stop_daemon<W: World>(
    world: &mut W,
    mut victim: Victim,
    case: &Case<W>,
    service: W::Service,
    how: How,
) -> (Ended, bool) {
    hand::stop(world.process(service));
    release(world, &mut victim, case);
    let late = hand::pass_deadline(world, victim.unwritten);
    if case.taker != Taker::Itself {
        victim.running.kill_now();
    }
    if how == How::StopThenKill {
        hand::kill(world, service);
        world.start(service);
    } else {
        hand::go_on(world.process(service));
    }
    (victim.running.end(), late)
}
