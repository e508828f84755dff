//! The gateway's life: runner, socket, ready; requests; drain, end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use like_client::log::JournalError;
use like_process::descriptors::{self, TooFewDescriptors};
use like_process::{stops, supervisor};
use like_protocol::time::{BootClock, Clock};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::flags::Config;
use crate::host::Host;
use crate::http::{self, App};
use crate::listen::ListenError;
use crate::{VERSION, logging, serve};

/// Descriptors that a gateway opens besides its connections: those to the services, the next segment of its log, what is read
/// of the log, the slots whose lock is waited for, the connections that are just being turned away.
const DESCRIPTORS: u64 = 128;

/// How often the accept loop shows that it is alive where no supervisor asks for it.
const IDLE_BEAT: Duration = Duration::from_secs(60);

/// Why a gateway did not start, or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It may open too few files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// It can't listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No slot of the journal can be taken.
    #[error(
        "{0}; the gateway needs to write the journal: see that its disk has space and that the gateway's user is a member of the group `like`, or give --journal"
    )]
    Start(#[from] JournalError),
    /// The journal can't be watched.
    #[error("{0}: what other runners leave is not taken over any more, so the gateway ends; start it again")]
    Watch(#[source] JournalError),
    /// There is no clock to set deadlines by.
    #[error("{0}: deadlines need it; a sandbox must not hide it (systemd's ProcSubset=pid does)")]
    Clock(io::Error),
    /// The system's journal does not listen.
    #[error("can't log to the journal: {0}; choose another --log-format")]
    Logging(io::Error),
    /// The system refused something that every process needs.
    #[error("can't {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The saga log failed while the gateway was running.
    #[error("the saga log can't be written any more: check the disk of the journal, then start again")]
    LogEnded,
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Runs a gateway until it is told to stop or fails.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config) -> Result<(), RunError> {
    logging::start(config.log_format).map_err(RunError::Logging)?;
    let connections_max = descriptors::connections_that_fit(config.connections_max, DESCRIPTORS)?;
    let clock: Arc<dyn Clock> = Arc::new(BootClock::open().map_err(RunError::Clock)?);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    to_its_end(runtime, live(config, connections_max, clock))
}

/// Runs what a process is for, and leaves the runtime behind as it is: the process ends with it. A thread that waits in the kernel for
/// a slot's lock would otherwise be waited for; and one that acts for an administrator, who may be gone, waits for the runtime's
/// timers, and would panic without them.
fn to_its_end<T>(runtime: Runtime, main: impl Future<Output = T>) -> T {
    let ran = runtime.block_on(main);
    std::mem::forget(runtime);
    ran
}

async fn live(config: Config, connections_max: u32, clock: Arc<dyn Clock>) -> Result<(), RunError> {
    // A file that may not grow any more (`RLIMIT_FSIZE`) is a write that fails, and not the end without a word.
    let _unheard =
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(system("listen for SIGXFSZ"))?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?,
        signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?,
    );
    stops::let_in();
    let host = Arc::new(Host::start(&config, clock)?);
    let listener = config.listen.start()?;
    let place = listener.place();
    let stop = CancellationToken::new();
    let app = App::new(Arc::clone(&host), config.hosts, config.administrators, stop.clone());
    let grace = host.patience();
    let beat_every = supervisor::watchdog().map_or(IDLE_BEAT, |interval| interval / 3);
    let beat = || supervisor::tell(&["WATCHDOG=1"]);
    let router = http::router(app);
    let serving =
        tokio::spawn(serve::serve(listener, router, connections_max, stop.clone(), beat, beat_every, grace));
    let recovery = host.recover(stop.clone().cancelled_owned());
    tokio::pin!(recovery);
    supervisor::tell(&["READY=1", &format!("STATUS=Serving {place}")]);
    tracing::info!(version = VERSION, "serving {place}");

    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        ended = &mut recovery => return ended.map_err(RunError::Watch),
        () = host.log_ended() => return Err(RunError::LogEnded),
    };
    tracing::info!(signal, "stopping: no new connections");
    supervisor::tell(&["STOPPING=1", "STATUS=Answering what is under way"]);
    stop.cancel();
    let own = serving.await;
    serve::beating(host.close(grace), beat, beat_every).await;
    // Last of all: whoever holds its directory's lock keeps nothing else from its end. A panic has aborted before.
    if let Ok(Some(own)) = own {
        own.remove();
    }
    tracing::info!("stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Handle;

    use super::*;

    /// Who acts for an administrator when the process is told to stop: says when that has ended, however it did.
    struct Acting(mpsc::Sender<()>);

    impl Drop for Acting {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn an_act_that_is_under_way_at_the_end_does_not_panic() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (ended, end) = mpsc::channel();
        to_its_end(runtime, async {
            let (runtime, acting) = (Handle::current(), Acting(ended));
            let (begins, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _acting = acting;
                runtime.block_on(async {
                    let sleeps = tokio::time::sleep(Duration::from_secs(3600));
                    tokio::pin!(sleeps);
                    assert!(futures::poll!(&mut sleeps).is_pending());
                    begins.send(()).unwrap();
                    sleeps.await;
                });
            });
            begun.await.unwrap();
        });
        assert_eq!(end.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
    }
}
