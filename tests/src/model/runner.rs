//! What a runner does with a saga: the one part of the model that is not the shipped code, because there it is spread over
//! tasks that wait. What is decided is decided by the shipped code; here is only in what order it is written, synced, sent
//! and told. Beside each function stands the code that it is the image of.
//!
//! An attempt that fails, and is made again under the same key and deadline, is no step of its own: a copy of its request
//! is on its way already and may arrive any number of times. Nothing is decided by the failures that such attempts write
//! (`failures_decide_nothing` in the tests shows it).

use std::rc::Rc;

use like_client::saga::attempt::{Answer, meaning};
use like_client::saga::definition::side_by_side;
use like_client::saga::event::FailureKind;
use like_client::saga::settlement::settlements;
use like_client::saga::{Action, End, Event, Next, SagaState, TurnBack};
use like_protocol::message::{Direction, ReplyBody, RequestBody};
use like_protocol::time::Now;

use super::caller::Word;
use super::log::Log;
use super::mutation::Mutation;
use super::property::{Broken, Property};
use super::state::Order;
use super::universe::{Model, USER, next_instant};

/// Something that a saga's runner can do next.
#[derive(Clone, Debug)]
pub struct Move {
    /// What, in words.
    pub what: String,
    /// When it can.
    pub when: When,
    /// What comes of it.
    pub then: Then,
}

/// When something can be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    /// Now.
    Now,
    /// If one of these requests is not on its way.
    Unsent(Vec<u16>),
    /// If these services have confirmed the end, as bits.
    Confirmed(u16),
}

/// What comes of something that a runner does or hears.
#[derive(Clone, Debug)]
pub struct Then {
    /// Its log, by number.
    pub log: u32,
    /// The requests that leave.
    pub sends: Vec<u16>,
    /// What the caller is told.
    pub tells: Option<Word>,
    /// The saga has ended as compensated: whoever looks is told that it has no effect.
    pub denies: bool,
    /// An operator turns it back.
    pub taken_back: bool,
    /// Nothing is left to be done.
    pub over: bool,
}

/// What comes of it, or the promise that it breaks; `None` if it can't happen.
pub type Outcome = Option<Result<Then, Broken>>;

impl Then {
    fn writes(log: u32) -> Self {
        Self { log, sends: Vec::new(), tells: None, denies: false, taken_back: false, over: false }
    }
}

impl Model {
    /// A log's number.
    pub fn log(&mut self, log: Log) -> u32 {
        self.logs.number(log.name(), || log)
    }

    /// `Driver::begin` in `client/src/runner/drive.rs`, up to the sync: that is done before the first request leaves.
    pub fn begin(&mut self, ask: usize, now: &Now) -> u32 {
        let begun = Event::Begun(self.begun(ask, now).into());
        self.log(Log::begin(self.saga_id(ask), begun))
    }

    /// What the runner of an ask's saga can do next: `Driver::drive`, and `settle_batch` in `client/src/runner/settle.rs`.
    pub fn moves(&mut self, ask: usize, log: u32, now: (u16, &Now)) -> Rc<Vec<Move>> {
        if let Some(known) = self.moves.get(&(log, now.0)) {
            return Rc::clone(known);
        }
        let mut at = self.logs.get(log).clone();
        let state = at.state().expect("a runner knows its saga").clone();
        let next = state.next(now.1);
        if let Some(milestone) = next.rests_on()
            && !self.off(match milestone {
                like_client::saga::next::Milestone::Begun => Mutation::BeginUnsynced,
                like_client::saga::next::Milestone::TurnedBack => Mutation::TurnBackUnsynced,
                like_client::saga::next::Milestone::Ended => Mutation::EndUnsynced,
            })
        {
            at.rest_on(milestone);
        }
        let moves = match next {
            Next::Act(step) => side_by_side(self.definition(&state.begun).steps(), step)
                .filter(|step| state.may_be_sent(*step))
                .flat_map(|step| self.send(ask, &at, &state, step, Direction::Action))
                .collect(),
            Next::Compensate(steps) => steps
                .into_iter()
                .flat_map(|step| self.send(ask, &at, &state, step, Direction::Compensation))
                .collect(),
            Next::TurnBack(why) => {
                let what = format!("turns back: {why:?}");
                vec![self.writing(what, at, Event::TurnedBack(why))]
            }
            Next::End(end) => vec![self.end(ask, at, end)],
            Next::Settle(_) => self.settle(ask, at, &state),
            Next::Nothing => Vec::new(),
        };
        let moves = Rc::new(moves);
        self.moves.insert((log, now.0), Rc::clone(&moves));
        moves
    }

    fn writing(&mut self, what: String, mut log: Log, event: Event) -> Move {
        log.append(event).expect("an event that follows from the state fits it");
        Move { what, when: When::Now, then: Then::writes(self.log(log)) }
    }

    /// One attempt at a step: `Attempt::send` in `client/src/runner/attempt.rs`. `Sent` is written before the request leaves.
    fn send(
        &mut self,
        ask: usize,
        log: &Log,
        state: &SagaState,
        step: usize,
        direction: Direction,
    ) -> Vec<Move> {
        let role = usize::from(state.begun.steps[step].participant);
        let sent = state.sent(step, direction);
        let known = match direction {
            Direction::Action => state.steps[step].action != Action::NotSent,
            Direction::Compensation => state.steps[step].compensation_attempts > 0,
        };
        if role == USER && self.world.users_down {
            // No hello is ever read: the step is not sent, and nothing is written.
            if !self.off(Mutation::UnsentWritten) || known {
                return Vec::new();
            }
            let what = format!("writes {sent:?}, though nothing can leave");
            return vec![self.writing(what, log.clone(), sent)];
        }
        let definition = self.definition(&state.begun);
        let request = state.request(self.saga_id(ask), definition, step, direction);
        let body = RequestBody::Step(request.expect("what is to be asked follows from the log"));
        let request = self.request(role, Some((step, direction)), body);
        let what = format!("writes {sent:?}, and sends it");
        let mut written = log.clone();
        if !(self.off(Mutation::SentUnwritten) && direction == Direction::Action) {
            written.append(sent).expect("an attempt fits");
        } else if known {
            return Vec::new();
        }
        let when =
            if known || self.off(Mutation::SentUnwritten) { When::Unsent(vec![request]) } else { When::Now };
        let then = Then { sends: vec![request], ..Then::writes(self.log(written)) };
        vec![Move { what, when, then }]
    }

    /// The end is written, then whoever waits is told: `Driver::end`.
    fn end(&mut self, ask: usize, mut log: Log, end: End) -> Move {
        log.append(Event::Ended(end)).expect("an end that follows from the state fits it");
        let word = self.word_of_ended(ask, log.state().expect("it was begun"));
        let what = format!("writes the end, {end:?}, and tells its caller");
        let tells = word.expect("an ended saga has an answer for its caller");
        let then =
            Then { tells: Some(tells), denies: end == End::Compensated, ..Then::writes(self.log(log)) };
        Move { what, when: When::Now, then }
    }

    /// Both participants are told of a durable end; when all have confirmed, that is written.
    fn settle(&mut self, ask: usize, log: Log, state: &SagaState) -> Vec<Move> {
        let parts = settlements(self.saga_id(ask), state, Some(self.definition(&state.begun)));
        let mut owed = 0;
        let mut sends = Vec::new();
        for (participant, mut settlement) in parts {
            if self.off(Mutation::SettleOldDeadline) {
                settlement.deadline = state.begun.deadline;
            }
            let role = usize::from(participant.role != self.role(0));
            owed |= 1 << role;
            sends.push(self.request(role, None, RequestBody::Settle(vec![settlement])));
        }
        if self.off(Mutation::SettledByOne) && owed == 0b11 {
            owed = 1;
        }
        let mut moves = Vec::new();
        if !sends.is_empty() {
            let then = Then { sends: sends.clone(), ..Then::writes(self.log(log.clone())) };
            let what = "tells the participants of its end".to_owned();
            moves.push(Move { what, when: When::Unsent(sends), then });
        }
        let mut settled = self.writing("writes that it is settled".to_owned(), log, Event::Settled);
        settled.when = When::Confirmed(owed);
        settled.then.over = true;
        moves.push(settled);
        moves
    }

    /// Whether a settlement is one that the runner of this log waits for.
    pub fn awaits_settled(&self, log: u32) -> bool {
        self.logs.get(log).state().is_some_and(|state| state.ended().is_some() && !state.settled)
    }

    /// What a reply to a step's request means to the runner that waits for it: `Driver::act` and `Driver::compensate`.
    /// `None` if it doesn't wait for this request, or learns nothing from the reply.
    pub fn answered(&mut self, ask: usize, log: u32, request: u16, reply: u32) -> Rc<Outcome> {
        if let Some(known) = self.answered.get(&(log, request, reply)) {
            return Rc::clone(known);
        }
        let outcome = Rc::new(self.answer(ask, log, request, reply));
        self.answered.insert((log, request, reply), Rc::clone(&outcome));
        outcome
    }

    fn answer(&mut self, ask: usize, log: u32, request: u16, reply: u32) -> Outcome {
        let mut log = self.logs.get(log).clone();
        let (step, direction) = self.requests.get(u32::from(request)).step?;
        let state = log.state()?;
        let waits = match direction {
            Direction::Action => state.steps[step].action == Action::InDoubt && state.ended().is_none(),
            Direction::Compensation => {
                state.owes_compensation(step) && state.steps[step].compensation_attempts > 0
            }
        };
        let back = matches!(state.phase, like_client::saga::Phase::Back(_));
        let waits = waits || self.off(Mutation::SentUnwritten) && state.current_step() == Some(step);
        if !waits || back != (direction == Direction::Compensation) || state.ended().is_some() {
            return None;
        }
        let definition = self.definition(&state.begun);
        let asked = state.request(self.saga_id(ask), definition, step, direction).ok()?;
        if self.requests.get(u32::from(request)).body != RequestBody::Step(asked) {
            return None;
        }
        match meaning(step as u8, direction, self.replies.get(reply).clone()) {
            Answer::Failed { failure, .. } if failure.kind == FailureKind::Final => Some(Err((
                Property::AnswersMakeSense,
                format!("a compensation is refused: {}", failure.detail),
            ))),
            Answer::Failed { .. } => None,
            Answer::Decided(event) => Some(self.decided(ask, &mut log, event)),
        }
    }

    fn decided(&mut self, ask: usize, log: &mut Log, event: Event) -> Result<Then, Broken> {
        let fits = |fitted: Result<(), String>| fitted.map_err(|illegal| (Property::EventsFit, illegal));
        fits(log.append(event))?;
        let mut then = Then::writes(self.log(log.clone()));
        let done = log.state().is_some_and(|state| state.current_step().is_none());
        if done && self.off(Mutation::ToldBeforeEnd) {
            fits(log.append(Event::Ended(End::Completed)))?;
            then.tells = Some(self.word_of_ended(ask, log.state().expect("it was begun"))?);
        }
        Ok(then)
    }

    /// A saga of a dead runner is taken over: `take_over` in `client/src/log/takeover.rs`, `Runner::drive_on`, and
    /// `Driver::carry_out` for an operator's order; a forced end is `admin::force`. `None` if there is nothing to be done.
    pub fn recovered(&mut self, log: u32, order: Order, now: (u16, &Now)) -> Rc<Outcome> {
        if let Some(known) = self.recovered.get(&(log, order, now.0)) {
            return Rc::clone(known);
        }
        let outcome = Rc::new(self.recover(log, order, now.1));
        self.recovered.insert((log, order, now.0), Rc::clone(&outcome));
        outcome
    }

    fn recover(&mut self, log: u32, order: Order, now: &Now) -> Outcome {
        let before = self.logs.get(log);
        let mut log = before.taken_over(!self.off(Mutation::GivesUpAfterTakeover))?;
        if self.off(Mutation::CarryUnsynced) {
            log.durable = before.durable;
        }
        let state = log.state()?;
        let (ended, forward) = (state.ended().is_some(), state.phase == like_client::saga::Phase::Forward);
        if ended && (order != Order::GoOn || self.off(Mutation::SettleNotRepeated)) {
            return None;
        }
        let late = forward && state.deadline.passed(now);
        let event = match order {
            Order::GoOn if late && self.off(Mutation::SecondRecoveryRule) => {
                Some(Event::TurnedBack(TurnBack::Operator { by_uid: 0 }))
            }
            Order::GoOn => None,
            Order::Resume if forward => Some(Event::Resumed { deadline: next_instant(now), by_uid: 0 }),
            Order::Compensate if forward => Some(Event::TurnedBack(TurnBack::Operator { by_uid: 0 })),
            Order::Resume | Order::Compensate => return None,
            Order::Force => Some(Event::Forced {
                end: End::Compensated,
                reason: "it must end".to_owned(),
                by_uid: 0,
                leaves_broken: Vec::new(),
            }),
        };
        if let Some(event) = event
            && let Err(illegal) = log.append(event)
        {
            return Some(Err((Property::EventsFit, illegal)));
        }
        let taken_back = matches!(order, Order::Compensate | Order::Force);
        Some(Ok(Then { taken_back, ..Then::writes(self.log(log)) }))
    }

    /// What a power loss can leave of a log: how many records, and the log that they are.
    pub fn cuts(&mut self, log: u32) -> Rc<Vec<(u8, u32)>> {
        if let Some(known) = self.cuts.get(&log) {
            return Rc::clone(known);
        }
        let whole = self.logs.get(log).clone();
        let left = whole.durable..=whole.records().len();
        let cuts = Rc::new(left.map(|left| (left as u8, self.log(whole.cut(left)))).collect::<Vec<_>>());
        self.cuts.insert(log, Rc::clone(&cuts));
        cuts
    }

    /// What was answered by number.
    pub fn reply(&self, number: u32) -> &ReplyBody {
        self.replies.get(number)
    }
}
