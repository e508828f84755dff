//! Child processes that can't outlive their test, and faults that prove that they fired.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use like_protocol::failpoint::Failpoint;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that takes milliseconds: generous, for a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is there.
///
/// # Panics
/// It is not there in time.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a process is to do at a failpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Die by SIGKILL at the n-th passage, counted from 1.
    Kill(Failpoint, u32),
    /// Stop by SIGSTOP at the n-th passage.
    Stop(Failpoint, u32),
    /// Leave a mark at every passage and go on.
    Pass(Failpoint),
    /// Leave a mark at every passage, and do what [`Armed::order`] has said for it.
    Ask(Failpoint),
}

impl Fault {
    fn spec(self) -> String {
        let (point, passage, what) = match self {
            Self::Kill(point, passage) => (point, passage, "kill"),
            Self::Stop(point, passage) => (point, passage, "stop"),
            Self::Pass(point) => return format!("{}=return(pass)", point.name()),
            Self::Ask(point) => return format!("{}=return(ask)", point.name()),
        };
        let skip = passage - 1;
        let before = if skip == 0 { String::new() } else { format!("{skip}*off->") };
        format!("{}={before}1*return({what})->off", point.name())
    }

    fn point(self) -> Failpoint {
        match self {
            Self::Kill(point, _) | Self::Stop(point, _) | Self::Pass(point) | Self::Ask(point) => point,
        }
    }
}

/// Faults armed in one process, and the file in which they leave their mark.
#[derive(Debug)]
pub struct Armed {
    faults: Vec<Fault>,
    mark: PathBuf,
    orders: PathBuf,
    seen: Mutex<Seen>,
}

/// The marks that were read so far.
#[derive(Default, Debug)]
struct Seen {
    bytes: u64,
    counts: HashMap<String, u32>,
}

impl Seen {
    /// Reads what is new; of the last line nothing before it is whole.
    fn read_on(&mut self, marks: &Path) -> std::io::Result<()> {
        let mut file = fs::File::open(marks)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        let mut news = String::new();
        file.read_to_string(&mut news)?;
        for mark in news.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            self.bytes += mark.len() as u64 + 1;
            *self.counts.entry(mark.to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

/// What a process that asks is told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Die by SIGKILL.
    Kill,
    /// Stop by SIGSTOP.
    Stop,
}

impl Armed {
    /// Arms faults in the environment of a command that is about to be started.
    pub fn arm(command: &mut Command, directory: &Path, faults: &[Fault]) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mark = directory.join(format!("mark-{number}"));
        let specs: Vec<_> = faults.iter().map(|fault| fault.spec()).collect();
        let orders = directory.join(format!("orders-{number}"));
        command.env("FAILPOINTS", specs.join(";")).env("LIKE_FAILPOINT_MARK", &mark);
        command.env("LIKE_FAILPOINT_ORDERS", &orders);
        Self { faults: faults.to_vec(), mark, orders, seen: Mutex::default() }
    }

    /// Tells a process that asks at this point what to do at its n-th passage in all. Any earlier order is forgotten.
    ///
    /// # Panics
    /// The order can't be written.
    pub fn order(&self, point: Failpoint, passage: u32, order: Order) {
        let what = if order == Order::Kill { "kill" } else { "stop" };
        // By a rename, so that a process never reads half an order.
        let draft = self.orders.with_extension("draft");
        fs::write(&draft, format!("{} {passage} {what}\n", point.name())).expect("an order");
        fs::rename(&draft, &self.orders).expect("an order");
    }

    /// Takes an order back.
    pub fn forget_order(&self) {
        let _none_was_given = fs::remove_file(&self.orders);
    }

    /// Whether a fault has fired.
    pub fn fired(&self, point: Failpoint) -> bool {
        self.marks(point) > 0
    }

    /// How often a fault has left its mark.
    pub fn marks(&self, point: Failpoint) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let _nobody_has_left_one_yet = seen.read_on(&self.mark);
        seen.counts.get(point.name()).copied().unwrap_or(0)
    }

    /// Whether all of them have.
    pub fn all_fired(&self) -> bool {
        self.faults.iter().all(|fault| self.fired(fault.point()))
    }
}

/// A running process; killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Who reads what it writes to its two outputs, if anybody does by now.
    readers: Option<[JoinHandle<String>; 2]>,
}

impl Running {
    /// Starts a command with its output caught.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("can't start {command:?}: {e}")), readers: None }
    }

    /// Starts a command that may have much to say: its output goes to the end of a file.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start_logged(command: &mut Command, log: &Path) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let twin = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(twin).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("can't start {command:?}: {e}")), readers: None }
    }

    /// Starts a command whose output goes to the end of a file, and waits until it listens at `socket`.
    ///
    /// # Panics
    /// It does not.
    pub fn start_listening(command: &mut Command, log: &Path, socket: &Path) -> Self {
        let mut running = Self::start_logged(command, log);
        eventually("a socket", || {
            assert!(!running.has_ended(), "{command:?} ended at its start: {}", last_words(log));
            UnixStream::connect(socket).ok()
        });
        running
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The same, as system calls take it.
    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("the process is there");
    }

    /// Kills it by SIGKILL and waits until it is gone, so that its locks and sockets are free.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Kills it by SIGKILL, if it has not ended yet.
    ///
    /// # Panics
    /// It can't be killed.
    pub fn kill_now(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// It does not.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// The lines that it writes to standard output from now on, as they come.
    ///
    /// # Panics
    /// They are being read already.
    pub fn lines(&mut self) -> mpsc::Receiver<String> {
        let out = self.child.stdout.take().expect("stdout is caught");
        let (lines, written) = mpsc::channel();
        std::thread::spawn(move || {
            let all = BufReader::new(out).lines().map_while(Result::ok);
            all.take_while(|line| lines.send(line.clone()).is_ok()).for_each(drop);
        });
        written
    }

    /// Reads what it writes from now on, and keeps it for its end: for a process that is waited for by looking at it.
    /// One that has much to say would wait for a reader otherwise.
    pub fn read_on(&mut self) {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        self.readers.get_or_insert_with(|| {
            [std::thread::spawn(move || text_of(out)), std::thread::spawn(move || text_of(err))]
        });
    }

    /// Waits for its end. What it wrote is known unless it went to a log.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn end(mut self) -> Ended {
        self.read_on();
        let status = eventually("the end of a process", || self.child.try_wait().expect("a child"));
        let written =
            self.readers.take().into_iter().flatten().map(|reader| reader.join().expect("a reader"));
        let [stdout, stderr] = <[String; 2]>::try_from(written.collect::<Vec<_>>()).expect("two outputs");
        Ended { status, stdout, stderr }
    }
}

/// Says aloud that something can't be tried here, and why.
///
/// # Panics
/// It has to be: this variable is 1.
#[track_caller]
pub fn skip(what: &str, why: &str, required_by: &str) {
    let required = std::env::var_os(required_by).is_some_and(|value| value == "1");
    assert!(!required, "{what} is required by {required_by}, and can't be tried: {why}");
    // Past the harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The end of a log.
pub fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Everything from a pipe, if there is one.
fn text_of(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It can't be started.
    pub fn of(command: &mut Command) -> Self {
        Running::start(command).end()
    }

    /// Its exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Its standard output as one JSON document.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Its standard error's last line as one JSON document: the error.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn error(&self) -> serde_json::Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("no JSON error ({e}): {self:?}"))
    }

    /// Insists on an exit code.
    ///
    /// # Panics
    /// It was another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self:?}");
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A command of the program that holds all programs.
pub fn program(path: &Path, name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.arg(name).env_remove("FAILPOINTS").env("RUST_BACKTRACE", "0");
    command
}
