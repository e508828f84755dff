//! A machine with the like services installed, for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use like_tests::process::{Ended, Running, eventually, skip};
use serde_json::Value;

const BOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/box");
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");
const PROGRAMS: [&str; 4] = ["like-articled", "like-userd", "likectl", "like-gateway"];

/// The article service's unit.
pub const ARTICLE: &str = "like-article.service";
/// The user service's unit.
pub const USER: &str = "like-user.service";
/// How many likes a bench makes: enough that it is still at work when everything a test does to it is done.
pub const BENCH_LIKES: u64 = 150_000;

/// A booted machine: units and binaries are in their place, nothing of them is started. It is gone when this is
/// dropped; what a killed test leaves, the next run of the same test clears away.
pub struct Machine {
    directory: PathBuf,
}

impl Machine {
    /// Where [`Machine::boot_with_checkout`] has its checkout.
    pub const CHECKOUT: &str = "/etc/systemd/system/checkout";

    /// Boots one. None if this host can't, which is said aloud.
    pub fn boot(name: &str) -> Option<Self> {
        let machine = Self::possible(name)?;
        let programs = PROGRAMS.map(|program| binaries().join(program));
        machine.up(Path::new(UNITS), &programs).expect_code(0);
        Some(machine)
    }

    /// One that is to be booted, if this host can.
    fn possible(name: &str) -> Option<Self> {
        static ABLE: OnceLock<Result<(), String>> = OnceLock::new();
        if let Err(why) = ABLE.get_or_init(able) {
            skip(name, &format!("no systemd can be booted here: {why}"), "LIKE_REQUIRE_SYSTEMD");
            return None;
        }
        Some(Self::at(name))
    }

    /// The same with everything switched on.
    pub fn boot_started(name: &str) -> Option<Self> {
        let machine = Self::boot(name)?;
        machine.sh("systemctl start like.target");
        Some(machine)
    }

    /// A machine on which nothing is installed: what an installation needs lies in [`Machine::CHECKOUT`], as it does in
    /// a checkout of this project after its release build.
    pub fn boot_with_checkout(name: &str) -> Option<Self> {
        let machine = Self::possible(name)?;
        let units = machine.directory.with_extension("units");
        let checkout = units.join("checkout");
        let release = checkout.join("target/release");
        let _of_an_earlier_run = fs::remove_dir_all(&units);
        fs::create_dir_all(&release).expect("a directory");
        for tree in ["systemd", "docs"] {
            let from = Path::new(UNITS).with_file_name(tree);
            Ended::of(Command::new("cp").arg("-r").arg(from).arg(&checkout)).expect_code(0);
        }
        for program in PROGRAMS {
            fs::copy(binaries().join(program), release.join(program)).expect("a copy");
        }
        machine.up(&units, &[PathBuf::from("/bin/true")]).expect_code(0);
        Some(machine)
    }

    fn at(name: &str) -> Self {
        Self { directory: Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines").join(name) }
    }

    fn up(&self, units: &Path, programs: &[PathBuf]) -> Ended {
        fs::create_dir_all(self.directory.parent().expect("a parent")).expect("a directory");
        Ended::of(self.command("up").arg(units).args(programs))
    }

    fn command(&self, act: &str) -> Command {
        let mut command = Command::new(BOX);
        command.arg(act).env("BOX", &self.directory);
        command
    }

    /// Whether the programs were given (`LIKE_BIN_DIR`), and so are a release build.
    pub fn has_release_build() -> bool {
        std::env::var_os("LIKE_BIN_DIR").is_some()
    }

    /// Starts a command as root.
    pub fn start(&self, words: &[&str]) -> Running {
        Running::start(self.command("exec").args(words))
    }

    /// Runs a command as root.
    pub fn run(&self, words: &[&str]) -> Ended {
        self.start(words).end()
    }

    /// Runs a script as root, insists on success, and returns what it prints.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&["sh", "-euc", script]).expect_code(0).stdout.trim_end().to_owned()
    }

    /// Runs `likectl` as root.
    pub fn likectl(&self, arguments: &[&str]) -> Ended {
        self.run(&[&["likectl"], arguments].concat())
    }

    /// Runs `likectl` as somebody else, in all groups that the user is in.
    pub fn likectl_as(&self, user: &str, arguments: &[&str]) -> Ended {
        let who = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "likectl"];
        self.run(&[&who, arguments].concat())
    }

    /// Runs `likectl --json` as root, insists on success, and returns what it says.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.likectl(&[&["--json"], arguments].concat()).expect_code(0).json()
    }

    /// Starts `likectl` as a unit of its own, so that it can be killed by the name `unit`.
    #[track_caller]
    pub fn start_runner(&self, unit: &str, arguments: &[&str]) {
        let words = ["systemd-run", "--quiet", "--unit", unit, "--property=Type=exec", "likectl"];
        self.run(&[&words, arguments].concat()).expect_code(0);
    }

    /// Starts [`BENCH_LIKES`] likes of one article, 64 in flight, and waits until the article is there.
    #[track_caller]
    pub fn start_bench(&self) -> Running {
        let likes = BENCH_LIKES.to_string();
        let load = ["--likes", &likes, "--concurrency", "64"];
        let bench = self.start(&[&["likectl", "--json", "--timeout", "60s", "bench"], &load[..]].concat());
        eventually("an article", || self.likectl(&["article", "show", "1"]).code().filter(|code| *code == 0));
        bench
    }

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit])
            .expect_code(0)
            .stdout
            .trim_end()
            .to_owned()
    }

    /// Whether a unit is active.
    pub fn is_active(&self, unit: &str) -> bool {
        self.property(unit, "ActiveState") == "active"
    }

    /// Sends a signal to the main process of a unit.
    #[track_caller]
    pub fn signal(&self, unit: &str, signal: &str) {
        self.sh(&format!("systemctl kill --kill-who=main --signal={signal} {unit}"));
    }

    /// Kills a daemon by SIGKILL and waits until another process of it is ready.
    #[track_caller]
    pub fn kill(&self, unit: &str) {
        let before = self.property(unit, "MainPID");
        self.signal(unit, "KILL");
        eventually("a restarted daemon", || {
            let shown = self.run(&["systemctl", "show", "--property=MainPID,ActiveState", unit]);
            let successor = shown.stdout.contains("ActiveState=active")
                && !shown.stdout.contains(&format!("MainPID={before}\n"));
            successor.then_some(())
        });
    }

    /// Entries of the system's journal, oldest first, by the arguments of `journalctl`.
    #[track_caller]
    pub fn journal(&self, arguments: &[&str]) -> Vec<Value> {
        self.sh("journalctl --sync");
        let words = ["journalctl", "--quiet", "--output=json", "--all"];
        let printed = self.run(&[&words, arguments].concat()).expect_code(0).stdout;
        printed.lines().map(|line| serde_json::from_str(line).expect("an entry is JSON")).collect()
    }

    /// Overrides settings of a unit until they are overridden again.
    #[track_caller]
    pub fn override_unit(&self, unit: &str, settings: &str) {
        let directory = format!("/etc/systemd/system/{unit}.d");
        self.sh(&format!(
            "mkdir -p {directory}; printf '{settings}' >{directory}/test.conf; systemctl daemon-reload"
        ));
    }

    /// What must hold at the end of every story: nothing is unfinished, no count differs from its records, no lock is
    /// left.
    #[track_caller]
    pub fn promises_are_kept(&self) {
        self.likectl(&["--json", "--timeout", "30s", "recover"]).expect_code(0);
        let sagas = self.json(&["saga", "list"]);
        for saga in sagas.as_array().expect("a list") {
            assert!(matches!(saga["state"].as_str(), Some("completed" | "compensated")), "not ended: {saga}");
        }
        let audit = self.json(&["audit"]);
        assert_eq!(audit["drift"], Value::Array(Vec::new()), "{audit}");
        assert_eq!(audit["unfinished_sagas"], 0, "{audit}");
    }

    /// An article's likes.
    #[track_caller]
    pub fn likes(&self, article: u64) -> u64 {
        self.json(&["article", "show", &article.to_string()])["likes"].as_u64().expect("a number")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        Ended::of(&mut self.command("down"));
    }
}

/// A journal entry's message.
pub fn message(entry: &Value) -> &str {
    entry["MESSAGE"].as_str().unwrap_or_default()
}

/// Whether a machine can be booted at all; tried once, with nothing installed.
fn able() -> Result<(), String> {
    let machine = Machine::at("trial");
    let units = machine.directory.with_extension("units");
    fs::create_dir_all(&units).expect("a directory");
    let booted = machine.up(&units, &[PathBuf::from("/bin/true")]);
    if booted.code() == Some(0) { Ok(()) } else { Err(booted.stderr.trim().to_owned()) }
}

/// Where the programs are that are tested: in `LIKE_BIN_DIR`, which has a release build, or else built here, once, in the profile of this test.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| match std::env::var_os("LIKE_BIN_DIR") {
        Some(given) => fs::canonicalize(&given).unwrap_or_else(|e| panic!("LIKE_BIN_DIR={given:?}: {e}")),
        None => build(),
    })
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--bins",
            "--package=like-daemon",
            "--package=like-client",
            "--package=like-gateway",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the programs can't be built");
    target.join("debug")
}
