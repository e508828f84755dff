//! Sagas that begin in the same moment go together, as a *convoy*, for as long as all goes well. What they have in common is done
//! once for all of them: they have one task, what they note goes into the log together, and what they ask of a participant leaves
//! together. None waits for another: a saga whose steps are done is told and settled, and one of which an attempt fails, or that
//! is to turn back, leaves the convoy and is driven by itself.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::SagaId;
use like_protocol::message::{Direction, RequestBody, StepRequest};
use like_protocol::time::Now;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::active::Standing;
use super::attempt::{heard, is_written, within};
use super::drive::FailedAttempt;
use super::run::{Inner, Outcome, Runner, lock};
use super::settle::Ended;
use super::tell::{Caller, tell};
use crate::gathering::Gathering;
use crate::log::{LogEnded, Position};
use crate::rpc::{self, Asked, Came, Connection, Mailbox};
use crate::saga::attempt::{Answer, failed};
use crate::saga::definition::side_by_side;
use crate::saga::event::FailureKind;
use crate::saga::state::Illegal;
use crate::saga::{Definition, End, Event, Next, ParticipantAt};

/// How many sagas go together at most: with more, those in front would wait longer for the rest than it spares them, and their
/// replies would not come together.
pub(super) const TOGETHER_MAX: usize = rpc::TOGETHER_MAX;

/// The sagas that are about to begin. Whoever is the first of a convoy is to have it driven.
pub(super) type Convoys = Gathering<Member>;

/// A saga of a convoy.
pub(super) struct Member {
    pub saga: SagaId,
    pub definition: Arc<dyn Definition>,
    pub state: Standing,
    pub told: Option<Caller>,
    /// Until when the caller waits. Beyond its beginning a convoy waits no longer for anything than an attempt may take, and that
    /// is less.
    pub patience: Instant,
    /// The attempts of its last ones that came to nothing.
    pub failed: Vec<FailedAttempt>,
    /// How many attempts are not answered yet, and how long each may take.
    awaited: usize,
    within: Duration,
}

impl Member {
    pub fn new(
        saga: SagaId,
        definition: Arc<dyn Definition>,
        state: Standing,
        told: Caller,
        patience: Instant,
    ) -> Self {
        let (failed, within) = (Vec::new(), Duration::ZERO);
        Self { saga, definition, state, told: Some(told), patience, failed, awaited: 0, within }
    }
}

/// Sagas that begin together.
pub(super) struct Convoy {
    runner: Runner,
    /// By their numbers; none in the place of one that has ended or left.
    members: Vec<Option<Member>>,
    left: usize,
    mailbox: Mailbox,
    came: mpsc::UnboundedReceiver<(u64, Came)>,
    lines: SmallVec<[Line; 2]>,
    deeds: Deeds,
}

/// What goes to one participant.
struct Line {
    participant: ParticipantAt,
    connection: Connection,
    leaving: Vec<Asked>,
}

/// What is to be done next for several members.
#[derive(Default)]
struct Deeds {
    events: Vec<(SagaId, Event)>,
    /// How many of them say what came of an action.
    decided: usize,
    ended: Vec<Member>,
    alone: Vec<Member>,
}

impl Convoy {
    /// Drives the next ones that begin.
    pub async fn drive(runner: Runner) {
        // Whoever else is about to begin does it now.
        tokio::task::yield_now().await;
        let members: Vec<_> = runner.inner.convoys.depart().into_iter().map(Some).collect();
        let (mailbox, came) = mpsc::unbounded_channel();
        let (left, lines, deeds) = (members.len(), SmallVec::new(), Deeds::default());
        let mut convoy = Self { runner, members, left, mailbox, came, lines, deeds };
        if let Err(log_ended) = convoy.go().await {
            convoy.stop(&log_ended);
        }
    }

    async fn go(&mut self) -> Result<(), LogEnded> {
        self.begin().await?;
        let mut ready: Vec<_> = (0..self.members.len()).collect();
        let mut came = Vec::new();
        loop {
            self.advance(&ready);
            self.carry_out()?;
            if self.left == 0 {
                return Ok(());
            }
            self.came.recv_many(&mut came, TOGETHER_MAX).await;
            ready.clear();
            for (number, came) in came.drain(..) {
                ready.extend(self.hear(number, came)?);
            }
        }
    }

    /// Puts all beginnings into the log, and waits until they are durable. Callers who have waited for too long by then are left.
    async fn begin(&mut self) -> Result<(), LogEnded> {
        let inner = &self.runner.inner;
        let begun = |member: &Member| (member.saga, Event::Begun(Arc::clone(&lock(&member.state).begun)));
        let position = inner.log.append_all(self.members.iter().flatten().map(begun))?;
        reach(Failpoint::BeginAppended);
        let mut durable = pin!(inner.durable(position, Failpoint::BeginSynced, self.left));
        loop {
            let waiting = self.members.iter().flatten().filter(|member| member.told.is_some());
            let Some(first) = waiting.map(|member| member.patience).min() else { return durable.await };
            if let Ok(durable) = timeout_at(first, &mut durable).await {
                return durable;
            }
            let left = self.members.iter_mut().flatten().filter(|member| member.patience <= first);
            left.for_each(|member| member.told = None);
        }
    }

    /// Decides what is next for those that are ready: further attempts, the end, or to be driven alone.
    fn advance(&mut self, ready: &[usize]) {
        let now = self.runner.inner.context.clock.now();
        for &number in ready {
            let Some(mut member) = self.members[number].take() else { continue };
            let next = lock(&member.state).next(&now);
            match next {
                _ if !member.failed.is_empty() => self.deeds.alone.push(member),
                Next::Act(step) if self.act(number, &mut member, step, &now) => {
                    self.members[number] = Some(member);
                    continue;
                }
                Next::End(end @ End::Completed) if self.note(&member, Event::Ended(end)).is_ok() => {
                    self.deeds.ended.push(member);
                }
                _ => self.deeds.alone.push(member),
            }
            self.left -= 1;
        }
    }

    /// Prepares the attempts at a step and at those beside it. False, and nothing was done, if one of them can't be sent at once.
    fn act(&mut self, number: usize, member: &mut Member, step: usize, now: &Now) -> bool {
        let mut state = lock(&member.state);
        let mut attempts = SmallVec::<[_; 2]>::new();
        for step in side_by_side(member.definition.steps(), step) {
            let line = self.line_to(state.begun.participant_of(step));
            let request = state.request(member.saga, member.definition.as_ref(), step, Direction::Action);
            let (Some(line), Ok(request)) = (line, request) else { return false };
            attempts.push((step, line, request));
        }
        let limit = self.runner.inner.context.options.attempt_timeout;
        member.within = within(&state, Direction::Action, now, limit);
        for (step, line, request) in attempts {
            let sent = state.sent(step, Direction::Action);
            if Arc::make_mut(&mut state).apply(&sent).is_err() {
                // It is done, from before.
                continue;
            }
            self.deeds.events.push((member.saga, sent));
            member.awaited += 1;
            self.lines[line].leaving.push(asked(number, line, step, request, member.within));
        }
        true
    }

    /// Where attempts for a participant are gathered, if a connection to the very store that the saga began with is open.
    fn line_to(&mut self, participant: &ParticipantAt) -> Option<usize> {
        let known = self.lines.iter().rposition(|line| line.participant == *participant);
        if let Some(known) = known.filter(|known| self.lines[*known].connection.is_open()) {
            return Some(known);
        }
        let connection = self.runner.inner.context.participants.find(&participant.role)?.open()?;
        if participant.store.is_some_and(|expected| expected != connection.welcome().store) {
            return None;
        }
        self.lines.push(Line { participant: participant.clone(), connection, leaving: Vec::new() });
        Some(self.lines.len() - 1)
    }

    /// Applies an event to a member's state, and notes it.
    fn note(&mut self, member: &Member, event: Event) -> Result<(), Illegal> {
        Arc::make_mut(&mut lock(&member.state)).apply(&event)?;
        self.deeds.events.push((member.saga, event));
        Ok(())
    }

    /// Does what was decided. What was noted goes into the log; attempts leave, and ends are told, once that is written.
    fn carry_out(&mut self) -> Result<(), LogEnded> {
        let position = self.runner.inner.log.append_all(self.deeds.events.drain(..))?;
        for _ in 0..mem::take(&mut self.deeds.decided) {
            reach(Failpoint::ActionOutcomeAppended);
        }
        self.send(position);
        self.end(position);
        for member in self.deeds.alone.drain(..) {
            self.runner.drive_alone(member);
        }
        Ok(())
    }

    fn send(&mut self, sent: Position) {
        let Inner { log, settler, .. } = &*self.runner.inner;
        for Line { connection, leaving, .. } in &mut self.lines {
            if leaving.is_empty() {
                continue;
            }
            settler.go_with();
            let grounds = is_written(log, sent, Direction::Action);
            connection.call_together(grounds, mem::take(leaving), &self.mailbox);
        }
    }

    /// Tells how sagas have ended, and has them settled.
    fn end(&mut self, position: Position) {
        if self.deeds.ended.is_empty() {
            return;
        }
        let Inner { log, active, settler, .. } = &*self.runner.inner;
        let ended = &mut self.deeds.ended;
        let outcome = |member: &mut Member| {
            let state = Arc::clone(&lock(&member.state));
            Some((member.told.take()?, Outcome { saga: member.saga, state }))
        };
        tell(log, position, ended.iter_mut().filter_map(outcome));
        settler.settle(ended.iter().map(|Member { saga, state, .. }| {
            tracing::debug!(saga_id = %saga, end = ?End::Completed, "ended");
            Ended { saga: *saga, left: false, state: Arc::clone(&lock(state)), position }
        }));
        // Not before: whoever finds that nothing is driven any more goes by what is settled.
        active.ended(ended.drain(..).map(|member| member.saga));
    }

    /// What came of an attempt; the number of its member, if that waits for no other.
    fn hear(&mut self, number: u64, came: Came) -> Result<Option<usize>, LogEnded> {
        let (number, line, step) = of_number(number);
        let Some(member) = &self.members[number] else { return Ok(None) };
        let came = self.lines[line].connection.came(came, member.within);
        let answer = heard(&self.runner.inner.log, step, Direction::Action, came)?;
        let Some(mut member) = self.members[number].take() else { return Ok(None) };
        let answer = match answer {
            Answer::Decided(event) => match self.note(&member, event) {
                Ok(()) => {
                    self.deeds.decided += 1;
                    None
                }
                Err(illegal) => Some(failed(FailureKind::Invalid, illegal.to_string())),
            },
            failed => Some(failed),
        };
        if let Some(Answer::Failed { failure, locked_by }) = answer {
            member.failed.push((step.into(), failure, locked_by));
        }
        member.awaited -= 1;
        let is_ready = member.awaited == 0;
        self.members[number] = Some(member);
        Ok(is_ready.then_some(number))
    }

    /// The log has ended: nothing more is done for anyone.
    fn stop(self, log_ended: &LogEnded) {
        let Deeds { ended, alone, .. } = self.deeds;
        let all = self.members.into_iter().flatten().chain(ended).chain(alone).collect();
        stop(&self.runner.inner, all, log_ended);
    }
}

/// Nothing more is done for these, since the log has ended.
pub(super) fn stop(inner: &Inner, members: Vec<Member>, log_ended: &LogEnded) {
    inner.active.ended(members.iter().map(|member| member.saga));
    for told in members.into_iter().filter_map(|member| member.told) {
        let _ = told.send(Err(log_ended.clone()));
    }
}

/// An attempt of the member of this number, by this line.
fn asked(number: usize, line: usize, step: usize, request: StepRequest, within: Duration) -> Asked {
    let number = (number as u64) << 32 | (line as u64) << 8 | step as u64;
    Asked { number, body: RequestBody::Step(request), within }
}

/// The member, the line and the step of an attempt.
fn of_number(number: u64) -> (usize, usize, u8) {
    ((number >> 32) as usize, (number as u32 >> 8) as usize, number as u8)
}
