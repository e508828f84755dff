//! Users, one after the other, by HTTP through gateways that are struck.
//!
//! What an answer says must be so: 200 that it is done and stays, 404, 409, 422 and 500 that nothing has changed, 503 that
//! nothing was begun, 202 that the saga it names ends. A lost answer says nothing; the same key asks again. Every answer
//! must be one that the API's own description has.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::front::{FRONTS, TOKEN};
use super::pair::{Pair, Pending, Stands};
use super::{ARTICLES, Round};
use crate::gateway::like;
use crate::http::{Answer, Request};
use crate::process::PATIENCE;
use crate::random::Random;

/// The longest pause between two requests of a user.
const PAUSE_MS: u64 = 100;

/// An article that is never made.
const NO_ARTICLE: u64 = 4_000_000_000;

/// What one request came to.
enum Sent {
    /// It was answered.
    Answered(Answer),
    /// Perhaps it was carried out.
    Lost,
    /// Nobody listened.
    NoListener,
}

/// What became of a like or an unlike.
enum Came {
    /// It is done.
    Done(Value),
    /// Nothing has changed, certainly.
    ToNothing,
    /// This saga will tell.
    Pending(String),
    /// Nobody knows.
    Unknown,
}

/// One user after the other, in one thread.
pub struct Client<'a> {
    round: &'a Round<'a>,
    random: Random,
    next_user: u64,
}

impl<'a> Client<'a> {
    /// Users from `next_user` on.
    pub fn new(round: &'a Round<'a>, next_user: u64, seed: u64) -> Self {
        Self { round, random: Random::of(seed), next_user }
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
            while self.round.goes_on() && pair.is_certain() && !self.random.percent(20) {
                std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS)));
                match self.random.below(100) {
                    0..60 => self.act(&mut pair),
                    60..70 => self.be_refused(&mut pair),
                    70..76 => self.ask_again(&pair),
                    76..88 => self.read_likes(&pair),
                    88..97 => self.look_around(&pair),
                    _ => self.administer(),
                }
            }
            pairs.push(pair);
        }
        pairs
    }

    /// Likes what is not liked, or the other way round; with a key as often as it takes.
    fn act(&mut self, pair: &mut Pair) {
        let act = if pair.stands == Stands::NotLiked { "like" } else { "unlike" };
        let key = self.random.percent(60).then(|| self.random.uuid());
        let request = pair.request(act, key.as_deref());
        let mut unknown = false;
        // A saga that a 202 named and that has been completed since: only its answer can be the key's.
        let mut completed = None;
        let patience = self.round.until + 2 * PATIENCE;
        while self.round.goes_on() || unknown && key.is_some() {
            assert!(Instant::now() < patience, "a retry that is never answered: {act} {pair:?}");
            match (self.attempt(act, &request, pair, key.is_some()), &key) {
                (Came::Done(answer), _) => {
                    let by = completed.as_ref().unwrap_or(&answer["saga_id"]);
                    self.insist(answer["saga_id"] == *by, || format!("{answer}, not by {by}: {pair:?}"));
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
                    self.round.tally.count("http retry by key", 1);
                }
                (Came::Pending(saga), None) => return self.wait_for(act, saga, pair),
                (Came::Pending(saga), Some(_)) => {
                    unknown = true;
                    if self.random.percent(50) && self.follow(&saga).as_deref() == Some("completed") {
                        completed = Some(Value::String(saga));
                    }
                }
            }
        }
    }

    /// Waits for the end of the saga that a 202 has named; what it ended as is how the pair stands.
    fn wait_for(&mut self, act: &'static str, saga: String, pair: &mut Pair) {
        match self.follow(&saga).as_deref() {
            Some("completed") => pair.stands = Stands::after(act, &Value::String(saga)),
            Some(_) => {}
            None => {
                // The log will tell when all is quiet.
                let before = std::mem::replace(&mut pair.stands, Stands::Unknown);
                pair.pending = Some(Pending { act, saga, before });
            }
        }
    }

    /// Looks at a saga until it has ended: how. `None` if the round is over before.
    fn follow(&mut self, saga: &str) -> Option<String> {
        self.round.tally.count("http 202 followed", 1);
        let request = Request::new("GET", &format!("/sagas/{saga}"));
        while self.round.goes_on() {
            if let Sent::Answered(answer) = self.send("http looks", &request)
                && answer.status != 504
            {
                self.insist(answer.status == 200, || format!("202 has named {saga}: {}", answer.text()));
                let state = answer.json()["state"].as_str().unwrap_or_default().to_owned();
                if !matches!(state.as_str(), "running" | "compensating") {
                    return Some(state);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// One like or unlike.
    fn attempt(&mut self, act: &'static str, request: &Request, pair: &Pair, has_key: bool) -> Came {
        let door = self.door();
        match self.random.below(100) {
            0..3 => self.hang_up(door, request),
            3..10 if has_key => self.twice(act, request, pair),
            _ => self.came(act, door, request, pair),
        }
    }

    /// The same request by the same key at both gateways at once.
    fn twice(&mut self, act: &'static str, request: &Request, pair: &Pair) -> Came {
        self.round.tally.count("http twice at once by one key", 1);
        let this = &*self;
        let [one, other] = std::thread::scope(|scope| {
            let twin = scope.spawn(|| this.came(act, 1, request, pair));
            let one = this.came(act, 0, request, pair);
            [one, twin.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))]
        });
        match (one, other) {
            (Came::Done(one), Came::Done(other)) => {
                self.insist(one == other, || format!("one key, two answers: {one} {other}"));
                Came::Done(one)
            }
            (Came::Done(answer), _) | (_, Came::Done(answer)) => Came::Done(answer),
            (Came::ToNothing, Came::ToNothing) => Came::ToNothing,
            _ => Came::Unknown,
        }
    }

    fn came(&self, act: &'static str, door: usize, request: &Request, pair: &Pair) -> Came {
        let kind = if act == "like" { "http like" } else { "http unlike" };
        match self.send_to(door, kind, request) {
            Sent::NoListener => Came::ToNothing,
            Sent::Lost => Came::Unknown,
            Sent::Answered(answer) if answer.status == 200 => Came::Done(answer.json()),
            Sent::Answered(answer) if answer.status == 202 => {
                Came::Pending(answer.json()["saga_id"].as_str().unwrap_or_default().to_owned())
            }
            Sent::Answered(answer) => {
                self.insist(passes(&answer), || format!("{act} of {pair:?}: {}", answer.text()));
                Came::ToNothing
            }
        }
    }

    /// Sends a request and does not wait for its answer.
    fn hang_up(&self, door: usize, request: &Request) -> Came {
        let Ok(mut stream) = self.round.doors.places[door].connect() else { return Came::ToNothing };
        // Where it can't be written, some of it may have been.
        let _ = stream.write_all(&request.bytes());
        self.round.tally.count("http client hung up", 1);
        Came::Unknown
    }

    /// Asks for what a rule forbids, without any effect; unless a service could not say so beforehand, and nobody is told what
    /// came of it: the saga may still be on its way when the rule does not forbid it any more.
    fn be_refused(&mut self, pair: &mut Pair) {
        let liked = matches!(pair.stands, Stands::Liked(_));
        let (request, status, kind, always) = match (self.random.below(3), pair.answered.last()) {
            (0, Some((act, key, _))) => {
                let other = Pair { article: pair.article % ARTICLES + 1, ..pair.clone() };
                (other.request(act, Some(key)), 422, "invalid", true)
            }
            (1, _) => (like(NO_ARTICLE, pair.user), 404, "not_found", true),
            _ if liked => (pair.request("like", None), 409, "already_liked", false),
            _ => (pair.request("unlike", None), 409, "not_liked", false),
        };
        let sent = self.send("http refused", &request);
        if !always && matches!(&sent, Sent::Lost | Sent::Answered(Answer { status: 202, .. })) {
            pair.stands = Stands::Unknown;
        }
        let Sent::Answered(answer) = sent else { return };
        // It met a lock, and begun a saga that will be refused.
        let may_be = answer.status == 202 || passes(&answer);
        let is_told = answer.status == status && answer.json()["kind"] == kind;
        self.insist(is_told || may_be, || format!("{request:?} of {pair:?}: {}", answer.text()));
    }

    /// A key that was answered gets its first answer, whatever was done since.
    fn ask_again(&mut self, pair: &Pair) {
        if pair.answered.is_empty() {
            return;
        }
        let (act, key, first) = &pair.answered[self.random.below(pair.answered.len() as u64) as usize];
        let request = pair.request(act, Some(key));
        let Sent::Answered(answer) = self.send("http asked again", &request) else { return };
        let is_same = answer.status == 200 && answer.json() == *first;
        let may_be = answer.status == 202 || passes(&answer);
        self.insist(is_same || may_be, || format!("{first} at first, then {}", answer.text()));
    }

    /// Nobody but this client acts for the user, so what is certain must be read.
    fn read_likes(&mut self, pair: &Pair) {
        let request = Request::new("GET", &format!("/users/{}/likes", pair.user));
        let Sent::Answered(answer) = self.send("http user likes", &request) else { return };
        match answer.status {
            200 => pair.agrees(&answer.json()),
            _ => self.insist(passes(&answer), || format!("{pair:?}: {}", answer.text())),
        }
    }

    fn look_around(&mut self, pair: &Pair) {
        let path = match self.random.below(8) {
            0 => "/articles".to_owned(),
            1 => format!("/articles/{}", pair.article),
            2 => format!("/articles/{}/likes?limit=50", pair.article),
            3 => "/overview".to_owned(),
            4 => "/metrics".to_owned(),
            5 => format!("/sagas?user_id={}", pair.user),
            6 => "/sagas?state=running,compensating&limit=20".to_owned(),
            _ => "/healthz".to_owned(),
        };
        let Sent::Answered(answer) = self.send("http looks", &Request::new("GET", &path)) else { return };
        // One reader at a time: where many want the whole log, a machine that is slow enough lets them wait in vain.
        let may_be = matches!(answer.status, 200 | 504);
        self.insist(may_be || passes(&answer), || format!("{path}: {}", answer.text()));
    }

    /// Does something about a saga that is open.
    fn administer(&mut self) {
        let Sent::Answered(answer) = self.send("http looks", &Request::new("GET", "/overview")) else {
            return;
        };
        let open = answer.json()["open"].as_array().cloned().unwrap_or_default();
        if open.is_empty() {
            return;
        }
        let saga =
            open[self.random.below(open.len() as u64) as usize]["saga_id"].as_str().unwrap_or_default();
        let act = if self.random.percent(50) { "retry" } else { "compensate" };
        let request = Request::new("POST", &format!("/sagas/{saga}/{act}"))
            .header("Authorization", format!("Bearer {TOKEN}"))
            .json(&json!({ "reason": "to see what happens" }));
        let Sent::Answered(answer) = self.send("http acts", &request) else { return };
        // It may have ended meanwhile, or be driven by another process.
        let may_be = matches!(answer.status, 200 | 409 | 504);
        self.insist(may_be || passes(&answer), || format!("{act} of {saga}: {}", answer.text()));
    }

    fn door(&mut self) -> usize {
        self.random.below(FRONTS as u64) as usize
    }

    /// Sends a request to one of the gateways.
    fn send(&mut self, kind: &'static str, request: &Request) -> Sent {
        let door = self.door();
        self.send_to(door, kind, request)
    }

    /// Sends a request to this gateway, and holds its answer against the gateway's own description.
    fn send_to(&self, door: usize, kind: &'static str, request: &Request) -> Sent {
        let doors = self.round.doors;
        let (began, life) = (Instant::now(), doors.life_of(door));
        let Ok(mut stream) = doors.places[door].connect() else {
            self.round.tally.count("http not connected", 1);
            return Sent::NoListener;
        };
        let mut bytes = Vec::new();
        let exchanged = stream.write_all(&request.bytes()).and_then(|()| stream.read_to_end(&mut bytes));
        let answer = exchanged.and_then(|_| Answer::read(&bytes));
        self.insist(began.elapsed() < PATIENCE, || format!("no answer within {PATIENCE:?}: {request:?}"));
        let status = answer.as_ref().map_or(-1, |answer| i32::from(answer.status));
        self.round.tally.end(kind, status, began.elapsed());
        let Ok(answer) = answer else { return Sent::Lost };
        if request.target().1.ends_with("/like") {
            doors.answered(door, life);
        }
        let described =
            doors.contract.find(request).map(|operation| doors.contract.check(&operation, &answer));
        if let Some(Err(breach)) = described {
            self.insist(false, || format!("{breach}: {request:?} {answer:?}"));
        }
        Sent::Answered(answer)
    }

    fn insist(&self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.round.broken.store(true, Ordering::Relaxed);
            panic!("{}", what());
        }
    }
}

/// Follows what goes on until the round is over, whoever dies meanwhile.
///
/// # Panics
/// What a stream tells makes no sense.
pub fn listen(round: &Round<'_>, random: &mut Random) {
    while round.goes_on() {
        let door = random.below(FRONTS as u64) as usize;
        let Ok(mut stream) = round.doors.places[door].connect_for(Duration::from_millis(200)) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let request = Request::new("GET", "/events").header("accept", "text/event-stream");
        if stream.write_all(&request.bytes()).is_err() {
            continue;
        }
        round.tally.count("http streams", 1);
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        while round.goes_on() {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => bytes.extend(&buffer[..read]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            while let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<_> = bytes.drain(..end + 2).collect();
                let text = String::from_utf8_lossy(&event);
                let Some(told) = text.lines().find_map(|line| line.strip_prefix("data:")) else { continue };
                let told: Value = serde_json::from_str(told).expect("an event is a document");
                assert!(told["counts"]["running"].is_u64(), "{told}");
                round.tally.count("http events", 1);
            }
        }
    }
}

/// Whether an answer says that nothing has changed, and that it may be otherwise next time.
fn passes(answer: &Answer) -> bool {
    let kinds: &[&str] = match answer.status {
        500 => &["compensated", "locked"],
        503 => &["unavailable", "busy"],
        _ => &[],
    };
    kinds.iter().any(|kind| answer.json()["kind"] == *kind)
}
