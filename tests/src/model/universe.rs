//! The model: a world, and everything that has been computed in it so far.

use std::rc::Rc;

use like_client::likes::acts::Act;
use like_client::likes::audit::Looks;
use like_client::saga::{Begun, Definition, Definitions, ParticipantAt, PlannedStep};
use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId, StepId, StoreId};
use like_protocol::likes::article::{ArticleAnswer, ArticleCommand, ArticleOperation, ArticleQuery};
use like_protocol::likes::user::{CallerKey, KeyUse, LikeTarget, UserAnswer, UserOperation, UserQuery};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::message::{Direction, Ending, Payload, ReplyBody, RequestBody, Settlement, StepRequest};
use like_protocol::time::{Deadline, Now};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::broken;
use super::caller::Word;
use super::daemon::Service;
use super::intern::{Interned, Memo, Sets};
use super::log::Log;
use super::mutation::Mutation;
use super::property::Broken;
use super::runner::{Move, Outcome};
use super::state::{Order, State, flag};
use super::world::World;

/// The articles that there are, and the users that there may be.
pub const ARTICLES: [u64; 2] = [1, 2];

/// Milliseconds from one instant to the next.
const INSTANT_MS: u64 = 10;

/// The article service's and the user service's place in every pair.
pub const ARTICLE: usize = 0;
/// See [`ARTICLE`].
pub const USER: usize = 1;

/// The saga that made the like which stands from the beginning.
const OLD_LIKE: SagaId = SagaId::from_bytes([0xee; 16]);

/// Where an audit stands: after which look, if it has begun.
pub(super) type Audit = Option<(u8, Looks)>;

/// What the checks before a saga answer, if they answer anything.
pub(super) type Checked = Option<Rc<Result<Word, Broken>>>;

/// A request as it was sent.
#[derive(Debug)]
pub struct Request {
    /// To which service.
    pub role: usize,
    /// For which of its saga's steps, and which way; `None` for a settlement.
    pub step: Option<(usize, Direction)>,
    /// What is asked.
    pub body: RequestBody,
}

/// What can be seen of an article at both services, its likers as a set of bits by user.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sight {
    /// The article service's count.
    pub likes: u64,
    /// Who has a like record, one bit for each user.
    pub likers: u64,
    /// How many records an audit's query counts.
    pub counted: u64,
}

/// A world, the rule that is off in it, and what has been computed in it.
pub struct Model {
    /// The world.
    pub world: &'static World,
    /// The rule that is off, if one is.
    pub mutation: Option<Mutation>,
    pub(super) services: [Service; 2],
    pub(super) definitions: Definitions,
    pub(super) logs: Interned<Vec<u8>, Log>,
    pub(super) requests: Interned<(u8, Vec<u8>), Request>,
    pub(super) replies: Interned<Vec<u8>, ReplyBody>,
    pub(super) words: Interned<String, Word>,
    pub(super) looks: Interned<Audit, Audit>,
    pub(super) sets: Sets,
    pub(super) moves: Memo<(u32, u16), Rc<Vec<Move>>>,
    pub(super) answered: Memo<(u32, u16, u32), Rc<Outcome>>,
    pub(super) recovered: Memo<(u32, Order, u16), Rc<Outcome>>,
    pub(super) checked: Memo<(usize, [u32; 2]), Checked>,
    pub(super) looked: Memo<(u32, [u32; 2]), Result<u32, Broken>>,
    pub(super) cuts: Memo<u32, Rc<Vec<(u8, u32)>>>,
    /// What can be seen of each standing of both services, article by article.
    sights: [Vec<[Sight; 2]>; 2],
}

impl Model {
    /// A world at its beginning, with a rule off or none.
    pub fn new(world: &'static World, mutation: Option<Mutation>) -> (Self, State) {
        let now = clock(0, 0);
        let compares = mutation.is_none();
        let [articles, users] = broken::services(mutation);
        let (history, counted) = old_like(world);
        let shown = ARTICLES.iter().map(|id| query(&ArticleQuery::Show(ArticleId(*id)))).collect();
        let (articles, first_articles) = Service::new(articles, compares, shown, &now, counted);
        let listed = ARTICLES.iter().flat_map(|id| {
            let article = ArticleId(*id);
            let likers = query(&UserQuery::LikersOf { article, after: None, limit: u32::MAX });
            [likers, query(&UserQuery::CountLikers { article, after: None })]
        });
        let (users, first_users) = Service::new(users, compares, listed.collect(), &now, history);
        let mut model = Self {
            world,
            mutation,
            services: [articles, users],
            definitions: broken::definitions(mutation),
            logs: Interned::default(),
            requests: Interned::default(),
            replies: Interned::default(),
            words: Interned::default(),
            looks: Interned::default(),
            sets: Sets::default(),
            moves: Memo::default(),
            answered: Memo::default(),
            recovered: Memo::default(),
            checked: Memo::default(),
            looked: Memo::default(),
            cuts: Memo::default(),
            sights: [Vec::new(), Vec::new()],
        };
        model.logs.number(Log::EMPTY.name(), || Log::EMPTY);
        model.words.number(String::new(), Word::none);
        model.looks.number(None, || None);
        model.see();
        let first = State { stores: [first_articles, first_users], ..State::default() };
        (model, first)
    }

    /// All logs that have come up.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        (0..self.logs.len() as u32).map(|number| self.logs.get(number))
    }

    /// Whether a rule is off.
    pub fn off(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// The clock of a boot at an instant.
    pub fn clock(&self, boot: u8, instant: u8) -> Now {
        clock(boot, instant)
    }

    /// The clock of a state, with its number.
    pub fn now(&self, state: &State) -> (u16, Now) {
        (u16::from(state.boot) << 8 | u16::from(state.instant), clock(state.boot, state.instant))
    }

    /// The saga of an ask.
    pub fn saga_id(&self, ask: usize) -> SagaId {
        SagaId::from_bytes([ask as u8 + 1; 16])
    }

    /// What an ask is about.
    pub fn target(&self, ask: usize) -> LikeTarget {
        let ask = &self.world.asks[ask];
        let key = ask.key.map(|key| CallerKey(Uuid::from_bytes([key; 16])));
        LikeTarget { user: UserId(ask.user), article: ArticleId(ask.article), key }
    }

    /// A service's name.
    pub fn role(&self, role: usize) -> &'static str {
        [ARTICLE_ROLE, USER_ROLE][role]
    }

    /// How an ask's saga begins at `now`, as `Runner::begun` in `client/src/runner/run.rs` has it.
    pub fn begun(&self, ask: usize, now: &Now) -> Begun {
        let act = Act::of(self.world.asks[ask].usage);
        let definition = self.definitions.newest(act.kind).expect("a kind of the domain");
        let steps = (0..).zip(definition.steps());
        Begun {
            kind: act.kind.into(),
            version: definition.version(),
            params: act.params(&self.target(ask)).expect("parameters can be encoded"),
            participants: (0..2).map(|role| self.participant(role)).collect(),
            steps: steps
                .map(|(number, plan)| PlannedStep {
                    name: plan.name.into(),
                    participant: u8::from(plan.role == USER_ROLE),
                    number,
                })
                .collect(),
            deadline: next_instant(now),
            by_uid: 0,
        }
    }

    fn participant(&self, role: usize) -> ParticipantAt {
        let store = StoreId::from_bytes([role as u8 + 1; 16]);
        ParticipantAt { role: self.role(role).into(), store: Some(store) }
    }

    /// The definition by which an ask's saga is driven.
    pub fn definition(&self, begun: &Begun) -> &dyn Definition {
        self.definitions.find(&begun.kind, begun.version).expect("a kind of the domain").as_ref()
    }

    /// A request's number.
    pub fn request(&mut self, role: usize, step: Option<(usize, Direction)>, body: RequestBody) -> u16 {
        let bytes = codec::encode(&body).expect("a request can be encoded").0.into_vec();
        let number = self.requests.number((role as u8, bytes), || Request { role, step, body });
        u16::try_from(number).expect("a world has few different requests")
    }

    /// Takes in what can be seen of standings that are new.
    pub fn see(&mut self) {
        for role in [ARTICLE, USER] {
            for standing in self.sights[role].len()..self.services[role].standings() {
                let answers = &self.services[role].seen(standing as u32).answers;
                let sights = std::array::from_fn(|article| match role {
                    ARTICLE => seen_at_articles(&answers[article]),
                    _ => seen_at_users(&answers[2 * article..2 * article + 2]),
                });
                self.sights[role].push(sights);
            }
        }
    }

    /// What can be seen of the articles.
    pub fn sights(&self, state: &State) -> [Sight; 2] {
        let [articles, users] = [ARTICLE, USER].map(|role| self.sights[role][state.stores[role] as usize]);
        std::array::from_fn(|at| Sight { likes: articles[at].likes, ..users[at] })
    }

    /// How often a saga's step at a service has taken effect, judged by how the service changed: +1, 0 or -1 are sound.
    pub fn effect(&self, ask: usize, role: usize, before: u32, after: u32) -> i64 {
        let ask = &self.world.asks[ask];
        let article = ARTICLES.iter().position(|id| *id == ask.article).expect("an article that there is");
        let [before, after] = [before, after].map(|standing| {
            let sight = &self.sights[role][standing as usize][article];
            if role == ARTICLE { sight.likes as i64 } else { (sight.likers >> ask.user & 1) as i64 }
        });
        if ask.usage == KeyUse::Like { after - before } else { before - after }
    }

    /// The sagas among those of unlikes that have taken a record of a user's like of an article away.
    pub fn removers(&self, state: &State, target: &LikeTarget) -> Vec<usize> {
        let removes = |saga: &usize| {
            let of = self.target(*saga);
            let same = (of.user, of.article) == (target.user, target.article);
            let unlikes = self.world.asks[*saga].usage == KeyUse::Unlike;
            same && unlikes && state.sagas[*saga].is(flag::EFFECT << USER)
        };
        (0..self.world.asks.len()).filter(removes).collect()
    }
}

/// Earlier boots have been up for long, so that their deadlines lie far ahead by a clock that begins anew.
pub(super) fn clock(boot: u8, instant: u8) -> Now {
    let since_ms = if boot == 0 { 10 * 24 * 3600 * 1000 } else { 5000 };
    Now { boot: BootId::from_bytes([boot + 1; 16]), at_ms: since_ms + u64::from(instant) * INSTANT_MS }
}

/// The deadline that every saga gets.
pub fn next_instant(now: &Now) -> Deadline {
    now.deadline_in(std::time::Duration::from_millis(INSTANT_MS))
}

/// A domain's question as a request.
pub fn query<Q: Serialize>(query: &Q) -> RequestBody {
    RequestBody::Query(encoded(query))
}

/// What a domain answered.
pub fn answered<A: DeserializeOwned>(reply: &ReplyBody) -> A {
    match reply {
        ReplyBody::Answer(answer) => codec::decode(&answer.0).expect("an answer to what was asked"),
        other => panic!("no answer: {other:?}"),
    }
}

fn encoded<T: Serialize>(value: &T) -> Payload {
    codec::encode(value).expect("it can be encoded")
}

fn seen_at_articles(shown: &ReplyBody) -> Sight {
    match answered(shown) {
        ArticleAnswer::Article(article) => Sight { likes: article.likes, ..Sight::default() },
        ArticleAnswer::Page(_) => panic!("a page instead of an article"),
    }
}

fn seen_at_users(listed: &[ReplyBody]) -> Sight {
    let (UserAnswer::Records(records), UserAnswer::Count(count)) =
        (answered(&listed[0]), answered(&listed[1]))
    else {
        panic!("no records and their count");
    };
    let likers = records.iter().map(|record| 1 << record.user.0).sum();
    Sight { likers, counted: count.records, ..Sight::default() }
}

/// What both services were asked before anything else: the user service, and the article service.
fn old_like(world: &World) -> (Vec<RequestBody>, Vec<RequestBody>) {
    let create = |id: &u64| ArticleCommand::Create { id: Some(ArticleId(*id)), title: "t".to_owned() };
    let mut articles: Vec<_> = ARTICLES.iter().map(|id| RequestBody::Command(encoded(&create(id)))).collect();
    if !world.liked {
        return (Vec::new(), articles);
    }
    let target = LikeTarget { user: UserId(1), article: ArticleId(1), key: None };
    articles.extend(settled(0, encoded(&ArticleOperation::AddLike(ArticleId(1)))));
    (settled(1, encoded(&UserOperation::CreateLike(target))).into(), articles)
}

/// A step of a saga of long ago: done and settled.
fn settled(step: u8, operation: Payload) -> [RequestBody; 2] {
    let id = StepId { saga: OLD_LIKE, step };
    let deadline = next_instant(&clock(0, 0));
    let request = StepRequest { id, direction: Direction::Action, deadline, operation };
    let settlement = Settlement { id, deadline, ending: Ending::Natural, note: None };
    [RequestBody::Step(request), RequestBody::Settle(vec![settlement])]
}
