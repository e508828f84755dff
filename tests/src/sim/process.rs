//! A process: a runtime with a clock of its own that stands still between the host's ticks, and ends with it.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ear;
use super::world::{Host, Service, World};

/// What a process is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One of the two services.
    Daemon(Service),
    /// A runner with several callers.
    Runner,
    /// A runner with one caller and one act.
    OneShot,
    /// Takes over what dead runners left.
    Recovery,
    /// An operator's command.
    Operator,
    /// Reads and audits.
    Reader,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Daemon(Service::Article) => "articled",
            Self::Daemon(Service::User) => "userd",
            Self::Runner => "runner",
            Self::OneShot => "one-shot",
            Self::Recovery => "recovery",
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }
}

/// A process.
pub struct Process {
    /// What it is for.
    pub kind: Kind,
    /// It and its world.
    pub host: Host,
    runtime: Runtime,
    main: JoinHandle<()>,
    /// When it began, by the host's clock and by its own.
    born_ms: u64,
    born: Instant,
}

impl Process {
    /// Starts a process. It does nothing before its first tick.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        world: &Arc<World>,
        kind: Kind,
        main: impl FnOnce(Host) -> F,
    ) -> Self {
        let host = Host { world: Arc::clone(world), life: world.new_life(kind.name()) };
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let born = runtime.block_on(async { Instant::now() });
        world.note(host.life.pid, "starts", kind.name().len() as u64, 0);
        world.say(host.life.pid, || format!("is a {}", kind.name()));
        let main = runtime.spawn(main(host.clone()));
        Self { kind, host, runtime, main, born_ms: world.now_ms(), born }
    }

    /// Lets it do whatever it does up to this moment; nothing if it is stopped or dead.
    pub fn tick(&mut self) {
        let (world, life) = (&self.host.world, &self.host.life);
        if life.is_dead() || life.stopped_until_ms.load(Ordering::Relaxed) > world.now_ms() {
            return;
        }
        let lived = Duration::from_millis(world.now_ms() - self.born_ms);
        let until = self.born + lived;
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
        if let Some(panic) = PANICS.take()
            && !life.is_dead()
        {
            world.broken(format!("{} panicked: {panic}", self.kind.name()));
        }
        if let Some(words) = ear::heard() {
            world.said(&words);
        }
        if self.main.is_finished() {
            world.kill(life);
        }
    }
}

thread_local! {
    static SIMULATES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static PANICS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Forgets a panic of a process that is gone.
pub(super) fn forget_panics() {
    PANICS.take();
}

/// From now on, a panic of a process that this thread simulates is a broken promise, and not printed.
pub(super) fn catch_panics(catch: bool) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if SIMULATES.try_with(std::cell::Cell::get).unwrap_or(false) {
                PANICS.with_borrow_mut(|first| {
                    first.get_or_insert_with(|| panic.to_string());
                });
            } else {
                usual(panic);
            }
        }));
    });
    SIMULATES.set(catch);
}

/// The first panic since the last look.
pub(super) fn panicked() -> Option<String> {
    PANICS.take()
}
