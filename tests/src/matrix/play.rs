//! Plays one case: strikes, recovers, strikes again, recovers, and checks every promise.

use std::time::Duration;

use like_client::saga::End;
use like_protocol::failpoint::Failpoint;

use super::case::{Case, How, Passage, Process, Taker};
use super::first::{self, Struck};
use super::standing::{Actions, Expected, Standing};
use super::{Whose, World, hand};
use crate::process::{Armed, Ended, Fault, Order, Running};

/// The deadline of a victim that is not to meet it.
pub const AMPLE: Duration = Duration::from_secs(30);

/// The deadline of a victim that is to meet it: enough for its saga to come to any point on an idle machine. When it is
/// not, the case is played again with twice as much.
const SHORT: Duration = Duration::from_millis(400);

/// As much as that at most.
const SHORT_MAX: Duration = Duration::from_secs(7);

/// How often a case is played until all of its faults come about. A saga's two compensations and its two settlements
/// are under way at once, and so are two sagas of one runner: which of them is how far when a process is struck, and
/// which of them share a group or a batch, differs from time to time, and with it what is passed afterwards.
const PLAYS_MAX: u32 = 12;

/// How often a first fault is played for what is passed after it. A second crash is planned on what was passed each time:
/// one planned on a passage that is rarely made would not come about in a dozen plays.
const LOOKS: u32 = 3;

/// What came of a case.
#[derive(Debug)]
pub struct Played<S> {
    /// Whether all of its faults came about in the last play. Everything is checked in every play.
    pub reached: bool,
    /// Whether the first did.
    struck: bool,
    /// How often it was played.
    pub plays: u32,
    /// Whether somebody was stopped until the saga's deadline had passed.
    pub late: bool,
    /// What whoever took over passed each time, and the daemons meanwhile, if there was no second crash.
    pub passages: Vec<Passage<S>>,
}

/// Plays a case, and one without a second crash some more times: it says where one may come.
///
/// # Panics
/// A promise is broken, or a fault that must come about did not.
pub fn case<W: World>(world: &mut W, case: &Case<W>) -> Played<W::Service> {
    let mut played = until_reached(world, case);
    let more_looks = if case.second.is_none() { LOOKS - 1 } else { 0 };
    for _ in 0..more_looks {
        let again = until_reached(world, case);
        played.passages.retain(|passage| again.passages.contains(passage));
        played.reached &= again.reached;
    }
    played
}

/// Plays a case until all of its faults come about, or too often.
fn until_reached<W: World>(world: &mut W, case: &Case<W>) -> Played<W::Service> {
    let mut timeout = if case.first.how == How::Kill { AMPLE } else { SHORT };
    let mut plays = 0;
    loop {
        let played = once(world, case, timeout);
        plays += 1;
        if played.reached || plays == PLAYS_MAX {
            return Played { plays, ..played };
        }
        if !played.struck && case.first.how != How::Kill {
            timeout = SHORT_MAX.min(timeout * 2);
        }
    }
}

/// What is known before anybody recovers.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// How the saga stands in the log.
    standing: Standing,
    /// Whether its deadline has surely passed.
    late: bool,
    /// Whether all of its steps have surely been done, though the log does not know whether they were.
    done: bool,
}

impl Before {
    fn look<W: World>(world: &W, struck: &Struck) -> Self {
        let standing = hand::standing(world);
        let doubt = matches!(standing, Standing::Forward(forward) if forward.actions == Actions::Sent);
        Self { standing, late: struck.late, done: doubt && world.all_done() }
    }
}

fn once<W: World>(world: &mut W, case: &Case<W>, timeout: Duration) -> Played<W::Service> {
    world.set(case.scenario);
    let struck = first::strike(world, case, timeout);
    let before = Before::look(world, &struck);
    fits_first(case, &struck, before.standing);
    let (taken, passages) = match case.second {
        None => (true, take_over(world, case.taker)),
        Some(second) => {
            let taken = second_crash(world, case.taker, second);
            let between = hand::standing(world);
            assert!(before.standing.may_become(between), "{before:?} became {between:?}");
            if let (Process::Runner, Taker::Recovery(_), true) = (second.by, case.taker, taken) {
                assert!(between.fits_death(before.standing, second.point), "{before:?}, then {between:?}");
            }
            let between = Before { standing: between, ..before };
            Ended::of(&mut world.recovery(case.taker.mode())).expect_code(0);
            expect(hand::standing(world), between, case);
            (taken, Vec::new())
        }
    };
    check(world, case, before, &struck);
    Played { reached: struck.fired && taken, struck: struck.fired, plays: 1, late: struck.late, passages }
}

/// What the victim's death, and its words, say of its saga.
fn fits_first<W: World>(case: &Case<W>, struck: &Struck, standing: Standing) {
    let Struck { victim, fired, .. } = struck;
    let first = case.first;
    if *fired
        && first.whom == Process::Runner
        && first.at.by == Process::Runner
        && first.how != How::StopThenGoOn
    {
        assert!(victim.was_killed(), "{victim:?}");
        assert!(standing.fits_death(Standing::NotBegun, first.at.point), "{standing:?}");
    }
    if W::acknowledged(victim) {
        assert_eq!(standing, Standing::Ended(End::Completed), "acknowledged before it was so: {victim:?}");
    }
    match victim.code() {
        None => assert!(victim.was_killed(), "{victim:?}"),
        Some(0) => assert!(W::acknowledged(victim) && !W::turns_back(case.scenario), "{victim:?}"),
        // It failed, and somebody was told so.
        Some(4 | 5) => assert!(
            matches!(standing, Standing::NotBegun | Standing::Back | Standing::Ended(End::Compensated)),
            "{standing:?} and {victim:?}"
        ),
        Some(6) => assert_ne!(case.first.how, How::Kill, "its daemons were back in no time: {victim:?}"),
        Some(8) => assert_eq!(standing, Standing::NotBegun, "{victim:?}"),
        Some(_) => panic!("{victim:?}"),
    }
}

fn command<W: World>(world: &W, taker: Taker) -> std::process::Command {
    match taker {
        Taker::Successor => world.successor(),
        other => world.recovery(other.mode()),
    }
}

/// Lets somebody take over undisturbed; what was passed meanwhile.
fn take_over<W: World>(world: &mut W, taker: Taker) -> Vec<Passage<W::Service>> {
    let mut command = command(world, taker);
    let watched: Vec<_> = Failpoint::ALL.into_iter().filter(|point| !point.is_of_daemon()).collect();
    let faults: Vec<_> = watched.iter().copied().map(Fault::Pass).collect();
    let armed = Armed::arm(&mut command, world.path(), &faults);
    let before: Vec<_> = W::SERVICES.iter().map(|service| hand::at_rest(world, *service)).collect();
    Ended::of(&mut command).expect_code(0);
    let mut made: Vec<_> =
        watched.into_iter().map(|point| (Process::Runner, point, armed.marks(point))).collect();
    for (service, before) in W::SERVICES.iter().zip(before) {
        let after = hand::at_rest(world, *service);
        let by = Process::Daemon(*service);
        made.extend(before.into_iter().zip(after).map(|((point, was), (_, is))| (by, point, is - was)));
    }
    let each = |(by, point, times)| (1..=times).map(move |nth| Passage { by, point, nth });
    made.into_iter().flat_map(each).collect()
}

/// Somebody takes over, and is killed, or a daemon under it; whether that came about. All daemons run afterwards.
fn second_crash<W: World>(world: &mut W, taker: Taker, second: Passage<W::Service>) -> bool {
    let mut command = command(world, taker);
    match second.by {
        Process::Runner => {
            let armed = Armed::arm(&mut command, world.path(), &[Fault::Kill(second.point, second.nth)]);
            let ended = Ended::of(&mut command);
            let fired = armed.fired(second.point);
            assert_eq!(fired, ended.was_killed(), "{ended:?}");
            if !fired {
                ended.expect_code(0);
            }
            fired
        }
        Process::Daemon(service) => {
            let due = hand::order(world, second, service, Order::Kill);
            let mut running = Running::start(&mut command);
            let fired = hand::obeyed(world, service, second, due, &mut running);
            if fired {
                hand::kill(world, service);
                world.start(service);
            }
            running.end().expect_code(0);
            fired
        }
    }
}

/// Holds the end against how the saga stood before it was recovered.
fn expect<W: World>(end: Standing, before: Before, case: &Case<W>) {
    let standing = before.standing;
    assert!(standing.may_become(end), "{before:?} became {end:?}");
    // A deadline that was short and may have passed only now decides nothing here.
    let unsure = case.first.how != How::Kill && !before.late && matches!(standing, Standing::Forward(_));
    let expected = match standing.end(W::turns_back(case.scenario), case.taker.mode()) {
        Expected::Exactly(End::Completed) if unsure => Expected::Either,
        // The log does not know of it, but the participants have done it all: nobody may give up on that.
        Expected::Either if before.done => Expected::Exactly(End::Completed),
        expected => expected,
    };
    let as_expected = match expected {
        Expected::NoSaga => end == Standing::NotBegun,
        Expected::Exactly(exactly) => end == Standing::Ended(exactly),
        Expected::Either => matches!(end, Standing::Ended(_)),
    };
    assert!(as_expected, "{before:?} became {end:?} instead of {expected:?}");
}

/// Checks every promise. `before`: how the saga stood when the first fault was over.
fn check<W: World>(world: &W, case: &Case<W>, before: Before, struck: &Struck) {
    let stories = hand::stories(world);
    let state_of = |whose| {
        let mut of = stories.iter().filter(|story| world.whose(story) == whose);
        of.next_back().and_then(|story| story.state.as_ref())
    };
    for story in &stories {
        let state = story.state.as_ref().expect("nothing is damaged");
        assert!(state.ended().is_some() && state.settled, "left behind: {:?} {state:?}", world.whose(story));
    }
    let completed = |whose| state_of(whose).and_then(|state| state.ended()) == Some(End::Completed);
    if W::needs_rival(case.scenario) {
        assert!(completed(Whose::Rival), "the rival was told that it was quicker");
    }
    if case.second.is_none() {
        expect(hand::standing(world), before, case);
    }
    let victim = completed(Whose::Victim);
    // The end is written before anyone is told, and `kill -9` loses nothing that is written: not even recovery that
    // compensates takes back what was acknowledged.
    assert!(victim || !W::acknowledged(&struck.victim), "acknowledged and lost");
    world.check(victim, completed(Whose::Successor));
    world.use_again(victim);
}
