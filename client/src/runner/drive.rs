//! One saga, from wherever it stands to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::try_join_all;
use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::SagaId;
use like_protocol::message::Direction;
use like_protocol::time::DEADLINE_AHEAD_MAX;

use super::active::Standing;
use super::attempt::{self, Attempt, connection_to};
use super::context::Context;
use super::hunt;
use super::pace::{self, ActionPaces, Pace, SLOW};
use super::run::{Inner, Outcome, lock};
use super::tell::{Caller, Telling};
use crate::log::{LogEnded, Position};
use crate::saga::attempt::{Answer, Unaskable};
use crate::saga::definition::side_by_side;
use crate::saga::event::{Failure, FailureKind};
use crate::saga::next::Milestone;
use crate::saga::state::Illegal;
use crate::saga::{Definition, End, Event, Next, Phase, TurnBack};

/// What is to be done to a saga before it is driven on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Nothing: it is driven on from where it stands.
    GoOn,
    /// It gets a new deadline first, if it goes forward.
    Resume {
        /// How far ahead: no further than [`DEADLINE_AHEAD_MAX`], whatever is given.
        timeout: Duration,
    },
    /// It is turned back, if it goes forward: every step is compensated. This can take back something acknowledged.
    Compensate,
}

/// Drives one saga.
pub(super) struct Driver {
    runner: Arc<Inner>,
    saga: SagaId,
    definition: Arc<dyn Definition>,
    state: Standing,
    told: Option<Caller>,
    /// Whether an earlier runner left it.
    left: bool,
    paces: ActionPaces,
    /// Attempts at actions that came to nothing before it was driven by itself.
    failed: Vec<FailedAttempt>,
    /// Where its turning back ends in the log, until that is known to be durable.
    turned_back: Mutex<Option<Position>>,
}

/// An attempt at the action of a step that came to nothing, and the saga that holds what the step needs, if that is why.
pub(super) type FailedAttempt = (usize, Failure, Option<SagaId>);

/// Why a saga is driven no further by this runner.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    LogEnded(#[from] LogEnded),
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error(transparent)]
    Unaskable(#[from] Unaskable),
}

/// In front of what is said of a saga, so that who began another one does not take it for that.
pub(super) fn whose(left: bool) -> &'static str {
    if left { "left by an earlier runner: " } else { "" }
}

impl Driver {
    pub fn new(
        runner: &Arc<Inner>,
        saga: SagaId,
        definition: Arc<dyn Definition>,
        state: Standing,
        told: Option<Caller>,
    ) -> Self {
        Self {
            runner: Arc::clone(runner),
            saga,
            definition,
            state,
            left: told.is_none(),
            told,
            paces: ActionPaces::default(),
            failed: Vec::new(),
            turned_back: Mutex::default(),
        }
    }

    /// These attempts came to nothing, and have to be looked after first.
    pub fn after(mut self, failed: Vec<FailedAttempt>) -> Self {
        self.failed = failed;
        self
    }

    /// Drives an open saga on.
    #[expect(clippy::manual_async_fn, reason = "an async function holds its arguments twice")]
    pub fn go_on(mut self, order: Order) -> impl Future<Output = ()> {
        async move {
            match self.drive(order).await {
                Ok(()) => {}
                Err(Stop::LogEnded(ended)) => {
                    if let Some(told) = self.told.take() {
                        let _ = told.send(Err(ended));
                    }
                }
                Err(stop) => {
                    tracing::error!(saga_id = %self.saga, "{}not driven any further: {stop}", whose(self.left))
                }
            }
        }
    }

    /// Carries out the order; then the loop: what is next, do it, until the saga is handed to settlement or nothing can be done.
    async fn drive(&mut self, order: Order) -> Result<(), Stop> {
        self.carry_out(order).await?;
        let failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            Box::pin(self.actions_failed(failed)).await?;
        }
        loop {
            let now = self.runner.context.clock.now();
            let next = lock(&self.state).next(&now);
            self.rest_on(next.rests_on()).await?;
            match next {
                Next::Act(step) => self.act(step).await?,
                Next::TurnBack(why) => self.turn_back(why).await?,
                Next::Compensate(steps) => self.compensate(steps).await?,
                Next::End(end) => self.end(end).await?,
                Next::Settle(_) => {
                    self.runner.settle(self.saga, Arc::clone(&lock(&self.state)), self.left);
                    return Ok(());
                }
                Next::Nothing => return Ok(()),
            }
        }
    }

    async fn carry_out(&self, order: Order) -> Result<(), Stop> {
        let goes_forward = || lock(&self.state).phase == Phase::Forward;
        let by_uid = self.runner.context.origin.uid;
        match order {
            Order::Resume { timeout } if goes_forward() => {
                let now = self.runner.context.clock.now();
                let new = now.deadline_in(timeout.min(DEADLINE_AHEAD_MAX));
                let deadline = lock(&self.state).deadline.later(new, &now);
                self.record(Event::Resumed { deadline, by_uid })?.await?;
            }
            Order::Compensate if goes_forward() => {
                self.turn_back(TurnBack::Operator { by_uid }).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until what the next deed rests on is durable. Its beginning is, and all that was there at a takeover; an end is made
    /// durable together with those of other sagas, by those who settle them.
    async fn rest_on(&self, milestone: Option<Milestone>) -> Result<(), Stop> {
        if milestone != Some(Milestone::TurnedBack) {
            return Ok(());
        }
        let written = lock(&self.turned_back).take();
        let Some(position) = written else { return Ok(()) };
        Ok(self.runner.durable(position, Failpoint::TurnBackSynced, 1).await?)
    }

    /// One attempt at an action and at those beside it, and the pause if one came to nothing.
    async fn act(&mut self, step: usize) -> Result<(), Stop> {
        let steps = side_by_side(self.definition.steps(), step);
        let answers = try_join_all(steps.map(|step| self.answer(step))).await?;
        let mut failed = Vec::new();
        for (step, answer) in answers.into_iter().flatten() {
            match answer {
                Answer::Decided(event) => self.action_decided(event)?,
                Answer::Failed { failure, locked_by } => failed.push((step, failure, locked_by)),
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        // That is rare, and its future large.
        Box::pin(self.actions_failed(failed)).await
    }

    /// Records the failures, and pauses before the next attempt.
    async fn actions_failed(&mut self, failed: Vec<FailedAttempt>) -> Result<(), Stop> {
        let (mut pause, mut unreached) = (Duration::ZERO, Vec::new());
        for (step, failure, locked_by) in failed {
            if failure.kind == FailureKind::NotSent {
                unreached.push(step);
            }
            pause = pause.max(self.action_failed(step, failure, locked_by).await?);
        }
        if self.goes_on_acting() {
            self.rest(pause.min(self.until_given_up()), &unreached).await;
        }
        Ok(())
    }

    /// One attempt at an action, unless it is done or may not be sent yet: all are polled in their order, so the one before
    /// it was sent first, if it could be sent at once.
    async fn answer(&self, step: usize) -> Result<Option<(usize, Answer)>, Stop> {
        if !lock(&self.state).may_be_sent(step) {
            return Ok(None);
        }
        Ok(Some((step, self.send(step, Direction::Action).await?)))
    }

    /// What an action came to is written together with what the saga does next, which is written before it is done.
    fn action_decided(&self, event: Event) -> Result<(), Stop> {
        self.note(event)?;
        reach(Failpoint::ActionOutcomeAppended);
        Ok(())
    }

    /// Finishes the dead holder of what the action needs, if there is one, and records the failure; says how long to wait
    /// before the action is tried again.
    async fn action_failed(
        &mut self,
        step: usize,
        mut failure: Failure,
        locked_by: Option<SagaId>,
    ) -> Result<Duration, Stop> {
        if let Some(by) = locked_by
            && let Some(owner) = hunt::finish_dead(&self.runner, by).await
        {
            failure = failure.in_words(format!("locked by saga {by} of {owner}"));
        }
        let kind = failure.kind;
        tracing::debug!(saga_id = %self.saga, step, ?kind, "action failed: {}", failure.detail);
        if kind == FailureKind::Unknown && self.is_cut_short(step) {
            return Ok(Duration::ZERO);
        }
        self.record(Event::ActionFailed { step: step as u8, failure })?.await?;
        let overdue = self.until_deadline().is_zero();
        Ok(self.paces.after(step, kind, overdue))
    }

    /// Whether the saga is given up for an earlier failure of the step: an attempt of which the deadline came before its answer
    /// says less than that.
    fn is_cut_short(&self, step: usize) -> bool {
        self.until_given_up().is_zero() && lock(&self.state).steps[step].last_failure.is_some()
    }

    /// Whether the next thing to do is another attempt at an action.
    fn goes_on_acting(&self) -> bool {
        matches!(lock(&self.state).next(&self.runner.context.clock.now()), Next::Act(_))
    }

    fn until_given_up(&self) -> Duration {
        attempt::until_given_up(&lock(&self.state), &self.runner.context.clock.now())
    }

    fn until_deadline(&self) -> Duration {
        lock(&self.state).deadline.remaining(&self.runner.context.clock.now())
    }

    async fn turn_back(&self, why: TurnBack) -> Result<(), Stop> {
        tracing::info!(saga_id = %self.saga, ?why, "turning back");
        self.record(Event::TurnedBack(why))?.await?;
        reach(Failpoint::TurnBackWritten);
        Ok(())
    }

    /// Compensates these steps, started in this order: all are polled in it. One whose participant is down does not hold
    /// up the others.
    async fn compensate(&self, steps: Vec<usize>) -> Result<(), Stop> {
        // Turning back is rare, and its future large.
        Box::pin(try_join_all(steps.into_iter().map(|step| self.compensate_step(step)))).await?;
        Ok(())
    }

    /// One step's compensation, again and again until it is done.
    async fn compensate_step(&self, step: usize) -> Result<(), Stop> {
        let (mut pace, mut busy) = (Pace::of_compensation(), Pace::of_busy());
        loop {
            let failure = match self.send(step, Direction::Compensation).await? {
                Answer::Decided(event) => return self.record(event)?.await,
                Answer::Failed { failure, .. } => failure,
            };
            if failure.kind == FailureKind::Busy {
                // Nothing has failed, and no operator is needed. The saga keeps its turn: those behind it would be more to do.
                tokio::time::sleep(busy.next()).await;
                continue;
            }
            let unreached = if failure.kind == FailureKind::NotSent { &[step][..] } else { &[] };
            let slow = self.compensation_failed(step, failure).await?;
            self.rest(if slow { SLOW } else { pace.next() }, unreached).await;
        }
    }

    /// Records the failure; true if an operator is needed by now, so that the pace becomes slow.
    async fn compensation_failed(&self, step: usize, failure: Failure) -> Result<bool, Stop> {
        let in_a_row = lock(&self.state).steps[step].compensation_failures + 1;
        let needed = self.runner.context.options.attention_after;
        if in_a_row == needed {
            tracing::error!(
                saga_id = %self.saga, step, failures = in_a_row, needs_attention = true,
                "{}compensation keeps failing: an operator is needed: {}", whose(self.left), failure.detail
            );
        }
        self.record(Event::CompensationFailed { step: step as u8, in_a_row, failure })?.await?;
        Ok(in_a_row >= needed)
    }

    /// Rests before the next attempt, at most until a service of one of these steps is reached again: others that wait for
    /// their turn may have it.
    async fn rest(&self, at_most: Duration, unreached: &[usize]) {
        let Inner { active, context, .. } = &*self.runner;
        active.rests(self.saga);
        let begun = Arc::clone(&lock(&self.state).begun);
        let services = unreached.iter().filter_map(|step| {
            context.participants.find(&begun.participant_of(*step).role).map(AsRef::as_ref)
        });
        pace::pause(at_most, services, context.options.attempt_timeout).await;
    }

    /// Notes the end, and has it told to whoever waits for it once it is written.
    async fn end(&mut self, end: End) -> Result<(), Stop> {
        let position = self.note(Event::Ended(end))?;
        tracing::debug!(saga_id = %self.saga, ?end, "ended");
        let outcome = self.told.take().map(|told| {
            let state = Arc::clone(&lock(&self.state));
            (told, Outcome { saga: self.saga, state })
        });
        if let Some(tells) = self.runner.teller.tell(Telling { position, outcome }) {
            tokio::task::yield_now().await;
            drop(tells);
        }
        Ok(())
    }

    /// One attempt at a step's action or compensation.
    async fn send(&self, step: usize, direction: Direction) -> Result<Answer, Stop> {
        let Inner { context, log, .. } = &*self.runner;
        let begun = Arc::clone(&lock(&self.state).begun);
        let participant = begun.participant_of(step);
        let within = self.within(direction);
        let connection = match connection_to(participant, within, context, log).await? {
            Ok(connection) => connection,
            Err(answer) => return Ok(answer),
        };
        Ok(self.attempt(step, direction, within)?.send(&connection, log).await?)
    }

    /// What is sent, noted as sent.
    fn attempt(&self, step: usize, direction: Direction, within: Duration) -> Result<Attempt, Stop> {
        let state = lock(&self.state);
        let request = state.request(self.saga, self.definition.as_ref(), step, direction)?;
        let sent = state.sent(step, direction);
        drop(state);
        Ok(Attempt { step: step as u8, request, sent: self.note(sent)?, within })
    }

    /// How long an attempt waits for a connection, and then for its answer.
    fn within(&self, direction: Direction) -> Duration {
        let Context { clock, options, .. } = &self.runner.context;
        attempt::within(&lock(&self.state), direction, &clock.now(), options.attempt_timeout)
    }

    /// Applies an event to the state and appends it.
    fn note(&self, event: Event) -> Result<Position, Stop> {
        Arc::make_mut(&mut lock(&self.state)).apply(&event)?;
        self.append(event)
    }

    /// Notes an event, which is written once what is returned has ended. The event does not live in a future, which would
    /// be as large.
    fn record(&self, event: Event) -> Result<impl Future<Output = Result<(), Stop>>, Stop> {
        let position = self.note(event)?;
        Ok(async move { Ok(self.runner.log.written(position).await?) })
    }

    fn append(&self, event: Event) -> Result<Position, Stop> {
        let turns_back = event.milestone() == Some(Milestone::TurnedBack);
        let position = self.runner.log.append(self.saga, [event])?;
        if turns_back {
            *lock(&self.turned_back) = Some(position);
        }
        Ok(position)
    }
}
