//! Whoever waits for a dead runner's slot gets it from the kernel at once, and waits without looking.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use like_protocol::failpoint::Failpoint;
use like_tests::house::{House, Service, in_time};
use like_tests::process::{Armed, Fault, PATIENCE, Running, eventually};
use like_tests::promises;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// How long a killed runner's saga may take to its end, in the median, before this says that nobody was woken: far more than
/// it takes on a machine that has time, far less than any interval at which somebody would look. On one that has none, as long
/// as it takes whoever is started for it, who has more to do. `cargo compare` measures it.
const TAKEOVER_MEDIAN_MAX: Duration = Duration::from_millis(500);

/// How many runners are killed for one median.
const KILLS: usize = 15;

/// How many medians are taken at most: while the machine is busy with other things, one of them says little.
const ROUNDS: usize = 4;

/// A like that stops where its saga is under way: `passage` steps are known to be done.
fn stopped_like(house: &House, user: u64, passage: u32) -> Running {
    let mut command = house.command(&["--json", "like", "1", "--user", &user.to_string()]);
    let fault = Fault::Stop(Failpoint::ActionOutcomeAppended, passage);
    let armed = Armed::arm(&mut command, house.path(), &[fault]);
    let like = Running::start(&mut command);
    eventually("a runner that stops in the middle", || like.is_stopped().then_some(()));
    assert!(armed.all_fired());
    like
}

fn watcher(house: &House) -> (Running, mpsc::Receiver<String>) {
    let mut watcher = Running::start(&mut house.command(&["--json", "recover", "--watch"]));
    let lines = watcher.lines();
    (watcher, lines)
}

/// Waits until the watcher has ended a saga, settled it and let go of its slot.
fn await_end(lines: &mpsc::Receiver<String>) {
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("the watcher takes over");
        let told: Value = serde_json::from_str(&line).expect("a JSON document a line");
        assert_ne!(told["event"], "skipped", "{told}");
        if told["event"] == "let_go" && told["completed"] == 1 {
            return;
        }
    }
}

/// From the SIGKILL of a runner until its saga has ended and its slot is free.
fn takeover(house: &House, lines: &mpsc::Receiver<String>, user: u64) -> Duration {
    let mut like = stopped_like(house, user, 1);
    let killed = Instant::now();
    like.kill_now();
    await_end(lines);
    killed.elapsed()
}

/// The same where nobody watches, and a recovery is started.
fn recovery(house: &House, user: u64) -> Duration {
    let mut like = stopped_like(house, user, 1);
    let killed = Instant::now();
    like.kill_now();
    eventually("the end of a killed runner", || like.has_ended().then_some(()));
    assert_eq!(house.json(&["recover"])["completed"], 1);
    killed.elapsed()
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn a_killed_runners_saga_is_ended_by_who_is_woken_for_it() {
    let [house, unwatched] = [(); 2].map(|()| House::with_article(PROGRAM));
    let (_watcher, lines) = watcher(&house);
    let mut users = 1..;
    let mut medians = Vec::new();
    for _ in 0..ROUNDS {
        // In turns, so that both meet the same load.
        let kills = users.by_ref().take(KILLS);
        let took = kills.map(|user| (takeover(&house, &lines, user), recovery(&unwatched, user)));
        let (woken, started): (Vec<_>, Vec<_>) = took.unzip();
        medians.push((median(woken), median(started)));
        if medians.last().is_some_and(is_prompt) {
            break;
        }
    }
    println!("medians: {medians:?}");
    assert!(medians.iter().any(is_prompt), "{medians:?}");
    assert_eq!(house.likes(1), (medians.len() * KILLS) as u64);
    promises::every_saga_has_ended(&house);
    promises::no_drift(&house);
}

/// Whether who was woken took no longer than it may.
fn is_prompt((woken, started): &(Duration, Duration)) -> bool {
    *woken <= TAKEOVER_MEDIAN_MAX.max(*started)
}

#[test]
fn a_recovery_tells_of_what_needs_an_operator_whoever_drives_it() {
    let house = House::with_article(PROGRAM);
    let like = stopped_like(&house, 7, 1);
    house.freeze(Service::User);
    like.kill();
    let impatient = ["--json", "--attention-after", "1", "recover"];
    house.likectl(&[&impatient[..], &["--compensate"]].concat()).expect_code(7);
    let mut command = house.command(&impatient);
    let armed = Armed::arm(&mut command, house.path(), &[Fault::Stop(Failpoint::CarryDone, 1)]);
    let owner = Running::start(&mut command);
    eventually("an owner that stops", || owner.is_stopped().then_some(()));
    assert!(armed.all_fired());
    let another = house.likectl(&impatient).expect_code(7);
    assert_eq!(another.json()["recovered"], 0, "its owner lives");
    assert_eq!(another.error()["error"]["kind"], "needs_attention");
    house.thaw(Service::User);
    owner.kill();
    house.likectl(&["recover"]).expect_code(0);
    assert_eq!(house.likes(1), 0);
}

#[test]
fn a_recovery_tells_of_what_needs_an_operator_also_if_nobody_drives_it_any_more() {
    let house = House::with_article(PROGRAM);
    let [stuck, unfinished] = [7, 8].map(|user| stopped_like(&house, user, 1));
    house.freeze(Service::User);
    let impatient = ["--json", "--attention-after", "1", "--timeout", "3s", "recover"];
    stuck.kill();
    house.likectl(&[&impatient[..], &["--compensate"]].concat()).expect_code(7);
    // Two recoveries that stop when they have taken a slot over: one has what is stuck, the other what is left.
    let stopped = || {
        let mut command = house.command(&impatient);
        let armed = Armed::arm(&mut command, house.path(), &[Fault::Stop(Failpoint::CarryDone, 1)]);
        let recovery = Running::start(&mut command);
        eventually("a recovery that stops", || recovery.is_stopped().then_some(()));
        assert!(armed.all_fired());
        recovery
    };
    let owner = stopped();
    unfinished.kill();
    let another = stopped();
    owner.kill();
    another.signal(Signal::CONT);
    let another = another.end().expect_code(7);
    assert_eq!((&another.json()["needs_attention"], &another.json()["unfinished"]), (&0.into(), &1.into()));
    assert_eq!(another.error()["error"]["kind"], "needs_attention");
    house.thaw(Service::User);
    house.likectl(&["recover"]).expect_code(0);
}

#[test]
fn whoever_waits_for_a_slot_sleeps() {
    let house = House::with_article(PROGRAM);
    let like = stopped_like(&house, 7, 1);
    let (watcher, lines) = watcher(&house);
    eventually("a watcher that waits for the slot", || waits_for_a_lock(watcher.pid()).then_some(()));
    // Starting up may go on for a moment.
    eventually("a watcher that sleeps for a second", || {
        let before = switches(watcher.pid());
        std::thread::sleep(Duration::from_secs(1));
        (before == switches(watcher.pid())).then_some(())
    });
    like.kill();
    await_end(&lines);
    assert_eq!(house.likes(1), 1);
}

/// How often each thread of a process has given up the processor of its own accord.
fn switches(pid: u32) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let of = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        let count = field("voluntary_ctxt_switches:")?.trim().parse().ok()?;
        Some((format!("{} {}", field("Pid:")?.trim(), field("Name:")?.trim()), count))
    };
    tasks.filter_map(of).collect()
}

/// Whether a process waits for a `flock`. The lines of those who wait have an arrow.
fn waits_for_a_lock(pid: u32) -> bool {
    let locks = fs::read_to_string("/proc/locks").expect("the kernel's locks");
    let pid = pid.to_string();
    locks.lines().any(|line| line.contains("-> FLOCK") && line.split_whitespace().any(|word| word == pid))
}

#[test]
fn whoever_meets_the_lock_of_a_dead_runner_finishes_its_saga() {
    let house = House::with_article(PROGRAM);
    // Two runners die with their records made and locked. The next runner recovers one slot as its own, and finds the
    // other by the lock.
    let dead = [7, 8].map(|user| stopped_like(&house, user, 2));
    dead.into_iter().for_each(Running::kill);
    let answer = house.json(&["unlike", "1", "--user", "8"]);
    assert!(answer["saga_id"].is_string());
    promises::every_saga_has_ended(&house);
    assert!(promises::likes_at_most_once(&house, 7, 1));
    assert!(!promises::likes_at_most_once(&house, 8, 1));
    promises::no_drift(&house);
    assert_eq!(house.likes(1), 1);
}

#[test]
fn an_interrupted_retry_names_the_saga_that_it_leaves_behind() {
    let mut house = House::with_article(PROGRAM);
    stopped_like(&house, 7, 1).kill();
    house.kill(Service::User);
    let saga = house.json(&["saga", "list"])[0]["saga_id"].as_str().expect("an id").to_owned();
    let retry = Running::start(&mut house.command(&["--json", "--timeout", "5m", "saga", "retry", &saga]));
    eventually("an attempt of the retry", || {
        house.json(&["saga", "show", &saga])["steps"][1]["last_failure"].as_str().map(drop)
    });
    retry.signal(Signal::INT);
    let error = &retry.end().expect_code(130).error()["error"];
    assert_eq!(
        (&error["kind"], &error["saga_id"]),
        (&"interrupted".into(), &saga.as_str().into()),
        "{error}"
    );
    house.start(Service::User);
    house.json(&["recover"]);
    promises::kept(&house);
}

#[test]
fn a_stopped_runner_keeps_its_saga_and_is_named() {
    let house = House::with_article(PROGRAM);
    let like = stopped_like(&house, 7, 2);
    let refused = in_time("an unlike that meets the lock", Duration::from_secs(1), |timeout| {
        let refused = house.likectl(&["--json", "--timeout", timeout, "unlike", "1", "--user", "7"]);
        let kind = refused.error()["error"]["kind"].clone();
        // Without an answer before the deadline, or even a hello, nobody knows of a lock.
        assert!(
            matches!(kind.as_str(), Some("locked" | "compensated" | "unfinished" | "unavailable")),
            "{kind}"
        );
        (kind == "locked").then_some(refused)
    });
    let error = &refused.expect_code(5).error()["error"];
    let told = error.to_string();
    assert!(told.contains(&like.pid().to_string()) && told.contains("stopped"), "{told}");
    like.signal(rustix::process::Signal::CONT);
    like.end().expect_code(0);
    promises::kept(&house);
    assert_eq!(house.likes(1), 1);
}
