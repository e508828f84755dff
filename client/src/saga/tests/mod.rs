//! Sagas to test with: two steps at two services, and lives of sagas drawn from bytes.

mod histories;
mod next;
mod state;

use std::ops::Range;

use like_protocol::ids::{BootId, StoreId};
use like_protocol::message::Payload;
use like_protocol::time::{Deadline, Now};

use super::definition::side_by_side;
use super::event::{Failure, FailureKind};
use super::{
    Action, Begun, End, Event, Next, ParticipantAt, Phase, PlannedStep, SagaState, StepPlan, TurnBack,
};

const BOOT: BootId = BootId::from_bytes([7; 16]);

/// The deadline of [`begun`], in milliseconds of the boot clock.
const DEADLINE_MS: u64 = 10_000;

/// Before the deadline of [`begun`].
const EARLY: Now = Now { boot: BOOT, at_ms: 1 };

/// After the deadline of [`begun`].
const LATE: Now = Now { boot: BOOT, at_ms: DEADLINE_MS };

/// How a saga of two steps begins.
pub(crate) fn begun() -> Begun {
    let participant = |role: &'static str, store| ParticipantAt { role: role.into(), store: Some(store) };
    let step =
        |name: &'static str, participant| PlannedStep { name: name.into(), participant, number: participant };
    Begun {
        kind: "transfer".into(),
        version: 1,
        params: Payload::from(vec![1, 2, 3]),
        participants: vec![
            participant("debit", StoreId::from_bytes([0xd; 16])),
            participant("credit", StoreId::from_bytes([0xc; 16])),
        ],
        steps: vec![step("take", 0), step("give", 1)],
        deadline: Deadline { boot: BOOT, at_ms: DEADLINE_MS },
        by_uid: 1000,
    }
}

pub(crate) fn sent(step: u8, attempt: u32) -> Event {
    Event::ActionSent { step, attempt }
}

pub(crate) fn done(step: u8) -> Event {
    Event::ActionDone { step, reply: Payload::from(vec![step; 4]) }
}

pub(crate) fn rejected(step: u8) -> Event {
    Event::ActionRejected { step, rejection: Payload::from(vec![9]) }
}

fn refused(step: u8) -> Event {
    Event::ActionRefused { step, refusal: crate::saga::Refusal::Expired }
}

pub(crate) fn failed(step: u8) -> Event {
    Event::ActionFailed { step, failure: failure() }
}

pub(crate) fn back(why: TurnBack) -> Event {
    Event::TurnedBack(why)
}

pub(crate) fn undo_sent(step: u8, attempt: u32) -> Event {
    Event::CompensationSent { step, attempt }
}

pub(crate) fn undone(step: u8) -> Event {
    Event::CompensationDone { step }
}

pub(crate) fn undo_failed(step: u8, in_a_row: u32) -> Event {
    Event::CompensationFailed { step, in_a_row, failure: failure() }
}

pub(crate) fn forced(end: End) -> Event {
    Event::Forced { end, reason: "lost".to_owned(), by_uid: 0, leaves_broken: Vec::new() }
}

fn resumed(at_ms: u64) -> Event {
    Event::Resumed { deadline: Deadline { boot: BOOT, at_ms }, by_uid: 0 }
}

fn quarantined() -> Event {
    Event::Quarantined { detail: "damaged".to_owned() }
}

/// The steps of [`begun`], one after the other or side by side.
fn plan(beside: bool) -> [StepPlan; 2] {
    [
        StepPlan { name: "take", role: "debit", beside: false },
        StepPlan { name: "give", role: "credit", beside },
    ]
}

const TAKEN_OVER: Event = Event::TakenOver { by_pid: 4 };
const OPERATOR: TurnBack = TurnBack::Operator { by_uid: 0 };

pub(crate) fn failure() -> Failure {
    Failure { kind: FailureKind::Unknown, detail: "timed out".to_owned() }
}

/// The state after these events, each of which must fit.
fn after(events: impl IntoIterator<Item = Event>) -> SagaState {
    let mut state = SagaState::begin(begun().into());
    for event in events {
        state.apply(&event).unwrap();
    }
    state
}

/// The life of a saga whose runner does what `next` says and whose services answer as `fates` have it: every event,
/// its `Begun` first. When the fates are used up, everything succeeds, and the saga lives to its end if `to_the_end`.
///
/// What must hold in every life is asserted on the way.
pub(crate) fn live(fates: &[u8], to_the_end: bool) -> Vec<Event> {
    let mut life = Life::new(fates);
    while !life.ended() && (to_the_end || !life.fates.is_empty()) {
        life.go_on();
    }
    life.events
}

struct Life<'a> {
    plan: [StepPlan; 2],
    state: SagaState,
    events: Vec<Event>,
    fates: &'a [u8],
    now: Now,
    rounds_left: u32,
}

impl<'a> Life<'a> {
    fn new(fates: &'a [u8]) -> Self {
        Self {
            plan: plan(fates.first().is_some_and(|fate| *fate >= 128)),
            state: SagaState::begin(begun().into()),
            events: vec![Event::Begun(begun().into())],
            fates,
            now: EARLY,
            rounds_left: 3 * fates.len() as u32 + 20,
        }
    }

    /// A fate below `below`; 0, "all is well", once they are used up.
    fn fate(&mut self, below: u8) -> u8 {
        let Some((fate, rest)) = self.fates.split_first() else { return 0 };
        self.fates = rest;
        fate % below
    }

    fn ended(&self) -> bool {
        self.state.settled
    }

    /// Writes an event, which must fit, and after which a saga that has turned back has not turned again.
    fn write(&mut self, event: Event) {
        let before = self.state.clone();
        self.state.apply(&event).unwrap_or_else(|e| panic!("{e} after {:?}", self.events));
        match (&before.phase, &self.state.phase) {
            (Phase::Back(_), Phase::Forward) => panic!("went forward again: {:?}", self.events),
            (Phase::Ended(_) | Phase::Forced(_), now) => assert_eq!(&before.phase, now, "an end was undone"),
            _ => {}
        }
        self.events.push(event);
    }

    fn go_on(&mut self) {
        self.rounds_left =
            self.rounds_left.checked_sub(1).unwrap_or_else(|| panic!("no end: {:?}", self.events));
        self.happen();
        match self.state.next(&self.now) {
            Next::Act(step) => self.act(side_by_side(&self.plan, step)),
            Next::TurnBack(why) => self.write(back(why)),
            Next::Compensate(steps) => self.compensate(&steps),
            Next::End(end) => self.write(Event::Ended(end)),
            Next::Settle(_) => self.write(Event::Settled),
            Next::Nothing => panic!("nothing to do about an open saga: {:?}", self.events),
        }
    }

    /// What nobody asked for: time passes, runners die, operators decide.
    fn happen(&mut self) {
        let ended = self.state.ended().is_some();
        match self.fate(24) {
            1 => self.now = LATE,
            2 | 3 => self.write(TAKEN_OVER),
            4 if self.state.phase == Phase::Forward => self.write(resumed(3 * DEADLINE_MS)),
            5 if self.state.phase == Phase::Forward => self.write(back(OPERATOR)),
            6 if !ended && self.fate(4) == 1 => self.write(forced(End::Compensated)),
            _ => {}
        }
    }

    /// Sends the actions that may be sent, and then hears of them.
    fn act(&mut self, steps: Range<usize>) {
        assert_eq!(self.state.phase, Phase::Forward, "an action after turning back: {:?}", self.events);
        let mut under_way = Vec::new();
        for step in steps {
            if !self.state.may_be_sent(step) {
                continue;
            }
            let fate = self.fate(8);
            if fate == 7 {
                self.write(failed(step as u8));
            } else {
                self.write(sent(step as u8, self.state.steps[step].action_attempts + 1));
                under_way.push((step as u8, fate));
            }
        }
        for (step, fate) in under_way {
            match fate {
                0..=2 => self.write(done(step)),
                3 => self.write(failed(step)),
                4 => self.write(rejected(step)),
                5 => self.write(refused(step)),
                _ => self.write(TAKEN_OVER),
            }
        }
    }

    fn compensate(&mut self, steps: &[usize]) {
        assert!(steps.is_sorted_by(|a, b| a > b), "not in reverse order: {steps:?}");
        for step in steps.iter().map(|step| *step as u8) {
            let StepNumbers { attempts, failures } = self.numbers(step);
            self.write(undo_sent(step, attempts + 1));
            match self.fate(4) {
                0 | 1 => self.write(undone(step)),
                2 => self.write(undo_failed(step, failures + 1)),
                _ => self.write(TAKEN_OVER),
            }
        }
    }

    fn numbers(&self, step: u8) -> StepNumbers {
        let step = &self.state.steps[usize::from(step)];
        StepNumbers { attempts: step.compensation_attempts, failures: step.compensation_failures }
    }
}

struct StepNumbers {
    attempts: u32,
    failures: u32,
}
