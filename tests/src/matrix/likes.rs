//! Likes as the crash matrix sees them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use like_client::likes::{self, ArticleService, Likes as Acts, UserService};
use like_client::log::Story;
use like_client::runner::{Context, Runner};
use like_protocol::ids::SagaId;
use like_protocol::likes::article::Article;
use like_protocol::likes::user::LikeRecord;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::case::Mode;
use super::{PATIENT, Whose, World, daemon_faults};
use crate::house::{House, Service};
use crate::process::{Armed, Ended, Running};
use crate::promises;
use crate::quick::quick_directory;

/// The users that come along later are another range of ids.
const SUCCESSORS: u64 = 1_000_000;

/// How long anything may take that this process asks of a daemon.
const PATIENCE: Duration = Duration::from_secs(20);

/// A house, and the article and user that a case is about.
#[derive(Debug)]
pub struct Likes {
    house: House,
    armed: [Armed; 2],
    scenario: Scenario,
    /// The article's id and the user's.
    id: u64,
    rival: Option<SagaId>,
    runtime: Runtime,
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

/// The two services, asked by this process.
struct Asked {
    articles: ArticleService,
    users: UserService,
    context: Context,
}

impl Likes {
    fn liked_before(&self) -> bool {
        matches!(self.scenario, Scenario::Unlike | Scenario::BeatenUnlike)
    }

    /// `like` or `unlike` with the stage's article.
    fn act(&self, act: &str, user: u64, timeout: Duration) -> Command {
        let (article, user) = (self.id.to_string(), user.to_string());
        let timeout = format!("{}ms", timeout.as_millis());
        self.house.command(&["--json", "--timeout", &timeout, act, &article, "--user", &user])
    }

    /// New connections every time: daemons come and go.
    fn asked(&self) -> Asked {
        let context = self.house.context();
        let remote = |role| context.participants.find(role).expect("a service").clone();
        let articles = ArticleService::new(remote(ARTICLE_ROLE), PATIENCE);
        let users = UserService::new(remote(USER_ROLE), PATIENCE);
        Asked { articles, users, context }
    }

    /// Likes or unlikes in this process, one after the other: the sagas.
    fn acts(&self, acts: &[(&str, u64)]) -> Vec<SagaId> {
        let (user, article) = (UserId(self.id), ArticleId(self.id));
        self.runtime.block_on(async {
            let Asked { articles, users, context } = self.asked();
            let runner = Runner::start(context).expect("a slot");
            let service = Acts::new(runner.clone(), articles, users);
            let mut sagas = Vec::new();
            for (act, likes) in acts {
                let (saga, current) = if *act == "like" {
                    let answer = service.like(user, article, None, PATIENCE).await.expect("a like");
                    (answer.saga, answer.current_likes)
                } else {
                    let answer = service.unlike(user, article, None, PATIENCE).await.expect("an unlike");
                    (answer.saga, answer.current_likes)
                };
                assert_eq!(current, Some(*likes), "{act}");
                sagas.push(saga);
            }
            runner.close(PATIENCE).await;
            sagas
        })
    }

    /// The article, the user's records and the article's.
    fn read(&self) -> (Article, Vec<LikeRecord>, Vec<LikeRecord>) {
        let (user, article) = (UserId(self.id), ArticleId(self.id));
        self.runtime.block_on(async {
            let Asked { articles, users, .. } = self.asked();
            let row = articles.show(article).await.expect("an article");
            let of_user = users.likes_of(user, None, 100).await.expect("a page");
            (row, of_user, users.likers_of(article, None, 100).await.expect("a page"))
        })
    }

    /// Whether the user likes the article, how many do by the count, and by the records.
    fn rows(&self) -> (bool, u64, u64) {
        let (row, of_user, of_article) = self.read();
        assert_eq!(row.unsettled, 0, "{row:?}");
        let mut records = of_user.iter().chain(&of_article);
        assert!(records.all(|record| !record.pending), "{of_user:?} {of_article:?}");
        (self.is_among(&of_user), row.likes, of_article.len() as u64)
    }

    /// Whether the user likes the article, by the user's records.
    fn is_among(&self, of_user: &[LikeRecord]) -> bool {
        let liked = of_user.iter().filter(|record| record.article.0 == self.id).count();
        assert!(liked <= 1, "liked more than once: {of_user:?}");
        liked == 1
    }
}

impl World for Likes {
    type Scenario = Scenario;
    type Service = Service;
    const NAME: &'static str = "likes";
    const SCENARIOS: &'static [Scenario] =
        &[Scenario::Like, Scenario::BeatenLike, Scenario::Unlike, Scenario::BeatenUnlike];
    const SERVICES: &'static [Service] = &Service::BOTH;

    fn open(program: &Path) -> Self {
        let mut house = House::within(program, quick_directory());
        let armed = Service::BOTH.map(|service| house.start_with(service, &daemon_faults()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { house, armed, scenario: Scenario::Like, id: 0, rival: None, runtime }
    }

    fn path(&self) -> &Path {
        self.house.path()
    }

    fn journal(&self) -> PathBuf {
        self.house.journal()
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
        let asked = self.asked();
        let created = asked.articles.create(Some(ArticleId(self.id)), "A title".to_owned());
        self.runtime.block_on(created).expect("an article");
        if self.liked_before() {
            self.acts(&[("like", 1)]);
        }
        self.house.turn_page();
    }

    fn victim(&self, timeout: Duration) -> Command {
        self.act(if self.liked_before() { "unlike" } else { "like" }, self.id, timeout)
    }

    fn beat_victim(&mut self) {
        let act = if self.liked_before() { ("unlike", 0) } else { ("like", 1) };
        self.rival = self.acts(&[act]).pop();
    }

    fn successor(&self) -> Command {
        self.act("like", self.id + SUCCESSORS, PATIENCE)
    }

    fn recovery(&self, mode: Mode) -> Command {
        let attention_after = PATIENT.to_string();
        let words = ["--json", "--timeout", "30s", "--attention-after", &attention_after, "recover"];
        self.house.command(&[&words[..], mode.flag()].concat())
    }

    fn process(&mut self, service: Service) -> &mut Running {
        self.house.process(service)
    }

    fn armed(&self, service: Service) -> &Armed {
        &self.armed[service as usize]
    }

    fn start(&mut self, service: Service) {
        self.armed[service as usize] = self.house.start_with(service, &daemon_faults());
    }

    fn whose(&self, story: &Story) -> Whose {
        let begun = &story.state.as_ref().expect("nothing is damaged").begun;
        let definitions = likes::definitions();
        let definition = definitions.find(&begun.kind, begun.version).expect("a like or an unlike");
        let subject = definition.subject(&begun.params).expect("its parameters");
        match subject.iter().find(|(name, _)| *name == "user_id") {
            _ if Some(story.saga) == self.rival => Whose::Rival,
            Some((_, user)) if *user == self.id => Whose::Victim,
            _ => Whose::Successor,
        }
    }

    fn acknowledged(victim: &Ended) -> bool {
        serde_json::from_str::<Value>(&victim.stdout).is_ok_and(|answer| answer["current_likes"].is_u64())
    }

    fn all_done(&self) -> bool {
        let (row, of_user, _) = self.read();
        let liked = self.is_among(&of_user);
        match self.scenario {
            Scenario::Like => liked && row.likes == 1,
            Scenario::Unlike => !liked && row.likes == 0,
            Scenario::BeatenLike | Scenario::BeatenUnlike => false,
        }
    }

    fn check(&self, victim_completed: bool, successor_completed: bool) {
        let expected = match self.scenario {
            Scenario::Like => victim_completed,
            Scenario::BeatenLike => true,
            Scenario::Unlike => !victim_completed,
            Scenario::BeatenUnlike => false,
        };
        let (liked, likes, records) = self.rows();
        assert_eq!(liked, expected, "whether the user likes the article");
        let expected = u64::from(liked) + u64::from(successor_completed);
        assert_eq!((likes, records), (expected, expected), "likes and like records");
    }

    fn use_again(&self, _: bool) {
        let (liked, likes, _) = self.rows();
        if liked {
            self.acts(&[("unlike", likes - 1), ("like", likes)]);
        } else {
            self.acts(&[("like", likes + 1), ("unlike", likes)]);
        }
    }

    fn close(&self) {
        promises::every_saga_has_ended(&self.house);
        promises::no_drift(&self.house);
    }
}
