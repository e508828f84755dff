//! The real `likectl`, as a script sees it, where no daemon is needed.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// `likectl` in a directory where no daemon is and no journal.
struct House {
    directory: TempDir,
}

impl House {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_likectl"));
        command
            .env("LIKECTL_ARTICLE_SOCKET", self.path("article.sock"))
            .env("LIKECTL_USER_SOCKET", self.path("user.sock"))
            .env("LIKECTL_JOURNAL", self.path("journal"))
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .stdin(Stdio::null())
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The error on stderr, behind warnings.
fn error(output: &Output) -> Value {
    let document: Value = serde_json::from_slice(&output.stderr).unwrap();
    document["error"].clone()
}

#[test]
fn wrong_usage_exits_2_and_says_what_was_expected() {
    let house = House::new();
    let cases: [(&[&str], &str); 13] = [
        (&[], "Usage: likectl"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["like", "1"], "--user"),
        (&["like", "one", "--user", "2"], "'<ARTICLE>': an id is a number from 0 to 18446744073709551615"),
        (&["like", "1", "--user", "-2"], "'--user <USER>': an id is a number from 0 to 18446744073709551615"),
        (&["article", "create", "--id", "-2", "a title"], "'--id <N>': an id is a number"),
        (&["article", "list", "--after", "-2"], "'--after <ID>': an id is a number"),
        (&["user", "likes", "18446744073709551616"], "'<USER>': an id is a number"),
        (&["--timeout", "soon", "status"], "500ms"),
        (&["--timeout", "2h", "status"], "1 h"),
        (&["saga", "list", "--state", "happy"], "compensating"),
        (&["saga", "show", "01"], "no saga's id"),
        (&["like", "1", "--user", "2", "--key", "order-1"], "no UUID"),
    ];
    for (arguments, expected) in cases {
        let output = house.run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn wrong_usage_is_told_in_a_document_to_who_wants_documents() {
    let house = House::new();
    let cases: [(&[&str], &str, &str); 4] = [
        (&["--json", "like", "1"], "arguments were not provided: --user <USER>", "Usage: likectl like"),
        (&["articel", "list", "--json"], "unrecognized subcommand 'articel'", "'article'"),
        (&["--json", "--timeout", "2h", "status"], "no daemon accepts", "Usage"),
        (&["saga", "--json", "--", "--json"], "unrecognized subcommand", "Usage"),
    ];
    for (arguments, what, hinted) in cases {
        let output = house.run(arguments);
        assert_eq!((code(&output), stdout(&output).as_str()), (2, ""), "{arguments:?}");
        let error = error(&output);
        assert_eq!((&error["kind"], &error["saga_id"]), (&Value::from("usage"), &Value::Null));
        let [message, hint] = ["message", "hint"].map(|name| error[name].as_str().unwrap());
        assert!(message.contains(what) && hint.contains(hinted), "{error}");
        assert!(!message.contains("error:") && !message.contains('\n'), "{error}");
    }
    let message = error(&house.run(&["--json"]))["message"].to_string();
    assert!(message.contains("recover") && !message.contains("demo-liker"), "{message}");
    let people = house.run(&["like", "1", "--user", "--", "--json"]);
    assert!(code(&people) == 2 && stderr(&people).starts_with("error: "), "it is no option there");
    let help = house.run(&["--json", "like", "--help"]);
    assert!(code(&help) == 0 && stdout(&help).contains("Usage:"), "help is no error");
}

#[test]
fn a_daemon_that_is_not_there_is_unavailable() {
    let house = House::new();
    let cases: [&[&str]; 6] = [
        &["article", "show", "1"],
        &["article", "create", "t"],
        &["user", "likes", "1"],
        &["like", "1", "--user", "2"],
        &["unlike", "1", "--user", "2"],
        &["audit"],
    ];
    for arguments in cases {
        let output = house.run(&[arguments, &["--json", "-q"]].concat());
        assert_eq!(code(&output), 8, "{arguments:?}");
        let error = error(&output);
        assert_eq!(error["kind"], "unavailable", "{arguments:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(house.directory.path().to_str().unwrap()), "{arguments:?}: {message}");
        assert_eq!(error["saga_id"], Value::Null, "no saga was started");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    let people = stderr(&house.run(&["article", "show", "1"]));
    assert!(
        people.starts_with("error: the article service at ") && people.contains("\nhint:  start it"),
        "{people}"
    );
}

#[test]
fn a_like_that_found_no_daemon_left_no_saga() {
    let house = House::new();
    house.run(&["like", "1", "--user", "2"]);
    let sagas = house.run(&["saga", "list", "--json"]);
    assert_eq!((code(&sagas), stdout(&sagas).as_str()), (0, "[]\n"));
}

#[test]
fn a_daemon_that_says_nothing_is_given_up_on_in_time() {
    let house = House::new();
    let _silent = UnixListener::bind(house.path("article.sock")).unwrap();
    let began = std::time::Instant::now();
    let output = house.run(&["--timeout", "200ms", "--json", "article", "show", "1"]);
    assert_eq!((code(&output), &error(&output)["kind"]), (8, &Value::from("unavailable")));
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn something_else_behind_the_socket_is_incompatible_and_is_sent_nothing() {
    let house = House::new();
    let other = UnixListener::bind(house.path("article.sock")).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut peer, _) = other.accept().unwrap();
        std::io::Write::write_all(&mut peer, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let mut sent = Vec::new();
        // A reset is as good as an end: nothing more comes.
        let _ = peer.read_to_end(&mut sent);
        sent
    });
    let output = house.run(&["--json", "article", "show", "1"]);
    assert_eq!((code(&output), &error(&output)["kind"]), (4, &Value::from("incompatible")));
    assert_eq!(serving.join().unwrap(), b"");
}

#[test]
fn a_usage_line_does_not_take_for_required_what_the_environment_gives() {
    let house = House::new();
    let usage = stderr(&house.run(&["like", "1"]));
    assert!(usage.contains("Usage: likectl like --user <USER> <ARTICLE>\n"), "{usage}");
    assert!(
        stdout(&house.run(&["like", "--help"])).contains("[env: LIKECTL_JOURNAL"),
        "help names the variables"
    );
}

#[test]
fn a_journal_that_cannot_be_written_exits_9_and_names_the_group_or_the_path() {
    let house = House::new();
    std::fs::write(house.path("file"), "").unwrap();
    let under_a_file = house.path("file/journal");
    let like = ["like", "1", "--user", "2"];
    let cases = [
        // Nobody may make anything there, not even root.
        (&like[..], "/proc/journal", "group `like`"),
        (&like[..], under_a_file.to_str().unwrap(), "--journal"),
        (&["recover"], under_a_file.to_str().unwrap(), "--journal"),
    ];
    for (command, journal, hinted) in cases {
        let output = house.run(&[command, &["--journal", journal, "--json"]].concat());
        assert_eq!(code(&output), 9, "{command:?}");
        let error = error(&output);
        assert_eq!(error["kind"], "permission_denied");
        assert!(error["message"].as_str().unwrap().contains(journal), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(hinted), "{error}");
    }
}

/// A full disk, or a journal that was restarted: nobody is told, and what is done goes on.
#[test]
fn a_stderr_that_takes_nothing_changes_nothing() {
    let house = House::new();
    std::fs::create_dir_all(house.path("journal/0/00000001.log")).unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["recover"][..], &["check"], &["like", "1", "--user", "2"]] {
        let told = house.run(arguments);
        assert!(!told.stderr.is_empty(), "{arguments:?}");
        let mute = house.command(arguments).stderr(full()).output().unwrap();
        assert_eq!(code(&mute), code(&told), "{arguments:?}");
    }
}

#[test]
fn too_few_files_are_told_and_a_limit_that_can_be_raised_is() {
    let house = House::new();
    let limited = |soft: u32, hard: u32| {
        let likectl = house.command(&["--json", "saga", "list"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={soft}:{hard}")).arg("--").arg(likectl.get_program());
        command.args(likectl.get_args()).env("LIKECTL_JOURNAL", house.path("journal"));
        command.stdin(Stdio::null()).output().unwrap()
    };
    for few in [6, 8, 10, 16] {
        let output = limited(few, few);
        assert_eq!(code(&output), 1, "{few}: {}", stderr(&output));
        let error = error(&output);
        assert_eq!(error["kind"], "internal");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("only {few} files may be open")), "{message}");
        assert!(error["hint"].as_str().unwrap().contains("ulimit -n"), "{error}");
    }
    let output = limited(6, 1024);
    assert_eq!((code(&output), stdout(&output).trim()), (0, "[]"), "{}", stderr(&output));
}

#[test]
fn before_anything_was_recorded_there_is_nothing_to_report() {
    let house = House::new();
    let check = house.run(&["check"]);
    assert_eq!(code(&check), 0, "{}", stderr(&check));
    assert!(stderr(&check).contains("nothing has been recorded"));

    let id = "018f0000-0000-7000-8000-000000000001";
    let unknown = house.run(&["saga", "show", id, "--json", "-q"]);
    assert_eq!((code(&unknown), &error(&unknown)["kind"]), (3, &Value::from("not_found")));

    let recover = house.run(&["recover", "--json"]);
    assert_eq!(code(&recover), 0);
    let report: Value = serde_json::from_str(&stdout(&recover)).unwrap();
    for name in ["recovered", "completed", "compensated", "unfinished", "needs_attention", "quarantined"] {
        assert_eq!(report[name], 0, "{name}");
    }
    assert!(!house.path("journal").exists(), "where nothing was recorded nothing is made");
}

#[test]
fn a_check_fails_where_sagas_may_stand_that_nobody_sees() {
    let house = House::new();
    std::fs::create_dir_all(house.path("journal/7/00000001.log")).unwrap();
    let check = house.run(&["check", "--json", "-q"]);
    assert_eq!((code(&check), &error(&check)["kind"]), (7, &Value::from("needs_attention")));
    let document: Value = serde_json::from_str(&stdout(&check)).unwrap();
    assert_eq!(document["unreadable_slots"], serde_json::json!([7]));
    assert!(!error(&check)["hint"].as_str().unwrap().contains("likectl check"), "who asked it is told");

    let recover = house.run(&["recover", "--json"]);
    assert_eq!((code(&recover), &error(&recover)["kind"]), (7, &Value::from("needs_attention")));
    // A check reads, recovery writes: what is in its way alone, a full disk for one, only recovery can name.
    let message = error(&recover)["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("slot 7 of the journal could not be used (") && message.contains("00000001.log")
    );
    let document: Value = serde_json::from_str(&stdout(&recover)).unwrap();
    assert_eq!(
        (&document["recovered"], &document["unreadable_slots"]),
        (&Value::from(0), &serde_json::json!([7]))
    );

    let status: Value = serde_json::from_str(&stdout(&house.run(&["status", "--json"]))).unwrap();
    assert_eq!(status["log"]["unreadable_slots"], serde_json::json!([7]));
    let status = stdout(&house.run(&["status"]));
    assert!(status.contains("slot 7 of the journal can't be read") && !status.contains("nothing unfinished"));
}

#[test]
fn status_shows_what_is_down_and_fails_only_if_all_is() {
    let house = House::new();
    let output = house.run(&["status", "--json", "-q"]);
    assert_eq!(code(&output), 8);
    let status: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let services = status["services"].as_array().unwrap();
    assert_eq!(services.iter().map(|s| &s["reachable"]).collect::<Vec<_>>(), [false, false]);
    assert!(stdout(&house.run(&["status"])).contains("unreachable"));
}

#[test]
fn status_fits_a_terminal_of_80_columns() {
    let house = House::new();
    // As long as a line has room for, and not there.
    let socket = "x".repeat(67);
    let sockets = ["--article-socket", &socket, "--user-socket", &socket];
    let status = stdout(&house.run(&[&["status"], &sockets[..]].concat()));
    let services: Vec<_> = status.lines().take_while(|line| !line.starts_with('✗')).collect();
    assert!(services.len() > 2 && services.iter().all(|line| line.chars().count() <= 80), "{status}");
}

#[test]
fn colour_appears_only_where_it_is_wanted() {
    let house = House::new();
    let colored = |output: &Output| output.stdout.contains(&0x1b);
    assert!(!colored(&house.run(&["status"])), "stdout is no terminal");
    assert!(colored(&house.run(&["status", "--color", "always"])));
    assert!(colored(&house.command(&["status"]).env("CLICOLOR_FORCE", "1").output().unwrap()));
    assert!(!colored(&house.command(&["status"]).env("NO_COLOR", "1").output().unwrap()));
    let never = house.command(&["status", "--color", "never"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!colored(&never));

    // Wrong usage is told before anything else is known.
    let usage = |when: &str| {
        let output = house.command(&["frobnicate", when]).env("CLICOLOR_FORCE", "1").output().unwrap();
        output.stderr.contains(&0x1b)
    };
    assert!(usage("--color=always") && !usage("--color=never"));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let house = House::new();
    let mut child = house.command(&["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_goes_away_does_not_make_an_alarm_a_success() {
    let house = House::new();
    std::fs::create_dir_all(house.path("journal/7/00000001.log")).unwrap();
    for (name, expected) in [("check", 7), ("recover", 7), ("status", 8)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = house.command(&[name, "--json"]);
        let status = command.stdout(writer).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{name}");
    }
}

#[test]
fn completions_are_made_for_the_usual_shells() {
    let house = House::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = house.run(&["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        let script = stdout(&output);
        assert!(script.contains("needs-attention") && script.contains("attention-after"), "{shell}");
        assert!(!script.contains("demo-liker"), "{shell} offers a hidden command");
    }
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let house = House::new();
    let page = stdout(&house.run(&["man"]));
    assert!(page.contains(".TH likectl") && page.contains("LIKECTL_JOURNAL"), "{page}");

    let pages = house.path("man");
    assert_eq!(code(&house.run(&["man", pages.to_str().unwrap()])), 0);
    for name in ["likectl", "likectl-like", "likectl-saga", "likectl-saga-force", "likectl-article-create"] {
        assert!(pages.join(format!("{name}.1")).is_file(), "{name}");
    }
    assert!(!Path::new(&pages.join("likectl-demo-liker.1")).exists(), "hidden commands have no page");
}

#[test]
fn every_command_has_help_with_the_global_options() {
    let house = House::new();
    let commands: [&[&str]; 24] = [
        &[],
        &["article"],
        &["article", "create"],
        &["article", "show"],
        &["article", "list"],
        &["article", "likers"],
        &["like"],
        &["unlike"],
        &["user", "likes"],
        &["saga", "list"],
        &["saga", "show"],
        &["saga", "watch"],
        &["saga", "retry"],
        &["saga", "compensate"],
        &["saga", "force"],
        &["recover"],
        &["check"],
        &["audit"],
        &["status"],
        &["bench"],
        &["demo"],
        &["completions"],
        &["man"],
        &["saga"],
    ];
    for command in commands {
        let output = house.run(&[command, &["--help"]].concat());
        let help = stdout(&output);
        assert_eq!(code(&output), 0, "{command:?}");
        for option in ["--article-socket", "--user-socket", "--journal", "--timeout", "--json", "--color"] {
            assert!(help.contains(option), "{command:?} lacks {option}");
        }
        assert!(!help.contains("demo-liker"), "{command:?}");
    }
}
