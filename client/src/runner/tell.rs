//! Tells callers how their sagas have ended, once that is written: those that end in the same moment together, by one write.

use std::sync::Mutex;

use like_protocol::failpoint::{Failpoint, reach};
use tokio::sync::oneshot;

use super::run::{Outcome, lock};
use crate::log::{LogEnded, Position, SagaLog};

/// Somebody who waits for the end of a saga.
pub(super) type Caller = oneshot::Sender<Result<Outcome, LogEnded>>;

/// An end that was noted.
pub(super) struct Telling {
    /// Where it ends in the log.
    pub position: Position,
    /// Who is to be told what, if anybody is.
    pub outcome: Option<(Caller, Outcome)>,
}

/// Those who are to be told.
pub(super) struct Teller {
    log: SagaLog,
    waiting: Mutex<Vec<Telling>>,
}

impl Teller {
    pub fn new(log: SagaLog) -> Self {
        Self { log, waiting: Mutex::default() }
    }

    /// Puts an end to those that are to be told. Whoever is the first tells for all, by dropping what it is given; it lets the
    /// others that are ready go before.
    pub fn tell(&self, telling: Telling) -> Option<Tells<'_>> {
        let mut waiting = lock(&self.waiting);
        waiting.push(telling);
        (waiting.len() == 1).then(|| Tells(self))
    }

    fn tell_all(&self) {
        let told = std::mem::take(&mut *lock(&self.waiting));
        let Some(last) = told.iter().map(|telling| telling.position).max() else { return };
        tell(&self.log, last, told.into_iter().filter_map(|telling| telling.outcome));
    }
}

/// Tells callers how their sagas have ended, once the log is written up to `position`.
pub(super) fn tell(log: &SagaLog, position: Position, outcomes: impl Iterator<Item = (Caller, Outcome)>) {
    let written = log.to_write(position).write();
    if written.is_ok() {
        reach(Failpoint::EndWritten);
    }
    for (caller, outcome) in outcomes {
        // Whoever waited may have given up: the end stands in the log.
        let _ = caller.send(written.clone().map(|()| outcome));
    }
}

/// Writes the ends that were noted and tells them when it is dropped, even if that is because its future is given up: the
/// others count on it.
pub(super) struct Tells<'a>(&'a Teller);

impl Drop for Tells<'_> {
    fn drop(&mut self) {
        self.0.tell_all();
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::SagaId;

    use super::*;
    use crate::log::{Journal, Keeping, history, take_over};
    use crate::saga::tests::begun;
    use crate::saga::{Event, SagaState};

    /// Something noted in a log, and a caller who waits for it.
    fn ending(log: &SagaLog, number: u8) -> (Telling, oneshot::Receiver<Result<Outcome, LogEnded>>) {
        let (saga, begun) = (SagaId::from_bytes([number; 16]), std::sync::Arc::new(begun()));
        let position = log.append(saga, [Event::Begun(begun.clone())]).unwrap();
        let (caller, told) = oneshot::channel();
        (
            Telling {
                position,
                outcome: Some((caller, Outcome { saga, state: SagaState::begin(begun).into() })),
            },
            told,
        )
    }

    #[tokio::test]
    async fn the_first_tells_for_all_once_all_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let log = take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log;
        let written = || history::read(&journal).unwrap().sagas.len();
        let teller = Teller::new(log.clone());
        let ((first, mut told), (second, mut told_too)) = (ending(&log, 1), ending(&log, 2));
        let tells = teller.tell(first).unwrap();
        assert!(teller.tell(second).is_none(), "one tells for both");
        assert!(told.try_recv().is_err() && told_too.try_recv().is_err());
        assert_eq!(written(), 0);
        // As when the future that was to tell is given up.
        drop(tells);
        assert!(told.try_recv().unwrap().is_ok() && told_too.try_recv().unwrap().is_ok());
        assert_eq!(written(), 2, "told before it was written");

        let (third, mut told) = ending(&log, 3);
        log.let_go();
        drop(teller.tell(third));
        assert!(told.try_recv().unwrap().is_ok(), "who lets go of a log has written what was noted");
    }
}
