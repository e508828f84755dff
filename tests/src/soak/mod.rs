//! The soak: random load on real processes, everything killed and stopped at random, and every promise checked again and
//! again.
//!
//! It goes in rounds. In a round users like, unlike and read through `likectl`, others by HTTP through two gateways side
//! by side, an operator recovers, acts and audits, and [`chaos`] strikes all of them and both daemons. Then all is quiet:
//! what was left is recovered, and everything that anybody was told must be so. Every third round spares daemons and
//! gateways, so that what they use can be compared.
//!
//! * [`actor`]: users. [`web`]: users by HTTP. [`front`]: the gateways. [`operator`]: the operator.
//! * [`pair`]: what is certain about a user and an article.
//! * [`chaos`]: kills and stops. [`stage`]: where processes stand to be struck.
//! * [`meter`]: memory, descriptors, disk. [`tally`]: what was done. [`report`]: what is told. [`program`]: the command.
//!
//! The seed repeats every choice that is made here. When a signal comes, the kernel decides.

pub mod actor;
pub mod chaos;
pub mod front;
pub mod meter;
pub mod operator;
pub mod pair;
pub mod program;
pub mod report;
pub mod stage;
pub mod tally;
pub mod web;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::house::House;
use crate::process::{eventually, said};
use crate::promises;
use crate::random::Random;
use actor::Actor;
use front::{Doors, Fronts};
use meter::{Meter, Sample};
use pair::Pair;
use report::{Progress, Report};
use stage::Stage;
use tally::Tally;
use web::Client;

/// How many articles are liked by all.
const ARTICLES: u64 = 3;

/// How many pairs of earlier rounds are looked at again after each.
const LOOKED_AT_AGAIN: usize = 12;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that holds all programs.
    pub program: PathBuf,
    /// For how long there is load, without the checks.
    pub time: Duration,
    /// How long a round is.
    pub round: Duration,
    /// What all choices follow from.
    pub seed: u64,
    /// How many users act at once through `likectl`.
    pub clients: u64,
    /// How many act at once by HTTP.
    pub web_clients: u64,
}

/// What everybody in a round shares.
pub struct Round<'a> {
    /// When it is over.
    pub until: Instant,
    /// Whether daemons and gateways are left alone.
    pub calm: bool,
    /// Set once a promise is broken: everybody comes to an end.
    pub broken: AtomicBool,
    /// Where every user's process stands, and at last the operator's.
    pub stages: &'a [Stage],
    /// Where the gateways are.
    pub doors: &'a Doors,
    /// Where all is counted.
    pub tally: &'a Tally,
}

impl Round<'_> {
    /// Whether it is not over yet.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.broken.load(Ordering::Relaxed)
    }
}

/// What all rounds of a soak share.
struct Soak<'a> {
    settings: &'a Settings,
    doors: Doors,
    tally: Tally,
    progress: &'a (dyn Fn(&Progress) + Sync),
}

/// Soaks. What is found is in the report, a broken promise too; the directory is kept then.
///
/// # Panics
/// No house can be opened.
pub fn soak(settings: &Settings, progress: &(dyn Fn(&Progress) + Sync)) -> Report {
    let mut house = House::open(&settings.program);
    (1..=ARTICLES).for_each(|article| house.article(article));
    let (mut fronts, doors) = Fronts::open(&house);
    let mut report = Report::begin(settings, Sample::at_rest(&mut house, &mut fronts, 0));
    let mut random = Random::of(settings.seed);
    let mut pairs = Vec::new();
    let soak = Soak { settings, doors, tally: Tally::default(), progress };
    let mut rounds = 0;
    while report.loaded < settings.time && report.verdict.is_ok() {
        rounds += 1;
        let length = settings.round.min(settings.time - report.loaded);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let calm = rounds % 3 == 0;
            let mut fresh = round(&mut house, &mut fronts, &soak, length, calm, &mut random, &mut report);
            check(&house, &fronts, &soak.doors, &mut fresh, &pairs, &mut random);
            pairs.extend(fresh);
            Sample::at_rest(&mut house, &mut fronts, report::sagas(&soak.tally))
        }));
        report.loaded += length;
        report.rounds = rounds;
        report.tally = soak.tally.copy();
        match outcome {
            Ok(sample) => report.samples.push(sample),
            Err(panic) => report.verdict = Err(said(&*panic)),
        }
        progress(&Progress::of(&report.tally, rounds, true, report.loaded));
    }
    let at_last = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pair::all_stand(&house, &pairs);
        report::ends(&house)
    }));
    match at_last {
        Ok(ends) => report.ends = ends,
        Err(panic) if report.verdict.is_ok() => report.verdict = Err(said(&*panic)),
        Err(_) => {}
    }
    report.pairs = pairs.len();
    report.certain = pairs.iter().filter(|pair| pair.is_certain()).count();
    report.bound();
    drop(fronts);
    if report.verdict.is_err() {
        report.kept = Some(house.keep());
    }
    report
}

/// One round; the pairs of users and articles that came up in it. Daemons and gateways run afterwards.
fn round(
    house: &mut House,
    fronts: &mut Fronts,
    soak: &Soak<'_>,
    length: Duration,
    calm: bool,
    random: &mut Random,
    report: &mut Report,
) -> Vec<Pair> {
    let Soak { settings, doors, tally, progress } = soak;
    let stages: Vec<_> = (0..=settings.clients).map(|_| Stage::default()).collect();
    let until = Instant::now() + length;
    let round = Round { until, calm, broken: AtomicBool::new(false), stages: &stages, doors, tally };
    let desk = house.desk();
    let (before, rounds) = (report.loaded, report.rounds + 1);
    let first_user = report.next_user;
    let all = settings.clients + settings.web_clients;
    report.next_user += (all + 1) * 1_000_000;
    let meter = Meter::default();
    let seeds: Vec<_> = (0..all + 3).map(|_| random.any()).collect();
    let pairs = std::thread::scope(|scope| {
        let seeds = &seeds;
        let (round, desk, meter) = (&round, &desk, &meter);
        let act = |client: u64| {
            let (users, seed) = (first_user + client * 1_000_000, seeds[client as usize]);
            match client < settings.clients {
                true => Actor::new(round, desk, client as usize, users, seed).act_on(),
                false => Client::new(round, users, seed).act_on(),
            }
        };
        let actors: Vec<_> = (0..all).map(|client| scope.spawn(move || act(client))).collect();
        let [operator_seed, chaos_seed, listener_seed] = [0, 1, 2].map(|more| seeds[all as usize + more]);
        let operator = scope.spawn(move || operator::Operator::new(round, desk, operator_seed).operate());
        let listener = scope.spawn(move || web::listen(round, &mut Random::of(listener_seed)));
        let watch = scope.spawn(move || {
            meter.watch(round, || {
                let left = until.saturating_duration_since(Instant::now());
                progress(&Progress::of(&tally.copy(), rounds, false, before + length.saturating_sub(left)));
            });
        });
        chaos::strike_on(round, house, fronts, meter, &mut Random::of(chaos_seed));
        let joined: Vec<_> = actors.into_iter().map(|actor| actor.join()).collect();
        let operated = operator.join();
        watch.join().expect("a meter");
        listener.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        operated.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        let pairs =
            joined.into_iter().flat_map(|pairs| pairs.unwrap_or_else(|e| std::panic::resume_unwind(e)));
        pairs.collect()
    });
    report.peaks.merge(&meter.peaks());
    pairs
}

/// What must hold when nobody acts any more and what was left is recovered.
fn check(
    house: &House,
    fronts: &Fronts,
    doors: &Doors,
    fresh: &mut [Pair],
    older: &[Pair],
    random: &mut Random,
) {
    // What the gateways drive they finish and settle themselves; what has needed attention they try at a slow pace.
    eventually("the end of all sagas", || {
        let recovered = house.likectl(&["--json", "--timeout", "60s", "recover"]);
        let is_quiet = || {
            let log = &house.json(&["status"])["log"];
            log["unfinished"] == 0 && log["unsettled"] == 0
        };
        (recovered.code() == Some(0) && is_quiet()).then_some(())
    });
    promises::nothing_is_left(house);
    promises::no_drift(house);
    fronts.check(doors);
    fresh.iter_mut().for_each(|pair| pair.learn(house));
    pair::all_stand(house, fresh);
    for _ in 0..LOOKED_AT_AGAIN.min(older.len()) {
        older[random.below(older.len() as u64) as usize].check(house, fronts);
    }
    // Keys are asked for again by processes: a few of them.
    let with_keys = fresh.iter().filter(|pair| pair.has_keys());
    with_keys.take(LOOKED_AT_AGAIN).for_each(|pair| pair.check(house, fronts));
}
