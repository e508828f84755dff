//! What has no peer to be compared with: a new process, a takeover, a recovery, and doing nothing.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use like_client::likes;
use like_client::likes::acts::LIKE;
use like_client::log;
use like_client::saga::{Begun, Event, ParticipantAt, PlannedStep};
use like_protocol::ids::SagaId;
use like_protocol::likes::user::LikeTarget;
use like_protocol::likes::{ArticleId, UserId};
use like_tests::house::written_in;
use like_tests::process::{PATIENCE, Running, eventually};

use crate::Programs;
use crate::sides::{House, TIMEOUT, target};

/// A runner that has written so much is at work.
const WORK_BYTES: u64 = 16 * 1024;

/// How recovering went.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// How many unfinished sagas there were.
    pub sagas: usize,
    /// In how long all of them had ended and were settled.
    pub seconds: f64,
    /// The most memory that the process held.
    pub peak_mib: f64,
}

/// What daemons that do nothing cost.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Resident memory of the larger one.
    pub mib: f64,
    /// How often any thread of both was woken, per minute.
    pub wake_ups_per_minute: f64,
}

/// How long new `likectl like` processes take, in milliseconds each.
pub fn new_processes(programs: &Programs, how_many: usize) -> Vec<f64> {
    let house = House::start(programs);
    let like = |user: usize| {
        let (user, began) = (user.to_string(), Instant::now());
        let liked = house.likectl("journal", &["like", "1", "--user", &user]).output().expect("likectl");
        assert!(liked.status.success(), "{}", String::from_utf8_lossy(&liked.stderr));
        began.elapsed().as_secs_f64() * 1000.0
    };
    like(0);
    (1..=how_many).map(like).collect()
}

/// From `kill -9` of a runner with sagas in flight until a watcher has ended them all, in milliseconds each.
pub fn takeovers(programs: &Programs, how_many: usize) -> Vec<f64> {
    let house = House::start(programs);
    (0..how_many).map(|number| takeover(&house, number)).collect()
}

/// One takeover, in a journal of its own.
fn takeover(house: &House, number: usize) -> f64 {
    let journal = format!("takeover-{number}");
    let mut watcher = Running::start(&mut house.likectl(&journal, &["recover", "--watch"]));
    let lines = watcher.lines();
    eventually("a watcher", || house.journal(&journal).is_dir().then_some(()));
    let bench = ["bench", "--likes", "1000000", "--concurrency", "8"];
    let runner = Running::start(&mut house.likectl(&journal, &bench));
    let enough = WORK_BYTES + number as u64 % 7 * 1024;
    eventually("a runner at work", || (written_in(&house.journal(&journal)) > enough).then_some(()));
    let killed = Instant::now();
    runner.kill();
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("the watcher tells of it");
        let notice: serde_json::Value = serde_json::from_str(&line).expect("a notice");
        if notice["event"] == "let_go" {
            assert_eq!(notice["unfinished"], 0, "{notice}");
            return killed.elapsed().as_secs_f64() * 1000.0;
        }
    }
}

/// How `likectl recover` ends so many sagas, of which only the beginning stands in a dead runner's log.
pub fn recovery(programs: &Programs, sagas: usize) -> Recovered {
    let house = House::start(programs);
    begin_and_die(&house, sagas);
    let began = Instant::now();
    let mut command = house.likectl("journal", &["--timeout", "10m", "recover"]);
    let mut recover = command.stdout(Stdio::null()).spawn().expect("likectl");
    let mut peak_mib = 0.0_f64;
    let status = loop {
        peak_mib = peak_mib.max(status_mib(recover.id(), "VmHWM").unwrap_or(0.0));
        if let Some(status) = recover.try_wait().expect("a child") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.success(), "not recovered: {status}");
    assert_eq!(house.counted(), sagas as u64, "likes are lost");
    Recovered { sagas, seconds, peak_mib }
}

/// Writes the beginnings of sagas, as a runner would that dies before their first request leaves.
fn begin_and_die(house: &House, sagas: usize) {
    let context = house.context("journal");
    let stores = house.block_on(async {
        let mut participants = Vec::new();
        for remote in context.participants.all() {
            let welcome = remote.connect(PATIENCE).await.expect("a daemon").welcome().clone();
            participants.push(ParticipantAt { role: welcome.role.into(), store: Some(welcome.store) });
        }
        participants
    });
    let definition = likes::definitions().newest(LIKE.kind).expect("the like saga").clone();
    let planned = definition.steps().iter().enumerate().map(|(number, step)| PlannedStep {
        name: step.name.into(),
        participant: stores.iter().position(|at| at.role == step.role).expect("its service") as u8,
        number: number as u8,
    });
    let steps: Vec<_> = planned.collect();
    let lock = context.journal.claim_free().expect("a slot");
    let log = log::take_over(lock, log::Keeping::default()).expect("a log").log;
    let mut position = log.appended();
    for number in 0..sagas as u64 {
        let (article, user) = target(number);
        let target = LikeTarget { user: UserId(user), article: ArticleId(article), key: None };
        let begun = Begun {
            kind: definition.kind().into(),
            version: definition.version(),
            params: LIKE.params(&target).expect("parameters"),
            steps: steps.clone(),
            participants: stores.clone(),
            deadline: context.clock.now().deadline_in(Duration::from_secs(1800)),
            by_uid: 0,
        };
        position = log.append(SagaId::generate(), [Event::Begun(begun.into())]).expect("a record");
    }
    house.block_on(log.durable(position)).expect("a sync");
    log.let_go();
}

/// Daemons that have done something, and now do nothing: once it was collected, which is soon after its deadlines.
pub fn idle(programs: &Programs, length: Duration) -> Idle {
    let mut house = House::start(programs);
    house.sagas(16, Duration::from_millis(200));
    std::thread::sleep(2 * TIMEOUT);
    let pids = house.pids();
    let woken = || pids.iter().map(|pid| wake_ups(*pid)).sum::<u64>();
    let before = woken();
    std::thread::sleep(length);
    let wake_ups_per_minute = (woken() - before) as f64 * 60.0 / length.as_secs_f64();
    let mib = pids.iter().map(|pid| status_mib(*pid, "VmRSS").expect("a daemon")).fold(0.0, f64::max);
    Idle { mib, wake_ups_per_minute }
}

/// How often threads of a process have gone to sleep so far.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let of = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(|task| of(fs::read_to_string(task.path().join("status")).unwrap_or_default())).sum()
}

pub fn status_mib(pid: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
