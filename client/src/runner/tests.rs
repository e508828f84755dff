//! The runner against scripted participants: what it asks, in which order, and what it makes of the answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use like_protocol::codec;
use like_protocol::ids::{SagaId, StoreId};
use like_protocol::message::{
    Direction, FromDaemon, MAGIC, PROTOCOL_VERSION, Payload, Refusal, Reply, ReplyBody, RequestBody,
    RetryReason, ServerHello, StepReply, ToDaemon, Welcome,
};
use like_protocol::time::{BootClock, Clock};
use tokio::sync::watch;

use super::*;
use crate::log::{Journal, history};
use crate::rpc::{Dial, Remote, Stream};
use crate::saga::event::FailureKind;
use crate::saga::{Definition, DefinitionError, Definitions, End, Phase, SagaState, StepPlan};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

/// Two steps at two services.
struct Pair;

impl Definition for Pair {
    fn kind(&self) -> &'static str {
        "pair"
    }

    fn version(&self) -> u16 {
        1
    }

    fn steps(&self) -> &'static [StepPlan] {
        &[StepPlan { name: "first", role: "left" }, StepPlan { name: "second", role: "right" }]
    }

    fn operation(&self, _: &Payload, step: usize, replies: &[Payload]) -> Result<Payload, DefinitionError> {
        assert_eq!(replies.len(), step, "a step sees the replies before it");
        Ok(Payload(vec![step as u8]))
    }

    fn note(&self, _: &Payload, _: usize, _: &[Option<Payload>]) -> Result<Option<Payload>, DefinitionError> {
        Ok(None)
    }

    fn subject(&self, _: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
        Ok(Vec::new())
    }

    fn explain_rejection(&self, _: usize, _: &Payload) -> String {
        String::new()
    }
}

/// What a scripted service does with a request.
#[derive(Clone)]
enum Script {
    Say(ReplyBody),
    Hush,
}

fn done() -> Script {
    Script::Say(ReplyBody::Step(StepReply::Done(Payload(vec![1]))))
}

fn undone() -> Script {
    Script::Say(ReplyBody::Step(StepReply::Undone))
}

/// What both services were asked, in the order in which it arrived: `left action`, `right settle`.
type Heard = Arc<Mutex<Vec<String>>>;

/// A service that answers by script: the scripts of a direction are used up one by one, the last one stays.
struct Service {
    role: &'static str,
    store: StoreId,
    /// Whether it is down: its connections break, and no new ones come about.
    down: watch::Sender<bool>,
    /// Whether it confirms settlements.
    settles: watch::Sender<bool>,
    actions: Mutex<Vec<Script>>,
    compensations: Mutex<Vec<Script>>,
    heard: Heard,
}

fn used_up(scripts: &Mutex<Vec<Script>>) -> Script {
    let mut scripts = scripts.lock().unwrap();
    if scripts.len() > 1 { scripts.remove(0) } else { scripts[0].clone() }
}

impl Service {
    fn new(role: &'static str, heard: &Heard) -> Arc<Self> {
        Arc::new(Self {
            role,
            store: StoreId::generate(),
            down: watch::Sender::new(false),
            settles: watch::Sender::new(true),
            actions: Mutex::new(vec![done()]),
            compensations: Mutex::new(vec![undone()]),
            heard: Arc::clone(heard),
        })
    }

    fn answer(&self, body: &RequestBody) -> Script {
        let (what, script) = match body {
            RequestBody::Step(step) if step.direction == Direction::Action => {
                ("action", used_up(&self.actions))
            }
            RequestBody::Step(_) => ("compensation", used_up(&self.compensations)),
            RequestBody::Settle(_) if !*self.settles.borrow() => ("settle", Script::Hush),
            RequestBody::Settle(_) => ("settle", Script::Say(ReplyBody::Settled)),
            _ => panic!("a runner asks nothing else"),
        };
        self.heard.lock().unwrap().push(format!("{} {what}", self.role));
        script
    }

    async fn serve(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let (read, write) = tokio::io::split(stream);
        let (mut requests, mut replies) = codec::daemon_end(read, write);
        let now = BootClock::open().unwrap().now();
        let welcome = Welcome {
            magic: MAGIC,
            protocol: PROTOCOL_VERSION,
            role: self.role.to_owned(),
            store: self.store,
            now,
            software: "script".to_owned(),
        };
        replies.send(FromDaemon::Hello(ServerHello::Welcome(welcome))).await.unwrap();
        let mut down = self.down.subscribe();
        loop {
            let message = tokio::select! {
                _ = down.wait_for(|down| *down) => return,
                message = requests.next() => message,
            };
            let Some(Ok(message)) = message else { return };
            let ToDaemon::Request(request) = message else { continue };
            if let Script::Say(body) = self.answer(&request.body) {
                let _ = replies.send(FromDaemon::Reply(Reply { id: request.id, body })).await;
            }
        }
    }
}

struct DialService(Arc<Service>);

impl Dial for DialService {
    fn dial(&self) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if *service.down.borrow() {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(service.serve(theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn target(&self) -> String {
        self.0.role.to_owned()
    }
}

struct Bench {
    left: Arc<Service>,
    right: Arc<Service>,
    heard: Heard,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let heard = Heard::default();
        let (left, right) = (Service::new("left", &heard), Service::new("right", &heard));
        Self { left, right, heard, directory: tempfile::tempdir().unwrap() }
    }

    fn context(&self) -> Context {
        let clock: Arc<dyn Clock> = Arc::new(BootClock::open().unwrap());
        let remote = |service: &Arc<Service>| {
            Arc::new(Remote::new(
                service.role,
                Box::new(DialService(Arc::clone(service))),
                Arc::clone(&clock),
            ))
        };
        Context {
            journal: Journal::open(&self.directory.path().join("journal")).unwrap(),
            definitions: Definitions::new().with(Pair),
            participants: Participants::new().with(remote(&self.left)).with(remote(&self.right)),
            clock: Arc::clone(&clock),
            options: Options { attempt_timeout: SHORT, ..Options::default() },
        }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn states(&self) -> HashMap<SagaId, SagaState> {
        let history = history::read(&self.context().journal).unwrap();
        assert!(history.damage.is_empty() && history.skipped.is_empty());
        history.sagas.into_iter().map(|(_, story)| (story.saga, story.state.unwrap())).collect()
    }
}

fn say(service: &Mutex<Vec<Script>>, scripts: Vec<Script>) {
    *service.lock().unwrap() = scripts;
}

#[tokio::test]
async fn a_saga_runs_its_steps_in_order_and_is_settled() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    runner.close(LONG).await;
    assert_eq!(bench.heard()[..2], ["left action", "right action"]);
    assert_eq!(bench.heard()[2..].iter().filter(|heard| heard.ends_with("settle")).count(), 2);
    assert!(bench.states()[&outcome.saga].settled);
}

#[tokio::test]
async fn a_rejected_step_is_compensated_too_and_compensations_start_in_reverse_order() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload(vec![9]))))]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(
        bench.heard()[..4],
        ["left action", "right action", "right compensation", "left compensation"]
    );
}

#[tokio::test]
async fn a_step_that_was_never_sent_needs_nothing_and_the_saga_ends_while_its_service_is_down() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    runner.run("pair", Payload::default(), LONG).await.unwrap();
    runner.settled().await;
    bench.right.down.send_replace(true);
    let right = runner.context().participants.find("right").unwrap();
    while right.connect(SHORT).await.is_ok() {
        tokio::task::yield_now().await;
    }
    bench.heard.lock().unwrap().clear();
    let outcome = runner.run("pair", Payload::default(), SHORT).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(bench.heard()[..2], ["left action", "left compensation"]);
    runner.close(LONG).await;
    assert!(bench.states()[&outcome.saga].settled, "the service that is down has nothing to settle");
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_until_the_deadline_and_then_compensated() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), 3 * SHORT).await.unwrap();
    assert_eq!(outcome.state.phase, Phase::Ended(End::Compensated));
    let asked = bench.heard().iter().filter(|heard| *heard == "right action").count();
    assert!(asked >= 2, "asked {asked} times");
    assert_eq!(outcome.state.steps[1].action_attempts as usize, asked);
    let after = outcome.state.turned_back_after.unwrap();
    assert_eq!(after.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_lock_and_a_busy_daemon_are_only_waited_for() {
    let bench = Bench::new();
    let locked = Script::Say(ReplyBody::Step(StepReply::Locked { by: SagaId::generate() }));
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    say(&bench.right.actions, vec![locked.clone(), locked, busy, done()]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    assert_eq!(outcome.state.steps[1].action_attempts, 4);
}

#[tokio::test]
async fn dropping_the_future_of_a_saga_changes_nothing_about_it() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    {
        let run = runner.run("pair", Payload::default(), LONG);
        tokio::pin!(run);
        // Polled until it waits for its saga, then dropped.
        assert!(futures::poll!(&mut run).is_pending());
        while runner.active().is_empty() {
            let _ = futures::poll!(&mut run);
            tokio::task::yield_now().await;
        }
    }
    runner.close(LONG).await;
    let states = bench.states();
    assert_eq!(states.len(), 1);
    assert!(states.values().all(|state| state.ended() == Some(End::Completed) && state.settled));
}

#[tokio::test]
async fn a_saga_taken_over_while_going_forward_never_gives_up_on_an_unknown_outcome() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let run = tokio::spawn({
        let runner = runner.clone();
        async move { runner.run("pair", Payload::default(), 2 * SHORT).await }
    });
    while !bench.heard().contains(&"right action".to_owned()) {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    runner.let_go();
    run.abort();
    // Long past its deadline the service still says nothing: it is asked again and again, and nothing is undone.
    let report = recover::once(&bench.context(), Order::GoOn, 5 * SHORT).await.unwrap();
    assert_eq!((report.recovered, report.unfinished), (1, 1));
    assert!(!bench.heard().iter().any(|heard| heard.ends_with("compensation")));
    // What its log lost could have been an acknowledged end: the recorded reply completes it.
    say(&bench.right.actions, vec![done()]);
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed), (1, 1));
}

#[tokio::test]
async fn a_saga_taken_over_while_going_forward_turns_back_on_a_definite_refusal() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    runner.let_go();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.compensated), (1, 1));
    assert!(bench.heard().contains(&"left compensation".to_owned()));
}

#[tokio::test]
async fn an_operator_who_compensates_turns_back_every_step() {
    let bench = Bench::new();
    say(&bench.left.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    runner.let_go();
    let report = recover::once(&bench.context(), Order::Compensate, LONG).await.unwrap();
    assert_eq!((report.recovered, report.compensated), (1, 1));
    // The log knows of no second step; a log that lost something wouldn't either.
    assert!(bench.heard().contains(&"right compensation".to_owned()), "{:?}", bench.heard());
}

#[tokio::test]
async fn a_saga_is_never_driven_against_another_store() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    runner.let_go();
    let restored = Service::new("right", &bench.heard);
    bench.heard.lock().unwrap().clear();
    let mut other = bench.context();
    let clock = Arc::clone(&other.clock);
    let remote = Remote::new("right", Box::new(DialService(restored)), clock);
    other.participants = other.participants.with(Arc::new(remote));
    let report = recover::once(&other, Order::GoOn, 3 * SHORT).await.unwrap();
    assert_eq!((report.recovered, report.needs_attention), (1, 1));
    assert!(!bench.heard().iter().any(|heard| heard.starts_with("right")), "{:?}", bench.heard());
}

#[tokio::test]
async fn an_end_that_another_store_can_t_confirm_is_settled_by_an_operator() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    bench.right.settles.send_replace(false);
    let saga = runner.run("pair", Payload::default(), LONG).await.unwrap().saga;
    runner.close(Duration::ZERO).await;
    assert!(!bench.states()[&saga].settled);
    let mut other = bench.context();
    let clock = Arc::clone(&other.clock);
    let remote = Remote::new("right", Box::new(DialService(Service::new("right", &bench.heard))), clock);
    other.participants = other.participants.with(Arc::new(remote));
    recover::once(&other, Order::GoOn, SHORT).await.unwrap();
    assert!(!bench.states()[&saga].settled, "never told to a store that it did not begin with");
    let wrong = admin::force(&other, saga, End::Compensated, "restored".to_owned(), LONG).await;
    assert!(matches!(wrong, Err(admin::AdminError::Ended { end: End::Completed, .. })), "{wrong:?}");
    let forced = admin::force(&other, saga, End::Completed, "restored".to_owned(), LONG).await.unwrap();
    assert!(forced.settled && bench.states()[&saga].settled);
}

#[tokio::test]
async fn a_compensation_that_keeps_failing_needs_attention_and_does_not_hold_up_others() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::default())))]);
    say(&bench.right.compensations, vec![Script::Say(ReplyBody::Retry(RetryReason::Busy))]);
    let mut context = bench.context();
    context.options.attention_after = 2;
    let runner = Runner::start(context).unwrap();
    let run = runner.run("pair", Payload::default(), LONG);
    assert!(tokio::time::timeout(4 * SHORT, run).await.is_err());
    assert!(runner.stuck());
    let (_, state) = runner.active().remove(0);
    assert!(state.needs_attention(2) && state.steps[0].compensated && !state.steps[1].compensated);
}

#[tokio::test]
async fn an_orphan_can_be_given_an_end_at_every_participant() {
    let bench = Bench::new();
    let orphan = SagaId::generate();
    let reason = "its journal was lost".to_owned();
    let forced = admin::force(&bench.context(), orphan, End::Compensated, reason, LONG).await.unwrap();
    assert!(forced.settled);
    assert_eq!(
        bench.heard().iter().filter(|heard| heard.ends_with("settle")).count(),
        2,
        "{:?}",
        bench.heard()
    );
    let state = &bench.states()[&orphan];
    assert!(state.forced() && state.settled && state.ended() == Some(End::Compensated));
    assert_eq!(state.steps.len(), 4, "two numbers at two participants");
}

#[tokio::test]
async fn what_would_not_fit_the_log_never_gets_there() {
    let bench = Bench::new();
    let long = Payload(vec![0; like_protocol::message::PAYLOAD_BYTES_MAX + 1]);
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Done(long.clone()))), done()]);
    let runner = Runner::start(bench.context()).unwrap();
    assert!(matches!(runner.run("pair", long, LONG).await, Err(RunError::Unknown(_))));
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    assert_eq!(outcome.state.steps[1].action_attempts, 2, "the answer that is too long came to nothing");
    let reason = "x".repeat(admin::REASON_CHARS_MAX + 1);
    let forced = admin::force(&bench.context(), SagaId::generate(), End::Completed, reason, LONG).await;
    assert!(matches!(forced, Err(admin::AdminError::BadReason)));
}

#[tokio::test]
async fn a_forced_end_that_a_participant_did_not_confirm_is_told_it_by_recovery() {
    let bench = Bench::new();
    bench.right.settles.send_replace(false);
    let orphan = SagaId::generate();
    let reason = "its journal was lost".to_owned();
    let forced = admin::force(&bench.context(), orphan, End::Completed, reason, SHORT).await.unwrap();
    assert!(!forced.settled && !bench.states()[&orphan].settled);
    bench.right.settles.send_replace(true);
    recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert!(bench.states()[&orphan].settled);
}

#[tokio::test]
async fn a_runner_that_closes_does_not_wait_for_a_saga_that_needs_an_operator() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    runner.let_go();
    let mut other = bench.context();
    let clock = Arc::clone(&other.clock);
    let remote = Remote::new("right", Box::new(DialService(Service::new("right", &bench.heard))), clock);
    other.participants = other.participants.with(Arc::new(remote));
    let runner = Runner::start(other).unwrap();
    assert_eq!(runner.active().len(), 1, "it has found what the other one left");
    tokio::time::timeout(LONG / 2, runner.close(LONG)).await.unwrap();
}

#[tokio::test]
async fn a_live_owner_is_named_and_its_saga_left_alone() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    let (saga, _) = runner.active().remove(0);
    let refused = admin::compensate(&bench.context(), saga, SHORT).await;
    match refused {
        Err(admin::AdminError::Owned { owner, .. }) => {
            assert_eq!(owner.map(|owner| owner.pid), Some(std::process::id()));
        }
        other => panic!("{other:?}"),
    }
}
