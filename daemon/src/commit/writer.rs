//! The one task that owns the store.
//!
//! Over and over, in rounds: take the changes out of the queue; answer reads, from the store, which is durable at that moment;
//! evaluate the changes in order against the store and what the group has written so far, apply and sync, and only then
//! answer. Duplicates are answered after the sync too, so nothing is ever shown that a crash could take back. A write or sync
//! that fails ends the task: nobody of its group is answered, and the process ends with it.
//!
//! Reads have only so much time in each round: what is left of them waits for the next one, and changes for no flood of reads.
//!
//! A group holds up its thread, and with it the sessions, until it is durable. That is meant: there is nothing to answer
//! meanwhile, what comes meanwhile waits in the sockets and is the next group, and nobody is woken on another core.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::StoreId;
use like_protocol::message::{DaemonStatus, Direction, Reply, ReplyBody, RequestBody, RetryReason};
use like_protocol::time::{Clock, Now};
use tracing::{error, info, warn};

use super::Gauges;
use super::mailbox::{Answer, Mailbox};
use super::queue::{Drained, Job, Queue};
use super::space::{Room, Space};
use super::unsent::UnsentBytes;
use crate::participant::domain::Domain;
use crate::participant::{Moment, Participant};
use crate::store::{Store, StoreError, Tx};

/// How many changes one group takes. Where syncs are slow, whoever is left out waits for another one; where they are quick,
/// groups never get so large. Evaluating so many saga steps takes some milliseconds, and so do the settlements that may be among
/// them ([`SETTLEMENTS_AT_ONCE`](super::queue::SETTLEMENTS_AT_ONCE)).
pub const GROUP_REQUESTS_MAX: usize = 1024;

/// For how many milliseconds the reads of one round are answered; the one that is under way then is the last. A page takes up to
/// some milliseconds itself, so that less would come to a page a round, and a sync for each where others change something.
/// And it is no more than a sync takes on many a disk, which everybody waits for as well.
const ROUND_READS_MS_MAX: u64 = 5;

/// How long a record may be due before an otherwise idle daemon wakes up for it: so a second's worth goes at once.
const COLLECTION_SLACK_MS: u64 = 1000;

/// What a supervisor hears as long as groups are being committed.
pub struct Heartbeat {
    /// How long it may hear nothing.
    pub interval: Duration,
    /// Tells it.
    pub beat: Box<dyn FnMut() + Send>,
}

/// Who this daemon is, for its status.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which service.
    pub role: &'static str,
    /// Which store.
    pub store: StoreId,
    /// Software version.
    pub software: String,
}

/// The writer and what it works with.
pub struct Writer<D: Domain, S: Store> {
    /// The rules.
    pub participant: Participant<D>,
    /// The store, owned from now on.
    pub store: S,
    /// Where requests come from.
    pub queue: Arc<Queue>,
    /// The clock that decides about deadlines.
    pub clock: Arc<dyn Clock>,
    /// How much disk is left.
    pub space: Space,
    /// Who this is.
    pub identity: Identity,
    /// What sessions know.
    pub gauges: Arc<Gauges>,
    /// The supervisor, if there is one.
    pub heartbeat: Option<Heartbeat>,
}

impl<D: Domain, S: Store> Writer<D, S> {
    /// Works until the queue is closed and empty. Whatever was in it is then durable and answered.
    ///
    /// # Errors
    /// The store failed. The group at hand is not answered, and nothing after it may be.
    pub async fn run(&mut self) -> Result<(), StoreError> {
        let mut work = self.begin();
        loop {
            let wait = self.idle_wait(&work);
            match self.queue.drain(GROUP_REQUESTS_MAX, wait).await {
                Drained::Ended => return Ok(()),
                Drained::Changes(changes) => self.serve(&mut work, changes).await?,
            }
            self.beat(&mut work);
        }
    }

    async fn serve(&mut self, work: &mut Work, changes: Vec<Job>) -> Result<(), StoreError> {
        if self.answer_reads(work)? {
            // Their sessions send the answers now, and not when the group is durable.
            tokio::task::yield_now().await;
        }
        self.group(work, changes)?;
        // These answers leave now, and wait neither for what the store has left to do nor for the next round.
        tokio::task::yield_now().await;
        self.store.tidy();
        Ok(())
    }

    /// What [`Writer::answer_reads`] and [`Writer::group`] go on from.
    pub fn begin(&self) -> Work {
        Work::begin(self.clock.now())
    }

    /// How long the queue may be waited for: without end, unless a supervisor listens or a record will be due.
    fn idle_wait(&self, work: &Work) -> Option<Duration> {
        let beat =
            self.heartbeat.as_ref().map(|heart| (heart.interval / 2).saturating_sub(work.beaten.elapsed()));
        let due = self.participant.next_due_ms().map(|due_ms| {
            let now = self.clock.now();
            Duration::from_millis((due_ms + COLLECTION_SLACK_MS).saturating_sub(now.at_ms))
        });
        beat.into_iter().chain(due).min()
    }

    fn beat(&mut self, work: &mut Work) {
        if let Some(heart) = &mut self.heartbeat
            && work.beaten.elapsed() >= heart.interval / 2
        {
            (heart.beat)();
            work.beaten = Instant::now();
        }
    }

    /// Answers the reads that wait in the queue, or as many as there is time for in one round, and says whether there were any.
    /// What is read is what the groups before have made durable, so there is nothing to wait for.
    ///
    /// # Errors
    /// The store failed: as for [`Writer::group`].
    pub fn answer_reads(&mut self, work: &mut Work) -> Result<bool, StoreError> {
        let mut next = self.queue.next_read();
        if next.is_none() {
            return Ok(false);
        }
        let moment = Moment { now: self.clock.now(), storage_low: work.storage_low };
        let mut tx = Tx::new(&self.store);
        while let Some(Job { request, session }) = next {
            let body = match request.body {
                RequestBody::Status => ReplyBody::Status(self.status(work, &moment.now).into()),
                _ if work.unsent.put_off(&session.unsent) => ReplyBody::Retry(RetryReason::Busy),
                body => self.participant.evaluate(&mut tx, &moment, body)?,
            };
            session.put(work.answer(&session, request.id, body));
            let spent_ms = self.clock.now().at_ms.saturating_sub(moment.now.at_ms);
            next = if spent_ms < ROUND_READS_MS_MAX { self.queue.next_read() } else { None };
        }
        Ok(true)
    }

    /// One group of changes: evaluated, made durable, answered. One of no requests does what has become due.
    ///
    /// # Errors
    /// The store failed. Nobody of the group is answered, and nothing after it may be.
    pub fn group(&mut self, work: &mut Work, jobs: Vec<Job>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let storage_low = if jobs.iter().any(needs_space) { self.look_at_space(work) } else { false };
        let moment = Moment { now, storage_low };
        let touches_sagas =
            jobs.iter().any(|job| matches!(job.request.body, RequestBody::Step(_) | RequestBody::Settle(_)));
        let count = jobs.len() as u64;

        let mut tx = Tx::new(&self.store);
        let mut answers = Vec::with_capacity(jobs.len());
        for Job { request, session } in jobs {
            let body = self.participant.evaluate(&mut tx, &moment, request.body)?;
            let answer = work.answer(&session, request.id, body);
            answers.push((session, answer));
        }
        let overdue =
            self.participant.next_due_ms().is_some_and(|due| due + COLLECTION_SLACK_MS <= now.at_ms);
        if !tx.is_empty() || overdue {
            self.participant.end_group(&mut tx, &moment)?;
        }
        let batch = tx.into_batch();

        let pass = |point| {
            if touches_sagas {
                reach(point);
            }
        };
        pass(Failpoint::GroupEvaluated);
        if !batch.is_empty() {
            self.store.apply(batch)?;
            pass(Failpoint::GroupApplied);
            self.store.sync()?;
            work.groups += 1;
            work.committed += count;
        }
        pass(Failpoint::GroupSynced);
        for (session, answer) in answers {
            session.put(answer);
        }
        pass(Failpoint::GroupAnswered);
        Ok(())
    }

    fn status(&self, work: &Work, now: &Now) -> DaemonStatus {
        // A disk that can't be seen counts as full, here as where new actions are refused.
        let room = (self.space)().unwrap_or(Room { free_bytes: 0, reserve_bytes: u64::MAX });
        let (damaged, damaged_rows) = self.participant.damaged();
        DaemonStatus {
            role: self.identity.role.to_owned(),
            store: self.identity.store,
            software: self.identity.software.clone(),
            pid: std::process::id(),
            up_ms: now.at_ms.saturating_sub(work.ready_at.at_ms),
            connections: self.gauges.connections.load(Ordering::Relaxed),
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            queue_limit: u32::try_from(self.queue.limit()).unwrap_or(u32::MAX),
            unsettled: self.participant.unsettled() as u64,
            collectable: self.participant.collectable() as u64,
            groups: work.groups,
            committed: work.committed,
            store_bytes: self.store.bytes(),
            free_bytes: room.free_bytes,
            storage_low: room.is_low(),
            damaged,
            damaged_rows,
        }
    }

    fn look_at_space(&self, work: &mut Work) -> bool {
        let low = match (self.space)() {
            Ok(room) => room.is_low(),
            Err(e) => {
                error!("can't see how much disk space is left: {e}");
                true
            }
        };
        match (work.storage_low, low) {
            (false, true) => {
                warn!(
                    "little disk space is left, or few files (df -i): new actions are refused until there is more"
                );
            }
            (true, false) => info!("there is enough disk space again"),
            _ => {}
        }
        work.storage_low = low;
        low
    }
}

/// Whether a request may begin something new.
fn needs_space(job: &Job) -> bool {
    match &job.request.body {
        RequestBody::Step(step) => step.direction == Direction::Action,
        RequestBody::Command(_) => true,
        _ => false,
    }
}

/// What the writer keeps from group to group.
pub struct Work {
    ready_at: Now,
    groups: u64,
    committed: u64,
    storage_low: bool,
    /// Of the answers to all sessions.
    unsent: UnsentBytes,
    beaten: Instant,
}

impl Work {
    fn begin(now: Now) -> Self {
        let (unsent, beaten) = (UnsentBytes::default(), Instant::now());
        Self { ready_at: now, groups: 0, committed: 0, storage_low: false, unsent, beaten }
    }

    fn answer(&self, session: &Mailbox, id: u64, body: ReplyBody) -> Answer {
        let unsent = self.unsent.count(&session.unsent, &body);
        Answer { reply: Reply { id, body }, unsent }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
