//! Whether what is sent may be sent: a message's grounds must stand in the log, written or durable, before it leaves.
//!
//! A crash shows a broken rule only if it strikes in the instant between. This looks at the log as a crash in this very
//! instant would leave it, whenever a message leaves that chance picks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use like_client::log::{Journal, JournalError, SagaRecord, Slot, Story, history};
use like_client::saga::{Action, Event, Phase, SagaState};
use like_protocol::codec::decode;
use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{Direction, RequestBody, Settlement, ToDaemon};

use super::found::{Crash, Found};
use super::network::frames;
use super::workload::JOURNAL;
use super::world::{Host, lock};

/// What a crash in this instant would leave of the logs.
struct Logs {
    host: Host,
    /// The slots of the process that sends; what it tells of must stand there.
    own: Vec<PathBuf>,
}

/// Looks at messages that a client sends.
pub(super) fn sends(host: &Host, bytes: &[u8]) {
    for frame in frames(bytes) {
        if let Ok(ToDaemon::Request(request)) = decode::<ToDaemon>(&frame[4..]) {
            let own = lock(&host.world.disk).locked_by(host.life.pid);
            let logs = Logs { host: host.clone(), own };
            if let Some(broken) = logs.forbid(&request.body) {
                host.world.broken(broken);
            }
        }
    }
}

impl Logs {
    /// Why a request may not leave, if it may not.
    fn forbid(&self, body: &RequestBody) -> Option<String> {
        match body {
            RequestBody::Step(step) => self.forbid_step(step.id, step.direction),
            RequestBody::Settle(settlements) => {
                settlements.iter().find_map(|told| self.forbid_settling(told))
            }
            _ => None,
        }
    }

    fn forbid_step(&self, id: StepId, direction: Direction) -> Option<String> {
        let broken = |what: &str| Some(format!("saga {}: step {} {what}", id.saga, id.step));
        let (durable, written) =
            (self.story(id.saga, Crash::OfTheHost), self.story(id.saga, Crash::OfTheProcess));
        let Some(durable) = durable.and_then(|story| story.state) else {
            return broken("is asked for before the saga's beginning is durable");
        };
        let Some(written) = written.and_then(|story| story.state) else {
            return broken("is asked for, and the log does not know the saga");
        };
        match direction {
            Direction::Action if !sent(&written, id.step, |step| step.action != Action::NotSent) => {
                broken("is asked for before that is written")
            }
            Direction::Compensation if durable.phase == Phase::Forward => {
                broken("is compensated before turning back is durable")
            }
            Direction::Compensation if !sent(&written, id.step, |step| step.compensation_attempts > 0) => {
                broken("is compensated before that is written")
            }
            _ => None,
        }
    }

    fn forbid_settling(&self, told: &Settlement) -> Option<String> {
        let saga = told.id.saga;
        let ended = |crash| {
            let state = self.story(saga, crash).and_then(|story| story.state);
            state.is_some_and(|state| state.ended().is_some())
        };
        // What was dropped from the log had been settled; an operator may have it told again.
        let known = self.host.world.plan.keeps_all() || self.story(saga, Crash::OfTheProcess).is_some();
        (known && !ended(Crash::OfTheHost))
            .then(|| format!("saga {saga} is settled before its end is durable"))
    }

    /// What the logs tell of a saga: those of this process, and if it is none of theirs, all.
    fn story(&self, saga: SagaId, crash: Crash) -> Option<Story> {
        let journal = Journal::open_on(Arc::new(Found(self.host.clone(), crash)), Path::new(JOURNAL)).ok()?;
        let slots = journal.slots().ok()?;
        let own = slots.iter().filter(|slot| self.own.iter().any(|own| own == slot.path()));
        let told = |slot: &Slot| -> Result<Option<Story>, JournalError> {
            let mut found = None;
            history::newest_first(slot, |_, _, read| {
                read(&mut |story| found = found.take().or((story.saga == saga).then_some(story)))?;
                Ok(ControlFlow::Break(()))
            })?;
            Ok(found)
        };
        let found = own.filter_map(|slot| told(slot).ok().flatten()).next();
        let anywhere =
            || Some(history::read(&journal).ok()?.sagas.into_iter().find(|(_, s)| s.saga == saga)?.1);
        found.or_else(anywhere)
    }
}

fn sent(state: &SagaState, number: u8, is: impl Fn(&like_client::saga::StepState) -> bool) -> bool {
    let steps = state.begun.steps.iter().zip(&state.steps);
    steps.filter(|(planned, _)| planned.number == number).any(|(_, step)| is(step))
}

/// Whether an order that was given to recovery stands in the log: nothing comes between a takeover and it. Only of the last
/// takeover can that be said: of earlier ones, and of what followed them, a story may leave words out.
pub(super) fn is_obeyed(records: &[SagaRecord], pid: u32, given_ms: u64, resume: bool) -> bool {
    let is_takeover = |record: &SagaRecord| matches!(record.event, Event::TakenOver { .. });
    let last = records.iter().rposition(is_takeover);
    let mut state: Option<SagaState> = None;
    for (at, record) in records.iter().enumerate() {
        match (&mut state, &record.event) {
            (None, Event::Begun(begun)) => state = Some(SagaState::begin(begun.clone())),
            (Some(state), event) => drop(state.apply(event)),
            (None, _) => return true,
        }
        let ordered = record.event == Event::TakenOver { by_pid: pid } && record.at_ms == given_ms;
        let forward = state.as_ref().is_some_and(|state| state.phase == Phase::Forward);
        if ordered && forward && last == Some(at) {
            return match records.get(at + 1).map(|next| &next.event) {
                // It died, or ended, before it could.
                None | Some(Event::Forced { .. }) => true,
                Some(Event::Resumed { .. }) => resume,
                Some(Event::TurnedBack(_)) => !resume,
                Some(_) => false,
            };
        }
    }
    true
}
