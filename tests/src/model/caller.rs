//! What callers are told, and what it commits everybody to.

use std::rc::Rc;

use like_client::likes::answer::{ActError, LikeAnswer, Rule, UnlikeAnswer, before_saga};
use like_client::saga::{Action, SagaState};
use like_protocol::codec;
use like_protocol::ids::SagaId;
use like_protocol::likes::article::{ArticleAnswer, ArticleQuery};
use like_protocol::likes::user::{KeyUse, UserAnswer, UserQuery, UserRejection};

use super::mutation::Mutation;
use super::property::{Broken, Property};
use super::state::{State, flag};
use super::universe::{ARTICLE, Model, USER, answered, query};

/// What a caller is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The like has happened.
    Liked(LikeAnswer),
    /// The unlike has happened.
    Unliked(UnlikeAnswer),
    /// A rule forbids it.
    Forbidden(Rule),
    /// It failed and was undone.
    Failed,
}

/// What a caller is told, and what that says of sagas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// What.
    pub told: Told,
    /// The saga that it says has happened, if it is about one.
    affirms: Option<SagaId>,
}

impl Word {
    /// No word.
    pub fn none() -> Self {
        Self { told: Told::Nothing, affirms: None }
    }

    fn liked(answer: LikeAnswer) -> Self {
        Self { told: Told::Liked(answer), affirms: Some(answer.saga) }
    }

    fn unliked(answer: UnlikeAnswer) -> Self {
        Self { told: Told::Unliked(answer), affirms: Some(answer.saga) }
    }

    /// The word behind an error. `record` is the like record that was met, if one was.
    fn of_error(error: ActError, record: Option<SagaId>) -> Result<Self, Broken> {
        match error {
            ActError::Forbidden { rule, .. } => {
                let affirms = match &rule {
                    Rule::AlreadyLiked { .. } => record,
                    Rule::KeyOfAnother(first) => Some(first.saga),
                    _ => None,
                };
                Ok(Self { told: Told::Forbidden(rule), affirms })
            }
            ActError::Compensated { .. } => Ok(Self { told: Told::Failed, affirms: None }),
            other => Err((Property::AnswersMakeSense, format!("a caller is told: {other}"))),
        }
    }
}

impl Model {
    /// What the caller of an ended saga is told.
    pub fn word_of_ended(&self, ask: usize, state: &SagaState) -> Result<Word, Broken> {
        let (saga, target) = (self.saga_id(ask), self.target(ask));
        let word = match self.world.asks[ask].usage {
            KeyUse::Like => LikeAnswer::of_ended(saga, state, &target).map(Word::liked),
            KeyUse::Unlike => UnlikeAnswer::of_ended(saga, state, &target).map(Word::unliked),
        };
        word.or_else(|error| Word::of_error(error, record_met(state)))
    }

    /// What the checks before a saga answer, if they answer anything.
    pub fn word_of_check(&mut self, ask: usize, state: &State) -> Option<Rc<Result<Word, Broken>>> {
        if let Some(known) = self.checked.get(&(ask, state.stores)) {
            return known.clone();
        }
        let word = self.check(ask, state).map(Rc::new);
        self.checked.insert((ask, state.stores), word.clone());
        word
    }

    fn check(&self, ask: usize, state: &State) -> Option<Result<Word, Broken>> {
        let (target, usage) = (self.target(ask), self.world.asks[ask].usage);
        let (_, now) = self.now(state);
        let asked = |role: usize, body| self.services[role].ask(state.stores[role], &now, body);
        let ArticleAnswer::Article(_) = answered(&asked(ARTICLE, query(&ArticleQuery::Show(target.article))))
        else {
            panic!("a page instead of an article");
        };
        let UserAnswer::Standing(mut standing) = answered(&asked(USER, query(&UserQuery::Standing(target))))
        else {
            panic!("no standing");
        };
        if self.off(Mutation::CheckDecidesOnLocked) {
            standing.locked_by = None;
        }
        match before_saga(&target, usage, Ok(()), Ok(standing)) {
            Ok(None) => None,
            Ok(Some(first)) => Some(Ok(match usage {
                KeyUse::Like => Word::liked(LikeAnswer::of_first(&first)),
                KeyUse::Unlike => Word::unliked(UnlikeAnswer::of_first(&first)),
            })),
            Err(error) => Some(Word::of_error(error, standing.record)),
        }
    }

    /// A caller is told: the state in which that is known, or the promise that it breaks.
    pub fn tell(&mut self, mut state: State, ask: usize, word: &Word) -> Result<State, Broken> {
        let before = self.words.get(u32::from(state.sagas[ask].told));
        if before.told != Told::Nothing && before.told != word.told {
            let what = format!("ask {}: {:?} at first, then {:?}", ask + 1, before.told, word.told);
            return Err((Property::FirstAnswerIsSticky, what));
        }
        self.same_key(&state, ask, word)?;
        let number = self.words.number(format!("{word:?}"), || word.clone());
        state.sagas[ask].told = u16::try_from(number).expect("few different words");
        let mut affirmed = word.affirms.and_then(|saga| self.saga_of(saga)).into_iter().collect::<Vec<_>>();
        if matches!(word.told, Told::Forbidden(Rule::NotLiked { .. })) {
            affirmed.extend(self.removers(&state, &self.target(ask)));
        }
        for saga in affirmed {
            state.sagas[saga].set(flag::AFFIRMED, true);
        }
        Ok(state)
    }

    /// The same key for the same is answered the same.
    fn same_key(&self, state: &State, ask: usize, word: &Word) -> Result<(), Broken> {
        let Some(of) = Some(self.world.asks[ask]).filter(|ask| ask.key.is_some()) else { return Ok(()) };
        let others =
            (0..self.world.asks.len()).filter(|other| *other != ask && self.world.asks[*other] == of);
        for other in others {
            let told = &self.words.get(u32::from(state.sagas[other].told)).told;
            let happened = |told: &Told| matches!(told, Told::Liked(_) | Told::Unliked(_));
            let own_record = matches!(word.told, Told::Forbidden(Rule::AlreadyLiked { .. }))
                && word.affirms == Some(self.saga_id(other));
            if own_record || happened(told) && happened(&word.told) && *told != word.told {
                let what = format!(
                    "asks {} and {} have one key: one is told {told:?}, the other {:?}",
                    other + 1,
                    ask + 1,
                    word.told
                );
                return Err((Property::SameKeySameAnswer, what));
            }
        }
        Ok(())
    }
}

/// The like record that a saga's rejected step met.
fn record_met(state: &SagaState) -> Option<SagaId> {
    let rejected = state.steps.iter().find_map(|step| match &step.action {
        Action::Rejected(rejection) => codec::decode(&rejection.0).ok(),
        _ => None,
    });
    match rejected {
        Some(UserRejection::AlreadyLiked { record }) => Some(record),
        _ => None,
    }
}
