//! Power cuts on the file systems of the running kernel.
//!
//! Both stores and the journal are on a file system of its own in a file. Users like and unlike by HTTP; at a random moment
//! everything is stopped, and the file is copied: it holds what the kernel has written back by then, and what was only in its
//! memory is lost, as by a power cut. The copy is mounted, which repeats the file system's own journal, and used from
//! then on, by another boot. What was left is recovered, and everything that anybody was told must be so.
//!
//! * [`image`]: the file system. [`program`]: the command.
//!
//! A disk's own cache is taken to keep what it was given. What may be lost of that [`crate::power`] enumerates.

pub mod image;
pub mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::gateway::Gateway;
use crate::house::{House, Service};
use crate::http::Place;
use crate::process::{eventually, said};
use crate::promises;
use crate::random::Random;
use crate::soak::pair::{self, Pair, Stands};
use image::{FileSystem, Image, contents};

/// How many act at once.
const CLIENTS: u64 = 12;

/// How many articles are liked by all.
const ARTICLES: u64 = 4;

/// The most acts of one user.
const ACTS_MAX: u64 = 4;

/// How long there is load before a cut.
const LOAD_MS: std::ops::Range<u64> = 200..3000;

/// How much of a commit log makes a checkpoint: some in each moment, or none before the cut.
const CHECKPOINT_KIB: [&str; 4] = ["4", "64", "1024", "32768"];

/// How many users' keys are asked for again after each cut.
const KEYS_ASKED_AGAIN: usize = 8;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that holds all programs.
    pub program: PathBuf,
    /// On which file system.
    pub file_system: FileSystem,
    /// How often the power is cut.
    pub cuts: u64,
    /// What all choices follow from. When a cut comes, the machine's pace decides.
    pub seed: u64,
    /// A file that this process's mounts show in the place of the kernel's boot id.
    pub boot_id: PathBuf,
}

/// What was tried.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// How often the power was cut.
    pub cuts: u64,
    /// Of these, how often something was lost that had been written.
    pub lost: u64,
    /// How many users it is known of how they stand.
    pub certain: usize,
    /// How many acts were under way when the power was cut.
    pub under_way: usize,
    /// How many sagas were recovered.
    pub recovered: u64,
    /// The promise that was broken.
    pub broken: Option<String>,
    /// Where the file system is, if one was.
    pub kept: Option<PathBuf>,
}

/// Cuts the power again and again. A broken promise is in the report; the file system is kept then.
///
/// # Panics
/// No file system can be made.
pub fn cut_on(settings: &Settings, mut progress: impl FnMut(&Report)) -> Report {
    let mut directory = tempfile::tempdir().expect("a directory");
    let mut image = Image::make(settings.file_system, directory.path());
    let place = tempfile::Builder::new().prefix("house-").tempdir_in(image.path()).expect("a directory");
    let mut house = House::within(&settings.program, place);
    let mut report = Report::default();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cut_all(settings, &mut house, &mut image, &mut report, &mut progress);
    }));
    if let Err(panic) = outcome {
        report.broken = Some(said(&*panic));
        report.kept = Some(image.file().to_owned());
        directory.disable_cleanup(true);
        house.keep();
    } else {
        drop(house);
    }
    image.unmount();
    report
}

fn cut_all(
    settings: &Settings,
    house: &mut House,
    image: &mut Image,
    report: &mut Report,
    progress: &mut impl FnMut(&Report),
) {
    let mut random = Random::of(settings.seed);
    boot(settings, &mut random);
    start(house, &mut random);
    (1..=ARTICLES).for_each(|article| house.article(article));
    let mut pairs = Vec::new();
    for _ in 0..settings.cuts {
        let fresh = load_until_cut(house, image, &mut random, report);
        report.cuts += 1;
        report.under_way += fresh.iter().filter(|pair| !pair.is_certain()).count();
        pairs.extend(fresh);
        report.certain = pairs.iter().filter(|pair| pair.is_certain()).count();
        boot(settings, &mut random);
        start(house, &mut random);
        report.recovered += recover(house);
        check(house, &pairs, &mut random);
        progress(report);
    }
    Service::BOTH.into_iter().for_each(|service| drop(house.stop(service).expect_code(0)));
}

/// The kernel has booted anew, for all that see the file in the place of its boot id.
fn boot(settings: &Settings, random: &mut Random) {
    fs::write(&settings.boot_id, format!("{}\n", random.uuid())).expect("a boot id");
}

fn start(house: &mut House, random: &mut Random) {
    for service in Service::BOTH {
        let kib = CHECKPOINT_KIB[random.below(CHECKPOINT_KIB.len() as u64) as usize];
        house.start_prepared(service, |command| {
            command.args(["--checkpoint-kib", kib]);
        });
    }
}

/// Has users act by HTTP, cuts the power, and has it back; what they were told.
fn load_until_cut(
    house: &mut House,
    image: &mut Image,
    random: &mut Random,
    report: &mut Report,
) -> Vec<Pair> {
    let mut gateway = Gateway::open(house);
    let off = AtomicBool::new(false);
    let (first, pause) = (report.cuts * CLIENTS, LOAD_MS.start + random.below(LOAD_MS.end - LOAD_MS.start));
    let users = (0..CLIENTS).map(|client| ((1 + first + client) * 1_000_000, random.any()));
    let place = gateway.place.clone();
    std::thread::scope(|scope| {
        let (place, off) = (&place, &off);
        let clients: Vec<_> =
            users.map(|(user, seed)| scope.spawn(move || act_on(place, off, user, seed))).collect();
        std::thread::sleep(Duration::from_millis(pause));
        Service::BOTH.into_iter().for_each(|service| house.freeze(service));
        gateway.running().signal(Signal::STOP);
        eventually("a gateway that stands", || gateway.running().is_stopped().then_some(()));
        let (written, copy) = (stored(house), image.copy());
        off.store(true, Ordering::Relaxed);
        gateway.kill();
        Service::BOTH.into_iter().for_each(|service| house.kill(service));
        image.go_on_with(&copy);
        report.lost += u64::from(stored(house) != written);
        let told = clients.into_iter().map(|client| client.join());
        told.flat_map(|pairs| pairs.unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    })
}

/// What stands in both stores and in the journal.
fn stored(house: &House) -> [BTreeMap<PathBuf, u32>; 3] {
    [house.data(Service::Article), house.data(Service::User), house.journal()].map(|place| contents(&place))
}

/// Acts for one user after the other until the power is off.
fn act_on(place: &Place, off: &AtomicBool, first_user: u64, seed: u64) -> Vec<Pair> {
    let mut random = Random::of(seed);
    let mut pairs = Vec::new();
    while !off.load(Ordering::Relaxed) {
        let mut pair = Pair::new(first_user + pairs.len() as u64, 1 + random.below(ARTICLES));
        for _ in 0..=random.below(ACTS_MAX) {
            let act = if pair.stands == Stands::NotLiked { "like" } else { "unlike" };
            let key = random.percent(50).then(|| random.uuid());
            match pair.request(act, key.as_deref()).send(place) {
                // A machine that stands still may cost an act its time; then nothing is certain either.
                Ok(answer) if !matches!(answer.status, 202 | 500 | 503) => {
                    pair.done(act, key, answer.expect(200).json());
                }
                Ok(_) | Err(_) => {
                    pair.stands = Stands::Unknown;
                    break;
                }
            }
        }
        pairs.push(pair);
    }
    pairs
}

/// Finishes what was under way; how many sagas that were.
fn recover(house: &House) -> u64 {
    house.json(&["--timeout", "60s", "recover"])["recovered"].as_u64().expect("a number")
}

/// What must hold once everything that was left is recovered.
fn check(house: &House, pairs: &[Pair], random: &mut Random) {
    promises::nothing_is_left(house);
    promises::no_drift(house);
    pair::all_stand(house, pairs);
    let with_keys: Vec<_> = pairs.iter().filter(|pair| pair.has_keys()).collect();
    for _ in 0..KEYS_ASKED_AGAIN.min(with_keys.len()) {
        with_keys[random.below(with_keys.len() as u64) as usize].check_keys(house);
    }
}
