//! The HTTP front of a house, as a process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::contract::Contract;
use crate::house::{House, Service};
use crate::http::{Answer, Place, Request};
use crate::process::{Armed, Ended, Fault, Running, eventually, last_words, program};

/// A gateway that serves a house. It is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    running: Running,
    /// Where it listens.
    pub place: Place,
    log: Log,
    /// How it describes itself, once it was asked.
    contract: OnceLock<Contract>,
}

/// Where a gateway logs. A test that fails tells what its gateway said last.
#[derive(Debug)]
struct Log(PathBuf);

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway said last: {}", last_words(&self.0));
        }
    }
}

/// How a gateway is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What its socket and its log in the house are called.
    pub name: String,
    /// Its flags beyond where things are.
    pub flags: Vec<String>,
    /// What it is to die of.
    pub faults: Vec<Fault>,
    /// Whether it listens on TCP, on a port that the system chooses; else on a Unix socket in the house.
    pub tcp: bool,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// How many files it may open, if not as many as others.
    pub files_max: Option<u32>,
}

impl Plan {
    /// With these flags.
    pub fn with(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let name = "gateway".to_owned();
        Self { name, flags, faults: Vec::new(), tcp: false, environment: Vec::new(), files_max: None }
    }

    /// Called otherwise: for one beside another.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// On TCP.
    pub fn tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// With these faults.
    pub fn faults(self, faults: &[Fault]) -> Self {
        Self { faults: faults.to_vec(), ..self }
    }

    /// With no more files than so many.
    pub fn files_max(self, most: u32) -> Self {
        Self { files_max: Some(most), ..self }
    }

    /// With one more variable.
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }
}

impl Gateway {
    /// A gateway with usual flags.
    ///
    /// # Panics
    /// It does not come up.
    #[track_caller]
    pub fn open(house: &House) -> Self {
        Self::start(house, &Plan::with(&[])).0
    }

    /// A gateway of this plan, once it serves.
    ///
    /// # Panics
    /// It does not come up.
    #[track_caller]
    pub fn start(house: &House, plan: &Plan) -> (Self, Armed) {
        let mut command = match plan.files_max {
            None => program(house.program(), "like-gateway"),
            Some(most) => {
                let mut limited = program(Path::new("prlimit"), format!("--nofile={most}:{most}"));
                limited.arg("--").arg(house.program()).arg("like-gateway");
                limited
            }
        };
        // Flags may say it otherwise.
        command.env("LIKECTL_ARTICLE_SOCKET", house.socket(Service::Article));
        command.env("LIKECTL_USER_SOCKET", house.socket(Service::User));
        command.arg("--journal").arg(house.journal()).args(&plan.flags);
        let socket = house.path().join(format!("{}.sock", plan.name));
        if plan.tcp {
            command.args(["--listen", "127.0.0.1:0"]);
        } else {
            command.arg("--listen").arg(format!("unix:{}", socket.display()));
        }
        command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        let armed = Armed::arm(&mut command, house.path(), &plan.faults);
        let log = house.path().join(format!("{}.log", plan.name));
        let from = std::fs::read_to_string(&log).unwrap_or_default().len();
        let mut running = Running::start_logged(&mut command, &log);
        let place = eventually("a gateway that serves", || {
            assert!(!running.has_ended(), "the gateway ended at its start: {}", last_words(&log));
            let text = std::fs::read_to_string(&log).ok()?;
            let (_, place) = text.get(from..)?.split_once("serving ")?;
            if !plan.tcp {
                return Some(Place::Unix(socket.clone()));
            }
            let address = place.split_whitespace().next()?.strip_prefix("http://")?;
            address.parse().ok().map(Place::Tcp)
        });
        (Self { running, place, log: Log(log), contract: OnceLock::new() }, armed)
    }

    /// Its process.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log.0).unwrap_or_default()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        last_words(&self.log.0)
    }

    /// Kills it by SIGKILL.
    pub fn kill(self) {
        self.running.kill();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(self) -> Ended {
        self.running.end()
    }

    /// Sends a request.
    ///
    /// # Panics
    /// There is no answer, or one that the API's own description does not have.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        let answer = request.send(&self.place).unwrap_or_else(|e| panic!("no answer to {request:?}: {e}"));
        if let Some(undescribed) = self.undescribed(request, &answer) {
            panic!("{undescribed}: {request:?} {answer:?}");
        }
        answer
    }

    /// How the gateway describes itself.
    ///
    /// # Panics
    /// It does not.
    pub fn document(&self) -> &Value {
        &self.contract().0
    }

    fn contract(&self) -> &Contract {
        self.contract.get_or_init(|| {
            let asked = Request::new("GET", "/openapi.json").send(&self.place).expect("a description");
            Contract(asked.expect(200).json())
        })
    }

    /// What an answer has that the description has not: a status, or a media type.
    fn undescribed(&self, request: &Request, answer: &Answer) -> Option<String> {
        let contract = self.contract();
        let operation = contract.of(&contract.find(request)?);
        let Some(described) = operation["responses"].get(answer.status.to_string()) else {
            return Some(format!("status {} is not described", answer.status));
        };
        let media = answer.header("content-type")?.split(';').next()?;
        let known = described["content"].as_object().is_some_and(|content| content.contains_key(media));
        // What HTTP itself refuses has no document.
        (!known && answer.status != 431).then(|| format!("{media} is not described"))
    }

    /// Reads what is at a path.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(&Request::new("GET", path))
    }

    /// Likes an article for a user.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn like(&self, article: u64, user: u64) -> Answer {
        self.send(&like(article, user))
    }

    /// Makes an article with this number.
    ///
    /// # Panics
    /// It can't be made.
    #[track_caller]
    pub fn article(&self, id: u64) {
        self.post("/articles", &json!({ "article_id": id, "title": "A title" })).expect(201);
    }

    /// Posts a document.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn post(&self, path: &str, document: &Value) -> Answer {
        self.send(&Request::new("POST", path).json(document))
    }

    /// Sends a request for a saga until it is answered so. One whose deadline comes too early for that is undone, as on a
    /// machine that is slow at the moment.
    ///
    /// # Panics
    /// It is answered otherwise.
    #[track_caller]
    pub fn until(&self, status: u16, request: &Request) -> Answer {
        eventually("an answer that takes some time", || {
            let answer = self.send(request);
            assert!([status, 500].contains(&answer.status), "{answer:?}");
            (answer.status == status).then_some(answer)
        })
    }

    /// An article's likes.
    ///
    /// # Panics
    /// They can't be read.
    #[track_caller]
    pub fn likes(&self, article: u64) -> u64 {
        let article = self.get(&format!("/articles/{article}")).expect(200).json();
        article["likes"].as_u64().expect("a number")
    }
}

/// The request by which a user likes an article.
pub fn like(article: u64, user: u64) -> Request {
    Request::new("POST", &format!("/articles/{article}/like")).header("X-User-ID", user)
}

/// The request by which a user likes an article no longer.
pub fn unlike(article: u64, user: u64) -> Request {
    Request::new("DELETE", &format!("/articles/{article}/like")).header("X-User-ID", user)
}

/// Sends a request again and again, as a patient client does, until it is answered with 200.
///
/// # Panics
/// It never is.
pub fn until_done(request: &Request, place: &Place) -> Value {
    eventually("an answer with 200", || match request.send(place) {
        Ok(answer) if answer.status == 200 => Some(answer.json()),
        // Not answered, not known yet, or not possible right now: all of that passes.
        Ok(answer) if !matches!(answer.status, 202 | 500 | 503) => {
            panic!("{}: {}", answer.status, answer.text())
        }
        Ok(_) | Err(_) => None,
    })
}
