//! The bounded queue between sessions and the writer.
//!
//! It is bounded by requests and by their bytes. What does not fit is answered with `busy` at once: a client that
//! waits and comes back costs nothing here. Half of it is kept for sessions that have little on their way, or whoever floods
//! a daemon would be the only one who is served.
//!
//! Changes come out in the order in which they came. Reads come out by turns, one of each session that has any in each turn,
//! and those of one session in their order: whoever asks for much is waited for by nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use like_protocol::message::{Request, RequestBody, RetryReason, Settlement};
use tokio::sync::Notify;

use super::mailbox::Mailbox;

/// How many bytes of requests may wait. Full batches of settlements are the only requests of any size; of those,
/// some hundreds fit.
pub const QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many settlements may have been taken out at once for another change to be taken out behind them: sixteen full batches. They are
/// as much work as so many saga steps, and come in one request by the hundred.
pub const SETTLEMENTS_AT_ONCE: usize = 4096;

/// Where half of the queue is full, a session that has one part in so many of it on its way must wait.
const LITTLE: usize = 64;

/// A request and where its answer goes.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub request: Request,
    /// The session that waits for it.
    pub session: Arc<Mailbox>,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    arrived: Notify,
    limit: usize,
}

#[derive(Default, Debug)]
struct State {
    changes: VecDeque<Job>,
    /// By turn, and then as they came.
    reads: BTreeMap<(u64, u64), Job>,
    /// The turn of the read that came out last.
    turn: u64,
    /// How many reads have come.
    arrived: u64,
    bytes: usize,
    closed: bool,
}

impl State {
    fn len(&self) -> usize {
        self.changes.len() + self.reads.len()
    }

    fn put(&mut self, job: Job) {
        self.bytes += bytes_of(&job.request.body);
        if !only_reads(&job.request.body) {
            return self.changes.push_back(job);
        }
        // The turn after the one that is on, so that those who are in it already come first.
        let turn = self.turn.max(job.session.turn.load(Ordering::Relaxed)) + 1;
        job.session.turn.store(turn, Ordering::Relaxed);
        self.reads.insert((turn, self.arrived), job);
        self.arrived += 1;
    }

    fn take_changes(&mut self, most: usize) -> Vec<Job> {
        let mut settlements = 0;
        let is_taken = |job: &&Job| {
            let is_taken = settlements < SETTLEMENTS_AT_ONCE;
            if let RequestBody::Settle(batch) = &job.request.body {
                settlements += batch.len();
            }
            is_taken
        };
        let count = self.changes.iter().take(most).take_while(is_taken).count();
        let jobs: Vec<_> = self.changes.drain(..count).collect();
        self.bytes -= jobs.iter().map(|job| bytes_of(&job.request.body)).sum::<usize>();
        jobs
    }

    fn take_read(&mut self) -> Option<Job> {
        let ((turn, _), job) = self.reads.pop_first()?;
        self.turn = turn;
        self.bytes -= bytes_of(&job.request.body);
        Some(job)
    }
}

/// What came out of the queue.
#[derive(Debug)]
pub enum Drained {
    /// The oldest changes, in their order; none if there are only reads, or nothing came in time.
    Changes(Vec<Job>),
    /// It is closed, and there is nothing left in it.
    Ended,
}

impl Queue {
    /// A queue that holds `limit` jobs, at least one.
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), limit: limit.max(1) }
    }

    /// Adds a job, of a session that has so many others on their way.
    ///
    /// # Errors
    /// The queue is full, for this session at least, or closed. The job comes back with what its client is to be told.
    // The job is large, and the refusal rare: it is worth more than a box around every job.
    #[allow(clippy::result_large_err)]
    pub fn submit(&self, job: Job, others: usize) -> Result<(), (Job, RetryReason)> {
        let mut state = self.state();
        let bytes = bytes_of(&job.request.body);
        if state.closed {
            return Err((job, RetryReason::Draining));
        }
        let is_full = state.len() >= self.limit || state.bytes + bytes > QUEUED_BYTES_MAX;
        let is_kept = state.len() >= self.limit / 2 && others >= (self.limit / LITTLE).max(1);
        if is_full || is_kept {
            return Err((job, RetryReason::Busy));
        }
        state.put(job);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes out up to `most` changes, and fewer if many settlements are among them. If there is nothing, not even a read, it
    /// waits until something comes, the queue is closed, or `wait` is over. One writer waits at a time.
    pub async fn drain(&self, most: usize, wait: Option<Duration>) -> Drained {
        match wait {
            Some(wait) => {
                let drained = tokio::time::timeout(wait, self.drained(most)).await;
                drained.unwrap_or_else(|_| Drained::Changes(Vec::new()))
            }
            None => self.drained(most).await,
        }
    }

    async fn drained(&self, most: usize) -> Drained {
        loop {
            {
                let mut state = self.state();
                if state.len() > 0 {
                    return Drained::Changes(state.take_changes(most));
                }
                if state.closed {
                    return Drained::Ended;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// The same with what is there: it waits for nothing.
    pub fn drain_now(&self, most: usize) -> Vec<Job> {
        self.state().take_changes(most)
    }

    /// Takes out the read whose turn it is, if there is any.
    pub fn next_read(&self) -> Option<Job> {
        self.state().take_read()
    }

    /// Lets nothing more in. What is in it is still drained.
    pub fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_one();
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.state().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request changes nothing, whatever it finds.
fn only_reads(body: &RequestBody) -> bool {
    match body {
        RequestBody::Query(_) | RequestBody::Unsettled { .. } | RequestBody::Status => true,
        RequestBody::Step(_) | RequestBody::Settle(_) | RequestBody::Command(_) => false,
    }
}

/// About how much memory a request holds on to.
fn bytes_of(body: &RequestBody) -> usize {
    let payload = match body {
        RequestBody::Step(step) => step.operation.0.len(),
        RequestBody::Settle(settlements) => settlements
            .iter()
            .map(|settlement| {
                size_of::<Settlement>() + settlement.note.as_ref().map_or(0, |note| note.0.len())
            })
            .sum(),
        RequestBody::Query(payload) | RequestBody::Command(payload) => payload.0.len(),
        RequestBody::Unsettled { .. } | RequestBody::Status => 0,
    };
    size_of::<Job>() + payload
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::{BootId, SagaId, StepId};
    use like_protocol::message::{Ending, Payload, SETTLEMENTS_MAX};
    use like_protocol::time::Deadline;

    use super::*;

    fn job(id: u64, bytes: usize) -> Job {
        let body = RequestBody::Command(Payload::from(vec![0; bytes]));
        Job { request: Request { id, body }, session: Mailbox::open().0 }
    }

    fn ids(drained: Drained) -> Vec<u64> {
        match drained {
            Drained::Changes(jobs) => jobs.iter().map(|job| job.request.id).collect(),
            Drained::Ended => panic!("ended"),
        }
    }

    #[tokio::test]
    async fn jobs_come_out_in_order_and_a_full_queue_says_busy() {
        let queue = Queue::new(2);
        queue.submit(job(1, 0), 0).unwrap();
        queue.submit(job(2, 0), 0).unwrap();
        let (refused, reason) = queue.submit(job(3, 0), 0).unwrap_err();
        assert_eq!((refused.request.id, reason), (3, RetryReason::Busy));
        assert_eq!(ids(queue.drain(1, None).await), [1]);
        queue.submit(job(4, 0), 0).unwrap();
        assert_eq!(ids(queue.drain(9, None).await), [2, 4]);
    }

    /// A read of a session that has others on their way.
    fn read(session: &Arc<Mailbox>, id: u64) -> Job {
        Job { request: Request { id, body: RequestBody::Status }, session: Arc::clone(session) }
    }

    fn next_reads(queue: &Queue, most: usize) -> Vec<u64> {
        std::iter::from_fn(|| queue.next_read()).take(most).map(|job| job.request.id).collect()
    }

    #[tokio::test]
    async fn reads_are_apart_from_changes_and_count_as_much() {
        let queue = Queue::new(3);
        queue.submit(job(1, 0), 0).unwrap();
        queue.submit(read(&Mailbox::open().0, 2), 0).unwrap();
        queue.submit(job(3, 0), 0).unwrap();
        assert_eq!(queue.submit(read(&Mailbox::open().0, 4), 0).unwrap_err().1, RetryReason::Busy);
        assert_eq!(ids(queue.drain(9, None).await), [1, 3]);
        assert!(ids(queue.drain(9, None).await).is_empty(), "a read is not waited for");
        queue.close();
        assert!(ids(queue.drain(9, None).await).is_empty(), "nor forgotten");
        assert_eq!(next_reads(&queue, 9), [2]);
        assert!(matches!(queue.drain(9, None).await, Drained::Ended));
        assert_eq!(queue.state().bytes, 0);
    }

    #[test]
    fn whoever_asks_for_much_is_waited_for_by_nobody_else() {
        let queue = Queue::new(1000);
        let [much, little, late] = [(); 3].map(|()| Mailbox::open().0);
        (0..100).for_each(|id| queue.submit(read(&much, id), 0).unwrap());
        assert_eq!(next_reads(&queue, 50), (0..50).collect::<Vec<_>>());
        queue.submit(read(&little, 200), 0).unwrap();
        queue.submit(read(&little, 201), 0).unwrap();
        queue.submit(read(&late, 300), 0).unwrap();
        // Whoever comes does not push those away who have waited for this turn.
        assert_eq!(next_reads(&queue, 6), [50, 200, 300, 51, 201, 52]);
        queue.submit(read(&much, 100), 0).unwrap();
        queue.submit(read(&late, 301), 0).unwrap();
        assert_eq!(next_reads(&queue, 3), [53, 301, 54]);
        assert_eq!(next_reads(&queue, 99), (55..=100).collect::<Vec<_>>(), "each session's in their order");
    }

    #[test]
    fn half_of_it_is_for_those_who_have_little_on_their_way() {
        let queue = Queue::new(256);
        for id in 0..128 {
            queue.submit(job(id, 0), id as usize).unwrap();
        }
        let (_, reason) = queue.submit(job(128, 0), 128).unwrap_err();
        assert_eq!(reason, RetryReason::Busy);
        queue.submit(job(129, 0), 3).unwrap();
        assert!(queue.submit(job(130, 0), 4).is_err(), "that is not little");
        (131..258).for_each(|id| queue.submit(job(id, 0), 0).unwrap());
        assert!(queue.submit(job(258, 0), 0).is_err(), "it is full for everybody");
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let queue = Queue::new(100);
        queue.submit(job(1, QUEUED_BYTES_MAX / 4), 0).unwrap();
        queue.submit(job(2, QUEUED_BYTES_MAX / 4), 0).unwrap();
        let (_, reason) = queue.submit(job(3, QUEUED_BYTES_MAX / 2), 0).unwrap_err();
        assert_eq!(reason, RetryReason::Busy);
        assert_eq!(ids(queue.drain(1, None).await), [1]);
        queue.submit(job(4, QUEUED_BYTES_MAX / 2), 0).unwrap();
    }

    #[test]
    fn a_batch_of_settlements_counts_with_all_that_it_holds() {
        let saga = SagaId::from_bytes([1; 16]);
        let deadline = Deadline { boot: BootId::from_bytes([1; 16]), at_ms: 0 };
        let settlement = |note_bytes| Settlement {
            id: StepId { saga, step: 0 },
            deadline,
            ending: Ending::Natural,
            note: Some(Payload::from(vec![0; note_bytes])),
        };
        let bytes = |settlements| bytes_of(&RequestBody::Settle(settlements));
        let one = bytes(vec![settlement(0)]) - bytes(vec![]);
        assert!(one >= size_of::<Settlement>());
        assert_eq!(bytes(vec![settlement(100), settlement(1000)]), bytes(vec![]) + 2 * one + 1100);
    }

    #[test]
    fn so_many_settlements_come_out_at_once_and_what_is_behind_them_comes_out_next() {
        let queue = Queue::new(100);
        let deadline = Deadline { boot: BootId::from_bytes([1; 16]), at_ms: 0 };
        let id = StepId { saga: SagaId::from_bytes([1; 16]), step: 0 };
        let batch = vec![Settlement { id, deadline, ending: Ending::Natural, note: None }; SETTLEMENTS_MAX];
        let settle = |id| {
            let request = Request { id, body: RequestBody::Settle(batch.clone()) };
            queue.submit(Job { request, session: Mailbox::open().0 }, 0).unwrap();
        };
        queue.submit(job(0, 0), 0).unwrap();
        (1..=20).for_each(settle);
        queue.submit(job(21, 0), 0).unwrap();
        let next = |most| ids(Drained::Changes(queue.drain_now(most)));
        assert_eq!(next(10), (0..10).collect::<Vec<_>>());
        assert_eq!(next(100), (10..=21).collect::<Vec<_>>(), "no more than that are left");
        (1..=20).for_each(settle);
        queue.submit(job(21, 0), 0).unwrap();
        assert_eq!(next(100), (1..=16).collect::<Vec<_>>(), "4096 of them");
        assert_eq!(next(100), (17..=21).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_closed_queue_lets_nothing_in_and_everything_out() {
        let queue = Queue::new(2);
        queue.submit(job(1, 0), 0).unwrap();
        queue.close();
        assert_eq!(queue.submit(job(2, 0), 0).unwrap_err().1, RetryReason::Draining);
        assert_eq!(ids(queue.drain(9, None).await), [1]);
        assert!(matches!(queue.drain(9, None).await, Drained::Ended));
    }

    #[tokio::test]
    async fn a_wait_that_is_over_brings_nothing() {
        let queue = Queue::new(2);
        assert!(ids(queue.drain(9, Some(Duration::from_millis(1))).await).is_empty());
    }

    #[tokio::test]
    async fn a_waiting_drain_wakes_for_a_job_and_for_the_end() {
        let queue = Queue::new(2);
        let drain = async { (ids(queue.drain(9, None).await), queue.drain(9, None).await) };
        let feed = async {
            queue.submit(job(1, 0), 0).unwrap();
            while !queue.is_empty() {
                tokio::task::yield_now().await;
            }
            queue.close();
        };
        let ((first, second), ()) = futures::join!(drain, feed);
        assert_eq!(first, [1]);
        assert!(matches!(second, Drained::Ended));
    }
}
