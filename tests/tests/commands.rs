//! `likectl` and daemons where a path is mistyped or a service goes away, its tables, and the demo, told to a script.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use like_tests::house::{House, Service, written_in};
use like_tests::process::{Ended, Running, eventually, program};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// A `likectl` of this house with another journal.
fn with_journal(house: &House, journal: &Path, arguments: &[&str]) -> Ended {
    let journal = journal.to_str().expect("a path");
    let mut command = program(house.program(), "likectl");
    for service in Service::BOTH {
        command.arg(format!("--{}-socket", service.role())).arg(house.socket(service));
    }
    Ended::of(command.args(["--json", "--journal", journal]).args(arguments))
}

/// The error that it ended with.
fn error(ended: &Ended) -> Value {
    ended.error()["error"].clone()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_data_directory_that_is_named_as_the_journal_is_refused_and_left_alone() {
    let house = House::with_article(PROGRAM);
    for service in Service::BOTH {
        let data = house.data(service);
        let before = names(&data);
        let commands: [&[&str]; 4] = [
            &["like", "1", "--user", "7"],
            &["recover"],
            &["check"],
            &["bench", "--likes", "1", "--concurrency", "1"],
        ];
        for arguments in commands {
            let refused = error(&with_journal(&house, &data, arguments).expect_code(4));
            assert_eq!(refused["kind"], "invalid");
            let message = refused["message"].as_str().expect("a message");
            assert!(message.contains("is a daemon's data directory, not a journal"), "{message}");
        }
        assert_eq!(names(&data), before);
    }
    assert_eq!(house.likes(1), 0);
}

#[test]
fn a_journal_that_is_named_as_a_data_directory_is_refused_and_left_alone() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    for service in Service::BOTH {
        let mut command = program(house.program(), service.program());
        command.arg("--socket").arg(house.path().join("other.sock")).arg("--data").arg(house.journal());
        let refused = Ended::of(&mut command).expect_code(1);
        assert!(refused.stderr.contains("is not empty and holds no store"), "{}", refused.stderr);
        assert_eq!(names(&house.journal()), ["0"]);
    }
}

#[test]
fn a_table_fits_into_80_columns_with_the_largest_ids_and_the_longest_titles() {
    let house = House::open(PROGRAM);
    let (most, title) = (u64::MAX.to_string(), "title ".repeat(42));
    house.json(&["article", "create", "--id", &most, &title]);
    house.json(&["like", &most, "--user", &most]);
    let tables: [&[&str]; 4] =
        [&["article", "list"], &["article", "likers", &most], &["user", "likes", &most], &["saga", "list"]];
    for arguments in tables {
        let told = house.likectl(arguments).expect_code(0).stdout;
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    }
}

#[test]
fn a_benchmark_without_a_service_begins_nothing() {
    let mut house = House::open(PROGRAM);
    house.kill(Service::User);
    let refused = house.likectl(&["--json", "bench", "--likes", "1000", "--concurrency", "1"]).expect_code(8);
    assert_eq!(error(&refused)["kind"], "unavailable");
    assert_eq!(house.json(&["article", "list"]), json!([]));
}

/// A benchmark that gives each like so long, at work on more likes than it comes to.
fn benchmark(house: &House, timeout: &str) -> Running {
    let words = ["--json", "--timeout", timeout, "bench", "--concurrency", "8", "--likes", "1000000"];
    let bench = Running::start(&mut house.command(&words));
    eventually("a benchmark at work", || (written_in(&house.journal()) > 100_000).then_some(()));
    bench
}

#[test]
fn a_benchmark_whose_service_goes_away_ends_what_it_began_and_tells_what_it_measured() {
    let mut house = House::open(PROGRAM);
    let bench = benchmark(&house, "1s");
    house.kill(Service::User);
    let ended = bench.end();
    let (measured, error) = (ended.json(), error(&ended));
    let number = |name: &str| measured[name].as_u64().expect("a number");
    assert!(number("done") > 0 && (1..=8).contains(&number("failed")), "{measured}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("the benchmark stopped: the user service at "), "{message}");
    match ended.code() {
        Some(8) => assert_eq!(error["kind"], "unavailable"),
        Some(6) => assert_eq!(error["kind"], "unfinished"),
        other => panic!("{other:?}: {error}"),
    }
}

#[test]
fn a_benchmark_whose_service_answers_no_more_stops_though_the_service_keeps_its_connection() {
    let mut house = House::open(PROGRAM);
    let bench = benchmark(&house, "1s");
    house.freeze(Service::User);
    let ended = bench.end().expect_code(6);
    let (measured, error) = (ended.json(), error(&ended));
    let number = |name: &str| measured[name].as_u64().expect("a number");
    assert!(number("done") > 0 && (1..=8).contains(&number("failed")), "{measured}");
    assert_eq!(error["kind"], "unfinished");
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the benchmark stopped: saga ") && message.contains("unfinished"),
        "{message}"
    );
    house.kill(Service::User);
}

#[test]
fn a_benchmark_that_is_interrupted_ends_what_it_began_and_tells_what_it_measured() {
    let house = House::open(PROGRAM);
    let bench = benchmark(&house, "10s");
    bench.signal(Signal::INT);
    let ended = bench.end().expect_code(130);
    let (measured, why) = (ended.json(), error(&ended));
    let done = measured["done"].as_u64().expect("a number");
    assert!(done > 0 && measured["failed"] == 0, "{measured}");
    assert_eq!(
        (&why["kind"], &why["message"]),
        (&json!("interrupted"), &json!("the benchmark was interrupted"))
    );
    let log = &house.json(&["status"])["log"];
    assert_eq!((&log["unfinished"], &log["unsettled"]), (&json!(0), &json!(0)), "{log}");

    // Who insists is not kept waiting for a service that says nothing.
    let mut bench = benchmark(&house, "10m");
    eventually("likes under way", || (house.json(&["status"])["log"]["unfinished"] != 0).then_some(()));
    house.freeze(Service::User);
    // All may have been at the checks before their sagas, which a service that says nothing does not keep them from for long.
    let unfinished = || house.json(&["saga", "list", "--state", "running"]) != json!([]);
    eventually("likes that can't go on", || unfinished().then_some(()));
    eventually("its end", || {
        bench.signal(Signal::INT);
        bench.has_ended().then_some(())
    });
    let why = error(&bench.end().expect_code(130));
    let message = why["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the benchmark was interrupted; ") && message.contains("unfinished"),
        "{message}"
    );
    house.thaw(Service::User);
}

#[test]
fn a_benchmark_whose_log_can_not_be_written_any_more_stops_too() {
    let house = House::open(PROGRAM);
    let bench = benchmark(&house, "10s");
    let limit = Rlimit { current: Some(1 << 20), maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(bench.process()), Resource::Fsize, limit).expect("its files can be limited");
    let ended = bench.end().expect_code(6);
    let (measured, error) = (ended.json(), error(&ended));
    let number = |name: &str| measured[name].as_u64().expect("a number");
    assert!(number("done") > 0 && (1..=8).contains(&number("failed")), "{measured}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("the benchmark stopped: the saga log can't be written"), "{message}");
}

#[test]
fn a_demo_for_scripts_is_one_document_of_what_was_done_and_what_came_of_it() {
    let mut command: Command = program(Path::new(PROGRAM), "likectl");
    let told = Ended::of(command.args(["--json", "demo"])).expect_code(0);
    assert_eq!((told.stdout.lines().count(), told.stderr.as_str()), (1, ""));
    let document = told.json();
    let chapters = document["chapters"].as_array().expect("chapters");
    assert_eq!(chapters.len(), 5);
    let result = |chapter: &Value, what: &str| {
        let steps = chapter["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["what"] == what);
        step.map(|step| step["result"].clone()).expect("such a step")
    };
    assert_eq!(result(&chapters[0], "likectl like 1 --user 9")["current_likes"], 3);
    assert_eq!(result(&chapters[2], "kill -9 $(pidof like-userd)"), Value::Null);
    assert_eq!(result(&chapters[3], "likectl recover")["completed"], 1);
    assert_eq!(result(&chapters[4], "likectl audit")["drift"], json!([]));
    assert_eq!(result(&chapters[4], "likectl article likers 1").as_array().map(Vec::len), Some(3));
}

#[test]
fn a_demo_that_is_interrupted_says_so_whatever_becomes_of_its_children() {
    for _ in 0..10 {
        let mut command = program(Path::new(PROGRAM), "likectl");
        let demo = Running::start(command.args(["--json", "demo"]).process_group(0));
        // Ctrl-C reaches all of a terminal's foreground. Here the demo looks up once it has all happened.
        eventually("a demo at work", || (children(demo.pid()).len() > 2).then_some(()));
        demo.signal(Signal::STOP);
        eventually("a demo that is stopped", || demo.is_stopped().then_some(()));
        kill_process_group(demo.process(), Signal::INT).expect("the group is there");
        eventually("its children to end", || {
            children(demo.pid()).iter().all(|child| stat(child).contains(") Z ")).then_some(())
        });
        demo.signal(Signal::CONT);
        assert_eq!(error(&demo.end().expect_code(130))["kind"], "interrupted");
    }
}

#[test]
fn a_demo_whose_terminal_is_closed_leaves_nothing_behind() {
    let mut command = program(Path::new(PROGRAM), "likectl");
    let temporary = tempfile::tempdir().expect("a directory");
    let demo = Running::start(command.args(["--json", "demo"]).env("TMPDIR", temporary.path()));
    let at_work =
        eventually("a demo at work", || Some(children(demo.pid())).filter(|children| children.len() > 1));
    demo.signal(Signal::HUP);
    assert_eq!(error(&demo.end().expect_code(130))["kind"], "interrupted");
    assert!(at_work.iter().all(|child| stat(child).is_empty()), "{at_work:?}");
    let left = fs::read_dir(temporary.path()).expect("a directory").count();
    assert_eq!(left, 0);
}

fn children(pid: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

fn stat(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

#[test]
fn an_empty_part_of_a_list_is_not_called_an_empty_list() {
    let house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    let lists: [(&[&str], &str); 4] = [
        (&["article", "list"], "no articles"),
        (&["article", "likers", "1"], "nobody likes"),
        (&["user", "likes", "7"], "likes nothing"),
        (&["saga", "list"], "no sagas"),
    ];
    for (list, lie) in lists {
        let ended = house.likectl(&[list, &["--limit", "0"]].concat());
        let (code, said) = (ended.code(), ended.stderr);
        assert!(code == Some(0) && !said.is_empty() && !said.contains(lie), "{list:?}: {said}");
    }
    let nobody = house.likectl(&["user", "likes", "8"]);
    assert!(nobody.stderr.contains("likes nothing"), "{}", nobody.stderr);
}

#[test]
fn sagas_are_listed_oldest_first_and_a_part_of_them_is_the_part_that_was_asked_for() {
    let house = House::with_article(PROGRAM);
    ["7", "8", "9"].iter().for_each(|user| drop(house.json(&["like", "1", "--user", user])));
    let listed = |part: &[&str]| {
        let list = house.json(&[&["saga", "list"], part].concat());
        let sagas = list.as_array().expect("a list").iter();
        sagas.map(|saga| saga["saga_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let all = listed(&[]);
    assert!(all.len() == 3 && all.is_sorted(), "{all:?}");
    assert_eq!(listed(&["--limit", "2"]), all[..2]);
    assert_eq!(listed(&["--limit", "1", "--after", &all[0]]), all[1..2]);
    assert_eq!(listed(&["--state", "completed"]), all);
    assert_eq!(listed(&["--needs-attention"]), [""; 0]);
}
