//! What has been promised to whom: who began what, and what each was told, up to any point of a record.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::record::Entry;

/// Something that somebody wants done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Act {
    /// An article is made.
    Make {
        /// Its id.
        article: u64,
    },
    /// A user likes an article.
    Like {
        /// Who.
        user: u64,
        /// What.
        article: u64,
        /// The caller's key, if one is given.
        key: Option<u128>,
    },
    /// A user likes an article no longer.
    Unlike {
        /// Who.
        user: u64,
        /// What.
        article: u64,
    },
}

/// Who does what: by the name under which a process is recorded.
pub type Plan = BTreeMap<String, Vec<Act>>;

/// What is promised of a user and an article.
#[derive(Clone, Default, Hash, Debug)]
pub struct Pair {
    /// Whether the user likes the article, and by which saga, as was told last.
    told: Option<Option<String>>,
    /// What acts that began and have not been told of would make of it.
    may_be: BTreeSet<(String, Act)>,
}

impl Pair {
    /// Whether it may be found so: liked by this record, or not liked.
    pub fn admits(&self, record: Option<&str>) -> bool {
        let as_told = match &self.told {
            Some(Some(saga)) => record == Some(saga),
            Some(None) | None => record.is_none(),
        };
        let likes = |(_, act): &(String, Act)| matches!(act, Act::Like { .. });
        as_told || self.may_be.iter().any(|act| likes(act) == record.is_some())
    }
}

/// What is promised.
#[derive(Clone, Default, Hash, Debug)]
pub struct Ledger {
    plan: Plan,
    /// What was told and is no whole line yet.
    words: BTreeMap<(String, bool), String>,
    /// Articles that were begun; whether it was told that they are made.
    pub articles: BTreeMap<u64, bool>,
    /// Users and articles that an act was begun on.
    pub pairs: BTreeMap<(u64, u64), Pair>,
    /// Keys whose like was told: by whom it was used, on what, and the saga.
    pub keys: BTreeMap<u128, (u64, u64, String)>,
}

impl Ledger {
    /// Nothing is promised yet.
    pub fn of(plan: Plan) -> Self {
        Self { plan, ..Self::default() }
    }

    /// The same promises; from now on others act.
    pub fn go_on(&self, plan: Plan) -> Self {
        Self { plan, words: BTreeMap::new(), ..self.clone() }
    }

    /// The same number for the same promises.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.articles, &self.pairs, &self.keys).hash(&mut hasher);
        hasher.finish()
    }

    /// Notes what an entry of a record means. Whether anything is promised that was not.
    pub fn apply(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Began { who } => self.began(who),
            Entry::Told { who, as_error, bytes } => {
                let words = self.words.entry((who.clone(), *as_error)).or_default();
                words.push_str(&String::from_utf8_lossy(bytes));
                let Some(end) = words.rfind('\n') else { return false };
                let lines: String = words.drain(..=end).collect();
                let told = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
                let told: Vec<Value> = told.collect();
                told.iter().filter(|told| self.told(who, *as_error, told)).count() > 0
            }
            _ => false,
        }
    }

    fn began(&mut self, who: &str) -> bool {
        for act in self.plan.get(who).into_iter().flatten() {
            match *act {
                Act::Make { article } => drop(self.articles.entry(article).or_default()),
                Act::Like { user, article, .. } | Act::Unlike { user, article } => {
                    self.pairs.entry((user, article)).or_default().may_be.insert((who.to_owned(), *act));
                }
            }
        }
        self.plan.contains_key(who)
    }

    fn told(&mut self, who: &str, as_error: bool, told: &Value) -> bool {
        let Some(acts) = self.plan.get(who).filter(|acts| !acts.is_empty()) else { return false };
        if as_error {
            let kind = told["error"]["kind"].as_str().unwrap_or("internal");
            let certain = !matches!(kind, "internal" | "unfinished" | "interrupted");
            if certain {
                self.nothing_came_of(who, act_told(who, acts, told));
            }
            return certain;
        }
        let act = act_told(who, acts, told);
        self.done(who, act, told["saga_id"].as_str().unwrap_or_default().to_owned());
        true
    }

    fn done(&mut self, who: &str, act: Act, saga: String) {
        match act {
            Act::Make { article } => drop(self.articles.insert(article, true)),
            Act::Like { user, article, key } => {
                if let Some(key) = key {
                    self.keys.insert(key, (user, article, saga.clone()));
                }
                self.settle(who, act, (user, article), Some(saga));
            }
            Act::Unlike { user, article } => self.settle(who, act, (user, article), None),
        }
    }

    fn settle(&mut self, who: &str, act: Act, of: (u64, u64), liked: Option<String>) {
        let pair = self.pairs.entry(of).or_default();
        pair.told = Some(liked);
        pair.may_be.remove(&(who.to_owned(), act));
    }

    fn nothing_came_of(&mut self, who: &str, act: Act) {
        if let Act::Like { user, article, .. } | Act::Unlike { user, article } = act {
            self.pairs.entry((user, article)).or_default().may_be.remove(&(who.to_owned(), act));
        }
    }
}

/// Which of its acts somebody is told of.
fn act_told(who: &str, acts: &[Act], told: &Value) -> Act {
    if let [act] = acts {
        return *act;
    }
    let (user, article) = (told["user"].as_u64(), told["article"].as_u64());
    let is_told = |act: &&Act| match **act {
        Act::Make { article: made } => user.is_none() && article == Some(made),
        Act::Like { user: who, article: what, .. } => {
            (user, article, &told["liked"]) == (Some(who), Some(what), &Value::Bool(true))
        }
        Act::Unlike { user: who, article: what } => {
            (user, article, &told["liked"]) == (Some(who), Some(what), &Value::Bool(false))
        }
    };
    *acts.iter().find(is_told).unwrap_or_else(|| panic!("{who} was told of no act of its: {told}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(who: &str, as_error: bool, text: &str) -> Entry {
        Entry::Told { who: who.to_owned(), as_error, bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn what_is_under_way_may_be_either_way_and_what_was_told_is_certain() {
        let like = Act::Like { user: 7, article: 1, key: None };
        let unlike = Act::Unlike { user: 7, article: 1 };
        let plan = Plan::from([("a".to_owned(), vec![like]), ("b".to_owned(), vec![unlike])]);
        let mut ledger = Ledger::of(plan);
        let admits = |ledger: &Ledger, record: Option<&str>| ledger.pairs[&(7, 1)].admits(record);
        ledger.apply(&Entry::Began { who: "a".to_owned() });
        assert!(admits(&ledger, None) && admits(&ledger, Some("s")));
        assert!(!ledger.apply(&told("a", false, "{\"saga_id\":")), "half a line says nothing");
        assert!(ledger.apply(&told("a", false, "\"s\"}\n")));
        assert!(!admits(&ledger, None) && admits(&ledger, Some("s")) && !admits(&ledger, Some("t")));
        ledger.apply(&Entry::Began { who: "b".to_owned() });
        assert!(admits(&ledger, None) && admits(&ledger, Some("s")) && !admits(&ledger, Some("t")));
        ledger.apply(&told("b", true, "{\"error\":{\"kind\":\"compensated\"}}\n"));
        assert!(!admits(&ledger, None) && admits(&ledger, Some("s")));
    }
}
