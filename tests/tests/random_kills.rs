//! Runners and both daemons are killed and stopped at random while users like and unlike; then it is recovered, and
//! everything that anybody was told must be so.
//!
//! A few seconds by default. Longer, and with the choices of an earlier run (the kernel's own are not repeated):
//!
//! ```text
//! LIKE_RANDOM_SECONDS=300 LIKE_RANDOM_SEED=42 cargo test -p like-tests --test random_kills
//! ```

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use like_tests::house::{Desk, House, Service};
use like_tests::process::{Ended, PATIENCE, Running};
use like_tests::promises;
use like_tests::random::Random;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// How many users act at once.
const ACTORS: usize = 4;

/// How many articles they like.
const ARTICLES: u64 = 3;

#[test]
fn no_kill_at_any_moment_breaks_a_promise() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seconds = number("LIKE_RANDOM_SECONDS").unwrap_or(6);
    let seed = number("LIKE_RANDOM_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    say(&format!("LIKE_RANDOM_SEED={seed} LIKE_RANDOM_SECONDS={seconds}"));

    let mut house = House::open(PROGRAM);
    (1..=ARTICLES).for_each(|article| house.article(article));
    let run = Run { until: Instant::now() + Duration::from_secs(seconds), ..Run::default() };
    let stages: Vec<_> = (0..ACTORS).map(|_| Stage::default()).collect();
    let desk = house.desk();
    let pairs: Vec<Pair> = std::thread::scope(|scope| {
        let act = |actor| Actor::new(&run, &stages[actor], &desk, actor as u64, seed).act_on();
        let actors: Vec<_> = (0..ACTORS).map(|actor| scope.spawn(move || act(actor))).collect();
        kill_on(&run, &stages, &mut house, &mut Random::of(seed));
        actors.into_iter().flat_map(|actor| actor.join().expect("no promise was broken")).collect()
    });

    say(&run.told(&pairs));
    assert!(run.everything_happened(), "a run in which nothing fails proves nothing");
    house.likectl(&["--json", "--timeout", "60s", "recover"]).expect_code(0);
    promises::every_saga_has_ended(&house);
    promises::no_drift(&house);
    pairs.iter().for_each(|pair| pair.check(&house));
}

/// Past the harness's capture: what was tried is part of the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "random kills: {text}");
}

/// What happens in one run, counted.
struct Run {
    until: Instant,
    broken: AtomicBool,
    acknowledged: AtomicU32,
    retried: AtomicU32,
    runners_killed: AtomicU32,
    runners_stopped: AtomicU32,
    daemons_killed: [AtomicU32; 2],
    daemons_stopped: AtomicU32,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            until: Instant::now(),
            broken: Default::default(),
            acknowledged: Default::default(),
            retried: Default::default(),
            runners_killed: Default::default(),
            runners_stopped: Default::default(),
            daemons_killed: Default::default(),
            daemons_stopped: Default::default(),
        }
    }
}

impl Run {
    /// Until the time is over, and longer on a slow machine: until everything has happened that is to happen.
    fn goes_on(&self) -> bool {
        let now = Instant::now();
        let in_time = now < self.until || (now < self.until + PATIENCE && !self.everything_happened());
        in_time && !self.broken.load(Ordering::Relaxed)
    }

    fn told(&self, pairs: &[Pair]) -> String {
        let of = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let certain = pairs.iter().filter(|pair| pair.stands != Stands::Unknown).count();
        format!(
            "{} users, {certain} of them certain; {} answers, {} retries by key; killed {} runners, {} and {} daemons; \
             stopped {} runners, {} daemons",
            pairs.len(),
            of(&self.acknowledged),
            of(&self.retried),
            of(&self.runners_killed),
            of(&self.daemons_killed[0]),
            of(&self.daemons_killed[1]),
            of(&self.runners_stopped),
            of(&self.daemons_stopped),
        )
    }

    fn everything_happened(&self) -> bool {
        let [article, user] = &self.daemons_killed;
        let counts = [
            &self.acknowledged,
            &self.retried,
            &self.runners_killed,
            article,
            user,
            &self.runners_stopped,
            &self.daemons_stopped,
        ];
        counts.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// Where an actor's process stands to be killed.
type Stage = Mutex<Option<Running>>;

fn lock(stage: &Stage) -> std::sync::MutexGuard<'_, Option<Running>> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills and stops at random until the time is over. Both daemons run afterwards.
fn kill_on(run: &Run, stages: &[Stage], house: &mut House, random: &mut Random) {
    let mut watcher = None;
    while run.goes_on() {
        std::thread::sleep(Duration::from_millis(random.below(60)));
        let stage = &stages[random.below(stages.len() as u64) as usize];
        let service = Service::BOTH[random.below(2) as usize];
        match random.below(100) {
            0..50 => {
                if let Some(running) = lock(stage).as_mut() {
                    running.kill_now();
                }
            }
            50..65 => {
                let stopped = signal(stage, Signal::STOP);
                std::thread::sleep(Duration::from_millis(random.below(150)));
                signal(stage, Signal::CONT);
                run.runners_stopped.fetch_add(u32::from(stopped), Ordering::Relaxed);
            }
            65..80 => {
                house.kill(service);
                std::thread::sleep(Duration::from_millis(random.below(50)));
                house.start(service);
                run.daemons_killed[usize::from(service == Service::User)].fetch_add(1, Ordering::Relaxed);
            }
            80..92 => {
                house.freeze(service);
                std::thread::sleep(Duration::from_millis(random.below(300)));
                house.thaw(service);
                run.daemons_stopped.fetch_add(1, Ordering::Relaxed);
            }
            // Dropping the one there was kills it.
            _ => {
                watcher = Some(Running::start_logged(
                    &mut house.command(&["--json", "recover", "--watch"]),
                    &house.path().join("watch.log"),
                ))
            }
        }
    }
    drop(watcher);
}

/// Signals the process that stands there, if it lives.
fn signal(stage: &Stage, signal: Signal) -> bool {
    let mut standing = lock(stage);
    let Some(running) = standing.as_mut() else { return false };
    let alive = !running.has_ended();
    if alive {
        running.signal(signal);
    }
    alive
}

/// A user and an article, and what is certain about them.
#[derive(Debug)]
struct Pair {
    user: u64,
    article: u64,
    stands: Stands,
    /// Keys, each with its act and the first answer to it.
    answered: Vec<(&'static str, String, Value)>,
}

/// What is certain about a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stands {
    /// The user likes the article: this record was answered.
    Liked(Value),
    /// The user does not.
    NotLiked,
    /// A runner died without a word, and its saga may still be on its way.
    Unknown,
}

impl Pair {
    fn check(&self, house: &House) {
        let likes = promises::likes_at_most_once(house, self.user, self.article);
        match &self.stands {
            Stands::Liked(record) => {
                let records = house.json(&["user", "likes", &self.user.to_string()]);
                assert_eq!(records[0]["user_record_id"], *record, "lost: {self:?}, but {records}");
            }
            Stands::NotLiked => assert!(!likes, "there again: {self:?}"),
            Stands::Unknown => {}
        }
        for (act, key, first) in &self.answered {
            let (article, user) = (self.article.to_string(), self.user.to_string());
            let again = house.json(&[act, &article, "--user", &user, "--key", key]);
            assert_eq!(again, *first, "a retry gets the first answer: {self:?}");
        }
    }
}

/// One user after the other, in one thread.
struct Actor<'a> {
    run: &'a Run,
    stage: &'a Stage,
    desk: &'a Desk,
    random: Random,
    next_user: u64,
}

/// What became of one process.
enum Came {
    /// It answered.
    Answered(Value),
    /// Nothing has changed, certainly.
    ToNothing,
    /// It was killed or gave up waiting: nobody knows.
    Unknown,
}

impl<'a> Actor<'a> {
    fn new(run: &'a Run, stage: &'a Stage, desk: &'a Desk, actor: u64, seed: u64) -> Self {
        let random = Random::of(seed.wrapping_add(actor + 1));
        Self { run, stage, desk, random, next_user: (actor + 1) * 1_000_000 }
    }

    /// Acts as one user after the other until the time is over.
    fn act_on(mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        while self.run.goes_on() {
            self.next_user += 1;
            let article = 1 + self.random.below(ARTICLES);
            let mut pair =
                Pair { user: self.next_user, article, stands: Stands::NotLiked, answered: Vec::new() };
            while self.run.goes_on() && pair.stands != Stands::Unknown && !self.random.percent(30) {
                self.act(&mut pair);
            }
            pairs.push(pair);
        }
        pairs
    }

    /// Likes what is not liked, or the other way round; with a key as often as it takes.
    fn act(&mut self, pair: &mut Pair) {
        let act = if pair.stands == Stands::NotLiked { "like" } else { "unlike" };
        let key = self.random.percent(50).then(|| self.key());
        let mut unknown = false;
        let patience = self.run.until + 2 * PATIENCE;
        while self.run.goes_on() || unknown && key.is_some() {
            assert!(Instant::now() < patience, "a retry that is never answered: {act} {pair:?}");
            let came = self.run_one(act, pair, key.as_deref());
            match (came, &key) {
                (Came::Answered(answer), _) => {
                    self.run.acknowledged.fetch_add(1, Ordering::Relaxed);
                    pair.stands = match act {
                        "like" => Stands::Liked(answer["user_record_id"].clone()),
                        _ => Stands::NotLiked,
                    };
                    pair.answered.extend(key.map(|key| (act, key, answer)));
                    return;
                }
                (Came::ToNothing, None) => return,
                (Came::ToNothing, Some(_)) => {}
                (Came::Unknown, None) => {
                    pair.stands = Stands::Unknown;
                    return;
                }
                (Came::Unknown, Some(_)) => {
                    unknown = true;
                    self.run.retried.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn key(&mut self) -> String {
        let (high, low) = (self.random.any(), self.random.any());
        let hex = format!("{high:016x}{low:016x}");
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    fn run_one(&mut self, act: &str, pair: &Pair, key: Option<&str>) -> Came {
        let (article, user) = (pair.article.to_string(), pair.user.to_string());
        let mut arguments = vec!["--json", "--timeout", "3s", act, &article, "--user", &user];
        arguments.extend(key.iter().flat_map(|key| ["--key", key]));
        *lock(self.stage) = Some(Running::start(&mut self.desk.command(&arguments)));
        while lock(self.stage).as_mut().is_some_and(|running| !running.has_ended()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = lock(self.stage).take().expect("only this actor takes it").end();
        self.run.runners_killed.fetch_add(u32::from(ended.was_killed()), Ordering::Relaxed);
        self.came(&ended, pair)
    }

    fn came(&self, ended: &Ended, pair: &Pair) -> Came {
        // Even a killed process may have answered.
        if let Ok(answer) = serde_json::from_str::<Value>(&ended.stdout) {
            return Came::Answered(answer);
        }
        match ended.code() {
            Some(5 | 8) => Came::ToNothing,
            None | Some(6 | 7) => Came::Unknown,
            _ => {
                self.run.broken.store(true, Ordering::Relaxed);
                panic!("{pair:?}: {ended:?}")
            }
        }
    }
}
