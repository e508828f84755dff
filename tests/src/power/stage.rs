//! A stage on which real processes play a workload while everything they do to files is recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use like_client::likes::{ArticleService, UserService};
use like_client::rpc::Remote;
use like_protocol::ids::BootId;
use like_protocol::time::{BootClock, Clock, Now};
use rustix::process::Signal;
use tempfile::TempDir;

use super::crowd::Crowd;
use super::disk::{Disk, Fate};
use super::faults::{self, ArmedDisk, DiskFault};
use super::ledger::{Act, Ledger, Plan};
use super::record::{self, Entry};
use super::tree::Tree;
use crate::house::Service;
use crate::process::{Ended, Running, eventually, program};
use crate::quick::quick_directory;
use crate::random::Random;

/// How large a daemon's commit log grows before a checkpoint, in KiB: some dozens of likes, so that checkpoints are a part
/// of every record but the shortest.
const CHECKPOINT_KIB: &str = "4";

/// What was played.
pub struct Recorded {
    /// Everything that happened.
    pub entries: Vec<Entry>,
    /// The disk before it.
    pub disk: Disk,
    /// What was promised before it.
    pub ledger: Ledger,
}

impl Recorded {
    /// What is found and what is promised if nothing is lost.
    pub fn in_the_end(mut self) -> (Tree, Ledger) {
        for entry in &self.entries {
            self.disk.apply(entry);
            self.ledger.apply(entry);
        }
        (self.disk.after(&|_| Fate::Kept), self.ledger)
    }
}

/// Both daemons, a journal, and those who use them. Everything goes when it is dropped.
pub struct Stage {
    program: PathBuf,
    home: TempDir,
    boot: BootId,
    daemons: [Option<Running>; 2],
    before: (Tree, std::collections::BTreeMap<PathBuf, record::Inode>),
    ledger: Ledger,
    plan: Plan,
    players: u32,
}

impl Stage {
    /// An empty stage. `program` is `like-recorded`; `boot` draws the boot's id.
    pub fn empty(program: &Path, boot: &mut Random) -> Self {
        Self::with(program, boot, &Tree::default(), Ledger::default())
    }

    /// A stage after a power loss that left `tree`, and what had been promised until then.
    pub fn with(program: &Path, boot: &mut Random, tree: &Tree, ledger: Ledger) -> Self {
        let home = quick_directory();
        let world = home.path().join("world");
        fs::create_dir(&world).expect("a directory");
        tree.write(&world).expect("a tree");
        let id = uuid::Uuid::from_u64_pair(boot.any(), boot.any());
        fs::write(home.path().join("boot_id"), format!("{id}\n")).expect("a boot id");
        let before = Tree::read(&world).expect("a tree");
        let daemons = [None, None];
        let boot = BootId::from_bytes(id.into_bytes());
        Self {
            boot,
            program: program.to_owned(),
            home,
            daemons,
            before,
            ledger,
            plan: Plan::new(),
            players: 0,
        }
    }

    fn world(&self) -> PathBuf {
        self.home.path().join("world")
    }

    fn socket(&self, service: Service) -> PathBuf {
        self.home.path().join(format!("{}.sock", service.role()))
    }

    fn recorded(&self, command: &mut Command, who: &str) {
        faults::record(command, &self.world(), &self.home.path().join("record"), who);
        command.env(faults::BOOT_ID, self.home.path().join("boot_id"));
    }

    /// Starts a daemon and waits until it serves.
    pub fn start(&mut self, service: Service) {
        let mut command = program(&self.program, service.program());
        let data = self.world().join(format!("{}-data", service.role()));
        let _ = fs::remove_file(self.socket(service));
        command.arg("--socket").arg(self.socket(service)).arg("--data").arg(data);
        command.args(["--checkpoint-kib", CHECKPOINT_KIB]);
        self.recorded(&mut command, service.role());
        let log = self.home.path().join(format!("{}.log", service.role()));
        let daemon = Running::start_listening(&mut command, &log, &self.socket(service));
        self.daemons[service as usize] = Some(daemon);
    }

    /// Starts both daemons.
    pub fn start_both(&mut self) {
        Service::BOTH.into_iter().for_each(|service| self.start(service));
    }

    /// Stops a daemon in good order.
    pub fn stop(&mut self, service: Service) {
        let daemon = self.daemons[service as usize].take().expect("the daemon runs");
        daemon.signal(Signal::TERM);
        daemon.end().expect_code(0);
    }

    /// Kills a daemon.
    pub fn kill(&mut self, service: Service) {
        self.daemons[service as usize].take().expect("the daemon runs").kill();
    }

    /// A `likectl` command; whatever it does is recorded under a name of its own.
    fn likectl(&mut self, arguments: &[String], acts: &[Act]) -> Command {
        self.players += 1;
        let who = format!("player-{}", self.players);
        let mut command = program(&self.program, "likectl");
        let [article, user] = Service::BOTH.map(|service| self.socket(service));
        command.arg("--article-socket").arg(article).arg("--user-socket").arg(user);
        command.arg("--journal").arg(self.world().join("journal")).arg("--json").args(arguments);
        self.recorded(&mut command, &who);
        self.plan.insert(who, acts.to_vec());
        command
    }

    /// Somebody does something by `likectl`, which ends by itself.
    pub fn act(&mut self, act: Act) -> Ended {
        let arguments = spelled(act);
        Ended::of(&mut self.likectl(&arguments, &[act]))
    }

    /// Somebody does something, gives up soon, and is told so.
    pub fn act_in_a_hurry(&mut self, act: Act) -> Ended {
        let mut arguments = vec!["--timeout".to_owned(), "200ms".to_owned()];
        arguments.extend(spelled(act));
        Ended::of(&mut self.likectl(&arguments, &[act]))
    }

    /// Somebody does something and dies before its n-th change of files.
    pub fn act_and_die(&mut self, act: Act, nth: u64) {
        let (world, marks, arguments) = (self.world(), self.home.path().to_owned(), spelled(act));
        let mut command = self.likectl(&arguments, &[act]);
        let armed = ArmedDisk::arm(&mut command, &world, &marks, DiskFault::Dies(nth));
        let ended = Ended::of(&mut command);
        assert!(ended.was_killed() && armed.fired() == 1, "{ended:?}");
    }

    /// A crowd acts. Before its n-th change of files it stands still while a daemon dies, which then stays away.
    pub fn crowd_while_one_dies(&mut self, crowd: &Crowd, nth: u64, service: Service) {
        let (world, marks) = (self.world(), self.home.path().to_owned());
        let mut command = self.crowd_command(crowd);
        let armed = ArmedDisk::arm(&mut command, &world, &marks, DiskFault::Stops(nth));
        let mut running = Running::start(&mut command);
        eventually("a process that stands still", || {
            assert!(!running.has_ended(), "it has ended before its change {nth}");
            (armed.fired() == 1 && running.is_stopped()).then_some(())
        });
        self.kill(service);
        running.signal(Signal::CONT);
        running.end().expect_code(0);
    }

    /// Runs `likectl` with other arguments; it must succeed.
    pub fn run(&mut self, arguments: &[&str]) -> Ended {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        Ended::of(&mut self.likectl(&arguments, &[])).expect_code(0)
    }

    /// A crowd acts, to its end.
    pub fn crowd(&mut self, crowd: &Crowd) {
        self.crowd_begins(crowd).end().expect_code(0);
    }

    /// A crowd begins to act.
    pub fn crowd_begins(&mut self, crowd: &Crowd) -> Running {
        Running::start(&mut self.crowd_command(crowd))
    }

    fn crowd_command(&mut self, crowd: &Crowd) -> Command {
        self.players += 1;
        let who = format!("crowd-{}", self.players);
        let mut command = program(&self.program, "crowd");
        command.arg(serde_json::to_string(crowd).expect("JSON"));
        command.args(Service::BOTH.map(|service| self.socket(service))).arg(self.world().join("journal"));
        self.recorded(&mut command, &who);
        self.plan.insert(who, crowd.acts());
        command
    }

    /// How large a service's log is.
    pub fn log_bytes(&self, service: Service) -> u64 {
        let db = self.world().join(format!("{}-data/db", service.role()));
        fs::metadata(db).map_or(0, |meta| meta.len())
    }

    /// How many operation records wait for their deadline in both services, before they are forgotten.
    pub fn collectable(&self) -> u64 {
        let clock: Arc<dyn Clock> = Arc::new(StageClock(self.boot, BootClock::open().expect("a boot id")));
        let remote = |service: Service| {
            Arc::new(Remote::unix(service.role(), self.socket(service), Arc::clone(&clock)))
        };
        let within = Duration::from_secs(5);
        let articles = ArticleService::new(remote(Service::Article), within);
        let users = UserService::new(remote(Service::User), within);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (articles, users) = futures::join!(articles.status(), users.status());
            articles.expect("a status").collectable + users.expect("a status").collectable
        })
    }

    /// Kills whatever still runs, and tells what was recorded; nothing if the record does not lead to what is on disk. A
    /// process that is killed between a change and its entry is a rare reason for that; the other one is a change
    /// that escapes the recorder.
    pub fn finish(mut self) -> Option<Recorded> {
        self.daemons.iter_mut().filter_map(Option::take).for_each(Running::kill);
        let ledger = self.ledger.go_on(std::mem::take(&mut self.plan));
        let entries = record::read(&self.home.path().join("record")).expect("a record");
        let (tree, inodes) = &self.before;
        let disk = || Disk::of(&self.world(), tree, inodes);
        let mut replayed = disk();
        for entry in &entries {
            replayed.apply(entry);
        }
        let (on_disk, _) = Tree::read(&self.world()).expect("a tree");
        (replayed.after(&|_| Fate::Kept) == on_disk).then(|| Recorded { entries, disk: disk(), ledger })
    }
}

/// This host's clock, in the boot of a stage.
struct StageClock(BootId, BootClock);

impl Clock for StageClock {
    fn now(&self) -> Now {
        Now { boot: self.0, at_ms: self.1.now().at_ms }
    }
}

fn spelled(act: Act) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    match act {
        Act::Make { article } => words(&["article", "create", "--id", &article.to_string(), "A title"]),
        Act::Like { user, article, key } => {
            let mut arguments = words(&["like", &article.to_string(), "--user", &user.to_string()]);
            if let Some(key) = key {
                arguments.extend(words(&["--key", &uuid::Uuid::from_u128(key).to_string()]));
            }
            arguments
        }
        Act::Unlike { user, article } => {
            words(&["unlike", &article.to_string(), "--user", &user.to_string()])
        }
    }
}
