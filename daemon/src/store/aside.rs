//! Work beside whatever the store does, in steps.

use std::sync::{Arc, TryLockError};

use super::StoreError;
use super::disk::Disk;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::JoinHandle;

/// Work that is done step by step. Whatever a step has done is as good as never begun, or durable.
pub trait Steps: Send + 'static {
    /// What it comes to.
    type Outcome: Send;

    /// Takes the next step. What it has come to, if that was the last one.
    ///
    /// # Errors
    /// The step failed: there will be no other.
    fn step(&mut self) -> Result<Option<Self::Outcome>, StoreError>;
}

/// How far it has got.
enum Progress<S: Steps> {
    UnderWay(S),
    /// What it has come to, until that is told.
    Ended(Option<Result<S::Outcome, StoreError>>),
}

impl<S: Steps> Progress<S> {
    /// Takes the next step. Whether there is another one.
    fn go_on(&mut self) -> bool {
        let Self::UnderWay(steps) = self else { return false };
        match steps.step().transpose() {
            None => true,
            Some(outcome) => {
                *self = Self::Ended(Some(outcome));
                false
            }
        }
    }

    fn outcome(&mut self) -> Result<Option<S::Outcome>, StoreError> {
        match self {
            Self::UnderWay(_) => Ok(None),
            Self::Ended(outcome) => outcome.take().transpose(),
        }
    }
}

/// Work under way. When it is dropped, it ends as early as it can, and has ended.
pub struct Aside<S: Steps> {
    what: &'static str,
    progress: Arc<Mutex<Progress<S>>>,
    stop: Arc<AtomicBool>,
    /// Whoever wants to take steps holds it until he can: while one step is taken, somebody else can so be the next. (Nothing
    /// here may wait by the clock: threads that are begun at a start of a daemon inherit a timer slack of an hour.)
    turn: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Steps> Aside<S> {
    /// Begins work that is called so.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn begin(disk: &dyn Disk, what: &'static str, steps: S) -> Result<Self, StoreError> {
        let progress = Arc::new(Mutex::new(Progress::UnderWay(steps)));
        let (stop, turn) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
        let (shared, asked, in_turn) = (Arc::clone(&progress), Arc::clone(&stop), Arc::clone(&turn));
        let go_on = move || {
            let next = in_turn.lock().ok().and_then(|_turn| shared.lock().ok());
            !asked.load(Ordering::Relaxed) && next.is_some_and(|mut progress| progress.go_on())
        };
        let thread = disk.in_background(what, Box::new(go_on));
        let thread = thread.map_err(|e| StoreError::failed("start a thread for the store", e))?;
        Ok(Self { what, progress, stop, turn, thread })
    }

    /// What it has come to, if it has ended.
    ///
    /// # Errors
    /// It failed.
    pub fn ended(&self) -> Result<Option<S::Outcome>, StoreError> {
        match self.progress.try_lock() {
            Ok(mut progress) => progress.outcome(),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Poisoned(_)) => Err(self.panicked()),
        }
    }

    /// Takes its steps here as long as `goes_on` says so, or until it has ended. What it has come to, if it has.
    ///
    /// # Errors
    /// It failed.
    pub fn hurry_while(&self, goes_on: impl Fn() -> bool) -> Result<Option<S::Outcome>, StoreError> {
        let _turn = self.turn.lock().map_err(|_| self.panicked())?;
        let mut progress = self.progress.lock().map_err(|_| self.panicked())?;
        while goes_on() && progress.go_on() {}
        progress.outcome()
    }

    fn panicked(&self) -> StoreError {
        StoreError::failed(self.what, "its thread panicked")
    }
}

impl<S: Steps> Drop for Aside<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it came to was told, or there is nobody left to tell.
            let _told = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::disk::RealDisk;
    use super::*;

    /// Work of so many steps.
    struct Count(u32);

    impl Steps for Count {
        type Outcome = ();

        fn step(&mut self) -> Result<Option<()>, StoreError> {
            self.0 = self.0.saturating_sub(1);
            Ok((self.0 == 0).then_some(()))
        }
    }

    /// A thread inherits from the one that makes it how late its timed waits may end; the one that opens a store lets them
    /// end an hour late.
    #[test]
    fn work_whose_steps_were_taken_ends_at_once_whoever_began_it() {
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let hour = NonZeroU64::new(3600 * 1_000_000_000);
            rustix::thread::set_current_timer_slack(hour).unwrap();
            let disk = RealDisk::open(&std::env::temp_dir()).unwrap();
            for round in 0..500 {
                let aside = Aside::begin(&disk, "count", Count(200)).unwrap();
                let left = std::cell::Cell::new(100);
                let goes_on = || left.replace(left.get() - 1) > 0;
                // It ends here, in its thread, or is given up in the middle.
                let _ended = aside.hurry_while(goes_on).unwrap();
                if round % 2 == 0 {
                    let _ended = aside.ended().unwrap();
                }
            }
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
