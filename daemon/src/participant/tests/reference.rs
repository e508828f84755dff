//! Any requests in any order, answered by both services and by a small reference: a table of what is known of each
//! step, and two maps. The reference is written from the rules, not from the code.

use std::collections::{BTreeMap, HashMap};

use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::user::{LikeRecord, UserAnswer, UserQuery};
use like_protocol::message::{Payload, UnsettledState};
use like_protocol::time::DEADLINE_AHEAD_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SAGAS: u8 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Add,
    Remove,
    Like(u64, u64),
    Unlike(u64, u64),
}

use Operation::{Add, Like, Remove, Unlike};

/// The two services: which of the operations are theirs.
const ARTICLES: &[Operation] = &[Add, Add, Remove];
const USERS: &[Operation] = &[Like(1, 1), Unlike(1, 1), Like(2, 1), Like(1, 1), Unlike(2, 1)];

/// A deadline as it is named: how far ahead, or one of the boot before.
#[derive(Clone, Copy, Debug)]
enum Until {
    Ahead(u64),
    TooFar,
    BootBefore,
}

#[derive(Clone, Debug)]
enum Asked {
    /// The number of an operation that is not the saga's own, or that none is named.
    Step {
        saga: u8,
        direction: Direction,
        until: Until,
        other: Option<usize>,
        unnamed: bool,
    },
    Settle {
        sagas: Vec<u8>,
        until: Until,
        ending: Ending,
    },
    /// A copy of one of the requests that came before.
    Again(prop::sample::Index),
}

#[derive(Clone, Debug)]
enum Event {
    Group { articles: bool, asked: Vec<Asked> },
    Wait(u64),
    Restart,
    Reboot,
}

fn until() -> impl Strategy<Value = Until> {
    prop_oneof![
        12 => (1..600u64).prop_map(Until::Ahead),
        2 => Just(Until::Ahead(0)),
        1 => Just(Until::TooFar),
        1 => Just(Until::BootBefore),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let direction = prop_oneof![3 => Just(Direction::Action), 2 => Just(Direction::Compensation)];
    let other = prop_oneof![9 => Just(None), 1 => any::<usize>().prop_map(Some)];
    let step = (0..SAGAS, direction, until(), other, prop::bool::weighted(0.15));
    let ending = prop_oneof![3 => Just(Natural), 1 => Just(Forced)];
    prop_oneof![
        8 => step.prop_map(|(saga, direction, until, other, unnamed)| {
            let unnamed = unnamed && direction == Direction::Compensation;
            Asked::Step { saga, direction, until, other, unnamed }
        }),
        4 => (vec(0..SAGAS, 1..3), until(), ending)
            .prop_map(|(sagas, until, ending)| Asked::Settle { sagas, until, ending }),
        4 => any::<prop::sample::Index>().prop_map(Asked::Again),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        16 => (any::<bool>(), vec(asked(), 1..4)).prop_map(|(articles, asked)| Event::Group { articles, asked }),
        4 => (1..500u64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
        1 => Just(Event::Reboot),
    ]
}

/// What is known of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// It ran, and answered so.
    Ran(Operation, Answer),
    /// It ran and was undone.
    TakenBack(Operation),
    /// It will never run.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Likes(u64),
    Record(SagaId),
}

impl Answer {
    fn payload(self) -> Payload {
        match self {
            Self::Likes(likes) => payload(&ArticleReply { likes }),
            Self::Record(record) => payload(&UserReply { record }),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    settled: bool,
    deadline: Deadline,
}

/// One service as the rules say it is.
#[derive(Default)]
struct Reference {
    steps: HashMap<u8, Entry>,
    count: u64,
    likes: HashMap<(u64, u64), SagaId>,
}

fn latest(known: Deadline, named: Deadline, now: &Now) -> Deadline {
    let of_now = |deadline: &Deadline| (deadline.boot == now.boot).then_some(deadline.at_ms);
    if of_now(&named) > of_now(&known) { named } else { known }
}

fn is_past(deadline: Deadline, now: &Now) -> bool {
    deadline.boot != now.boot || now.at_ms >= deadline.at_ms
}

fn is_too_far(deadline: Deadline, now: &Now) -> bool {
    let ahead_ms = DEADLINE_AHEAD_MAX.as_millis() as u64;
    deadline.boot == now.boot && deadline.at_ms > now.at_ms + ahead_ms
}

fn invalid() -> ReplyBody {
    ReplyBody::Invalid(String::new())
}

fn record_of(operation: Operation) -> Option<(u64, u64)> {
    match operation {
        Like(user, article) | Unlike(user, article) => Some((user, article)),
        Add | Remove => None,
    }
}

impl Reference {
    /// The saga that locks this like record: it has touched it, and is not settled.
    fn locked(&self, record: (u64, u64)) -> Option<u8> {
        let touches = |entry: &Entry| match entry.known {
            Known::Ran(operation, _) | Known::TakenBack(operation) => record_of(operation) == Some(record),
            Known::Never => false,
        };
        self.steps.iter().find(|(_, entry)| !entry.settled && touches(entry)).map(|(saga, _)| *saga)
    }

    fn step(
        &mut self,
        now: &Now,
        number: u8,
        direction: Direction,
        named: Option<Operation>,
        deadline: Deadline,
    ) -> ReplyBody {
        if is_too_far(deadline, now) {
            return invalid();
        }
        let Some(entry) = self.steps.get_mut(&number) else {
            return match (direction, named) {
                (Direction::Compensation, _) => {
                    if !is_past(deadline, now) {
                        self.steps.insert(number, Entry { known: Known::Never, settled: false, deadline });
                    }
                    UNDONE
                }
                (Direction::Action, Some(_)) if is_past(deadline, now) => EXPIRED,
                (Direction::Action, Some(operation)) => self.run(number, operation, deadline),
                (Direction::Action, None) => invalid(),
            };
        };
        let ran_with = match entry.known {
            Known::Ran(operation, _) | Known::TakenBack(operation) => Some(operation),
            Known::Never => None,
        };
        if ran_with.is_some() && named.is_some() && ran_with != named {
            return invalid();
        }
        entry.deadline = latest(entry.deadline, deadline, now);
        match (direction, entry.known) {
            (Direction::Action, Known::Ran(_, answer)) => ReplyBody::Step(StepReply::Done(answer.payload())),
            (Direction::Action, Known::TakenBack(_) | Known::Never) => COMPENSATED,
            (Direction::Compensation, Known::Ran(..)) if entry.settled => FINAL,
            (Direction::Compensation, Known::Ran(operation, answer)) => {
                entry.known = Known::TakenBack(operation);
                self.take_back(operation, answer);
                UNDONE
            }
            (Direction::Compensation, Known::TakenBack(_) | Known::Never) => UNDONE,
        }
    }

    fn run(&mut self, number: u8, operation: Operation, deadline: Deadline) -> ReplyBody {
        if let Some(by) = record_of(operation).and_then(|record| self.locked(record)) {
            return locked(by);
        }
        let found = record_of(operation).and_then(|record| self.likes.get(&record).copied());
        let answer = match (operation, found) {
            (Add, _) => {
                self.count += 1;
                Answer::Likes(self.count)
            }
            (Remove, _) if self.count == 0 => return rejected(&ArticleRejection::NoLikes(ArticleId(1))),
            (Remove, _) => {
                self.count -= 1;
                Answer::Likes(self.count)
            }
            (Like(..), Some(record)) => return rejected(&UserRejection::AlreadyLiked { record }),
            (Like(user, article), None) => {
                self.likes.insert((user, article), saga(number));
                Answer::Record(saga(number))
            }
            (Unlike(..), None) => return rejected(&UserRejection::NotLiked),
            (Unlike(user, article), Some(record)) => {
                self.likes.remove(&(user, article));
                Answer::Record(record)
            }
        };
        self.steps.insert(number, Entry { known: Known::Ran(operation, answer), settled: false, deadline });
        ReplyBody::Step(StepReply::Done(answer.payload()))
    }

    fn take_back(&mut self, operation: Operation, answer: Answer) {
        match (operation, answer) {
            // No count goes below zero.
            (Add, _) => self.count = self.count.saturating_sub(1),
            (Remove, _) => self.count += 1,
            (Unlike(user, article), Answer::Record(record)) => {
                self.likes.insert((user, article), record);
            }
            (Like(user, article), _) => {
                self.likes.remove(&(user, article));
            }
            (Unlike(..), Answer::Likes(_)) => unreachable!("a user service counts nothing"),
        }
    }

    fn settle(&mut self, now: &Now, sagas: &[u8], deadline: Deadline, ending: Ending) -> ReplyBody {
        if is_too_far(deadline, now) {
            return invalid();
        }
        for number in sagas {
            match self.steps.get_mut(number) {
                Some(entry) => {
                    entry.settled = true;
                    entry.deadline = latest(entry.deadline, deadline, now);
                    if let Known::TakenBack(_) = entry.known {
                        entry.known = Known::Never;
                    }
                }
                // A copy of its action may be on its way, and must find that it comes too late.
                None if ending == Forced && !is_past(deadline, now) => {
                    self.steps.insert(*number, Entry { known: Known::Never, settled: true, deadline });
                }
                None => {}
            }
        }
        ReplyBody::Settled
    }

    /// What nobody needs any more goes: it is settled, and its deadline keeps late copies out.
    fn forget(&mut self, now: &Now) {
        self.steps.retain(|_, entry| !(entry.settled && is_past(entry.deadline, now)));
    }
}

fn operation_payload(operation: Operation) -> Payload {
    match operation {
        Add => payload(&ADD),
        Remove => payload(&REMOVE),
        Like(user, article) => payload(&like(user, article)),
        Unlike(user, article) => payload(&unlike(user, article)),
    }
}

/// A service, its reference, and every request that it has got.
struct Compared<D: Domain + Copy> {
    service: Harness<D>,
    reference: Reference,
    operations: &'static [Operation],
    sent: Vec<(RequestBody, Option<Operation>)>,
}

impl<D: Domain + Copy> Compared<D> {
    fn of(service: Harness<D>, operations: &'static [Operation]) -> Self {
        Self { service, reference: Reference::default(), operations, sent: Vec::new() }
    }

    fn deadline(&self, until: Until) -> Deadline {
        match until {
            Until::Ahead(ms) => self.service.within(ms),
            Until::TooFar => self.service.within(DEADLINE_AHEAD_MAX.as_millis() as u64 + 1),
            Until::BootBefore => Deadline { boot: BootId::from_bytes([99; 16]), at_ms: u64::MAX },
        }
    }

    /// The request, and which operation it names.
    fn request(&self, asked: &Asked) -> Option<(RequestBody, Option<Operation>)> {
        match asked {
            Asked::Step { saga, direction, until, other, unnamed } => {
                let operation = self.operations[other.unwrap_or(usize::from(*saga)) % self.operations.len()];
                let named = (!unnamed).then_some(operation);
                let request = StepRequest {
                    id: step(*saga),
                    direction: *direction,
                    deadline: self.deadline(*until),
                    operation: named.map(operation_payload).unwrap_or_default(),
                };
                Some((RequestBody::Step(request), named))
            }
            Asked::Settle { sagas, until, ending } => {
                let deadline = self.deadline(*until);
                let settle =
                    |saga: &u8| Settlement { id: step(*saga), deadline, ending: *ending, note: None };
                Some((RequestBody::Settle(sagas.iter().map(settle).collect()), None))
            }
            Asked::Again(which) => (!self.sent.is_empty()).then(|| which.get(&self.sent).clone()),
        }
    }

    fn expected(&mut self, request: &RequestBody, named: Option<Operation>) -> ReplyBody {
        let now = self.service.now;
        let number = |id: &StepId| id.saga.as_bytes()[0];
        match request {
            RequestBody::Step(StepRequest { id, direction, deadline, .. }) => {
                self.reference.step(&now, number(id), *direction, named, *deadline)
            }
            RequestBody::Settle(settlements) => {
                let sagas: Vec<_> = settlements.iter().map(|settlement| number(&settlement.id)).collect();
                let Settlement { deadline, ending, .. } = settlements[0];
                self.reference.settle(&now, &sagas, deadline, ending)
            }
            other => unreachable!("{other:?} is not asked"),
        }
    }

    fn group(&mut self, asked: &[Asked]) {
        let requests: Vec<_> = asked.iter().filter_map(|asked| self.request(asked)).collect();
        let expected: Vec<_> =
            requests.iter().map(|(request, named)| self.expected(request, *named)).collect();
        self.reference.forget(&self.service.now);
        let replies = self.service.group(requests.iter().map(|(request, _)| request.clone()).collect());
        let replies = replies.into_iter().map(|reply| match reply {
            ReplyBody::Invalid(_) => invalid(),
            other => other,
        });
        assert_eq!(replies.collect::<Vec<_>>(), expected, "to {requests:?}");
        self.sent.extend(requests);
        self.compare_records();
    }

    fn compare_records(&mut self) {
        assert_eq!(self.service.records(), self.reference.steps.len(), "{:?}", self.reference.steps);
        let now = self.service.now;
        let listed = self.service.unsettled();
        let mut open: BTreeMap<u8, Entry> = self.reference.steps.clone().into_iter().collect();
        open.retain(|_, entry| !entry.settled);
        assert_eq!(listed.len(), open.len());
        for (found, (number, entry)) in listed.iter().zip(open) {
            let state = match entry.known {
                Known::Ran(..) => UnsettledState::Applied,
                Known::TakenBack(_) => UnsettledState::Undone,
                Known::Never => UnsettledState::Cancelled,
            };
            assert_eq!((found.id, found.state), (step(number), state));
            let deadline = found.deadline.unwrap();
            // Of an earlier boot nothing is kept but that it is over.
            let both_of_before = deadline.boot != now.boot && entry.deadline.boot != now.boot;
            assert!(deadline == entry.deadline || both_of_before, "{deadline:?} {entry:?}");
        }
    }
}

fn likes_of(users: &mut Harness<Users>, user: u64) -> Vec<LikeRecord> {
    match users.query(&UserQuery::LikesOf { user: UserId(user), after: None, limit: 100 }) {
        ReplyBody::Answer(answer) => match codec::decode(&answer.0).unwrap() {
            UserAnswer::Records(records) => records,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn compare_likes(users: &mut Compared<Users>) {
    for user in 1..=2 {
        let found: Vec<_> = likes_of(&mut users.service, user)
            .iter()
            .map(|like| (like.article.0, like.record.unwrap(), like.pending))
            .collect();
        let record = users.reference.likes.get(&(user, 1)).copied();
        // It may still go as long as the saga that made it has not settled.
        let locked_by = users.reference.locked((user, 1)).map(saga);
        let expected = record.map(|record| (1, record, locked_by == Some(record)));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_in_any_order_are_answered_as_the_rules_say(events in vec(event(), 1..60)) {
        let mut article_service = Compared::of(articles(), ARTICLES);
        let mut user_service = Compared::of(Harness::new(Users), USERS);
        let mut boot = 1;
        for event in events {
            match event {
                Event::Group { articles: true, asked } => article_service.group(&asked),
                Event::Group { articles: false, asked } => user_service.group(&asked),
                Event::Wait(ms) => {
                    article_service.service.wait(ms);
                    user_service.service.wait(ms);
                }
                Event::Restart => {
                    article_service.service.restart();
                    user_service.service.restart();
                }
                Event::Reboot => {
                    boot += 1;
                    article_service.service.reboot(boot);
                    user_service.service.reboot(boot);
                }
            }
            // A query ends a group as well.
            article_service.reference.forget(&article_service.service.now);
            user_service.reference.forget(&user_service.service.now);
            prop_assert_eq!(likes(&mut article_service.service), article_service.reference.count);
            compare_likes(&mut user_service);
        }
    }
}
