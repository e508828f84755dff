//! Services and definitions with one rule off: wrappers around the shipped domain, the shipped participant and what it has
//! stored. With no rule off, what runs is the shipped code and nothing else.

use like_client::likes;
use like_client::likes::acts::{Act, UNLIKE};
use like_client::saga::StepPlan;
use like_client::saga::definition::Definitions;
use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::participant::barrier::State;
use like_daemon::participant::boots::Boots;
use like_daemon::participant::domain::{Context, Domain, Stop};
use like_daemon::participant::holds::{Hold, Mode};
use like_daemon::participant::record::{self, History, OperationRecord};
use like_daemon::participant::{Moment, Participant};
use like_daemon::store::{MemoryStore, Store, StoreError, Tx};
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::article::{ArticleAnswer, ArticleOperation, ArticleQuery, ArticleReply};
use like_protocol::message::{Direction, ReplyBody, RequestBody};
use like_protocol::time::Now;

use super::daemon::{Open, Participate, evaluate};
use super::mutation::Mutation;
use super::universe::clock;

/// The article and the user service, with a rule off or none.
pub fn services(mutation: Option<Mutation>) -> [Open; 2] {
    match mutation {
        None => [shipped(Articles), shipped(Users)],
        Some(rule @ Mutation::OldCountBack) => {
            [shipped(Altered { domain: Articles, rule, undo: old_count_back }), shipped(Users)]
        }
        Some(rule @ (Mutation::NoLock | Mutation::KeyNotHeld | Mutation::KeyWithoutAnswer)) => [
            shipped(Altered { domain: Articles, rule, undo: Articles::undo }),
            shipped(Altered { domain: Users, rule, undo: Users::undo }),
        ],
        Some(rule) => [altered(Articles, rule), altered(Users, rule)],
    }
}

/// The kinds of saga, with a rule off or none.
pub fn definitions(mutation: Option<Mutation>) -> Definitions {
    let shipped = likes::definitions();
    if mutation == Some(Mutation::UnlikeSideBySide) { shipped.with(UNLIKE_SIDE_BY_SIDE) } else { shipped }
}

/// An unlike whose steps wait for nothing.
const UNLIKE_SIDE_BY_SIDE: Act =
    Act { steps: &[UNLIKE.steps[0], StepPlan { beside: true, ..UNLIKE.steps[1] }], ..UNLIKE };

/// The shipped participant of a domain.
fn shipped<D: Domain + Copy>(domain: D) -> Open {
    Box::new(move |store, now| Box::new(opened(domain, store, now)))
}

fn altered<D: Domain + Copy>(domain: D, rule: Mutation) -> Open {
    Box::new(move |store, now| {
        let participant = opened(domain, store, now);
        Box::new(AlteredParticipant { domain, rule, participant })
    })
}

fn opened<D: Domain>(domain: D, store: &mut MemoryStore, now: &Now) -> Participant<D> {
    Participant::open(domain, store, now).expect("rows in memory can be read")
}

/// A participant whose clock, request or rows are tampered with.
struct AlteredParticipant<D: Domain> {
    domain: D,
    rule: Mutation,
    participant: Participant<D>,
}

impl<D: Domain + Copy> Participate for AlteredParticipant<D> {
    fn group(&mut self, store: &mut MemoryStore, now: &Now, body: Option<RequestBody>) -> Option<ReplyBody> {
        let at = |now| Moment { now, storage_low: false };
        let (mut evaluated_at, mut collected_at) = (at(*now), at(*now));
        let mut body = body;
        match (self.rule, &mut body) {
            (Mutation::NoRefusalPastDeadline, Some(RequestBody::Step(step)))
                if step.direction == Direction::Action =>
            {
                // Before any deadline of this boot.
                evaluated_at.now.at_ms = clock(u8::from(now.at_ms < 1_000_000), 0).at_ms;
            }
            (Mutation::OtherBootAhead, Some(RequestBody::Step(step))) => step.deadline.boot = now.boot,
            (Mutation::CollectBeforeDeadline, _) => collected_at.now.at_ms += 1_000_000,
            _ => {}
        }
        let changes = !matches!(body, Some(RequestBody::Query(_) | RequestBody::Unsettled { .. }));
        let reply = evaluate(&mut self.participant, store, &evaluated_at, &collected_at, body);
        if self.rule == Mutation::AnswerUnsynced {
            return reply;
        }
        store.sync().expect("memory can be synced");
        if changes {
            self.tamper(store, now);
        }
        reply
    }

    fn next_due_ms(&self) -> Option<u64> {
        self.participant.next_due_ms()
    }

    fn counts(&self) -> (usize, usize) {
        (self.participant.unsettled(), self.participant.collectable())
    }

    fn another(&self) -> Box<dyn Participate> {
        let Self { domain, rule, participant } = self;
        Box::new(Self { domain: *domain, rule: *rule, participant: participant.clone() })
    }
}

/// What a rule makes of a record.
enum Fate {
    Stays,
    Goes,
    LosesItsOperation,
}

impl<D: Domain + Copy> AlteredParticipant<D> {
    /// Changes records that are stored, and has the participant read them anew.
    fn tamper(&mut self, store: &mut MemoryStore, now: &Now) {
        let mut tx = Tx::new(store);
        let (boots, _) = Boots::load(&tx).expect("rows in memory can be read");
        let rows = tx.scan(&record::all(), 1000).expect("rows in memory can be read");
        let ids: Vec<StepId> =
            rows.iter().map(|row| record::id_of(&row.key).expect("a record's key")).collect();
        for id in ids {
            let found =
                OperationRecord::<D::Operation, D::Reply>::read(&id, &tx, &boots).expect("a sound record");
            let Some(mut found) = found else { continue };
            match self.fate(&found, now) {
                Fate::Stays => {}
                Fate::Goes => tx.delete(record::key_of(&id)),
                Fate::LosesItsOperation => {
                    found.history = History::Cancelled;
                    found.write(&id, &mut tx, &boots).expect("a record can be written");
                }
            }
        }
        tx.keep();
        let batch = tx.into_batch();
        if batch.is_empty() {
            return;
        }
        store.apply(batch).expect("memory can be written");
        self.participant = opened(self.domain, store, now);
    }

    fn fate(&self, record: &OperationRecord<D::Operation, D::Reply>, now: &Now) -> Fate {
        match (self.rule, record.standing().state) {
            (Mutation::NoTombstone, State::Cancelled) if !record.settled => Fate::Goes,
            (Mutation::UndoingUnlocks, State::Undone) => Fate::LosesItsOperation,
            (Mutation::CollectUnsettled, _) if record.deadline.passed(now) => Fate::Goes,
            _ => Fate::Stays,
        }
    }
}

/// How a domain undoes an action.
type Undo<D> = fn(
    &D,
    &mut Context<'_, '_>,
    SagaId,
    &<D as Domain>::Operation,
    &<D as Domain>::Reply,
) -> Result<(), StoreError>;

/// A domain that holds less than it should, keeps no answers, or undoes in another way.
#[derive(Clone, Copy)]
struct Altered<D: Domain> {
    domain: D,
    rule: Mutation,
    undo: Undo<D>,
}

impl<D: Domain + Copy> Domain for Altered<D> {
    const ROLE: &'static str = D::ROLE;

    type Operation = D::Operation;
    type Reply = D::Reply;
    type Rejection = D::Rejection;
    type Note = D::Note;
    type Query = D::Query;
    type Command = D::Command;
    type Answer = D::Answer;

    fn name_of(&self, key: &[u8]) -> Option<String> {
        self.domain.name_of(key)
    }

    fn holds(&self, operation: &D::Operation) -> Vec<Hold> {
        let mut holds = self.domain.holds(operation);
        match self.rule {
            Mutation::NoLock => holds.retain(|hold| hold.mode == Mode::Shared),
            // The like record comes first, the caller's key second.
            Mutation::KeyNotHeld if holds.len() == 3 => drop(holds.remove(1)),
            _ => {}
        }
        holds
    }

    fn act(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &D::Operation,
    ) -> Result<D::Reply, Stop<D::Rejection>> {
        self.domain.act(context, saga, operation)
    }

    fn undo(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &D::Operation,
        reply: &D::Reply,
    ) -> Result<(), StoreError> {
        (self.undo)(&self.domain, context, saga, operation, reply)
    }

    fn settle(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &D::Operation,
        note: Option<D::Note>,
    ) -> Result<(), StoreError> {
        let note = note.filter(|_| self.rule != Mutation::KeyWithoutAnswer);
        self.domain.settle(context, saga, operation, note)
    }

    fn query(&self, context: &Context<'_, '_>, query: D::Query) -> Result<D::Answer, Stop<D::Rejection>> {
        self.domain.query(context, query)
    }

    fn command(
        &self,
        context: &mut Context<'_, '_>,
        command: D::Command,
    ) -> Result<D::Answer, Stop<D::Rejection>> {
        self.domain.command(context, command)
    }
}

/// The count that stood before the action is written back.
fn old_count_back(
    articles: &Articles,
    context: &mut Context<'_, '_>,
    saga: SagaId,
    operation: &ArticleOperation,
    reply: &ArticleReply,
) -> Result<(), StoreError> {
    let (article, old) = match operation {
        ArticleOperation::AddLike(article) => (*article, reply.likes - 1),
        ArticleOperation::RemoveLike(article) => (*article, reply.likes + 1),
    };
    loop {
        let Ok(ArticleAnswer::Article(shown)) = articles.query(context, ArticleQuery::Show(article)) else {
            return Ok(());
        };
        let step = match shown.likes.cmp(&old) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => ArticleOperation::AddLike(article),
            std::cmp::Ordering::Greater => ArticleOperation::RemoveLike(article),
        };
        if let Err(Stop::Failed(failed)) = articles.act(context, saga, &step) {
            return Err(failed);
        }
    }
}
