//! A house: both daemons and a journal in a throwaway directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use like_client::likes;
use like_client::log::Journal;
use like_client::rpc::Remote;
use like_client::runner::{Context, Options};
use like_daemon::store::data_dir::DataDir;
use like_daemon::store::{LoggedStore, Store};
pub use like_protocol::likes::Service;
use like_protocol::time::{BootClock, Clock};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Armed, Ended, Fault, PATIENCE, Running, eventually, program};

/// What a `likectl` command needs to know of a house, whoever looks after its daemons meanwhile.
#[derive(Clone, Debug)]
pub struct Desk {
    program: PathBuf,
    sockets: [PathBuf; 2],
    journal: PathBuf,
}

impl Desk {
    /// A `likectl` command, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let [article, user] = &self.sockets;
        let mut command = program(&self.program, "likectl");
        command.arg("--article-socket").arg(article).arg("--user-socket").arg(user);
        command.arg("--journal").arg(&self.journal).args(arguments);
        command
    }
}

/// Both daemons and a journal in a throwaway directory. Everything goes when it is dropped.
#[derive(Debug)]
pub struct House {
    program: PathBuf,
    daemons: [Option<Running>; 2],
    /// Which of its journals is in use.
    page: u32,
    directory: tempfile::TempDir,
}

impl House {
    /// A house whose daemons run. `program` holds all programs.
    ///
    /// # Panics
    /// The daemons don't come up.
    pub fn open(program: impl Into<PathBuf>) -> Self {
        let mut house = Self::closed(program);
        Service::BOTH.into_iter().for_each(|service| house.start(service));
        house
    }

    /// A house whose daemons run, with article 1.
    ///
    /// # Panics
    /// The daemons don't come up.
    pub fn with_article(program: impl Into<PathBuf>) -> Self {
        let house = Self::open(program);
        house.article(1);
        house
    }

    /// A house whose daemons don't run yet.
    ///
    /// # Panics
    /// No directory can be made.
    pub fn closed(program: impl Into<PathBuf>) -> Self {
        Self::within(program, tempfile::tempdir().expect("a directory"))
    }

    /// A house in this directory, whose daemons don't run yet.
    pub fn within(program: impl Into<PathBuf>, directory: tempfile::TempDir) -> Self {
        Self { program: program.into(), daemons: [None, None], page: 0, directory }
    }

    /// The program that holds all programs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a service listens.
    pub fn socket(&self, service: Service) -> PathBuf {
        self.path().join(format!("{}.sock", service.role()))
    }

    /// Where a service keeps its store.
    pub fn data(&self, service: Service) -> PathBuf {
        self.path().join(format!("{}-data", service.role()))
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path().join(format!("journal-{}", self.page))
    }

    /// Ends, and leaves everything where it is.
    pub fn keep(mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.path().to_owned()
    }

    /// Goes on with a journal of its own: nothing of what was done so far stands in it.
    pub fn turn_page(&mut self) {
        self.page += 1;
    }

    /// Starts a daemon and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn start(&mut self, service: Service) {
        self.start_with(service, &[]);
    }

    /// Starts a daemon with faults, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn start_with(&mut self, service: Service, faults: &[Fault]) -> Armed {
        let marks = self.path().to_owned();
        self.start_prepared(service, |command| Armed::arm(command, &marks, faults))
    }

    /// Starts a daemon whose command is prepared first, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn start_prepared<T>(&mut self, service: Service, prepare: impl FnOnce(&mut Command) -> T) -> T {
        let mut command = program(&self.program, service.program());
        command.arg("--socket").arg(self.socket(service)).arg("--data").arg(self.data(service));
        let prepared = prepare(&mut command);
        let log = self.path().join(format!("{}.log", service.role()));
        let daemon = Running::start_listening(&mut command, &log, &self.socket(service));
        *self.slot(service) = Some(daemon);
        prepared
    }

    fn slot(&mut self, service: Service) -> &mut Option<Running> {
        &mut self.daemons[service as usize]
    }

    /// A daemon's process.
    ///
    /// # Panics
    /// It was not started.
    pub fn process(&mut self, service: Service) -> &mut Running {
        self.slot(service).as_mut().expect("the daemon was started")
    }

    fn daemon(&self, service: Service) -> &Running {
        self.daemons[service as usize].as_ref().expect("the daemon was started")
    }

    /// Kills a daemon by SIGKILL.
    ///
    /// # Panics
    /// It was not started.
    pub fn kill(&mut self, service: Service) {
        self.slot(service).take().expect("the daemon was started").kill();
    }

    /// Stops a daemon by SIGTERM and waits for its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn stop(&mut self, service: Service) -> Ended {
        self.daemon(service).signal(Signal::TERM);
        self.slot(service).take().expect("the daemon was started").end()
    }

    /// Waits for the end of a daemon that dies by itself.
    ///
    /// # Panics
    /// It does not.
    pub fn await_death(&mut self, service: Service) -> Ended {
        self.slot(service).take().expect("the daemon was started").end()
    }

    /// Whether a daemon was started, and neither killed nor stopped since.
    pub fn runs(&mut self, service: Service) -> bool {
        self.slot(service).is_some()
    }

    /// Whether a daemon has ended by itself.
    pub fn has_died(&mut self, service: Service) -> bool {
        self.slot(service).as_mut().is_some_and(Running::has_ended)
    }

    /// Stops a daemon's process by SIGSTOP: it keeps its socket and answers nothing.
    pub fn freeze(&self, service: Service) {
        self.daemon(service).signal(Signal::STOP);
        eventually("a frozen daemon", || self.daemon(service).is_stopped().then_some(()));
    }

    /// Flips one bit of the value under a key of a service's store, behind its daemon's back.
    ///
    /// # Panics
    /// There is no such row, or the daemon does not come up again.
    pub fn damage(&mut self, service: Service, key: &[u8]) {
        self.stop(service).expect_code(0);
        let data = DataDir::open(&self.data(service), service.role(), false).expect("a store");
        let mut store = LoggedStore::open(data).expect("it opens");
        let mut value = store.get(key).expect("it can be read").expect("there is such a row");
        *value.last_mut().expect("no value is empty") ^= 0x20;
        store.apply([(key.into(), Some(value))].into()).expect("it can be written");
        store.sync().expect("it can be synced");
        drop(store);
        self.start(service);
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&self, service: Service) {
        self.daemon(service).signal(Signal::CONT);
    }

    /// What a `likectl` command needs to know of this house.
    pub fn desk(&self) -> Desk {
        Desk {
            program: self.program.clone(),
            sockets: Service::BOTH.map(|service| self.socket(service)),
            journal: self.journal(),
        }
    }

    /// A `likectl` command, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.desk().command(arguments)
    }

    /// Runs `likectl` to its end.
    pub fn likectl(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    /// Runs `likectl --json`, insists on success, and returns what it says.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut with_json = vec!["--json"];
        with_json.extend(arguments);
        self.likectl(&with_json).expect_code(0).json()
    }

    /// Makes an article with this id.
    ///
    /// # Panics
    /// It can't be made.
    #[track_caller]
    pub fn article(&self, id: u64) {
        self.json(&["article", "create", "--id", &id.to_string(), "A title"]);
    }

    /// An article's likes.
    ///
    /// # Panics
    /// It can't be read.
    #[track_caller]
    pub fn likes(&self, article: u64) -> u64 {
        self.json(&["article", "show", &article.to_string()])["likes"].as_u64().expect("a number")
    }

    /// How many like records an article has.
    ///
    /// # Panics
    /// They can't be read.
    #[track_caller]
    pub fn records(&self, article: u64) -> usize {
        self.json(&["article", "likers", &article.to_string()]).as_array().expect("a list").len()
    }

    /// What a runner of this test's own process works with.
    ///
    /// # Panics
    /// The journal can't be opened.
    pub fn context(&self) -> Context {
        self.context_with(Options::default())
    }

    /// The same with options.
    ///
    /// # Panics
    /// The journal can't be opened.
    pub fn context_with(&self, options: Options) -> Context {
        let clock: Arc<dyn Clock> = Arc::new(BootClock::open().expect("a boot id"));
        let remotes = Service::BOTH
            .map(|service| Arc::new(Remote::unix(service.role(), self.socket(service), Arc::clone(&clock))));
        let journal = Journal::open(&self.journal()).expect("a journal");
        likes::context(journal, remotes.each_ref(), clock, options)
    }
}

/// Tries what has to come about before a deadline passes: first with so much time, then with twice as much whenever that
/// was not enough on this machine. `within` gets it as `--timeout` takes it, and returns nothing where it was too little.
///
/// # Panics
/// No time was enough.
#[track_caller]
pub fn in_time<T>(what: &str, first: Duration, mut within: impl FnMut(&str) -> Option<T>) -> T {
    let mut time = first;
    while time <= PATIENCE {
        if let Some(found) = within(&format!("{}ms", time.as_millis())) {
            return found;
        }
        time *= 2;
    }
    panic!("never in time: {what}")
}

/// How much has been written to a journal: its segments without the space behind what stands in them.
pub fn written_in(journal: &Path) -> u64 {
    let slots = fs::read_dir(journal).into_iter().flatten().flatten();
    let segments = slots.flat_map(|slot| fs::read_dir(slot.path()).into_iter().flatten().flatten());
    segments.filter_map(|segment| Some(zeros_from(&fs::read(segment.path()).ok()?) as u64)).sum()
}

/// Behind which byte there are only zeros.
pub fn zeros_from(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
