//! `likectl top` on real processes: as documents, and at a terminal.

// What is expected here and does not come fails the test, as it should.
#![allow(clippy::expect_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc;

use like_tests::house::{House, Service};
use like_tests::process::eventually;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");
const ROWS: usize = 24;
const COLUMNS: usize = 100;

/// A terminal that somebody looks at.
struct Terminal {
    ours: File,
    theirs: OwnedFd,
    written: mpsc::Receiver<Vec<u8>>,
    /// All that was ever written.
    bytes: Vec<u8>,
}

impl Terminal {
    fn new() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let theirs =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
        let size = Winsize { ws_row: ROWS as u16, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let ours = File::from(ours);
        let (send, written) = mpsc::channel();
        let mut reader = ours.try_clone().expect("a handle");
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if send.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { ours, theirs, written, bytes: Vec::new() }
    }

    fn theirs(&self) -> Stdio {
        self.theirs.try_clone().expect("a handle").into()
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.theirs).expect("its modes").local_modes
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("keys");
    }

    /// What stands on the screen.
    fn screen(&mut self) -> String {
        self.bytes.extend(self.written.try_iter().flatten());
        shown(&String::from_utf8_lossy(&self.bytes))
    }

    #[track_caller]
    fn see(&mut self, text: &str) {
        let mut screen = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(text, || {
                screen = self.screen();
                screen.contains(text).then_some(())
            });
        }));
        assert!(found.is_ok(), "never seen: {text}\n{screen}");
    }
}

/// What a terminal shows that was written this: enough of one for what is drawn cell by cell.
fn shown(written: &str) -> String {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = c;
            }
            column += 1;
            continue;
        }
        if rest.next() != Some('[') {
            continue;
        }
        let mut numbers = String::new();
        let end = rest.by_ref().find(|c| {
            numbers.push(*c);
            c.is_ascii_alphabetic()
        });
        let numbers: Vec<usize> =
            numbers.split([';', 'H']).filter_map(|number| number.parse().ok()).collect();
        match end {
            Some('H') => {
                let at = |n: usize| numbers.get(n).map_or(0, |number| number.saturating_sub(1));
                (row, column) = (at(0), at(1));
            }
            Some('J') => cells = vec![vec![' '; COLUMNS]; ROWS],
            _ => {}
        }
    }
    cells.into_iter().map(String::from_iter).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_terminal_shows_what_happens_and_is_given_back() {
    let mut house = House::with_article(PROGRAM);
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));
    let mut command = house.command(&["top", "--interval", "100ms"]);
    command.env("NO_COLOR", "1").env("TERM", "xterm");
    command.stdin(terminal.theirs()).stdout(terminal.theirs()).stderr(terminal.theirs());
    let mut top = Top(command.spawn().expect("likectl starts"));
    terminal.see("nothing unfinished");
    assert!(!terminal.modes().contains(LocalModes::ICANON), "keys are heard at once");

    house.json(&["like", "1", "--user", "7"]);
    terminal.see("> like of article 1 by user 7, completed");
    terminal.press("\r");
    terminal.see("What may be done next");
    terminal.press("\u{1b}");
    terminal.see("q quit");
    house.kill(Service::User);
    terminal.see("user     DOWN");
    assert!(!top.has_ended());

    terminal.press("q");
    assert_eq!(top.end(), Some(0));
    assert_eq!(terminal.modes(), before);
    terminal.screen();
    let written = String::from_utf8_lossy(&terminal.bytes).into_owned();
    assert!(written.contains("\u{1b}[?1049h"), "it drew on a screen of its own");
    let left = written.rfind("\u{1b}[?1049l").expect("and left it");
    assert!(written[left..].contains("\u{1b}[?25h"), "with the cursor shown");
    assert!(!written.contains("\u{1b}[38;"), "no colours where NO_COLOR is set");
}

/// A child that does not outlive its test.
struct Top(std::process::Child);

impl Top {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_some()
    }

    fn end(&mut self) -> Option<i32> {
        eventually("the end of likectl", || self.0.try_wait().expect("a child")).code()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_no_terminal_gets_documents() {
    let mut house = House::with_article(PROGRAM);
    house.json(&["like", "1", "--user", "7"]);
    house.kill(Service::User);
    let once = house.likectl(&["top", "--once"]).expect_code(0);
    assert_eq!(once.stdout.lines().count(), 1);
    let picture = once.json();
    let [article, user] = [&picture["services"][0], &picture["services"][1]];
    assert_eq!((&article["reachable"], &article["requests_per_s"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(user["reachable"], false);
    assert!(user["hint"].as_str().expect("a hint").contains("like-user.socket"), "{user}");
    assert_eq!(picture["lately"]["ended"], 1);
    assert!(picture["lately"]["p99_ms"].is_u64());
    assert_eq!(picture["recent"][0]["state"], "completed");
    assert_eq!(once.stderr, "");
}

#[test]
fn documents_follow_each_other_until_it_is_asked_to_end() {
    let house = House::with_article(PROGRAM);
    let mut command = house.command(&["--json", "top", "--interval", "100ms"]);
    let mut top = Top(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("likectl starts"));
    let mut lines = BufReader::new(top.0.stdout.take().expect("its output")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("a line");
        serde_json::from_str(&line).expect("a document")
    };
    assert_eq!(next()["lately"]["ended"], 0);
    house.json(&["like", "1", "--user", "7"]);
    let liked = eventually("a picture with the like", || {
        let picture = next();
        (picture["lately"]["ended"] == 1).then_some(picture)
    });
    assert_eq!(liked["recent"][0]["title"], "like of article 1 by user 7");
    assert!(liked["services"][0]["requests_per_s"].is_f64(), "{liked}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&top.0), rustix::process::Signal::TERM)
        .expect("a signal");
    assert_eq!(top.end(), Some(0));
}
