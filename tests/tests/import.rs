//! `likectl import`: likes in bulk, wherever it is cut short.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use like_tests::house::{House, Service, written_in};
use like_tests::process::{Ended, Running, eventually};
use like_tests::promises;
use rustix::process::Signal;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

/// How many likes an import has that is cut short: some seconds of work.
const MANY: u64 = 4000;

/// Over how many articles.
const ARTICLES: u64 = 3;

/// A house with articles 1 to [`ARTICLES`].
fn house() -> House {
    let house = House::open(PROGRAM);
    for id in 1..=ARTICLES {
        house.likectl(&["article", "create", "--id", &id.to_string(), "an article"]).expect_code(0);
    }
    house
}

fn file(house: &House, name: &str, text: &str) -> PathBuf {
    let path = house.path().join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// A file of likes, no two the same.
fn many(house: &House) -> PathBuf {
    let line = |number: u64| format!("{},{}\n", 100 + number, 1 + number % ARTICLES);
    file(house, "many.csv", &(0..MANY).map(line).collect::<String>())
}

fn import(house: &House, path: &Path, more: &[&str]) -> Ended {
    house.likectl(&[&["--json", "import", path.to_str().expect("a path")], more].concat())
}

fn start(house: &House, path: &Path) -> Running {
    Running::start(&mut house.command(&["--json", "import", path.to_str().expect("a path")]))
}

/// Waits until an import has written so much more.
fn await_progress(house: &House, bytes: u64) {
    let before = written_in(&house.journal());
    eventually("an import at work", || (written_in(&house.journal()) > before + bytes).then_some(()));
}

fn likes(house: &House) -> u64 {
    let articles = house.json(&["article", "list"]);
    articles.as_array().expect("a list").iter().map(|article| article["likes"].as_u64().expect("likes")).sum()
}

/// Every like of [`many`] is there once, and nothing else.
#[track_caller]
fn all_are_there_once(house: &House) {
    promises::kept(house);
    assert_eq!(likes(house), MANY);
}

fn counts(document: &Value) -> [u64; 4] {
    ["lines", "imported", "already_liked", "rejected"].map(|name| document[name].as_u64().expect("a count"))
}

#[test]
fn every_line_is_imported_or_told_with_its_reason() {
    let house = house();
    let text = "when,article_id,user_id\n\
        1,1,7\n\"2\n3\",2,7\n4,1,7\n\n5,99,7\n6,x,7\n7\n8,3,8\n";
    let path = file(&house, "likes.csv", text);
    let rejects = house.path().join("rejects");
    let options = ["--rejects", rejects.to_str().expect("a path")];
    let ended = import(&house, &path, &options).expect_code(4);
    assert_eq!(counts(&ended.json()), [7, 3, 1, 3], "{ended:?}");
    assert_eq!(ended.json()["complete"], true);
    assert_eq!(ended.json()["rejected_by_kind"], json!({ "invalid": 2, "not_found": 1 }));
    assert_eq!(ended.error()["error"]["kind"], "invalid");
    let told = fs::read_to_string(&rejects).expect("rejects");
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let lines: Vec<_> = told.iter().map(|reject| reject["line"].as_u64().expect("a line")).collect();
    assert_eq!(lines, [7, 8, 9]);
    assert_eq!((&told[0]["article"], &told[0]["reason"]), (&json!(99), &json!("there is no article 99")));
    assert_eq!((&told[1]["text"], &told[1]["reason"]), (&json!("6,x,7"), &json!("`x` is no article id")));

    let again = import(&house, &path, &[]).expect_code(4).json();
    assert_eq!(counts(&again), [7, 0, 4, 3], "{again}");
    promises::kept(&house);
    assert_eq!(likes(&house), 3);

    fs::write(&rejects, told[0].to_string()).expect("mended rejects");
    let mended = import(&house, &rejects, &["--create-articles"]).expect_code(0).json();
    assert_eq!(counts(&mended), [1, 1, 0, 0]);
    assert_eq!(house.json(&["article", "show", "99"])["likes"], 1);
}

#[test]
fn json_lines_come_from_a_pipe_as_well() {
    let house = house();
    let mut command = house.command(&["--json", "import", "-", "--create-articles"]);
    let mut import = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let import = import.as_mut().expect("likectl starts");
    let mut pipe = import.stdin.take().expect("a pipe");
    // Many of the same like at once: one of them comes first, whichever.
    for _ in 0..50 {
        pipe.write_all(b"{\"user\": 7, \"article\": 41}\n{\"user_id\": \"8\", \"article_id\": 41}\n")
            .expect("room");
    }
    drop(pipe);
    let mut stdout = String::new();
    std::io::Read::read_to_string(import.stdout.as_mut().expect("stdout"), &mut stdout).expect("text");
    assert!(import.wait().expect("a child").success());
    let document: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(counts(&document), [100, 2, 98, 0], "{document}");
    promises::kept(&house);
    assert_eq!(house.json(&["article", "show", "41"])["likes"], 2);
}

#[test]
fn killed_wherever_it_stands_it_goes_on_and_no_like_is_lost_or_doubled() {
    let house = house();
    let path = many(&house);
    let mut kills = 0;
    // Each life is longer than the one before, so that one of them comes to the end.
    while kills < 6 {
        let running = start(&house, &path);
        await_progress(&house, 20_000 * (1 + kills));
        running.kill();
        kills += 1;
    }
    let before = likes(&house);
    assert!((1..MANY).contains(&before), "killed in the middle: {before}");
    let last = import(&house, &path, &[]).expect_code(0).json();
    let [lines, imported, already, rejected] = counts(&last);
    assert_eq!((lines, rejected), (MANY, 0), "{last}");
    assert_eq!(imported + already, MANY, "{last}");
    assert!(imported <= MANY - before + 256 * kills, "what was there is not imported again: {last}");
    all_are_there_once(&house);
    let second = import(&house, &path, &[]).expect_code(0).json();
    assert_eq!(counts(&second), [MANY, 0, MANY, 0]);
}

#[test]
fn interrupted_it_ends_what_it_has_begun_and_the_next_one_reads_on_from_there() {
    let house = house();
    let path = many(&house);
    let running = start(&house, &path);
    await_progress(&house, 100_000);
    running.signal(Signal::INT);
    let first = running.end().expect_code(130);
    let [lines, imported, ..] = counts(&first.json());
    assert_eq!((&first.json()["complete"], lines), (&json!(false), imported), "{first:?}");
    assert_eq!(first.error()["error"]["kind"], "interrupted");
    assert_eq!(likes(&house), lines, "nothing was begun and left");

    let running = start(&house, &path);
    await_progress(&house, 100_000);
    running.kill();
    let last = import(&house, &path, &[]).expect_code(0).json();
    assert_eq!(last["resumed_after_line"], lines, "the note of the first is good for the third: {last}");
    let [all, now_imported, already, _] = counts(&last);
    assert!(all == MANY && already > 0 && now_imported + already == MANY, "{last}");
    all_are_there_once(&house);
}

#[test]
fn interrupted_before_a_service_has_answered_it_has_begun_nothing_and_says_so() {
    let house = house();
    let path = many(&house);
    house.freeze(Service::User);
    for signal in [Signal::INT, Signal::TERM] {
        let running = start(&house, &path);
        let heard = |signal: Signal| 1 << (signal.as_raw() - 1);
        let both = heard(Signal::INT) | heard(Signal::TERM);
        eventually("an import that hears signals", || (caught(running.pid()) & both == both).then_some(()));
        running.signal(signal);
        assert_eq!(running.end().expect_code(130).error()["error"]["kind"], "interrupted");
    }
    house.thaw(Service::User);
    assert_eq!(likes(&house), 0);
}

/// The signals that a process handles, a bit each.
fn caught(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its signals");
    u64::from_str_radix(mask.trim(), 16).expect("a mask")
}

#[test]
fn what_was_noted_counts_neither_for_another_text_nor_for_another_store() {
    let mut house = house();
    let path = many(&house);
    let interrupt = |house: &House| {
        let running = start(house, &path);
        await_progress(house, 100_000);
        running.signal(Signal::INT);
        let first = running.end().expect_code(130).json();
        assert!(first["lines"].as_u64().expect("a count") > 0, "{first}");
    };
    interrupt(&house);
    let text = fs::read_to_string(&path).expect("the file");
    fs::write(&path, text.replacen("100,1\n", "9999,1\n", 1)).expect("the file");
    interrupt(&house);
    assert_eq!(house.json(&["user", "likes", "9999"]).as_array().expect("a list").len(), 1);

    let stopped = [Service::Article, Service::User].map(|service| house.stop(service));
    assert!(stopped.iter().all(|ended| ended.code() == Some(0)));
    for service in [Service::Article, Service::User] {
        fs::remove_dir_all(house.data(service)).expect("a store");
        house.start(service);
    }
    let anew = import(&house, &path, &["--create-articles"]).expect_code(0).json();
    assert_eq!((counts(&anew), &anew["resumed_after_line"]), ([MANY, MANY, 0, 0], &json!(0)));
}

#[test]
fn a_service_that_goes_stops_it_and_nothing_is_lost() {
    let mut house = house();
    let path = many(&house);
    let mut command = house.command(&["--json", "--timeout", "1s", "import", path.to_str().expect("a path")]);
    let running = Running::start(&mut command);
    await_progress(&house, 100_000);
    house.kill(Service::User);
    let first = running.end();
    assert!(matches!(first.code(), Some(5 | 6 | 8)), "{first:?}");
    assert_eq!(first.json()["complete"], false, "{first:?}");
    assert_eq!(first.json()["rejected"], 0, "no line is to blame: {first:?}");
    assert!(import(&house, &path, &[]).expect_code(8).stdout.is_empty(), "nothing can be begun");
    house.start(Service::User);
    let last = import(&house, &path, &[]).expect_code(0).json();
    assert_eq!(counts(&last)[0], MANY, "{last}");
    all_are_there_once(&house);
}

#[test]
fn a_file_of_rejects_has_those_of_an_earlier_run_too() {
    let house = house();
    let path = file(&house, "likes.csv", "1,1\n2,99\n3,1,\"open\n");
    let [first, second] = ["first", "second"].map(|name| house.path().join(name).display().to_string());
    let rejected = |path: &str| {
        let text = fs::read_to_string(path).expect("rejects");
        let line = |text| serde_json::from_str::<Value>(text).expect("JSON")["line"].as_u64();
        text.lines().map(line).collect::<Vec<_>>()
    };
    let resumed_after = |options: &[&str]| {
        import(&house, &path, options).expect_code(4).json()["resumed_after_line"].as_u64()
    };

    assert_eq!(resumed_after(&[]), Some(0));
    assert_eq!(resumed_after(&[]), Some(2), "nothing was to be written down");
    assert_eq!((resumed_after(&["--rejects", &first]), rejected(&first)), (Some(0), vec![Some(2)]));
    assert_eq!((resumed_after(&["--rejects", &first]), rejected(&first)), (Some(2), vec![Some(2)]));
    assert_eq!((resumed_after(&["--rejects", &second]), rejected(&second)), (Some(0), vec![Some(2)]));
    fs::write(&second, "").expect("an empty file");
    fs::write(&path, "1,1\n2,99\n3,1\n").expect("a mended file");
    assert_eq!((resumed_after(&["--rejects", &second]), rejected(&second)), (Some(0), vec![Some(2)]));
    assert_eq!(likes(&house), 2);
}

#[test]
fn what_can_not_be_read_is_told_and_nothing_is_begun() {
    let house = house();
    assert_eq!(
        import(&house, &house.path().join("none.csv"), &[]).expect_code(3).error()["error"]["kind"],
        "not_found"
    );
    for useless in ["who,what\n1,1\n", "user,user_id,article\n1,2,1\n"] {
        let useless = file(&house, "useless.csv", useless);
        let ended = import(&house, &useless, &[]).expect_code(4);
        assert!(ended.stderr.contains("line 1: "), "{ended:?}");
    }
    let open = file(&house, "open.csv", "1,1\n2,1,\"open\n3,1\n");
    let ended = import(&house, &open, &[]).expect_code(4);
    assert_eq!((&ended.json()["complete"], counts(&ended.json())[1]), (&json!(false), 1));
    let empty = file(&house, "empty.csv", "");
    assert_eq!(counts(&import(&house, &empty, &[]).expect_code(0).json()), [0; 4]);
    assert_eq!(likes(&house), 1);
}
