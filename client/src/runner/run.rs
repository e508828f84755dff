//! The runner: one slot, its log, and the sagas it drives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::SagaId;
use like_protocol::message::{PAYLOAD_BYTES_MAX, Payload};
use like_protocol::time::DEADLINE_AHEAD_MAX;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::active::{Active, Standing, Turn, Turns};
use super::context::{Context, Options};
use super::convoy::{self, Convoy, Convoys, Member, TOGETHER_MAX};
use super::drive::{Driver, Order};
use super::hunt::Hunt;
use super::settle::{Ended, Settler};
use super::tell::{Caller, Teller};
use crate::log::{
    self, Found, JournalError, LacksRoom, LogEnded, Position, SagaLog, Slot, SlotLock, Story, TakenOver,
};
use crate::rpc::{Unreachable, WITHIN_MAX};
use crate::saga::{Begun, Definition, Event, ParticipantAt, PlannedStep, SagaState, StepPlan};

/// How often it is asked whether waiting for sagas is in vain.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Of an attempt's timeout: after so much of it in which no attempt came to anything, all that are under way hang.
const HANGS_PART: u32 = 8;

/// Drives sagas in one slot. Clones share it.
///
/// Sagas are driven by tasks of the runner's: dropping the future of [`Runner::run`] changes nothing about the saga. All sagas
/// of a runner share its group-committed log.
#[derive(Clone)]
pub struct Runner {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub context: Context,
    pub log: SagaLog,
    pub settler: Settler,
    pub teller: Teller,
    pub active: Active,
    pub convoys: Convoys,
    pub hunt: Hunt,
}

/// A saga that has ended by itself: completed, or turned back and compensated.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which saga.
    pub saga: SagaId,
    /// Where it stands: its end, its steps' replies, why it turned back.
    pub state: Arc<SagaState>,
}

/// Why [`Runner::run`] has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A service can't be reached and has never been: no saga was started.
    #[error("{0}")]
    Unavailable(Unreachable),
    /// No saga of this kind, to this role or with these parameters can be run here: no saga was started.
    #[error("{0}")]
    Unknown(String),
    /// The journal's file system has too little left: no saga was started.
    #[error(transparent)]
    LacksRoom(#[from] LacksRoom),
    /// The saga stands in the log and goes on; recovery finishes it if this process doesn't.
    #[error("saga {saga} has not ended yet")]
    Unfinished {
        /// Which saga.
        saga: SagaId,
        /// Where it stood.
        state: Arc<SagaState>,
    },
    /// The log has ended: the saga, if it was begun, stands in it, and recovery finishes it.
    #[error("saga {saga}: {source}")]
    LogEnded {
        /// Which saga.
        saga: SagaId,
        /// Why.
        source: LogEnded,
    },
}

/// A saga that was taken over and is to be driven on.
struct Taken {
    saga: SagaId,
    definition: Arc<dyn Definition>,
    state: Standing,
}

impl Runner {
    /// Takes the first free slot, and drives on what it finds in it.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No slot can be taken or written.
    pub fn start(context: Context) -> Result<Self, JournalError> {
        let (runner, open) = Self::over_free(&context)?;
        runner.drive_all(open, Order::GoOn);
        Ok(runner)
    }

    /// Takes the first free slot over whose log can be read; one that can't is left as it is, and holds nobody up. So is one with
    /// a saga that nobody here knows how to drive: a runner may live long, and who does know must get at it meanwhile.
    pub(super) fn over_free(context: &Context) -> Result<(Self, Vec<Story>), JournalError> {
        let last = context.journal.slots()?.last().map(Slot::number);
        let mut first = 0;
        loop {
            let lock = context.journal.claim_free_from(first)?;
            let slot = lock.slot().number();
            first = slot + 1;
            let taken = match log::find(lock, context.options.keeping) {
                Ok(found) if found.open().any(|story| context.is_foreign(story)) => {
                    tracing::info!(
                        slot,
                        "slot left alone: a saga there is of a kind that this program does not know"
                    );
                    continue;
                }
                found => found.and_then(|found| Self::over_found(context.clone(), found)),
            };
            match taken {
                // Where a new one can't be read either, it is not the slot's fault.
                Err(e) if e.is_unreadable() && Some(slot) <= last => {
                    tracing::warn!(slot, "slot skipped: {e}")
                }
                taken => return taken,
            }
        }
    }

    /// Takes a locked slot over. What is open in it is handed back and not yet driven.
    pub(super) fn over(context: Context, lock: SlotLock) -> Result<(Self, Vec<Story>), JournalError> {
        let found = log::find(lock, context.options.keeping)?;
        Self::over_found(context, found)
    }

    /// The same for a slot that was read.
    pub(super) fn over_found(context: Context, found: Found) -> Result<(Self, Vec<Story>), JournalError> {
        let TakenOver { log, open, damage, cut, unclosed } = found.take_over()?;
        for damage in damage {
            tracing::error!(slot = log.slot().number(), sagas = ?damage.sagas, "{damage}");
        }
        for cut in cut {
            tracing::warn!(slot = log.slot().number(), sagas = ?cut.sagas, "{cut}");
        }
        if let Some((place, end)) = unclosed {
            tracing::info!(
                slot = place.slot,
                segment = place.segment,
                end,
                "the runner before did not let go of the slot in good order"
            );
        }
        let settler = Settler::start(context.clone(), log.clone());
        let teller = Teller::new(log.clone());
        let inner = Inner {
            context,
            log,
            settler,
            teller,
            active: Active::default(),
            convoys: Convoys::of(TOGETHER_MAX),
            hunt: Hunt::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, open))
    }

    /// What it works with.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// The log it writes.
    pub fn log(&self) -> &SagaLog {
        &self.inner.log
    }

    /// Begins a saga and waits for its end, until one attempt's timeout after its deadline. That lies no further ahead
    /// than [`DEADLINE_AHEAD_MAX`], whatever the timeout is.
    ///
    /// Whatever is returned as an [`Outcome`] has been written, and if it is a failure, its turning back is durable.
    /// Dropping the future changes nothing: the saga is driven on, by this runner or by recovery.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run(&self, kind: &str, params: Payload, timeout: Duration) -> Result<Outcome, RunError> {
        let definition = self.definition(kind)?;
        let timeout = timeout.min(DEADLINE_AHEAD_MAX);
        if params.0.len() > PAYLOAD_BYTES_MAX {
            return Err(RunError::Unknown(format!("parameters of more than {PAYLOAD_BYTES_MAX} bytes")));
        }
        self.inner.log.room_to_begin()?;
        let participants = self.inner.participants_of(definition.steps(), timeout).await?;
        let begun = Arc::new(self.begun(&definition, params, participants, timeout));
        let saga = (self.inner.context.origin.new_saga)();
        let an_attempt = self.inner.context.options.attempt_timeout.min(WITHIN_MAX);
        let patience = Instant::now() + timeout + an_attempt;
        let (state, ended) = self.begin(saga, begun, definition, patience);
        match ended.await {
            Ok(ended) => ended.map_err(|source| RunError::LogEnded { saga, source }),
            Err(_) => {
                let state = Arc::clone(&lock(&state));
                Err(RunError::Unfinished { saga, state })
            }
        }
    }

    /// The saga joins those that are about to begin. Its caller is told how it has ended; or left, once he has waited for too long.
    fn begin(
        &self,
        saga: SagaId,
        begun: Arc<Begun>,
        definition: Arc<dyn Definition>,
        patience: Instant,
    ) -> (Standing, oneshot::Receiver<Result<Outcome, LogEnded>>) {
        let state = Arc::new(Mutex::new(Arc::new(SagaState::begin(begun))));
        let (told, ended) = oneshot::channel();
        self.inner.active.enlist(saga, Arc::clone(&state));
        if self.inner.convoys.join(Member::new(saga, definition, Arc::clone(&state), told, patience)) {
            self.inner.active.look_after(Convoy::drive(self.clone()));
        }
        (state, ended)
    }

    /// Drives an open saga on from where it stands.
    pub(super) fn drive_on(&self, story: Story, order: Order) {
        if let Some(taken) = self.taken(story) {
            self.go_on(taken, order, None);
        }
    }

    /// Drives open sagas on from where they stand, by turns, in their order.
    pub(super) fn drive_all(&self, open: Vec<Story>, order: Order) {
        let taken: Vec<_> = open.into_iter().filter_map(|story| self.taken(story)).collect();
        taken.iter().for_each(|taken| self.inner.active.enlist(taken.saga, Arc::clone(&taken.state)));
        let Options { under_way_max, attempt_timeout, .. } = self.inner.context.options;
        let mut turns = Turns::new(under_way_max, attempt_timeout / HANGS_PART);
        let runner = self.clone();
        self.inner.active.look_after(async move {
            for taken in taken {
                let turn = turns.next().await;
                runner.go_on(taken, order, Some(turn));
            }
        });
    }

    /// What is to be driven of a story; nothing if it has ended, which is settled, if it is quarantined, or nobody here knows how.
    fn taken(&self, story: Story) -> Option<Taken> {
        let Story { saga, state, .. } = story;
        let state = state.filter(|state| !state.quarantined_now())?;
        if state.ended().is_some() {
            self.inner.settle(saga, Arc::new(state), true);
            return None;
        }
        let Some(definition) = self.inner.context.definition_of(&state.begun).cloned() else {
            let Begun { kind, version, .. } = &*state.begun;
            tracing::warn!(saga_id = %saga, %kind, version, "not driven: this program does not know the kind");
            return None;
        };
        Some(Taken { saga, definition, state: Arc::new(Mutex::new(Arc::new(state))) })
    }

    fn go_on(&self, taken: Taken, order: Order, turn: Option<Turn>) {
        let Taken { saga, definition, state } = taken;
        let driver = Driver::new(&self.inner, saga, definition, Arc::clone(&state), None);
        self.spawn(saga, state, turn, driver.go_on(order));
    }

    /// Drives a saga by itself that began with others.
    pub(super) fn drive_alone(&self, member: Member) {
        let Member { saga, definition, state, told, patience, failed, .. } = member;
        let told = Some(self.until(patience, told));
        let driver = Driver::new(&self.inner, saga, definition, Arc::clone(&state), told).after(failed);
        self.spawn(saga, state, None, driver.go_on(Order::GoOn));
    }

    /// Where an end is told that is passed on to the caller, unless that has waited for too long by then or is left already.
    fn until(&self, patience: Instant, caller: Option<Caller>) -> Caller {
        let (tell, told) = oneshot::channel();
        if let Some(caller) = caller {
            self.inner.active.look_after(async move {
                if let Ok(Ok(ended)) = tokio::time::timeout_at(patience, told).await {
                    let _ = caller.send(ended);
                }
            });
        }
        tell
    }

    /// Ends a saga of this log by an operator's word, and settles it in the background.
    pub(super) async fn force(&self, story: &mut Story, event: Event) -> Result<(), LogEnded> {
        let position = self.inner.log.append(story.saga, [event.clone()])?;
        self.inner.log.durable(position).await?;
        story.add(self.inner.context.journal.disk().wall_ms(), event);
        if let Some(state) = &story.state {
            self.inner.settle(story.saga, Arc::new(state.clone()), false);
        }
        Ok(())
    }

    /// Waits until no saga is driven any more: each has ended and been handed to settlement, or can't be driven here.
    pub async fn idle(&self) {
        self.inner.active.idle().await;
    }

    /// Waits until everything that has ended is settled, and is true then; or until what is left was tried, and trying again is in
    /// vain until a person has seen to something.
    pub async fn settled(&self) -> bool {
        self.inner.settler.idle().await
    }

    /// The sagas that are being driven right now, and where they stand.
    pub fn active(&self) -> Vec<(SagaId, SagaState)> {
        self.inner.active.sagas()
    }

    /// Whether every saga that is still driven needs an operator: waiting for them is in vain.
    pub fn stuck(&self) -> bool {
        let after = self.inner.context.options.attention_after;
        self.inner.active.all(|state| state.needs_attention(after))
    }

    /// Waits until no saga is driven any more, and is true then; or until each that is needs an operator.
    pub(super) async fn idle_or_stuck(&self) -> bool {
        while tokio::time::timeout(LOOK_AGAIN, self.idle()).await.is_err() {
            if self.stuck() {
                return false;
            }
        }
        true
    }

    /// Gives what was found in the slot `grace` to end, and what has ended one attempt to be settled; then lets go of
    /// the slot. What is left stands in the log.
    pub async fn close(self, grace: Duration) {
        let _ = tokio::time::timeout(grace, self.idle_or_stuck()).await;
        let _ = tokio::time::timeout(self.inner.context.options.attempt_timeout, self.settled()).await;
        self.let_go();
    }

    /// Lets go of the slot at once. What is left stands in the log.
    pub(super) fn let_go(&self) {
        self.inner.active.stop();
        self.inner.settler.stop();
        self.inner.log.let_go();
        if let Some(ended) = self.inner.log.ended() {
            convoy::stop(&self.inner, self.inner.convoys.stop(), &ended);
        }
    }

    fn spawn(
        &self,
        saga: SagaId,
        state: Standing,
        turn: Option<Turn>,
        driving: impl Future<Output = ()> + Send + 'static,
    ) {
        let inner = Arc::downgrade(&self.inner);
        // A saga's future has some kilobytes, and spawning one moves it several times.
        let driving = Box::pin(driving);
        self.inner.active.drive(saga, state, turn, async move {
            driving.await;
            if let Some(inner) = inner.upgrade() {
                inner.active.ended([saga]);
            }
        });
    }

    fn definition(&self, kind: &str) -> Result<Arc<dyn Definition>, RunError> {
        let found = self.inner.context.definitions.newest(kind);
        found.cloned().ok_or_else(|| RunError::Unknown(format!("no saga of kind {kind} is known here")))
    }

    fn begun(
        &self,
        definition: &Arc<dyn Definition>,
        params: Payload,
        participants: Vec<ParticipantAt>,
        timeout: Duration,
    ) -> Begun {
        let position = |role| participants.iter().position(|p| p.role == role).unwrap_or_default() as u8;
        let planned = |(number, plan): (usize, &StepPlan)| PlannedStep {
            name: plan.name.into(),
            participant: position(plan.role),
            number: number as u8,
        };
        Begun {
            kind: definition.kind().into(),
            version: definition.version(),
            params,
            steps: definition.steps().iter().enumerate().map(planned).collect(),
            participants,
            deadline: self.inner.context.clock.now().deadline_in(timeout),
            by_uid: self.inner.context.origin.uid,
        }
    }
}

impl Inner {
    /// Settles a saga whose end has been written, in the background. `left` says whether an earlier runner left it.
    pub(super) fn settle(&self, saga: SagaId, state: Arc<SagaState>, left: bool) {
        let position = self.log.appended();
        self.settler.settle(std::iter::once(Ended { saga, left, state, position }));
    }

    /// Waits until everything up to `position` is durable, which is a point to be at, for so many sagas. If they are all that are
    /// driven, and no participant is to answer anybody, the sync may be done here: it holds up nobody else.
    pub(super) async fn durable(
        &self,
        position: Position,
        then_at: Failpoint,
        sagas: usize,
    ) -> Result<(), LogEnded> {
        let Context { participants, options, .. } = &self.context;
        let here = options.sync_here && self.active.are(sagas) && participants.are_quiet();
        if here {
            self.log.durable_here(position).await?;
        } else {
            self.log.durable(position).await?;
        }
        reach(then_at);
        if here {
            // This thread has heard nothing meanwhile: a service that died is not taken for one that can be sent something.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The services that a saga of these steps needs, with the stores they have. A service that is down but was seen
    /// before by this process has the store it had then: if that has changed, the saga will not be driven against it.
    async fn participants_of(
        &self,
        steps: &[StepPlan],
        timeout: Duration,
    ) -> Result<Vec<ParticipantAt>, RunError> {
        let mut roles: SmallVec<[_; 4]> = steps.iter().map(|step| step.role).collect();
        roles.sort_unstable();
        roles.dedup();
        let at = |role: &'static str, store| ParticipantAt { role: role.into(), store: Some(store) };
        let remote = |role| self.context.participants.find(role);
        let open = roles.iter().map(|role| Some(at(role, remote(role)?.open()?.welcome().store)));
        if let Some(open) = open.collect() {
            return Ok(open);
        }
        let within = timeout.min(self.context.options.attempt_timeout);
        let stores = roles.into_iter().map(|role| async move {
            let remote =
                remote(role).ok_or_else(|| RunError::Unknown(format!("no {role} service is known here")))?;
            let welcome = match remote.connect(within).await {
                Ok(connection) => connection.welcome().clone(),
                Err(e) => remote.last_welcome().ok_or(RunError::Unavailable(e))?,
            };
            Ok(at(role, welcome.store))
        });
        futures::future::try_join_all(stores).await
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
