//! Likes as the crash matrix sees them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Mode, Whose, World};
use crate::house::{House, Service};
use crate::process::{Armed, Ended, Fault};
use crate::promises;

/// The users that come along later are another range of ids.
const SUCCESSORS: u64 = 1_000_000;

/// A house, and the article and user that a case is about.
#[derive(Debug)]
pub struct Likes {
    house: House,
    scenario: Scenario,
    /// The article's id and the user's.
    id: u64,
    rival: Option<String>,
}

/// What a user does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// A like.
    Like,
    /// A like that the same user's other like beats: rejected at its second step.
    BeatenLike,
    /// An unlike.
    Unlike,
    /// An unlike that the same user's other unlike beats: rejected at its first step.
    BeatenUnlike,
}

impl Likes {
    fn liked_before(&self) -> bool {
        matches!(self.scenario, Scenario::Unlike | Scenario::BeatenUnlike)
    }

    /// `like` or `unlike` with the stage's article.
    fn act(&self, act: &str, user: u64) -> Command {
        let (article, user) = (self.id.to_string(), user.to_string());
        self.house.command(&["--json", "--timeout", "20s", act, &article, "--user", &user])
    }

    #[track_caller]
    fn acts(&self, act: &str, likes: u64) {
        let answer = Ended::of(&mut self.act(act, self.id)).expect_code(0).json();
        assert_eq!(answer["current_likes"], likes, "{answer}");
    }
}

impl World for Likes {
    type Scenario = Scenario;
    type Service = Service;
    const SCENARIOS: &'static [Scenario] =
        &[Scenario::Like, Scenario::BeatenLike, Scenario::Unlike, Scenario::BeatenUnlike];
    const SERVICES: &'static [Service] = &Service::BOTH;

    fn open(program: &Path) -> Self {
        Self { house: House::open(program), scenario: Scenario::Like, id: 0, rival: None }
    }

    fn path(&self) -> &Path {
        self.house.path()
    }

    fn turns_back(scenario: Scenario) -> bool {
        Self::needs_rival(scenario)
    }

    fn needs_rival(scenario: Scenario) -> bool {
        matches!(scenario, Scenario::BeatenLike | Scenario::BeatenUnlike)
    }

    fn set(&mut self, scenario: Scenario) {
        self.scenario = scenario;
        self.id += 1;
        self.rival = None;
        self.house.article(self.id);
        if self.liked_before() {
            self.acts("like", 1);
        }
        self.house.turn_page();
    }

    fn victim(&self) -> Command {
        self.act(if self.liked_before() { "unlike" } else { "like" }, self.id)
    }

    fn beat_victim(&mut self) {
        let answer = Ended::of(&mut self.victim()).expect_code(0).json();
        self.rival = Some(answer["saga_id"].as_str().expect("a saga").to_owned());
    }

    fn successor(&self) -> Command {
        self.act("like", self.id + SUCCESSORS)
    }

    fn recovery(&self, mode: Mode) -> Command {
        self.house.command(&[&["--json", "--timeout", "30s", "recover"], mode.flag()].concat())
    }

    fn restart(&mut self, service: Service, faults: &[Fault]) -> Armed {
        if self.house.runs(service) {
            self.house.stop(service);
        }
        self.house.start_with(service, faults)
    }

    fn has_died(&mut self, service: Service) -> bool {
        self.house.has_died(service)
    }

    fn bury(&mut self, service: Service) -> Ended {
        self.house.await_death(service)
    }

    fn sagas(&self) -> Vec<(Whose, String)> {
        if !self.house.journal().exists() {
            return Vec::new();
        }
        let sagas = self.house.json(&["saga", "list"]);
        let told = |saga: &Value| {
            let whose = match saga["saga_id"].as_str() {
                id if id == self.rival.as_deref() => Whose::Rival,
                _ if saga["user_id"] == self.id => Whose::Victim,
                _ => Whose::Successor,
            };
            (whose, saga["state"].as_str().expect("a state").to_owned())
        };
        sagas.as_array().expect("a list").iter().map(told).collect()
    }

    fn acknowledged(victim: &Ended) -> bool {
        serde_json::from_str::<Value>(&victim.stdout).is_ok_and(|answer| answer["current_likes"].is_u64())
    }

    fn check(&self, victim_completed: bool, successor_completed: bool) {
        let liked = match self.scenario {
            Scenario::Like => victim_completed,
            Scenario::BeatenLike => true,
            Scenario::Unlike => !victim_completed,
            Scenario::BeatenUnlike => false,
        };
        assert_eq!(promises::likes_at_most_once(&self.house, self.id, self.id), liked);
        let expected = u64::from(liked) + u64::from(successor_completed);
        assert_eq!(self.house.likes(self.id), expected, "likes");
        assert_eq!(self.house.records(self.id) as u64, expected, "like records");
        promises::no_drift(&self.house);
    }

    fn use_again(&self, _: bool) {
        let likes = self.house.likes(self.id);
        if promises::likes_at_most_once(&self.house, self.id, self.id) {
            self.acts("unlike", likes - 1);
            self.acts("like", likes);
        } else {
            self.acts("like", likes + 1);
            self.acts("unlike", likes);
        }
    }
}
