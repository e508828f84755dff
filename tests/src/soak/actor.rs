//! Users, one after the other, through `likectl`.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::Value;

use super::pair::{Pair, Stands};
use super::stage::Stage;
use super::{ARTICLES, Round};
use crate::house::Desk;
use crate::process::{Ended, PATIENCE};
use crate::random::Random;

/// One user after the other, in one thread.
pub struct Actor<'a> {
    round: &'a Round<'a>,
    desk: &'a Desk,
    stage: &'a Stage,
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
    /// Users from `next_user` on, whose processes stand on one of the round's stages.
    pub fn new(round: &'a Round<'a>, desk: &'a Desk, stage: usize, next_user: u64, seed: u64) -> Self {
        Self { round, desk, stage: &round.stages[stage], random: Random::of(seed), next_user }
    }

    /// Acts until the round is over.
    ///
    /// # Panics
    /// A promise is broken.
    pub fn act_on(mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        while self.round.goes_on() {
            self.next_user += 1;
            let mut pair = Pair::new(self.next_user, 1 + self.random.below(ARTICLES));
            while self.round.goes_on() && pair.is_certain() && !self.random.percent(25) {
                match self.random.below(100) {
                    0..70 => self.act(&mut pair),
                    70..90 => self.read_likes(&pair),
                    _ => self.read_article(&pair),
                }
            }
            pairs.push(pair);
        }
        pairs
    }

    /// Likes what is not liked, or the other way round; with a key as often as it takes.
    fn act(&mut self, pair: &mut Pair) {
        let act = if pair.stands == Stands::NotLiked { "like" } else { "unlike" };
        let key = self.random.percent(50).then(|| self.random.uuid());
        let mut unknown = false;
        let patience = self.round.until + 2 * PATIENCE;
        while self.round.goes_on() || unknown && key.is_some() {
            assert!(Instant::now() < patience, "a retry that is never answered: {act} {pair:?}");
            match (self.attempt(act, pair, key.as_deref()), &key) {
                (Came::Answered(answer), _) => {
                    return pair.done(act, key, answer);
                }
                (Came::ToNothing, None) => return,
                (Came::ToNothing, Some(_)) => {}
                (Came::Unknown, None) => {
                    pair.stands = Stands::Unknown;
                    return;
                }
                (Came::Unknown, Some(_)) => {
                    unknown = true;
                    self.round.tally.count("retry by key", 1);
                }
            }
        }
    }

    /// One process that likes or unlikes; now and then two at once with the same key.
    fn attempt(&mut self, act: &'static str, pair: &Pair, key: Option<&str>) -> Came {
        let (article, user) = (pair.article.to_string(), pair.user.to_string());
        let mut arguments = vec!["--json", "--timeout", "3s", act, &article, "--user", &user];
        arguments.extend(key.iter().flat_map(|key| ["--key", key]));
        if key.is_none() || !self.random.percent(10) {
            return self.came(act, self.stage.run(&mut self.desk.command(&arguments)), pair);
        }
        let twin_stage = Stage::default();
        let (came, twin) = std::thread::scope(|scope| {
            let twin = scope.spawn(|| twin_stage.run(&mut self.desk.command(&arguments)));
            let one = self.stage.run(&mut self.desk.command(&arguments));
            (one, twin.join().expect("a second process"))
        });
        self.round.tally.count("two at once by one key", 1);
        match (self.came(act, came, pair), self.came(act, twin, pair)) {
            (Came::Answered(one), Came::Answered(other)) => {
                assert_eq!(one, other, "one key, two answers: {pair:?}");
                Came::Answered(one)
            }
            (Came::Answered(one), _) | (_, Came::Answered(one)) => Came::Answered(one),
            (Came::ToNothing, Came::ToNothing) => Came::ToNothing,
            _ => Came::Unknown,
        }
    }

    fn came(&self, act: &'static str, (ended, took): (Ended, std::time::Duration), pair: &Pair) -> Came {
        // Even a killed process may have answered.
        let answer = serde_json::from_str::<Value>(&ended.stdout).ok();
        self.round.tally.add(act, &ended, took);
        match (answer, ended.code()) {
            (Some(answer), _) => Came::Answered(answer),
            (None, Some(5 | 8)) => Came::ToNothing,
            (None, None | Some(6 | 7)) => Came::Unknown,
            _ => self.broken(&format!("{act} of {pair:?}: {ended:?}")),
        }
    }

    /// Nobody but this actor acts for the user, so what is certain must be read.
    fn read_likes(&mut self, pair: &Pair) {
        let user = pair.user.to_string();
        let (ended, took) = self.stage.run(&mut self.desk.command(&["--json", "user", "likes", &user]));
        self.round.tally.add("user likes", &ended, took);
        match ended.code() {
            Some(0) => pair.agrees(&ended.json()),
            None | Some(8) => {}
            _ => self.broken(&format!("reading likes: {ended:?}")),
        }
    }

    fn read_article(&mut self, pair: &Pair) {
        let article = pair.article.to_string();
        let words: &[&str] = match self.random.below(3) {
            0 => &["article", "show", &article],
            1 => &["article", "list"],
            _ => &["article", "likers", &article, "--limit", "50"],
        };
        let (ended, took) = self.stage.run(self.desk.command(&["--json"]).args(words));
        self.round.tally.add("article reads", &ended, took);
        if !matches!(ended.code(), None | Some(0 | 8)) {
            self.broken(&format!("reading an article: {ended:?}"));
        }
    }

    fn broken(&self, what: &str) -> ! {
        self.round.broken.store(true, Ordering::Relaxed);
        panic!("{what}")
    }
}
