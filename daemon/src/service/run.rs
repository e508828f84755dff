//! A daemon's life: store, socket, ready; sessions and groups; drain, end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use like_process::descriptors::{self, TooFewDescriptors};
use like_process::{stops, supervisor};
use like_protocol::time::{BootClock, Clock, Now};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tracing::{error, info, warn};

use super::flags::Config;
use super::socket::{Listening, Socket, SocketError};
use super::start::{self, START_WAIT_MAX};
use super::{VERSION, logging};
use crate::commit::space;
use crate::commit::writer::Identity;
use crate::commit::{Gauges, Heartbeat, Queue, Writer};
use crate::net::Server;
use crate::net::session::Service;
use crate::participant::Participant;
use crate::participant::domain::Domain;
use crate::store::data_dir::{DataDir, DataDirError};
use crate::store::{LoggedStore, StoreError};

/// Descriptors that a daemon opens for itself: its store's files and the next segment of its log, what a checkpoint, a merge
/// and sled open meanwhile, the runtime's and the listener's, and the connection that is just being turned away. That is
/// about twice as many as were ever seen open at once: a log that can't begin its next segment is the end of a daemon.
const DESCRIPTORS: u64 = 32;

/// How long sessions may take to send their last replies once everything is committed.
const CLOSING_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a daemon did not start, or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It may open too few files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// Its data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its store can't be taken up.
    #[error(transparent)]
    Start(#[from] start::StartError),
    /// It can't listen.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// There is no clock to decide by.
    #[error("{0}: deadlines need it; a sandbox must not hide it (systemd's ProcSubset=pid does)")]
    Clock(io::Error),
    /// The journal does not listen.
    #[error("can't log to the journal: {0}; choose another --log-format")]
    Journal(io::Error),
    /// The system refused something that every process needs.
    #[error("can't {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The store failed while the daemon was running.
    #[error("{0}; nothing that was not answered is certain: check the disk, then start again")]
    Store(#[from] StoreError),
    /// The writer is gone without a word.
    #[error("the writer ended unexpectedly: start again")]
    WriterGone,
    /// So is the listener.
    #[error("the listener ended unexpectedly: start again")]
    ListenerGone,
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Runs a daemon until it is told to stop or fails.
///
/// # Errors
/// See [`RunError`].
pub fn run<D: Domain>(domain: D, config: Config) -> Result<(), RunError> {
    logging::start(config.log_format).map_err(RunError::Journal)?;
    let connections_max = descriptors::connections_that_fit(config.connections_max, DESCRIPTORS)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let ended = runtime.block_on(live(domain, config, connections_max));
    // Sessions that would not close in time are not waited for any longer.
    runtime.shutdown_background();
    ended
}

async fn live<D: Domain>(domain: D, config: Config, connections_max: u32) -> Result<(), RunError> {
    outlive_limits_of_files()?;
    let mut stops = Stops::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(BootClock::open().map_err(RunError::Clock)?);
    let Config { socket, data, restored, allowed, queue_limit, log_bytes_max, .. } = config;
    let opening = {
        let (data, now) = (data.clone(), clock.now());
        move || open(domain, &data, restored, log_bytes_max, socket, now)
    };
    let opened = tokio::select! {
        opened = start::within(START_WAIT_MAX, &data, opening) => opened?,
        signal = stops.heard() => {
            // As good as a kill here, which a store outlives at any moment.
            info!(signal, "stopped before it was ready");
            return Ok(());
        }
    };
    let Opened { store, participant, socket, is_new } = opened;
    let identity = Identity { role: D::ROLE, store: store.id(), software: VERSION.to_owned() };
    let queue = Arc::new(Queue::new(queue_limit));
    let gauges = Arc::new(Gauges::default());
    let writer = Writer {
        participant,
        space: store.space(),
        store,
        queue: queue.clone(),
        clock: clock.clone(),
        identity: identity.clone(),
        gauges: gauges.clone(),
        heartbeat: watchdog(),
    };
    let listening = socket.listen()?;
    if is_new {
        // Where one was to be there, its disk may not be mounted.
        info!(data = %data.display(), "there was no store: a new one was made");
    }
    let service = Arc::new(Service { queue, identity, clock });
    let server = Server { service, allowed, connections_max, gauges };
    serve(listening, stops, server, writer).await
}

/// A store that was taken up, and what was found out on the way.
struct Opened<D: Domain> {
    store: LoggedStore,
    participant: Participant<D>,
    socket: Socket,
    is_new: bool,
}

/// Takes up the store in `data`, unless the socket would be in there.
fn open<D: Domain>(
    domain: D,
    data: &Path,
    restored: bool,
    log_bytes_max: u64,
    socket: Socket,
    now: Now,
) -> Result<Opened<D>, RunError> {
    let data = DataDir::open(data, D::ROLE, restored)?;
    let is_new = data.is_new();
    let socket = socket.apart_from(data.path())?;
    let space = space::of(data.directory()?, log_bytes_max);
    let (store, participant) = start::take_up(domain, data, log_bytes_max, space, now)?;
    Ok(Opened { store, participant, socket, is_new })
}

/// From here on a file that may not grow any more (`RLIMIT_FSIZE`) is a write that fails, and not a signal that ends the process
/// without a word.
fn outlive_limits_of_files() -> Result<(), RunError> {
    // Nobody listens: that it is handled is all that is wanted, and it stays so.
    let at_its_limit = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _unheard = signal(at_its_limit).map_err(system("listen for SIGXFSZ"))?;
    Ok(())
}

/// The signals by which it is told to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// Hears them from now on, and what came before. Must be called within a tokio runtime.
    fn listen() -> Result<Self, RunError> {
        let terminate = signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?;
        let interrupt = signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?;
        stops::let_in();
        Ok(Self { terminate, interrupt })
    }

    /// Waits for one: its name.
    async fn heard(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn serve<D: Domain>(
    listening: Listening,
    mut stops: Stops,
    server: Server,
    writer: Writer<D, LoggedStore>,
) -> Result<(), RunError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (close, closing) = watch::channel(false);
    let listener = UnixListener::from_std(listening.listener).map_err(system("listen"))?;
    let queue = server.service.queue.clone();
    let identity = server.service.identity.clone();
    let status = format!("STATUS=Serving the {} store {}", identity.role, identity.store);
    let unsettled = writer.participant.unsettled();
    let mut written = tokio::spawn(write(writer));
    let accepting = tokio::spawn(server.run(listener, async { stopped.await.unwrap_or_default() }, closing));
    supervisor::tell(&["READY=1", &status]);
    info!(
        role = identity.role,
        store_id = %identity.store,
        unsettled,
        "ready"
    );

    let signal = tokio::select! {
        signal = stops.heard() => signal,
        ended = &mut written => return Err(ended_early(ended)),
    };

    info!(signal, waiting = queue.len(), "stopping: no new work");
    supervisor::tell(&["STOPPING=1", "STATUS=Draining"]);
    drop(stop);
    let sessions = accepting.await.map_err(|_| RunError::ListenerGone)?;
    queue.close();
    let ended = written.await.map_err(|_| RunError::WriterGone)?;
    ended?;
    // Every session finds all its answers waiting.
    let _all_gone = close.send(true);
    if tokio::time::timeout(CLOSING_WAIT_MAX, sessions.join_all()).await.is_err() {
        warn!("some sessions have not taken their replies");
    }
    // Last of all: whoever holds its directory's lock keeps nobody from an answer.
    if let Some(own) = listening.own {
        own.remove();
    }
    info!("stopped");
    Ok(())
}

/// Why the writer ended before it was told to.
fn ended_early(ended: Result<Result<(), StoreError>, JoinError>) -> RunError {
    match ended {
        Ok(Err(failed)) => RunError::Store(failed),
        Ok(Ok(())) | Err(_) => RunError::WriterGone,
    }
}

/// Commits until the queue is closed and empty, or the store fails.
async fn write<D: Domain>(mut writer: Writer<D, LoggedStore>) -> Result<(), StoreError> {
    let result = writer.run().await;
    if let Err(e) = &result {
        error!("the store failed, nothing more is answered: {e}");
        // Closing the store would touch what has failed.
        std::mem::forget(writer);
    }
    result
}

/// The supervisor's watchdog, if it set one. It is told from the commit loop, so it notices when that hangs.
fn watchdog() -> Option<Heartbeat> {
    let interval = supervisor::watchdog()?;
    Some(Heartbeat { interval, beat: Box::new(|| supervisor::tell(&["WATCHDOG=1"])) })
}
