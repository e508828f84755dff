//! `likectl` and daemons where a path is mistyped.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::Path;

use like_tests::house::{House, Service};
use like_tests::process::{Ended, program};
use serde_json::Value;

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
    let house = House::open(PROGRAM);
    house.article(1);
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
    let house = House::open(PROGRAM);
    house.article(1);
    house.json(&["like", "1", "--user", "7"]);
    for service in Service::BOTH {
        let mut command = program(house.program(), service.program());
        command.arg("--socket").arg(house.path().join("other.sock")).arg("--data").arg(house.journal());
        let refused = Ended::of(&mut command).expect_code(1);
        assert!(refused.stderr.contains("is not empty and holds no store"), "{}", refused.stderr);
        assert_eq!(names(&house.journal()), ["0"]);
    }
}
