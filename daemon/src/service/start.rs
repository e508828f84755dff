//! Opens the store and takes it up, within a bound of time.
//!
//! sled can hang on a store that a power loss damaged, instead of refusing it. So everything that reads the store
//! before the daemon is ready happens in a thread that is not waited for longer than [`START_WAIT_MAX`], nor once the daemon
//! is told to stop; a daemon that gives up exits, and takes the thread with it.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use like_protocol::time::Now;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use crate::commit::space::Space;
use crate::participant::Participant;
use crate::participant::domain::Domain;
use crate::store::data_dir::DataDir;
use crate::store::open_error::OpenError;
use crate::store::runs::Shape;
use crate::store::{LoggedStore, StoreError, Tx};

/// How long opening and checking may take. Stores of many gigabytes open in less; a supervisor must wait longer
/// (systemd's `TimeoutStartSec=` is 90 s by default).
pub const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// How many rows of the domain the check looks at, besides every operation record: what can't be read, or is damaged,
/// is better found now than in the middle of a saga.
pub const CHECKED_ROWS_MAX: usize = 100_000;

/// How late a timed wait of a thread of sled's may end: an hour, in nanoseconds.
const SLED_TIMER_SLACK: NonZeroU64 = NonZeroU64::new(3600 * 1_000_000_000).unwrap();

/// Why a store can't be taken up. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opens, but can't be read or written.
    #[error(
        "the store in {path} fails its check: {source}; make sure that its disk works and has space, or restore it from a backup and start once with --restored"
    )]
    Check {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: StoreError,
    },
    /// It neither opens nor refuses.
    #[error("the store in {path} did not open within {} s: its disk hangs or the store is damaged; restore it from a backup, then start once with --restored", START_WAIT_MAX.as_secs())]
    Hangs {
        /// The directory.
        path: PathBuf,
    },
    /// No thread could be made.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
}

/// Opens the store in `data`, with a checkpoint for so many bytes of log, on a disk that is looked at so, and makes a participant of
/// it: when this returns, the store has been read, written and synced once.
///
/// # Errors
/// See [`StartError`].
pub fn take_up<D: Domain>(
    domain: D,
    data: DataDir,
    log_bytes_max: u64,
    space: Space,
    now: Now,
) -> Result<(LoggedStore, Participant<D>), StartError> {
    let path = data.path().to_owned();
    let_sled_sleep();
    let mut store = LoggedStore::open_with(data, log_bytes_max, Shape::USUAL)?.within(space);
    let checked = Participant::open(domain, &mut store, &now).and_then(|mut participant| {
        participant.look_through(&Tx::new(&store), CHECKED_ROWS_MAX)?;
        Ok(participant)
    });
    match checked {
        Ok(participant) => Ok((store, participant)),
        Err(source) => Err(StartError::Check { path, source }),
    }
}

/// Lets the threads that this thread makes from now on sleep on when a timed wait of theirs is over, until the
/// processor is awake anyway.
///
/// sled keeps seven threads that look for work once a second for ever, and has no setting for it. They are made while
/// the store is opened and first written, and inherit this. Being given work still wakes them at once.
fn let_sled_sleep() {
    if let Err(e) = rustix::thread::set_current_timer_slack(Some(SLED_TIMER_SLACK)) {
        debug!("can't let idle threads sleep longer: {e}");
    }
}

/// Does `work`, which takes up the store in `data`, in a thread of its own.
///
/// # Errors
/// It has failed, or has not ended in time ([`START_WAIT_MAX`] for a daemon). Then a thread is left behind that still has the
/// store, as one is if this is not waited for.
pub async fn within<T, E>(
    bound: Duration,
    data: &Path,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StartError> + Send + 'static,
{
    let (done, result) = oneshot::channel();
    let work = move || {
        // Nobody is there any more if it took too long.
        let _too_late = done.send(work());
    };
    thread::Builder::new().name("start".to_owned()).spawn(work).map_err(StartError::Thread)?;
    match timeout(bound, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(StartError::Hangs { path: data.to_owned() }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use like_protocol::ids::BootId;

    use super::*;
    use crate::likes::article::Articles;
    use crate::store::Store;
    use crate::store::base::{Base, SledBase};
    use crate::store::room::Room;
    use crate::store::run::place;
    use crate::store::tests::again;

    fn data(path: &Path) -> DataDir {
        DataDir::open(path, Articles::ROLE, false).unwrap()
    }

    #[test]
    fn a_damaged_block_of_rows_is_named_and_keeps_no_daemon_from_starting() {
        let temp = tempfile::tempdir().unwrap();
        // Each sync makes a checkpoint, and the next one waits for it.
        let mut store = LoggedStore::open_with(data(temp.path()), 1, Shape::USUAL).unwrap();
        for value in 1..=2 {
            store.apply([(vec![0x10, value].into(), Some(vec![value]))].into()).unwrap();
            store.sync().unwrap();
        }
        let run = store.runs().runs[0].entry.run;
        drop(store);
        let base = again(|| SledBase::open(&mut data(temp.path()), b"")).unwrap();
        base.feed(&mut [(&place(run, 0), &Some(b"no block".to_vec()))].into_iter()).unwrap();
        drop(base);

        let space: Space = Arc::new(|| Ok(Room { free_bytes: u64::MAX, reserve_bytes: 0 }));
        let now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 1 };
        let taken_up = again(|| take_up(Articles, data(temp.path()), 1, Arc::clone(&space), now));
        let (_store, participant) = taken_up.unwrap_or_else(|refused| panic!("{refused}"));
        let (rows, named) = participant.damaged();
        assert_eq!((rows, named[0].row.as_str()), (1, "1001"), "{named:?}");
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_given_up() {
        let (_hold, held) = std::sync::mpsc::channel::<()>();
        let hangs = move || {
            let _never = held.recv();
            Ok::<_, StartError>(())
        };
        let given_up = within(Duration::from_millis(20), Path::new("/data"), hangs).await.unwrap_err();
        assert!(given_up.to_string().contains("/data"), "{given_up}");
    }
}
