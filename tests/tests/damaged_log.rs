//! A real log, changed byte by byte and cut everywhere: all of it is found, and costs the saga it hits.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use like_client::likes::Likes;
use like_client::likes::articles::ArticleService;
use like_client::likes::users::UserService;
use like_client::log::record::{Entry, HEADER_BYTES, Place, decode};
use like_client::log::{Journal, JournalError, Keeping, Story, TakenOver, history, take_over, wall_ms};
use like_client::runner::{Options, Runner};
use like_protocol::failpoint::Failpoint;
use like_protocol::ids::SagaId;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::time::{BootClock, Clock};
use like_tests::hostile::ram::{Files, RamDisk};
use like_tests::house::{House, Service, zeros_from};
use like_tests::process::{Armed, Fault, PATIENCE, Running, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

const KEEPING: Keeping = Keeping {
    retention: Duration::from_secs(3600),
    segment_bytes_max: 800,
    merge_bytes_max: 500,
    own_segments_max: usize::MAX,
};

/// A journal as real runners leave it: likes, unlikes, a compensation, rotations, a takeover, a runner that was killed.
fn real_journal() -> RamDisk {
    let mut house = House::with_article(PROGRAM);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let context = house.context_with(Options { keeping: KEEPING, ..Options::default() });
        let remote = |role| context.participants.find(role).expect("a service").clone();
        let articles = ArticleService::new(remote(ARTICLE_ROLE), PATIENCE);
        let users = UserService::new(remote(USER_ROLE), PATIENCE);
        for round in 0..3 {
            let runner = Runner::start(context.clone()).expect("a runner");
            let likes = Likes::new(runner.clone(), articles.clone(), users.clone());
            let timeout = PATIENCE;
            for user in 0..2 {
                let user = UserId(10 * round + user);
                likes.like(user, ArticleId(1), None, timeout).await.expect("a like");
                if user.0.is_multiple_of(2) {
                    likes.unlike(user, ArticleId(1), None, timeout).await.expect("an unlike");
                }
            }
            runner.close(PATIENCE).await;
        }
    });
    house.stop(Service::User).expect_code(0);
    house.likectl(&["--timeout", "300ms", "like", "1", "--user", "77"]);
    house.start(Service::User);
    // One is killed in the middle, in a slot of its own; another one takes it over, and is killed as well.
    let mut command = house.command(&["like", "1", "--user", "99"]);
    let armed = Armed::arm(&mut command, house.path(), &[Fault::Stop(Failpoint::ActionOutcomeAppended, 1)]);
    let like = Running::start(&mut command);
    eventually("a runner that stops in the middle", || like.is_stopped().then_some(()));
    assert!(armed.all_fired());
    house.json(&["like", "1", "--user", "98"]);
    like.kill();
    let boot = BootClock::open().expect("a boot id").now().boot;
    let copy = RamDisk::copy_of(&house.journal(), Some(boot), wall_ms());
    let moved = copy.files().into_iter().map(|(path, bytes)| {
        (
            Path::new("/journal").join(path.strip_prefix(house.journal()).expect("a file of the journal")),
            bytes,
        )
    });
    RamDisk::of(moved.collect(), Some(boot), wall_ms())
}

/// What a journal tells.
#[derive(PartialEq)]
struct Told {
    stories: BTreeMap<SagaId, Story>,
    /// Segment, first byte, byte behind; and sagas that may be hit.
    damage: Vec<(Place, u64, u64, Vec<SagaId>)>,
}

fn journal(disk: &RamDisk) -> Journal {
    Journal::open_on(Arc::new(disk.clone()), Path::new("/journal")).expect("a journal")
}

fn read(disk: &RamDisk) -> Told {
    let history = history::read(&journal(disk)).expect("a journal");
    assert!(history.gaps.skipped.is_empty(), "{:?}", history.gaps.skipped);
    let damage = history.gaps.damage.into_iter().map(|d| (d.place, d.from, d.to, d.sagas)).collect();
    Told { stories: history.sagas.into_iter().map(|(_, story)| (story.saga, story)).collect(), damage }
}

fn place_of(path: &Path) -> Place {
    let number = |path: &Path| path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
    let slot = number(path.parent().expect("a slot")).parse().expect("a number");
    Place { slot, segment: number(path).parse().expect("a number") }
}

/// Where what was written of a segment ends, and what follows is space.
fn end_of(path: &Path, bytes: &[u8]) -> usize {
    records(path, bytes).last().map_or(0, |(_, to, _)| *to)
}

/// The records of a segment: where each begins and ends, and whose it is.
fn records(path: &Path, bytes: &[u8]) -> Vec<(usize, usize, Option<SagaId>)> {
    let mut at = HEADER_BYTES;
    let mut found = vec![(0, HEADER_BYTES, None)];
    while let Some(record) = decode(place_of(path), bytes, at) {
        let saga = if let Entry::Saga(record) = &record.entry { Some(record.saga) } else { None };
        found.push((at, at + record.bytes, saga));
        at += record.bytes;
    }
    assert!(at >= zeros_from(bytes), "{} is whole", path.display());
    found
}

/// The byte behind the mark that ends a segment's carry-over.
fn mark_of(path: &Path, bytes: &[u8]) -> usize {
    let is_mark =
        |at: usize| decode(place_of(path), bytes, at).is_some_and(|it| it.entry == Entry::CarriedOver);
    let mut marks = records(path, bytes).into_iter().filter(|(from, ..)| is_mark(*from));
    marks.next().map(|(_, to, _)| to).expect("a mark")
}

/// The segment whose number is one less.
fn before(path: &Path) -> PathBuf {
    path.with_file_name(format!("{:08}.log", place_of(path).segment - 1))
}

/// Whether everybody says that nobody knows what was open in the slot of this segment, and leaves it alone.
fn head_is_lost(disk: &RamDisk, path: &Path) -> bool {
    let before = disk.files();
    let history = history::read(&journal(disk)).expect("a journal");
    let skipped =
        |error: &JournalError| matches!(error, JournalError::HeadLost { path: lost } if lost == path);
    let lock = journal(disk).claim(&journal(disk).slots().expect("slots")[place_of(path).slot as usize]);
    let taken = take_over(lock.expect("a slot").expect("its lock"), Keeping::default());
    matches!(&history.gaps.skipped[..], [(_, error)] if skipped(error))
        && taken.is_err_and(|error| skipped(&error))
        && disk.files() == before
}

/// Segment, first byte, byte behind, sagas that may be hit.
type Stretch = (u64, u64, u64, Vec<SagaId>);

/// What a takeover of a slot says is damaged or left behind, and whether its runner let go in good order.
fn taken(disk: &RamDisk, slot: u32) -> (Vec<Stretch>, bool) {
    let copy = RamDisk::of(disk.files(), like_client::log::Disk::boot(disk), wall_ms());
    let journal = journal(&copy);
    let slots = journal.slots().expect("slots");
    let slot = slots.iter().find(|found| found.number() == slot).expect("the slot");
    let lock = journal.claim(slot).expect("a slot").expect("its lock");
    let TakenOver { damage, cut, unclosed, .. } = take_over(lock, Keeping::default()).expect("taken");
    let damage = damage.into_iter().map(|d| (d.place.segment, d.from, d.to, d.sagas));
    let cut = cut.into_iter().map(|c| (c.place.segment, c.from, c.to, c.sagas));
    (damage.chain(cut).collect(), unclosed.is_none())
}

/// The segments of a journal, and of each slot the newest one.
fn segments(files: &Files) -> (Vec<(PathBuf, Vec<u8>)>, BTreeSet<PathBuf>) {
    let newest: BTreeMap<u32, PathBuf> =
        files.keys().map(|path| (place_of(path).slot, path.clone())).collect();
    (files.clone().into_iter().collect(), newest.into_values().collect())
}

fn has_ended(story: &Story) -> bool {
    story.state.as_ref().is_some_and(|state| state.ended().is_some())
}

/// Asserts what one changed record costs.
fn assert_costs(whole: &Told, now: &Told, hit: Option<SagaId>, what: &str) {
    for (saga, story) in &whole.stories {
        let after = now.stories.get(saga);
        if after == Some(story) {
            continue;
        }
        assert_eq!(Some(*saga), hit, "{what} changes another saga: {after:?}, not {story:?}");
        let goes_on = after.is_some_and(|story| !has_ended(story) && !story.is_quarantined());
        assert!(!(has_ended(story) && goes_on), "{what}: an ended saga is open again");
    }
    assert!(now.stories.keys().all(|saga| whole.stories.contains_key(saga)), "{what} invents a saga");
}

#[test]
fn every_changed_byte_of_a_real_log_is_found_and_costs_at_most_the_saga_it_hits() {
    change_every_byte(|at| vec![1 << (at % 8), 1 << ((at + 3) % 8), 0xff]);
}

#[test]
#[ignore = "takes a minute: every bit of every byte"]
fn every_flipped_bit_of_a_real_log_is_found() {
    change_every_byte(|_| (0..8).map(|bit| 1 << bit).collect());
}

#[test]
#[ignore = "takes many minutes: every other value of every byte"]
fn every_other_value_of_every_byte_of_a_real_log_is_found() {
    change_every_byte(|_| (1..=u8::MAX).collect());
}

fn change_every_byte(changes: impl Fn(usize) -> Vec<u8>) {
    let disk = real_journal();
    let (segments, newest) = segments(&disk.files());
    assert!(segments.len() >= 4, "there were rotations and takeovers: {}", segments.len());
    let whole = read(&disk);
    assert!(whole.damage.is_empty() && whole.stories.len() >= 8, "{}", whole.stories.len());
    assert!(whole.stories.values().all(|story| !story.is_quarantined()));
    let (mut changed, mut damage, mut tails) = (0, 0, 0);
    for (path, bytes) in &segments {
        let (place, end) = (place_of(path), end_of(path, bytes));
        for (from, to, saga) in records(path, bytes) {
            for at in from..to {
                for change in changes(at) {
                    let what = format!("{} byte {at} ^ {change:02x} of {from}..{to}", path.display());
                    let mut flipped = bytes.clone();
                    flipped[at] ^= change;
                    let torn_to = zeros_from(&flipped) as u64;
                    disk.put(path, flipped);
                    let now = read(&disk);
                    changed += 1;
                    let here = |(p, first, last, _): &&(Place, u64, u64, Vec<SagaId>)| {
                        *p == place && (*first..*last).contains(&(at as u64))
                    };
                    match now.damage.iter().find(here) {
                        Some((.., sagas)) => {
                            damage += 1;
                            assert_eq!(now.damage.len(), 1, "{what}");
                            assert!(saga.is_none_or(|saga| *sagas == [saga]), "{what}: {sagas:?}");
                            assert_costs(&whole, &now, saga, &what);
                        }
                        None => {
                            // The last record of what nobody has called durable: a torn tail, told by who takes over.
                            assert!(newest.contains(path) && to == end, "{what} is not found");
                            assert!(now.damage.is_empty(), "{what}");
                            let (reported, _) = taken(&disk, place.slot);
                            let cut = (place.segment, from as u64, torn_to);
                            assert!(
                                reported.iter().any(|(s, f, t, _)| (*s, *f, *t) == cut),
                                "{what}: {reported:?}"
                            );
                            let others = |told: &Told| {
                                let others = told.stories.clone().into_iter();
                                others.filter(|(other, _)| Some(*other) != saga).collect::<BTreeMap<_, _>>()
                            };
                            assert!(others(&now) == others(&whole), "{what} changes another saga");
                            tails += 1;
                        }
                    }
                }
            }
        }
        disk.put(path, bytes.clone());
    }
    println!("{changed} changes in {} segments: {damage} called damage, {tails} torn tails", segments.len());
    assert!(damage > 3_000 && tails > 0, "{damage} {tails}");
}

#[test]
fn every_truncation_of_a_real_log_is_found() {
    truncate_everywhere(&|bytes, cut| bytes[..cut].to_vec());
}

#[test]
fn zeros_from_any_byte_of_a_real_log_on_are_found_as_if_it_were_cut_off_there() {
    truncate_everywhere(&|bytes, cut| [&bytes[..cut], &vec![0; bytes.len() - cut]].concat());
}

fn truncate_everywhere(truncated: &dyn Fn(&[u8], usize) -> Vec<u8>) {
    let disk = real_journal();
    let (segments, newest) = segments(&disk.files());
    let whole = read(&disk);
    let (mut history, mut heads, mut lost_heads) = (0, 0, 0);
    for (path, bytes) in &segments {
        let (place, is_newest) = (place_of(path), newest.contains(path));
        let (mark, needs_mark) =
            (mark_of(path, bytes), place.segment > 1 && !disk.files().contains_key(&before(path)));
        let (_, closed) = taken(&disk, place.slot);
        let ends: Vec<_> = records(path, bytes).iter().map(|(_, to, _)| *to).collect();
        let end = end_of(path, bytes);
        for cut in 0..end {
            let what = format!("{} cut to {cut} of {end}", path.display());
            let left = truncated(bytes, cut);
            // A record may end in zeros.
            let lost = bytes.iter().zip(&left).take_while(|(before, now)| before == now).count();
            if left == *bytes {
                continue;
            }
            let left_to = zeros_from(&left) as u64;
            disk.put(path, left);
            if is_newest && needs_mark && lost < mark {
                assert!(head_is_lost(&disk, path), "{what} is not found");
                lost_heads += 1;
                continue;
            }
            let now = read(&disk);
            assert!(now.stories.keys().all(|saga| whole.stories.contains_key(saga)), "{what} invents a saga");
            if !is_newest {
                let named = now.damage.iter().any(|(p, from, to, _)| {
                    *p == place && *from <= lost.max(HEADER_BYTES) as u64 && *to == end as u64
                });
                assert!(named, "{what} is not found: {:?}", now.damage);
                history += 1;
                continue;
            }
            // What is cut off behind a whole record can't be told from what was never written; that a runner did not get to
            // its last word can.
            let (reported, now_closed) = taken(&disk, place.slot);
            let torn = reported
                .iter()
                .any(|(segment, from, to, _)| *segment == place.segment && (*from..=*to).contains(&left_to));
            assert!(torn || ends.contains(&lost) || lost < HEADER_BYTES, "{what} is not found: {reported:?}");
            assert!(!closed || !now_closed, "{what}: said to have been let go in good order");
            for (saga, story) in &now.stories {
                let before = &whole.stories[saga];
                assert!(
                    before.records.starts_with(&story.records) || story.is_quarantined() || has_ended(story)
                );
            }
            heads += 1;
        }
        disk.put(path, bytes.clone());
    }
    println!("{history} truncations of history, {heads} of heads, {lost_heads} that take a head's mark");
    assert!(history > 1000 && heads > 500 && lost_heads > 50);
}

#[test]
fn a_segment_of_history_that_is_gone_or_cannot_be_read_costs_its_own_history_alone() {
    let disk = real_journal();
    let (segments, newest) = segments(&disk.files());
    let whole = read(&disk);
    let mut lost = 0;
    for (path, bytes) in segments.iter().filter(|(path, _)| !newest.contains(path)) {
        let unreadable = RamDisk::of(disk.files(), like_client::log::Disk::boot(&disk), wall_ms());
        unreadable.make_unreadable(path);
        let gone = disk.files().into_iter().filter(|(other, _)| other != path).collect();
        let gone = RamDisk::of(gone, like_client::log::Disk::boot(&disk), wall_ms());
        for damaged in [&unreadable, &gone] {
            let now = read(damaged);
            let named = |(p, from, to, _): &(Place, u64, u64, Vec<SagaId>)| {
                (*p, *from, *to) == (place_of(path), 0, end_of(path, bytes) as u64)
            };
            assert!(matches!(&now.damage[..], [only] if named(only)), "{:?}", now.damage);
            let told_here: BTreeSet<_> = records(path, bytes).iter().filter_map(|(.., saga)| *saga).collect();
            for (saga, story) in &whole.stories {
                let same = now.stories.get(saga) == Some(story);
                assert!(same || told_here.contains(saga), "{saga} is told by another segment");
                lost += usize::from(!same);
            }
        }
        assert!(unreadable.refused() > 0);
    }
    assert!(lost > 0);
}
