//! Two gateways side by side on one journal, to be struck like everything else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::contract::Contract;
use crate::gateway::{Gateway, Plan};
use crate::house::{House, Service};
use crate::http::{Place, Request};
use crate::process::{PATIENCE, eventually};

/// How many there are.
pub const FRONTS: usize = 2;

/// How long sagas of each try. Those of the second give up before a daemon that was stopped for long goes on, and are
/// answered with 202.
const TIMEOUTS: [&str; FRONTS] = ["3s", "700ms"];

/// The administrators' token.
pub const TOKEN: &str = "5f0c8d1f3a0b4a3c9d3c2f6f1a7e4b90";

/// What clients need to know of the gateways, whoever looks after their processes meanwhile.
pub struct Doors {
    /// Where each listens, however often it is started again.
    pub places: [Place; FRONTS],
    /// What they may answer.
    pub contract: Contract,
    lives: [Mutex<Life>; FRONTS],
}

/// A gateway's process, as its clients know it.
#[derive(Clone, Copy, Default, Debug)]
struct Life {
    number: u64,
    /// How many requests about likes it has answered, at least.
    answered: u64,
}

/// The gateways' processes.
#[derive(Debug)]
pub struct Fronts {
    gateways: Vec<Gateway>,
}

impl Fronts {
    /// Starts them.
    ///
    /// # Panics
    /// They don't come up.
    pub fn open(house: &House) -> (Self, Doors) {
        let token = house.path().join("token");
        fs::write(&token, TOKEN).expect("a token");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("a mode");
        let gateways: Vec<_> = (0..FRONTS).map(|number| start(house, number)).collect();
        let place = |number: usize| gateways[number].place.clone();
        let places = [place(0), place(1)];
        let contract = Contract(gateways[0].document().clone());
        let doors = Doors { places, contract, lives: Default::default() };
        (Self { gateways }, doors)
    }

    /// Their process ids.
    pub fn pids(&mut self) -> [u32; FRONTS] {
        [0, 1].map(|number: usize| self.gateways[number].running().pid())
    }

    /// Kills one by SIGKILL and starts it again after a while.
    ///
    /// # Panics
    /// It had ended by itself, or does not come up.
    pub fn kill(&mut self, house: &House, doors: &Doors, number: usize, pause: Duration) {
        self.strike(number, Signal::KILL);
        eventually("its end", || self.gateways[number].running().has_ended().then_some(()));
        std::thread::sleep(pause);
        self.replace(house, doors, number);
    }

    /// Stops one by SIGTERM, and starts it again.
    ///
    /// # Panics
    /// It had ended by itself, does not drain, or does not come up.
    pub fn restart(&mut self, house: &House, doors: &Doors, number: usize) {
        self.strike(number, Signal::TERM);
        let status = eventually("an orderly end", || self.gateways[number].running().ended());
        assert_eq!(status.code(), Some(0), "{}", self.gateways[number].last_words());
        self.replace(house, doors, number);
    }

    /// Stops one by SIGSTOP for a while.
    ///
    /// # Panics
    /// It had ended by itself.
    pub fn pause(&mut self, number: usize, pause: Duration) {
        self.strike(number, Signal::STOP);
        std::thread::sleep(pause);
        self.strike(number, Signal::CONT);
    }

    fn strike(&mut self, number: usize, signal: Signal) {
        let gateway = &mut self.gateways[number];
        assert!(!gateway.running().has_ended(), "a gateway ended by itself: {}", gateway.last_words());
        gateway.running().signal(signal);
    }

    fn replace(&mut self, house: &House, doors: &Doors, number: usize) {
        // Only now: whatever was answered before was answered by the old one.
        doors.begin_life(number);
        self.gateways[number] = start(house, number);
    }

    /// Insists that each tells of itself what its clients have seen, and of the sagas and services that all is well.
    ///
    /// # Panics
    /// It does not.
    pub fn check(&self, doors: &Doors) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            eventually("a ready gateway", || (gateway.get("/readyz").status == 200).then_some(()));
            // What was seen a moment ago may be told once more.
            let until = Instant::now() + PATIENCE;
            while let Some(wrong) = what_is_wrong(&gateway.get("/metrics").expect(200).text()) {
                assert!(
                    Instant::now() < until,
                    "gateway {number} never says that all is well: {wrong}; /overview: {}",
                    gateway.get("/overview").text()
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            let told = gateway.get("/metrics").expect(200).text();
            let acts = sum(&told, "like_gateway_acts_total");
            assert_eq!(acts, sum(&told, "like_gateway_act_duration_seconds_count"), "{told}");
            let requests = told.lines().filter(|line| {
                line.starts_with("like_gateway_http_requests_total")
                    && line.contains("route=\"/articles/{article_id}/like\"")
            });
            let requests = requests.filter_map(value).sum::<f64>();
            let seen = doors.life(number).answered;
            // Of acts it may tell more: those are counted too whose clients were gone before they were answered.
            assert!(requests >= seen as f64, "answered {seen} requests, and tells of {requests}: {told}");
        }
    }

    /// Insists that every gateway gives the first answer to a key once more.
    ///
    /// # Panics
    /// One does not.
    pub fn answer_again(&self, request: &Request, first: &Value) {
        for gateway in &self.gateways {
            assert_eq!(gateway.send(request).expect(200).json(), *first, "{request:?}");
        }
    }
}

impl Doors {
    fn life(&self, number: usize) -> MutexGuard<'_, Life> {
        self.lives[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_life(&self, number: usize) {
        let mut life = self.life(number);
        *life = Life { number: life.number + 1, answered: 0 };
    }

    /// Which of its lives a gateway has.
    pub fn life_of(&self, number: usize) -> u64 {
        self.life(number).number
    }

    /// A request about a like was answered; it was sent in this life.
    pub fn answered(&self, number: usize, life: u64) {
        let mut current = self.life(number);
        current.answered += u64::from(current.number == life);
    }
}

fn start(house: &House, number: usize) -> Gateway {
    let token = house.path().join("token").display().to_string();
    let plan = Plan::with(&["--timeout", TIMEOUTS[number], "--admin-token-file", &token]);
    Gateway::start(house, &plan.named(&format!("gateway-{number}"))).0
}

/// The numbers that don't say that all is well, or are missing; `None` if all do.
fn what_is_wrong(told: &str) -> Option<String> {
    let wanted = [
        ("like_journal_readable", 1.0),
        ("like_sagas_open", 0.0),
        ("like_sagas_needs_attention", 0.0),
        ("like_sagas_unsettled", 0.0),
        ("like_service_up", Service::BOTH.len() as f64),
    ];
    let wrong = wanted.iter().filter(|(name, value)| sum(told, name) != *value).map(|(name, _)| {
        let lines: Vec<_> = told.lines().filter(|line| is_of(line, name)).collect();
        if lines.is_empty() { format!("no {name}") } else { lines.join(", ") }
    });
    let wrong: Vec<_> = wrong.collect();
    (!wrong.is_empty()).then(|| wrong.join(", "))
}

fn is_of(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
}

/// The sum of a metric over all its labels.
fn sum(told: &str, name: &str) -> f64 {
    told.lines().filter(|line| is_of(line, name)).filter_map(value).sum()
}

fn value(line: &str) -> Option<f64> {
    line.rsplit_once(' ')?.1.parse().ok()
}
