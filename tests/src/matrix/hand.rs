//! The hand that stops, continues and kills processes of a world, and waits until that has happened.

use std::time::{Duration, Instant};

use like_client::log::{Journal, Story, history};
use like_protocol::failpoint::Failpoint;
use like_protocol::time::{BootClock, Clock};
use rustix::process::Signal;

use super::case::{Passage, Process};
use super::standing::Standing;
use super::{Whose, World};
use crate::process::{Armed, Order, PATIENCE, Running, eventually};

/// How long a daemon may take to pass a point right after it has answered.
const STRAGGLE: Duration = Duration::from_secs(1);

/// Waits until a process is stopped, and is true then; or until it has ended.
///
/// # Panics
/// Neither happens in time.
pub fn stopped(running: &mut Running) -> bool {
    eventually("a process that stops or ends", || {
        if running.has_ended() {
            return Some(false);
        }
        running.is_stopped().then_some(true)
    })
}

/// Stops a process, and is true if that came before its end.
pub fn stop(running: &mut Running) -> bool {
    if running.has_ended() {
        return false;
    }
    running.signal(Signal::STOP);
    stopped(running)
}

/// Lets a process go on that was stopped, unless it has ended before that.
pub fn go_on(running: &mut Running) {
    if !running.has_ended() {
        running.signal(Signal::CONT);
    }
}

/// Kills a daemon, and waits until it is gone.
pub fn kill<W: World>(world: &mut W, service: W::Service) {
    world.process(service).kill_now();
    eventually("the death of a daemon", || world.process(service).has_ended().then_some(()));
}

/// How often a daemon that is at rest has passed its points.
pub fn at_rest<W: World>(world: &W, service: W::Service) -> Vec<(Failpoint, u32)> {
    let armed = world.armed(service);
    let points = || Failpoint::ALL.into_iter().filter(|point| point.is_of_daemon());
    eventually("a daemon at rest", || {
        let rests = armed.marks(Failpoint::GroupEvaluated) == armed.marks(Failpoint::GroupAnswered);
        rests.then(|| points().map(|point| (point, armed.marks(point))).collect())
    })
}

/// Tells a daemon what to do at its n-th passage from now on. Returns how often it will have left its mark then.
pub fn order<W: World>(world: &W, at: Passage<W::Service>, service: W::Service, what: Order) -> u32 {
    let passed = at_rest(world, service).into_iter().find(|(point, _)| *point == at.point);
    let due = passed.map_or(0, |(_, passed)| passed) + at.nth;
    world.armed(service).order(at.point, due, what);
    due
}

/// Waits until a daemon has done as ordered, and is true then; or until `running` has ended and it has not.
pub fn obeyed<W: World>(
    world: &mut W,
    service: W::Service,
    at: Passage<W::Service>,
    due: u32,
    running: &mut Running,
) -> bool {
    let mut ended_at: Option<Instant> = None;
    let obeyed = eventually("a daemon at its point", || {
        let passed = world.armed(service).marks(at.point) >= due;
        if passed && (world.process(service).has_ended() || world.process(service).is_stopped()) {
            return Some(true);
        }
        if ended_at.is_none() && running.has_ended() {
            ended_at = Some(Instant::now());
        }
        ended_at.is_some_and(|at| at.elapsed() > STRAGGLE).then_some(false)
    });
    world.armed(service).forget_order();
    obeyed
}

/// Waits until a runner has stopped at its point, and is true then; or until it has ended.
pub fn reached(running: &mut Running, armed: &Armed, point: Failpoint) -> bool {
    eventually("a runner at its point", || {
        if running.has_ended() {
            return Some(false);
        }
        (armed.fired(point) && running.is_stopped()).then_some(true)
    })
}

/// Waits until the deadline of the victim's saga has passed; false if it has not begun one. Of a saga that may not be written yet
/// it is told how long that takes at most.
///
/// # Panics
/// The deadline lies further ahead than anybody waits.
pub fn pass_deadline<W: World>(world: &W, unwritten: Option<Duration>) -> bool {
    let Some(story) = stories(world).into_iter().find(|story| world.whose(story) == Whose::Victim) else {
        unwritten.into_iter().for_each(std::thread::sleep);
        return unwritten.is_some();
    };
    let deadline = story.state.expect("nothing is damaged").deadline;
    let clock = BootClock::open().expect("a boot clock");
    let remaining = deadline.remaining(&clock.now());
    assert!(remaining < PATIENCE, "nobody waits {remaining:?}");
    std::thread::sleep(remaining);
    eventually("the deadline", || deadline.passed(&clock.now()).then_some(true))
}

/// All sagas of the stage's journal.
///
/// # Panics
/// The journal can't be read, or something in it is damaged.
pub fn stories<W: World>(world: &W) -> Vec<Story> {
    let Ok(journal) = Journal::open_existing(&world.journal()) else { return Vec::new() };
    let history = history::read(&journal).expect("a journal that can be read");
    assert!(history.gaps.are_none(), "{history:?}");
    history.sagas.into_iter().map(|(_, story)| story).collect()
}

/// How the victim's saga stands in the log.
pub fn standing<W: World>(world: &W) -> Standing {
    let stories = stories(world);
    let mut victims = stories.iter().filter(|story| world.whose(story) == Whose::Victim);
    let victim = victims.next();
    assert!(victims.next().is_none(), "the victim began one saga");
    let clock = BootClock::open().expect("a boot clock");
    Standing::of(victim.and_then(|story| story.state.as_ref()), &clock.now())
}

/// A runner or daemon, whoever it is.
pub fn process<'a, W: World>(
    world: &'a mut W,
    runner: &'a mut Running,
    whom: Process<W::Service>,
) -> &'a mut Running {
    match whom {
        Process::Runner => runner,
        Process::Daemon(service) => world.process(service),
    }
}
