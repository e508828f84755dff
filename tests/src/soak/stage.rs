//! Where a process stands to be struck while somebody waits for its end.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Ended, Running};

/// One process at a time.
#[derive(Default, Debug)]
pub struct Stage(Mutex<Option<Running>>);

impl Stage {
    fn standing(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command to its end, whatever befalls it; how it ended, and how long it took.
    ///
    /// # Panics
    /// It can't be started.
    pub fn run(&self, command: &mut Command) -> (Ended, Duration) {
        let started = Instant::now();
        let mut running = Running::start(command);
        running.read_on();
        *self.standing() = Some(running);
        while self.standing().as_mut().is_some_and(|running| !running.has_ended()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = self.standing().take().expect("only whoever runs it takes it").end();
        (ended, started.elapsed())
    }

    /// Signals the process that stands here; whether one lives.
    pub fn signal(&self, signal: Signal) -> bool {
        let mut standing = self.standing();
        let Some(running) = standing.as_mut() else { return false };
        let alive = !running.has_ended();
        if alive {
            running.signal(signal);
        }
        alive
    }
}
