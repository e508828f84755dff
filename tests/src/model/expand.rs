//! Everything that can happen next: the transitions of the model.

use like_client::likes::audit::Looks;
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{Article, ArticleAnswer, ArticleQuery, ArticleRejection, ListedArticle};
use like_protocol::likes::user::{LikerCount, UserAnswer, UserQuery};
use like_protocol::message::{ReplyBody, StepReply};

use super::mutation::Mutation;
use super::property::{Broken, Property};
use super::runner::{Outcome, Then, When};
use super::state::{Order, SagaPart, State, Step, flag};
use super::universe::{ARTICLE, Model, USER, answered, query};
use super::world::SAGAS_MAX;

/// What comes of a step: the next state, or a broken promise.
pub type Next = (Step, Result<State, Broken>);

impl Model {
    /// Everything that can happen in a state. Steps that change nothing are left out.
    pub fn expand(&mut self, state: &State, next: &mut Vec<Next>) {
        next.clear();
        for ask in 0..self.world.asks.len() {
            self.ask(state, ask, next);
            self.run(state, ask, next);
            self.arrivals(state, ask, next);
        }
        if state.instant + 1 < self.world.instants {
            next.push((Step::Tick, Ok(State { instant: state.instant + 1, ..*state })));
        }
        if state.boot < self.world.power_losses {
            self.power_losses(state, next);
        }
        self.collections(state, next);
        if self.world.audits {
            self.audit(state, next);
        }
        self.see();
        next.retain(|(_, then)| then.as_ref() != Ok(state));
    }

    /// A caller asks. Of asks that are the same, the first is made first: which is which makes no difference.
    fn ask(&mut self, state: &State, ask: usize, next: &mut Vec<Next>) {
        let asks = &self.world.asks;
        let earlier = asks[..ask].iter().rposition(|earlier| *earlier == asks[ask]);
        let early = earlier.is_some_and(|earlier| !state.sagas[earlier].is(flag::ASKED));
        // What can't go on can only end when its deadline passes, so there must be an instant left for that.
        let late = self.world.users_down && state.instant + 1 == self.world.instants;
        if early || late || state.sagas[ask].is(flag::ASKED) {
            return;
        }
        let mut asked = *state;
        asked.sagas[ask].set(flag::ASKED, true);
        let mut begun = asked;
        begun.sagas[ask].set(flag::LIVE, true);
        begun.sagas[ask].log = self.begin(ask, &self.now(state).1);
        next.push((Step::Begin(ask as u8), Ok(begun)));
        if self.world.checks
            && let Some(word) = self.word_of_check(ask, state)
        {
            let told = (*word).clone().and_then(|word| self.tell(asked, ask, &word));
            next.push((Step::Check(ask as u8), told));
        }
    }

    /// A saga's runner goes on or dies, or another takes over.
    fn run(&mut self, state: &State, ask: usize, next: &mut Vec<Next>) {
        let part = state.sagas[ask];
        let (number, now) = self.now(state);
        if !part.is(flag::LIVE) {
            for order in [Order::GoOn, Order::Resume, Order::Compensate, Order::Force] {
                let Some(orders) = self.ordered(state, order) else { continue };
                let outcome = self.recovered(part.log, order, (number, &now));
                let mut taken = State { orders, ..*state };
                taken.sagas[ask].set(flag::LIVE, true);
                push(next, Step::Recover(ask as u8, order), self.after(&taken, ask, &outcome));
            }
            return;
        }
        for (place, can) in self.moves(ask, part.log, (number, &now)).iter().enumerate() {
            let can_now = match &can.when {
                When::Now => true,
                When::Unsent(requests) => requests.iter().any(|sent| !self.sets.has(part.sent, *sent)),
                When::Confirmed(owed) => part.is(owed * flag::CONFIRMED),
            };
            if can_now {
                let then = self.then(*state, ask, &can.then);
                next.push((Step::Move(ask as u8, place as u8), then));
            }
        }
        if self.world.kills {
            let mut killed = *state;
            killed.sagas[ask].set(flag::LIVE | flag::CONFIRMED_BOTH, false);
            next.push((Step::Kill(ask as u8), Ok(killed)));
        }
    }

    /// The orders given so far and this one, if an operator may still give it.
    fn ordered(&self, state: &State, order: Order) -> Option<[u8; 3]> {
        let mut orders = state.orders;
        let (given, most) = match order {
            Order::GoOn => return Some(orders),
            Order::Resume => (&mut orders[0], self.world.resumes),
            Order::Compensate => (&mut orders[1], self.world.compensates),
            Order::Force => (&mut orders[2], self.world.forces),
        };
        *given += 1;
        (*given <= most).then_some(orders)
    }

    fn after(&mut self, state: &State, ask: usize, outcome: &Outcome) -> Option<Result<State, Broken>> {
        match outcome {
            None => None,
            Some(Ok(then)) => Some(self.then(*state, ask, then)),
            Some(Err(broken)) => Some(Err(broken.clone())),
        }
    }

    /// The state after what a runner did or heard.
    fn then(&mut self, mut state: State, ask: usize, then: &Then) -> Result<State, Broken> {
        let forced = self.logs.get(then.log).state().is_some_and(|saga| saga.forced());
        let part = &mut state.sagas[ask];
        part.log = then.log;
        for request in &then.sends {
            part.sent = self.sets.with(part.sent, *request);
        }
        if then.taken_back {
            if part.is(flag::AFFIRMED) && !forced {
                let what = format!(
                    "saga {} was acknowledged, no power was lost, and an operator can take it back",
                    ask + 1
                );
                return Err((Property::AcknowledgedStands, what));
            }
            // What was told before the power was lost is taken back, as the operator was warned.
            part.set(flag::AFFIRMED_BEFORE, false);
            part.told = 0;
        }
        if forced {
            part.set(flag::AFFIRMED | flag::AFFIRMED_BEFORE | flag::DENIED, false);
        }
        part.set(flag::DENIED, then.denies || part.is(flag::DENIED));
        if then.over {
            part.set(flag::LIVE | flag::CONFIRMED_BOTH, false);
        }
        match &then.tells {
            Some(word) => self.tell(state, ask, word),
            None => Ok(state),
        }
    }

    /// A request arrives, now or again; its answer is lost, or its runner gets it.
    ///
    /// An answer is got at the moment at which it is given. That loses nothing: all that a runner does with an answer that
    /// it gets later is to write to its own log, which nobody else looks at while it lives, and to go on later.
    fn arrivals(&mut self, state: &State, ask: usize, next: &mut Vec<Next>) {
        let (number, now) = self.now(state);
        for at in 0..self.sets.members(state.sagas[ask].sent).len() {
            let request = self.sets.members(state.sagas[ask].sent)[at];
            let asked = self.requests.get(u32::from(request));
            let (role, settles) = (asked.role, asked.step.is_none());
            if role == USER && self.world.users_down {
                continue;
            }
            let before = state.stores[role];
            let (after, reply) =
                self.services[role].arrive(before, (number, &now), (request, &asked.body), &mut self.replies);
            let mut arrived = *state;
            arrived.stores[role] = after;
            if before != after {
                self.see();
                if let Err(broken) = self.take_effect(&mut arrived, ask, role, before) {
                    next.push((Step::Arrive(ask as u8, request), Err(broken)));
                    continue;
                }
            }
            if let Some(broken) = self.makes_no_sense(state, reply) {
                next.push((Step::Arrive(ask as u8, request), Err(broken)));
                continue;
            }
            next.push((Step::Arrive(ask as u8, request), Ok(arrived)));
            if !state.sagas[ask].is(flag::LIVE) {
                continue;
            }
            let log = state.sagas[ask].log;
            let got = Step::Answer(ask as u8, request);
            if settles {
                if *self.replies.get(reply) == ReplyBody::Settled && self.awaits_settled(log) {
                    arrived.sagas[ask].set(flag::CONFIRMED << role, true);
                    next.push((got, Ok(arrived)));
                }
                continue;
            }
            let outcome = self.answered(ask, log, request, reply);
            push(next, got, self.after(&arrived, ask, &outcome));
        }
    }

    /// Notes whether a step has taken effect or was undone.
    fn take_effect(&self, state: &mut State, ask: usize, role: usize, before: u32) -> Result<(), Broken> {
        let by = self.effect(ask, role, before, state.stores[role]);
        let part: &mut SagaPart = &mut state.sagas[ask];
        let has = i64::from(part.is(flag::EFFECT << role));
        if by == 0 {
            return Ok(());
        }
        let story = self.logs.get(part.log).story.as_ref();
        if story
            .is_some_and(|story| !story.is_open() && story.state.as_ref().is_some_and(|state| state.forced()))
        {
            let what = format!(
                "saga {} was ended by force and settled, and its step at the {} runs",
                ask + 1,
                self.role(role)
            );
            return Err((Property::SealedStays, what));
        }
        if !(0..=1).contains(&(has + by)) {
            let what = format!(
                "the step of saga {} at the {} service takes effect {by:+} where it stands at {has}",
                ask + 1,
                self.role(role)
            );
            return Err((Property::EffectsOnce, what));
        }
        part.set(flag::EFFECT << role, has + by == 1);
        Ok(())
    }

    fn makes_no_sense(&self, state: &State, reply: u32) -> Option<Broken> {
        match self.replies.get(reply) {
            ReplyBody::Invalid(why) => Some((Property::AnswersMakeSense, why.clone())),
            reply @ (ReplyBody::Damaged(_) | ReplyBody::SettledBut(_)) => {
                Some((Property::AnswersMakeSense, format!("{reply:?}")))
            }
            ReplyBody::Step(StepReply::Rejected(rejection)) if state.orders[2] == 0 => {
                let rejected = like_protocol::codec::decode(&rejection.0).ok()?;
                matches!(rejected, ArticleRejection::NoLikes(_)).then(|| {
                    let what = "who holds the like record finds no like to take away".to_owned();
                    (Property::CountNotBelowZero, what)
                })
            }
            _ => None,
        }
    }

    /// Every process dies, no message survives, of each log a prefix is left that holds what was durable, and a new boot
    /// begins, in which all deadlines are past.
    fn power_losses(&mut self, state: &State, next: &mut Vec<Next>) {
        let mut dark = State { boot: state.boot + 1, instant: 0, audit: 0, ..*state };
        let (number, now) = self.now(&dark);
        for role in [ARTICLE, USER] {
            dark.stores[role] = self.services[role].reboot(state.stores[role], (number, &now));
        }
        for part in &mut dark.sagas {
            let affirmed = part.is(flag::AFFIRMED);
            part.set(flag::LIVE | flag::CONFIRMED_BOTH | flag::AFFIRMED, false);
            part.set(flag::AFFIRMED_BEFORE, affirmed || part.is(flag::AFFIRMED_BEFORE));
            part.sent = 0;
        }
        let mut left = vec![([0; SAGAS_MAX], dark)];
        for saga in 0..self.world.asks.len() {
            let cuts = self.cuts(state.sagas[saga].log);
            let each = |(records, state): ([u8; SAGAS_MAX], State)| {
                cuts.iter().map(move |(some, log)| {
                    let (mut records, mut state) = (records, state);
                    (records[saga], state.sagas[saga].log) = (*some, *log);
                    (records, state)
                })
            };
            left = left.into_iter().flat_map(each).collect();
        }
        next.extend(left.into_iter().map(|(records, state)| (Step::PowerLoss(records), Ok(state))));
    }

    /// A daemon that has nothing else to do forgets what may be forgotten.
    fn collections(&mut self, state: &State, next: &mut Vec<Next>) {
        let (number, now) = self.now(state);
        for role in [ARTICLE, USER] {
            if let Some(after) = self.services[role].collect(state.stores[role], (number, &now)) {
                let mut collected = *state;
                collected.stores[role] = after;
                next.push((Step::Collect(role as u8), Ok(collected)));
            }
        }
    }

    /// An audit of article 1 takes its next look.
    fn audit(&mut self, state: &State, next: &mut Vec<Next>) {
        let asked = (state.audit, state.stores);
        let looked = match self.looked.get(&asked) {
            Some(known) => known.clone(),
            None => {
                let looked = self.look(state);
                self.looked.insert(asked, looked.clone());
                looked
            }
        };
        next.push((Step::Look, looked.map(|audit| State { audit, ..*state })));
    }

    /// One look, and the comparison after the last: `look` in `client/src/likes/audit.rs`.
    fn look(&mut self, state: &State) -> Result<u32, Broken> {
        let (_, now) = self.now(state);
        let id = ArticleId(1);
        let plain = self.off(Mutation::AuditByPlainReads);
        let asked = |role: usize, body| self.services[role].ask(state.stores[role], &now, body);
        let article = || {
            let shown = answered(&asked(ARTICLE, query(&ArticleQuery::Show(id))));
            let ArticleAnswer::Article(article) = shown else { panic!("a page instead of an article") };
            let plainly = |article| Article { unsettled: 0, change: 0, ..article };
            Some(ListedArticle::Whole(if plain { plainly(article) } else { article }))
        };
        let after = match *self.looks.get(state.audit) {
            None => Looks::begin(article()).ok().map(|looks| (1, looks)),
            Some((1, mut looks)) => {
                let counting = query(&UserQuery::CountLikers { article: id, after: None });
                let UserAnswer::Count(count) = answered(&asked(USER, counting)) else { panic!("no count") };
                let unsettled = if plain { 0 } else { count.unsettled };
                let settled_by_it = looks.count(&LikerCount { unsettled, ..count });
                settled_by_it.is_none().then_some((2, looks))
            }
            Some((_, looks)) => match looks.end(article()).drift(id) {
                Some(drift) => return Err((Property::AuditInventsNothing, format!("{drift:?}"))),
                None => None,
            },
        };
        Ok(self.looks.number(after, || after))
    }
}

fn push(next: &mut Vec<Next>, step: Step, then: Option<Result<State, Broken>>) {
    next.extend(then.map(|then| (step, then)));
}
