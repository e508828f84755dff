//! What must hold in every state, and what must be reachable from each.

use like_client::saga::{End, Phase};
use like_protocol::ids::SagaId;

use super::state::{State, flag};
use super::universe::{ARTICLES, Model, Sight};

/// A promise that a state or a step can break.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Property {
    /// A step takes effect at most once, and is undone at most once.
    EffectsOnce,
    /// What somebody was told to have happened has happened, and is never taken back by itself.
    AcknowledgedStands,
    /// What somebody was told to have failed has no effect, and never gets one.
    FailureHasNoEffect,
    /// A saga that has completed has all its effects, one that is compensated none.
    AllOrNothing,
    /// Likes are like records when no saga is unfinished.
    LikesAreRecords,
    /// Nobody who holds a like record finds a count of zero.
    CountNotBelowZero,
    /// The first answer to a key is the answer to every retry.
    SameKeySameAnswer,
    /// What an ask was answered once it is answered again.
    FirstAnswerIsSticky,
    /// What is not settled belongs to a saga that stands open in its log; so no lock is left when all have been settled.
    LocksAreTraced,
    /// A saga that was ended by force changes nothing once it is settled.
    SealedStays,
    /// An audit reports no drift that is not there.
    AuditInventsNothing,
    /// Every event fits its saga.
    EventsFit,
    /// No participant finds a request to make no sense.
    AnswersMakeSense,
    /// From every state an end is reachable without another fault and without an operator.
    AnEndIsReachable,
}

/// A broken promise, and how.
pub type Broken = (Property, String);

impl Model {
    /// Looks for a broken promise in a state.
    pub fn broken(&self, state: &State) -> Option<Broken> {
        (0..self.world.asks.len()).find_map(|saga| self.broken_of(state, saga)).or_else(|| self.drift(state))
    }

    fn broken_of(&self, state: &State, saga: usize) -> Option<Broken> {
        use Property::{AcknowledgedStands, AllOrNothing, EventsFit, FailureHasNoEffect, LocksAreTraced};
        let part = &state.sagas[saga];
        let log = self.logs.get(part.log);
        let broken = |property, what: &str| Some((property, format!("saga {}: {what}", saga + 1)));
        let (all, none) = (part.is(flag::EFFECT_BOTH), part.flags & flag::EFFECT_BOTH == 0);
        let affirmed = part.flags & (flag::AFFIRMED | flag::AFFIRMED_BEFORE) != 0;
        let denied = part.is(flag::DENIED);

        let open = log.state().is_some_and(|saga| !saga.settled);
        if !open && let Some(role) = (0..2).find(|role| self.leaves(state, *role, saga)) {
            let what = format!("its step at the {} is not settled, and nobody knows", self.role(role));
            return broken(LocksAreTraced, &what);
        }
        if affirmed && !all {
            return broken(AcknowledgedStands, "somebody was told that it has happened, and it has not");
        }
        if denied && !none {
            return broken(FailureHasNoEffect, "somebody was told that it has failed, and it has an effect");
        }
        let told = log.state()?;
        if told.quarantined.is_some() {
            return broken(EventsFit, "its log does not add up");
        }
        match &told.phase {
            Phase::Ended(End::Completed) if !all => {
                broken(AllOrNothing, "it has completed, and an effect is missing")
            }
            Phase::Ended(End::Compensated) if !none => {
                broken(AllOrNothing, "it is compensated, and an effect stands")
            }
            Phase::Back(_) | Phase::Ended(End::Compensated) if affirmed => {
                broken(AcknowledgedStands, "somebody was told that it has happened, and it has turned back")
            }
            Phase::Forward | Phase::Ended(End::Completed) if denied => {
                broken(FailureHasNoEffect, "somebody was told that it has failed, and it goes forward")
            }
            _ => None,
        }
    }

    /// Whether a service has an unsettled record of a saga.
    fn leaves(&self, state: &State, role: usize, saga: usize) -> bool {
        let unsettled = &self.services[role].seen(state.stores[role]).unsettled;
        unsettled.iter().any(|step| self.saga_of(step.id.saga) == Some(saga))
    }

    /// Likes against records, if no saga is unfinished and none was ended by force.
    fn drift(&self, state: &State) -> Option<Broken> {
        let states = || state.sagas.iter().filter_map(|part| self.logs.get(part.log).state());
        let comparable = states().all(|saga| saga.ended().is_some() && !saga.forced());
        if !comparable {
            return None;
        }
        let sights = self.sights(state);
        let differs = sights.iter().zip(ARTICLES).find_map(|(article, id)| {
            let records = u64::from(article.likers.count_ones());
            let Sight { likes, counted, .. } = *article;
            let what =
                || format!("article {id} has {likes} likes and {records} like records, {counted} counted");
            (likes != records || counted != records).then(what)
        });
        differs.map(|what| (Property::LikesAreRecords, what))
    }

    /// Whether everything has ended: every saga that was begun is settled, and every record that can be forgotten in this
    /// boot is forgotten.
    pub fn has_ended(&self, state: &State) -> bool {
        let closed = |log: u32| self.logs.get(log).story.as_ref().is_none_or(|story| !story.is_open());
        let last_ms = self.clock(state.boot, self.world.instants - 1).at_ms;
        let forgotten = (0..2).all(|role| {
            let service = &self.services[role];
            let due = service.next_due_ms(state.stores[role]);
            service.seen(state.stores[role]).records.0 == 0 && due.is_none_or(|due_ms| due_ms > last_ms)
        });
        forgotten && state.sagas.iter().all(|part| closed(part.log))
    }

    /// Which of the world's sagas an id names.
    pub fn saga_of(&self, id: SagaId) -> Option<usize> {
        (0..self.world.asks.len()).find(|saga| self.saga_id(*saga) == id)
    }
}
