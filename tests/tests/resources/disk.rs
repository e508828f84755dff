//! A daemon's disk that fills up, or the journal's: a small file system in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use like_daemon::store::data_dir::DataDir;
use like_daemon::store::runs::Shape;
use like_daemon::store::seal::seal;
use like_daemon::store::{Key, LoggedStore, Store};
use like_protocol::failpoint::Failpoint;
use like_tests::gateway::Gateway;
use like_tests::house::{House, Service, in_time};
use like_tests::process::{Armed, Ended, Fault, Running, eventually, last_words};
use like_tests::promises;
use serde_json::{Value, json};

use super::{PROGRAM, log, say};

/// How large the file system is. An eighth of it is the daemon's reserve for sagas, a quarter that for a checkpoint and a start.
const DISK_BYTES: u64 = 48 * 1024 * 1024;

/// How much is left where merges must not take it: enough for a start, and far less than a merge of the runs below writes.
const LEFT_BYTES: u64 = 4 * 1024 * 1024;

/// So many runs are merged into one.
const RUNS: usize = Shape::USUAL.fan_in;

/// How many rows each of them has. With a hundred bytes in each, all of them are 3.5 MB, for whose merge 8.5 MB are wanted.
const ROWS: usize = 8_000;

/// A process that holds a small file system on which nobody else looks, and the way to it.
struct SmallDisk {
    holder: Running,
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one over `at`; nothing where that is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        let ready = at.with_extension("ready");
        let mount = format!(
            "mount -t tmpfs -o size={DISK_BYTES} tmpfs {0} && touch {1} && exec sleep 600",
            at.display(),
            ready.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]);
        let mut holder = Running::start(command.stdin(Stdio::null()));
        let up = eventually("a file system, or its refusal", || {
            if ready.exists() {
                return Some(true);
            }
            holder.has_ended().then_some(false)
        });
        up.then(|| Self { holder, at: at.to_owned() })
    }

    /// Lets a command run where the file system is seen.
    fn enter(&self, command: &mut Command) {
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let environment: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        *command = Command::new("nsenter");
        command.arg("--preserve-credentials").arg("--user").arg("--mount");
        command.arg(format!("--target={}", self.holder.pid())).arg("--").arg(program).args(arguments);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// The file system as this process sees it.
    fn seen(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(inside)
    }

    /// How much is free on it.
    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.seen()).expect("the file system");
        stat.f_bavail * stat.f_frsize
    }

    /// Fills it until no more than so many bytes are free.
    fn fill(&self, leave: u64) {
        let fill = usize::try_from(self.free_bytes().saturating_sub(leave)).expect("a small disk");
        fs::write(self.seen().join("something-else"), vec![1; fill]).expect("there is room for it");
    }

    fn free(&self) {
        fs::remove_file(self.seen().join("something-else")).expect("it is there");
    }
}

fn say_not_run() {
    say("NOT RUN: no file system can be mounted here, not even in a namespace of one's own");
}

/// A house whose article daemon has a small disk, and makes a checkpoint for every KiB of its commit log: space is allotted
/// to a segment ahead, so it is at a checkpoint that a full disk is met. Nothing where that can't be had.
fn house() -> Option<(House, SmallDisk)> {
    let mut house = House::closed(PROGRAM);
    let data = house.data(Service::Article);
    fs::create_dir(&data).expect("a directory");
    let Some(disk) = SmallDisk::mount(&data) else {
        say_not_run();
        return None;
    };
    house.start_prepared(Service::Article, |command| {
        disk.enter(command);
        command.args(["--checkpoint-kib", "1"]);
    });
    house.start(Service::User);
    house.article(1);
    Some((house, disk))
}

/// A house whose journal is on a small disk, and where somebody likes article 1. Nothing where that can't be had.
fn house_with_a_small_journal() -> Option<(House, SmallDisk)> {
    let house = House::with_article(PROGRAM);
    let at = house.path().join("small");
    fs::create_dir(&at).expect("a directory");
    let Some(disk) = SmallDisk::mount(&at) else {
        say_not_run();
        return None;
    };
    std::os::unix::fs::symlink(disk.seen(), house.journal()).expect("a journal elsewhere");
    house.json(&["like", "1", "--user", "7"]);
    Some((house, disk))
}

/// Nobody who only reads meets a full disk; but where no saga can begin or be recovered, somebody must be told.
#[test]
fn a_journal_without_room_is_told_by_who_only_reads_it() {
    let Some((house, disk)) = house_with_a_small_journal() else { return };
    let gateway = Gateway::open(&house);
    let told = || {
        let check = house.likectl(&["--json", "check"]);
        let all_well = house.likectl(&["check"]).stdout.contains("no saga needs an operator");
        assert_eq!(all_well, check.code() == Some(0), "people are told the same");
        let top = house.json(&["top", "--once"])["journal_problems"].clone();
        let status = house.json(&["status"])["log"]["lacks_room"].clone();
        (check, [json!([status]), top, gateway.get("/overview").expect(200).json()["problems"].clone()])
    };
    let (check, elsewhere) = told();
    assert!(check.code() == Some(0) && check.json()["lacks_room"] == Value::Null, "{check:?}");
    assert_eq!(elsewhere, [json!([null]), json!([]), json!([])]);

    disk.fill(100 * 1024);
    let seen = eventually("a look after the disk was filled", || {
        let (check, elsewhere) = told();
        let why = check.json()["lacks_room"].clone();
        (!why.is_null() && elsewhere[2] == json!([why])).then_some((check, elsewhere))
    });
    let (check, elsewhere) = seen;
    let why = check.json()["lacks_room"].clone();
    assert!(why.as_str().expect("words").contains(" KiB free"), "{why}");
    assert_eq!((check.code(), &check.error()["error"]["kind"]), (Some(7), &json!("needs_attention")));
    assert_eq!(check.error()["error"]["message"], why);
    elsewhere.iter().for_each(|told| assert_eq!(*told, json!([why])));
    disk.free();
    house.likectl(&["check"]).expect_code(0);
}

/// A saga that is refused for want of space is written like any other: it would take from what the stores keep back.
#[test]
fn below_the_journals_reserve_no_saga_begins_and_what_has_begun_is_finished() {
    let Some((house, disk)) = house_with_a_small_journal() else { return };
    let halves = ["8", "9"].map(|user| half_a_like(&house, user));
    disk.fill(DISK_BYTES * 3 / 8 - 512 * 1024);
    let free_bytes = disk.free_bytes();
    for user in 10..40 {
        let refused = house.likectl(&["--json", "like", "1", "--user", &user.to_string()]).expect_code(5);
        let error = &refused.error()["error"];
        assert_eq!((&error["kind"], &error["saga_id"]), (&json!("storage"), &Value::Null), "{refused:?}");
    }
    let articles = || house.json(&["article", "list"]);
    let before = articles();
    let refused = house.likectl(&["--json", "bench", "--likes", "9", "--concurrency", "1"]).expect_code(5);
    assert_eq!(refused.error()["error"]["kind"], "storage", "{refused:?}");
    assert_eq!(articles(), before, "a benchmark that can't be begun has created none");
    let taken_bytes = free_bytes.saturating_sub(disk.free_bytes());
    assert!(taken_bytes < 64 * 1024, "thirty of them took {taken_bytes} bytes");
    let rule = house.likectl(&["--json", "like", "1", "--user", "7"]).expect_code(4);
    assert_eq!(rule.error()["error"]["kind"], "already_liked", "what a rule forbids is told first");
    undo_one_and_do_the_other(&house, halves);
    let gateway = Gateway::open(&house);
    let refused = gateway.like(1, 10).expect(503).json();
    assert_eq!((&refused["kind"], &refused["saga_id"]), (&json!("storage"), &Value::Null), "{refused}");
    // It passes, without a restart.
    disk.free();
    gateway.like(1, 10).expect(200);
    house.json(&["like", "1", "--user", "11"]);
    promises::kept(&house);
}

/// A runner can't even begin its log then. Nothing was begun: it is told as where little is left.
#[test]
fn where_nothing_is_left_for_the_journal_a_like_is_refused_for_want_of_space() {
    let Some((house, disk)) = house_with_a_small_journal() else { return };
    disk.fill(0);
    for act in ["like", "unlike"] {
        let refused = house.likectl(&["--json", act, "1", "--user", "7"]).expect_code(5);
        let error = &refused.error()["error"];
        assert_eq!((&error["kind"], &error["saga_id"]), (&json!("storage"), &Value::Null), "{refused:?}");
    }
    disk.free();
    house.json(&["unlike", "1", "--user", "7"]);
    promises::kept(&house);
}

/// A like that stops when its steps are done, and its log doesn't say so yet.
fn half_a_like(house: &House, user: &str) -> Running {
    let mut command = house.command(&["--json", "like", "1", "--user", user]);
    let fault = Fault::Stop(Failpoint::ActionOutcomeAppended, 1);
    let armed = Armed::arm(&mut command, house.path(), &[fault]);
    let like = Running::start(&mut command);
    eventually("a runner in the middle", || like.is_stopped().then_some(()));
    assert!(armed.all_fired());
    like
}

/// Of two halves of likes, besides one whole, one is undone by recovery and one done.
fn undo_one_and_do_the_other(house: &House, [one, other]: [Running; 2]) {
    one.kill();
    house.likectl(&["--json", "recover", "--compensate"]).expect_code(0);
    other.kill();
    house.likectl(&["--json", "recover"]).expect_code(0);
    assert_eq!(house.likes(1), 2, "one was undone, one done: its steps had been done before");
}

#[test]
fn below_the_reserve_nothing_new_begins_and_what_has_begun_can_end() {
    let Some((house, disk)) = house() else { return };
    house.json(&["like", "1", "--user", "7"]);
    let halves = ["8", "9"].map(|user| half_a_like(&house, user));
    disk.fill(DISK_BYTES / 8 - 512 * 1024);
    in_time("a like that is refused", Duration::from_secs(1), |timeout| {
        let refused = house.likectl(&["--json", "--timeout", timeout, "like", "1", "--user", "10"]);
        let kind = refused.error()["error"]["kind"].clone();
        // Without an answer before the deadline nobody knows of the disk.
        assert!(matches!(kind.as_str(), Some("storage" | "compensated" | "unavailable")), "{refused:?}");
        (kind == "storage").then(|| refused.expect_code(5))
    });
    assert!(log(&house, "article").contains("little disk space"), "the daemon says so");
    let status = house.json(&["status"]);
    assert_eq!(status["services"][0]["storage_low"], true, "{status}");
    // Reads go on, and so do compensating and settling.
    assert_eq!(house.likes(1), 3);
    undo_one_and_do_the_other(&house, halves);
    promises::no_drift(&house);
    promises::nothing_is_left(&house);
    // It passes, without a restart.
    disk.free();
    house.json(&["like", "1", "--user", "10"]);
    promises::kept(&house);
}

/// Puts four runs into a store that is to be merged into one as soon as somebody serves it: more than is free while it is full.
fn add_runs(data: &Path) {
    let data = DataDir::open(data, Service::Article.role(), false).expect("a store that nobody serves");
    let shape = Shape { fan_in: usize::MAX, ..Shape::USUAL };
    let mut store = LoggedStore::open_with(data, 1, shape).expect("it opens");
    let runs_before = store.runs().runs.len();
    for run in 1..=RUNS {
        // No row of the domain's: it looks at none with such a key.
        let key = |row: usize| [&[0x70][..], &(row * RUNS + run).to_be_bytes()].concat();
        let rows =
            (0..ROWS).map(key).map(|key| (Key::from_slice(&key), Some(seal(&key, [0x5a; 100])))).collect();
        store.apply(rows).expect("there is room");
        eventually("another run", || {
            store.sync().expect("there is room");
            (store.runs().runs.len() == runs_before + run).then_some(())
        });
    }
}

#[test]
fn below_the_reserve_nothing_is_merged_and_what_has_begun_can_end() {
    let Some((mut house, disk)) = house() else { return };
    house.json(&["like", "1", "--user", "7"]);
    let halves = ["8", "9"].map(|user| half_a_like(&house, user));
    house.stop(Service::Article).expect_code(0);
    add_runs(&disk.seen());
    disk.fill(LEFT_BYTES);
    house.start_prepared(Service::Article, |command| disk.enter(command));
    undo_one_and_do_the_other(&house, halves);
    promises::nothing_is_left(&house);
    let free_bytes = disk.free_bytes();
    assert!(free_bytes > LEFT_BYTES / 2, "{free_bytes} bytes are free");
    assert!(log(&house, "article").contains("too little disk space to merge"), "the daemon says so");
    house.stop(Service::Article).expect_code(0);
    house.start_prepared(Service::Article, |command| disk.enter(command));
    // It passes, without a restart.
    disk.free();
    house.json(&["like", "1", "--user", "10"]);
    assert!(log(&house, "article").contains("enough disk space to merge"), "and so does this");
    promises::kept(&house);
}

#[test]
fn a_write_that_fails_for_want_of_space_ends_the_daemon_and_loses_nothing() {
    let Some((mut house, disk)) = house() else { return };
    let mut liked: Vec<u64> = (20..25).collect();
    for user in &liked {
        house.json(&["like", "1", "--user", &user.to_string()]);
    }
    let socket = house.socket(Service::Article);
    fill_behind_its_back(&mut house, &disk, &socket, &mut liked);
    let ended = house.await_death(Service::Article);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let last = last_words(&house.path().join("article.log"));
    assert!(last.contains("check the disk, then start again"), "it says what to do: {last}");
    // Without space it does not come up, and says why; with space it does.
    let mut command = like_tests::process::program(Path::new(PROGRAM), "like-articled");
    command.arg("--socket").arg(&socket).arg("--data").arg(house.data(Service::Article));
    disk.enter(&mut command);
    let refused = Ended::of(&mut command).expect_code(1);
    assert!(refused.stderr.contains("space"), "{refused:?}");
    disk.free();
    house.start_prepared(Service::Article, |command| disk.enter(command));
    promises::kept(&house);
    assert!(liked.iter().all(|user| promises::likes_at_most_once(&house, *user, 1)), "{liked:?}");
    say(&format!("a full disk: {} acknowledged likes are there again", liked.len()));
}

/// Fills the disk to the last byte while likes are under way, until the daemon has met it.
fn fill_behind_its_back(house: &mut House, disk: &SmallDisk, socket: &Path, liked: &mut Vec<u64>) {
    let _ = (socket, &liked);
    let halves: Vec<_> = (100..140).map(|user| half_a_like(house, &user.to_string())).collect();
    disk.fill(0);
    halves.into_iter().for_each(Running::kill);
    // Undoing and settling are let through, and write.
    for _ in 0..50 {
        house.likectl(&["--json", "--timeout", "1s", "recover", "--compensate"]);
        if house.has_died(Service::Article) {
            return;
        }
    }
    panic!("the disk was never full enough");
}
