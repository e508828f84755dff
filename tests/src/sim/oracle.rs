//! What was promised to whom: kept apart from the engine, from what callers were told and from the stores' rows alone.

use std::collections::{BTreeMap, BTreeSet};

use like_client::likes::answer::Rule;
use like_client::likes::audit::Findings;
use like_client::likes::{ActError, LikeAnswer, UnlikeAnswer, acts};
use like_client::log::history::History;
use like_client::runner::Order;
use like_client::saga::{End, Event, Phase, TurnBack};
use like_daemon::store::fields::Fields;
use like_daemon::store::{Batch, seal};
use like_protocol::codec;
use like_protocol::ids::SagaId;
use like_protocol::likes::user::{KeyUse, LikeRecord, LikeTarget};

use super::daemon::QUEUE_LIMIT;
use super::watch;
use super::world::{Service, World};

/// First bytes of the stores' keys.
const OPERATION: u8 = 0x01;
const LIKE: u8 = 0x10;
const COUNT: u8 = 0x11;

/// More likes than there ever are: a count that went below zero is far above.
const LIKES_MAX: u64 = 1_000_000;

/// How many keys are remembered, to be used again.
const KEYS_MAX: usize = 12;

/// One thing that a caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Who.
    pub user: u64,
    /// What.
    pub article: u64,
    /// A like or an unlike.
    pub usage: KeyUse,
    /// The caller's key.
    pub key: Option<u128>,
    /// How long it may take.
    pub timeout_ms: u64,
    /// When it was asked.
    pub asked_ms: u64,
}

/// An answer that says that something has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// A like.
    Liked(LikeAnswer),
    /// An unlike.
    Unliked(UnlikeAnswer),
}

impl Told {
    fn saga(&self) -> SagaId {
        match self {
            Self::Liked(answer) => answer.saga,
            Self::Unliked(answer) => answer.saga,
        }
    }
}

/// What something was changed to, and when.
type Changes<T> = Vec<(u64, T)>;

/// What is known of a world from outside.
#[derive(Default, Debug)]
pub struct Oracle {
    /// Set by a process that has done what it was to do in peace.
    pub quiet: bool,
    /// How often an operator has forced an end, or tried to.
    pub forced: u64,
    acts_left: u64,
    /// By user and article: when the like record changed, and the saga that had made it, if it was there then.
    records: BTreeMap<(u64, u64), Changes<Option<SagaId>>>,
    /// By article: when its likes changed, and to what.
    counts: BTreeMap<u64, Changes<u64>>,
    /// Sagas of which a participant keeps or kept an operation record.
    seen: BTreeSet<SagaId>,
    /// How callers were told that sagas ended.
    ends: BTreeMap<SagaId, End>,
    /// What was answered for a key.
    keyed: BTreeMap<(u64, u128), Told>,
    /// Answers for one key that were not the same.
    odd_keys: Vec<(Told, Told)>,
    used_keys: Vec<Act>,
    keys_made: u128,
    /// Orders that were given to recovery: to which process, when by wall time, and whether it was to give new deadlines.
    orders: Vec<(u32, u64, bool)>,
}

impl Oracle {
    /// Lets so many acts be asked for.
    pub fn begin_round(&mut self, acts: u64) {
        self.acts_left = acts;
    }

    /// Recovery is told what to do with what it finds, before anything else.
    pub fn ordered(&mut self, pid: u32, at_ms: u64, order: Order) {
        match order {
            Order::GoOn => {}
            Order::Resume { .. } => self.orders.push((pid, at_ms, true)),
            Order::Compensate => self.orders.push((pid, at_ms, false)),
        }
    }

    /// Whether all acts of the round have been asked for.
    pub fn round_is_over(&self) -> bool {
        self.acts_left == 0
    }

    /// The next act, unless all of the round have been asked for.
    pub fn next_act(&mut self, world: &World) -> Option<Act> {
        self.acts_left = self.acts_left.checked_sub(1)?;
        let plan = &world.plan;
        let (shortest, longest) = plan.timeout_ms;
        let timeout_ms = shortest + world.below(longest - shortest);
        let asked_ms = world.now_ms();
        let again = !self.used_keys.is_empty() && world.percent(plan.keyed / 2);
        if again {
            let first = self.used_keys[world.below(self.used_keys.len() as u64) as usize];
            let article = if world.percent(5) { 1 + world.below(plan.articles) } else { first.article };
            return Some(Act { article, timeout_ms, asked_ms, ..first });
        }
        let key = world.percent(plan.keyed).then(|| {
            self.keys_made += 1;
            self.keys_made
        });
        let usage = if world.percent(plan.likes) { KeyUse::Like } else { KeyUse::Unlike };
        let (user, article) = (1 + world.below(plan.users), 1 + world.below(plan.articles));
        let act = Act { user, article, usage, key, timeout_ms, asked_ms };
        if key.is_some() {
            self.used_keys.push(act);
            if self.used_keys.len() > KEYS_MAX {
                self.used_keys.remove(0);
            }
        }
        Some(act)
    }

    /// Rows of a store change: by a batch that is applied, or by one that a crash takes back.
    pub fn rows_changed(&mut self, world: &World, role: Service, batch: &Batch) {
        let now_ms = world.now_ms();
        for (key, value) in batch {
            let opened = value.clone().map(|sealed| seal::open(key, sealed)).transpose();
            let Ok(value) = opened else {
                world.broken(format!("the {role:?} service writes a damaged row"));
                continue;
            };
            match (role, key.first().copied()) {
                (_, Some(OPERATION)) => {
                    self.seen.extend(value.as_ref().and_then(|_| saga_at(key, 1)));
                }
                (Service::User, Some(LIKE)) => {
                    let made_by = value.as_ref().and_then(|value| saga_at(value, 0));
                    let at = (number_at(key, 1), number_at(key, 9));
                    self.records.entry(at).or_default().push((now_ms, made_by));
                }
                (Service::Article, Some(COUNT)) => {
                    let likes = value.as_ref().map_or(0, |value| likes_of(value));
                    if likes > LIKES_MAX {
                        world.broken(format!("article {} has {likes} likes", number_at(key, 1)));
                    }
                    self.counts.entry(number_at(key, 1)).or_default().push((now_ms, likes));
                }
                _ => {}
            }
        }
    }

    /// A caller was told something. False if its process can do nothing more.
    pub fn told(&mut self, world: &World, pid: u32, act: &Act, answer: Result<Told, ActError>) -> bool {
        world.say(pid, {
            let text = format!("{act:?} -> {answer:?}");
            move || text
        });
        match answer {
            Ok(told) => self.acknowledged(world, act, told),
            Err(ActError::Forbidden { rule, saga }) => {
                self.ends.extend(saga.map(|saga| (saga, End::Compensated)));
                self.forbidden(world, act, &rule);
            }
            Err(ActError::Compensated { saga, .. }) => drop(self.ends.insert(saga, End::Compensated)),
            Err(ActError::Unfinished { .. } | ActError::Unavailable(_)) => {}
            Err(ActError::LogEnded { .. }) => return false,
            Err(error @ (ActError::Damaged { .. } | ActError::LacksRoom(_))) => {
                world.broken(format!("no fault damages stores or takes the journals' room, but {error}"));
            }
            Err(ActError::Internal(what)) => world.broken(format!("{act:?} met a bug: {what}")),
        }
        true
    }

    fn acknowledged(&mut self, world: &World, act: &Act, told: Told) {
        let (saga, article, likes) = match told {
            Told::Liked(LikeAnswer { article, current_likes, record, saga }) => {
                if record != saga {
                    world.broken(format!("saga {saga} answered with record {record}"));
                }
                (saga, article, current_likes)
            }
            Told::Unliked(UnlikeAnswer { article, current_likes, saga }) => (saga, article, current_likes),
        };
        world.note(0, "acknowledged", act.user, act.article);
        if article.0 != act.article {
            world.broken(format!("asked for article {}, answered for {article}", act.article));
        }
        if self.ends.insert(saga, End::Completed) == Some(End::Compensated) {
            world.broken(format!("saga {saga} was told as compensated, and now as completed"));
        }
        let Some(key) = act.key else {
            let seen = self.counts.get(&act.article).map_or(&[][..], Vec::as_slice);
            // A group of requests shows only where it ended.
            let near = |seen: &u64, likes: u64| seen.abs_diff(likes) <= QUEUE_LIMIT as u64;
            let then = likes
                .is_some_and(|l| is_between(seen, 0, act.asked_ms, world.now_ms(), |seen| near(seen, l)));
            if !then {
                world.broken(format!("{act:?} was answered with {likes:?} likes, which there never were"));
            }
            return self.made_or_removed(world, act, saga);
        };
        let first = *self.keyed.entry((act.user, key)).or_insert(told);
        if first != told {
            self.odd_keys.push((first, told));
        }
    }

    fn made_or_removed(&self, world: &World, act: &Act, saga: SagaId) {
        let timeline = self.records.get(&(act.user, act.article)).map_or(&[][..], Vec::as_slice);
        let so = is_between(timeline, None, act.asked_ms, world.now_ms(), |made_by| match act.usage {
            KeyUse::Like => *made_by == Some(saga),
            KeyUse::Unlike => made_by.is_none(),
        });
        if !so {
            world.broken(format!("{act:?} was acknowledged, and the record was never so"));
        }
    }

    fn forbidden(&self, world: &World, act: &Act, rule: &Rule) {
        let timeline = self.records.get(&(act.user, act.article)).map_or(&[][..], Vec::as_slice);
        let ever = |liked: bool| {
            is_between(timeline, None, act.asked_ms, world.now_ms(), |made_by| made_by.is_some() == liked)
        };
        let right = match rule {
            Rule::AlreadyLiked { .. } => ever(true),
            Rule::NotLiked { .. } => ever(false),
            Rule::KeyOfAnother(first) => {
                act.key.is_some() && (first.article.0, first.usage) != (act.article, act.usage)
            }
            // Every article exists, and only who holds a record takes a like away; but an operator may force anything.
            Rule::NoSuchArticle(_) | Rule::Other(_) => self.forced > 0,
        };
        if !right {
            world.broken(format!("{act:?} was forbidden by a rule that did not hold: {rule}"));
        }
    }

    /// An audit was made while everything went on: it must not invent drift.
    pub fn audited(&self, world: &World, found: &Findings) {
        world.note(0, "audited", found.articles_checked, found.not_compared.len() as u64);
        if self.forced == 0 && !found.drift.is_empty() {
            world.broken(format!("an audit found {:?}", found.drift));
        }
    }

    /// An audit was made in peace: everything is compared, and agrees.
    pub fn inspected(&self, world: &World, found: &Findings) {
        self.audited(world, found);
        if !found.not_compared.is_empty() || found.articles_checked != world.plan.articles {
            world.broken(format!("an audit in peace compared too little: {found:?}"));
        }
    }

    /// A user's likes were listed in peace.
    pub fn listed(&self, world: &World, user: u64, likes: &[LikeRecord]) {
        let listed: BTreeMap<_, _> = likes.iter().map(|like| (like.article.0, like.record)).collect();
        let kept = self.records_of(user);
        let kept: BTreeMap<_, _> =
            kept.into_iter().map(|(article, record)| (article, Some(record))).collect();
        let pending = likes.iter().any(|like| like.pending);
        if listed != kept || pending {
            world.broken(format!(
                "user {user} is listed with {listed:?}, pending: {pending}, kept is {kept:?}"
            ));
        }
    }

    fn records_of(&self, user: u64) -> BTreeMap<u64, SagaId> {
        let own = self.records.range((user, 0)..(user + 1, 0));
        own.filter_map(|((_, article), changes)| Some((*article, changes.last()?.1?))).collect()
    }

    /// The logs were read, at any time: nothing of them is damaged, and whoever was heard of stands in them.
    pub fn read(&self, world: &World, told: &History) {
        world.note(0, "read", told.sagas.len() as u64, told.gaps.skipped.len() as u64);
        for damage in &told.gaps.damage {
            world.broken(format!("no fault damages logs, but {damage}"));
        }
        let stories: BTreeMap<_, _> = told.sagas.iter().map(|(_, story)| (story.saga, story)).collect();
        if let Some(story) = stories.values().find(|story| story.is_quarantined()) {
            world.broken(format!("saga {} is quarantined: {story:?}", story.saga));
        }
        if !told.gaps.skipped.is_empty() || !world.plan.keeps_all() {
            return;
        }
        if let Some(forgotten) =
            self.seen.iter().chain(self.ends.keys()).find(|saga| !stories.contains_key(saga))
        {
            world.broken(format!("saga {forgotten} is forgotten"));
        }
        for saga in self.ends.iter().filter(|(_, end)| **end == End::Compensated).map(|(saga, _)| saga) {
            let state = stories.get(saga).and_then(|story| story.state.as_ref());
            let phase = state.map(|state| &state.phase);
            if matches!(phase, Some(Phase::Forward | Phase::Ended(End::Completed))) {
                world.broken(format!("saga {saga} was told to have been undone, and is {phase:?}"));
            }
        }
    }

    /// Everything has ended: compares what the logs say with what the stores have and what callers were told.
    pub fn judge(&self, world: &World, told: &History) {
        self.read(world, told);
        let mut effects: BTreeMap<(u64, u64), i64> = BTreeMap::new();
        let mut keys: BTreeMap<(u64, u128), u32> = BTreeMap::new();
        let mut forced = 0;
        let mut by_operator = BTreeSet::new();
        for (_, story) in &told.sagas {
            let Some(state) = story.state.as_ref().filter(|state| state.settled) else {
                world.broken(format!("saga {} is not settled", story.saga));
                continue;
            };
            let obeyed = |(pid, at_ms, resume): &(u32, u64, bool)| {
                watch::is_obeyed(&story.records, *pid, *at_ms, *resume)
            };
            if let Some((pid, ..)) = self.orders.iter().find(|order| !obeyed(order)) {
                world.broken(format!(
                    "saga {}: what process {pid} was ordered does not stand in the log",
                    story.saga
                ));
            }
            let is_operators = |event: &Event| {
                matches!(event, Event::Forced { .. } | Event::TurnedBack(TurnBack::Operator { .. }))
            };
            if story.records.iter().any(|record| is_operators(&record.event)) {
                by_operator.insert(story.saga);
            }
            forced += u64::from(state.forced());
            if let Some(end) = self.ends.get(&story.saga)
                && Some(*end) != state.ended()
                && !by_operator.contains(&story.saga)
            {
                world.broken(format!("saga {} was told as {end:?}, and is {:?}", story.saga, state.phase));
            }
            if state.ended() == Some(End::Completed)
                && let Some((user, article, key, effect)) =
                    params_of(&state.begun.kind, &state.begun.params.0)
            {
                *effects.entry((user, article)).or_default() += effect;
                *keys.entry((user, key.unwrap_or_default())).or_default() += u32::from(key.is_some());
            }
        }
        if forced > 0 || !world.plan.keeps_all() {
            return;
        }
        for (first, told) in self.odd_keys.iter().filter(|(first, _)| !by_operator.contains(&first.saga())) {
            world.broken(format!("one key was answered first with {first:?}, then with {told:?}"));
        }
        if let Some((key, times)) = keys.iter().find(|(_, times)| **times > 1) {
            world.broken(format!("key {key:?} was used {times} times"));
        }
        self.judge_effects(world, &effects);
    }

    fn judge_effects(&self, world: &World, effects: &BTreeMap<(u64, u64), i64>) {
        for article in 1..=world.plan.articles {
            let mut sum = 0;
            for user in 1..=world.plan.users {
                let record = self.records_of(user).contains_key(&article);
                let effect = effects.get(&(user, article)).copied().unwrap_or_default();
                if effect != i64::from(record) {
                    world.broken(format!(
                        "user {user}, article {article}: {effect} by the logs, record: {record}"
                    ));
                }
                sum += effect;
            }
            let likes = self.counts.get(&article).and_then(|changes| changes.last()).map_or(0, |last| last.1);
            if i64::try_from(likes) != Ok(sum) {
                world.broken(format!("article {article} has {likes} likes, {sum} by the logs"));
            }
        }
    }
}

/// Whether something was so at any moment between two, by its changes; before the first it was `at_first`.
fn is_between<T>(
    changes: &[(u64, T)],
    at_first: T,
    from_ms: u64,
    to_ms: u64,
    so: impl Fn(&T) -> bool,
) -> bool {
    let begins = std::iter::once((0, &at_first)).chain(changes.iter().map(|(at_ms, value)| (*at_ms, value)));
    let ends = changes.iter().map(|(at_ms, _)| *at_ms).chain(std::iter::once(u64::MAX));
    begins.zip(ends).any(|((begin_ms, value), end_ms)| begin_ms <= to_ms && from_ms <= end_ms && so(value))
}

fn number_at(key: &[u8], at: usize) -> u64 {
    key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn saga_at(bytes: &[u8], at: usize) -> Option<SagaId> {
    bytes.get(at..at + 16)?.try_into().ok().map(SagaId::from_bytes)
}

fn likes_of(count: &[u8]) -> u64 {
    Fields::of(count).number().unwrap_or(u64::MAX)
}

/// Who, what, by which key, and what a completed saga adds to the likes.
fn params_of(kind: &str, params: &[u8]) -> Option<(u64, u64, Option<u128>, i64)> {
    let (_, adds) = [(acts::LIKE, 1), (acts::UNLIKE, -1)].into_iter().find(|(act, _)| act.kind == kind)?;
    let LikeTarget { user, article, key } = codec::decode(params).ok()?;
    Some((user.0, article.0, key.map(|key| key.0.as_u128()), adds))
}
