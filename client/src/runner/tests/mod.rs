//! The runner against scripted participants: what it asks, in which order, and what it makes of the answers.

mod admin;
mod beside;
mod convoy;
mod drive;
mod recover;
mod unusable;

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use like_protocol::ids::{SagaId, StoreId};
use like_protocol::message::{
    DamagedRow, Direction, FromDaemon, Payload, Refusal, Reply, ReplyBody, RequestBody, RetryReason,
    Settlement, StepReply, ToDaemon, Unsettleable,
};
use like_protocol::time::{BootClock, Clock, DEADLINE_AHEAD_MAX};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::*;
use crate::log::tests::{child, spawn};
use crate::log::{Journal, history};
use crate::rpc::tests::Daemon;
use crate::rpc::{Dial, Remote};
use crate::runner::watch::{Notice, watch};
use crate::saga::event::FailureKind;
use crate::saga::{Definition, DefinitionError, Definitions, End, Phase, SagaState, StepPlan};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

/// Runs a test as somebody whom permissions bind; whether it has been run. It has to be run here if nobody else can.
pub(super) fn run_by_nobody(test: &str) -> bool {
    if !rustix::process::getuid().is_root() {
        return false;
    }
    let mut child = child(test, Path::new("/"));
    match spawn(child.uid(65534).gid(65534)).and_then(|child| child.wait_with_output()) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(e) => eprintln!("SKIPPED: this test's binary can't be run as another user: {e}"),
    }
    true
}

/// Two steps at two services, one after the other or side by side.
struct Pair {
    kind: &'static str,
    steps: &'static [StepPlan],
}

const IN_TURN: Pair = Pair {
    kind: "pair",
    steps: &[
        StepPlan { name: "first", role: "left", beside: false },
        StepPlan { name: "second", role: "right", beside: false },
    ],
};

const BESIDE: Pair = Pair {
    kind: "beside",
    steps: &[
        StepPlan { name: "first", role: "left", beside: false },
        StepPlan { name: "second", role: "right", beside: true },
    ],
};

impl Definition for Pair {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn version(&self) -> u16 {
        1
    }

    fn steps(&self) -> &'static [StepPlan] {
        self.steps
    }

    fn operation(&self, _: &Payload, step: usize, replies: &[Payload]) -> Result<Payload, DefinitionError> {
        let before = if self.steps[step].beside { 0 } else { step };
        assert_eq!(replies.len(), before, "a step sees the replies before it, and none of those beside it");
        Ok(Payload::from(vec![step as u8]))
    }

    fn note(
        &self,
        _: &Payload,
        step: usize,
        _: &[Option<Payload>],
    ) -> Result<Option<Payload>, DefinitionError> {
        Ok(Some(Payload::from(vec![step as u8])))
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
    /// After half of [`SHORT`].
    SayLate(ReplyBody),
    Hush,
}

fn done() -> Script {
    Script::Say(ReplyBody::Step(StepReply::Done(Payload::from(vec![1]))))
}

fn undone() -> Script {
    Script::Say(ReplyBody::Step(StepReply::Undone))
}

fn damaged_row() -> DamagedRow {
    let (row, what, why) = ("01".to_owned(), "the record".to_owned(), "it is cut short".to_owned());
    DamagedRow { row, what, step: None, why }
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
    /// Whether damage stands in the way of the saga that it was asked to settle first.
    damaged: watch::Sender<bool>,
    first_settled: Mutex<Option<SagaId>>,
    /// What it was asked to settle, and confirmed.
    settled: Mutex<Vec<Settlement>>,
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
            damaged: watch::Sender::new(false),
            first_settled: Mutex::default(),
            settled: Mutex::default(),
            actions: Mutex::new(vec![done()]),
            compensations: Mutex::new(vec![undone()]),
            heard: Arc::clone(heard),
        })
    }

    /// The notes that came with what it settled.
    fn noted(&self) -> Vec<Option<Payload>> {
        self.settled.lock().unwrap().iter().map(|settled| settled.note.clone()).collect()
    }

    fn remote(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Remote {
        let service = Arc::clone(self);
        Self::remote_of(self.role, move || Arc::clone(&service), clock)
    }

    /// A participant that is the service which is there when it is dialled.
    fn remote_of(
        role: &'static str,
        there: impl Fn() -> Arc<Self> + Send + Sync + 'static,
        clock: &Arc<dyn Clock>,
    ) -> Remote {
        let dial = Dial::new(role, move || {
            let service = there();
            async move {
                if *service.down.borrow() {
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                let (ours, theirs) = tokio::io::duplex(4096);
                tokio::spawn(service.serve(theirs));
                Ok(ours)
            }
        });
        Remote::new(role, dial, Arc::clone(clock))
    }

    /// Where it is not known which deadlines a saga has had, what it settled is kept in mind for as long as any may be.
    fn settled_for_as_long_as_any_request_may_be_under_way(&self) {
        let (now, settled) = (BootClock::open().unwrap().now(), self.settled.lock().unwrap());
        let long = |settled: &Settlement| settled.deadline.remaining(&now) > DEADLINE_AHEAD_MAX / 2;
        assert!(!settled.is_empty() && settled.iter().all(long), "{settled:?}");
    }

    fn answer(&self, body: &RequestBody) -> Script {
        let (what, script) = match body {
            RequestBody::Step(step) if step.direction == Direction::Action => {
                ("action", used_up(&self.actions))
            }
            RequestBody::Step(_) => ("compensation", used_up(&self.compensations)),
            RequestBody::Settle(_) if !*self.settles.borrow() => ("settle", Script::Hush),
            RequestBody::Settle(settlements) => {
                self.settled.lock().unwrap().extend(settlements.iter().cloned());
                let first = *self.first_settled.lock().unwrap().get_or_insert(settlements[0].id.saga);
                let left = settlements.iter().filter(|s| s.id.saga == first && *self.damaged.borrow());
                let left: Vec<_> = left.map(|s| Unsettleable { id: s.id, damaged: damaged_row() }).collect();
                let said = if left.is_empty() { ReplyBody::Settled } else { ReplyBody::SettledBut(left) };
                ("settle", Script::Say(said))
            }
            _ => panic!("a runner asks nothing else"),
        };
        self.heard.lock().unwrap().push(format!("{} {what}", self.role));
        script
    }

    async fn serve(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let Daemon { reader: mut requests, writer: mut replies } =
            Daemon::of(stream, self.role, self.store).await;
        let mut down = self.down.subscribe();
        loop {
            let message = tokio::select! {
                _ = down.wait_for(|down| *down) => return,
                message = requests.next() => message,
            };
            let Some(Ok(message)) = message else { return };
            let ToDaemon::Request(request) = message else { continue };
            let script = self.answer(&request.body);
            if let Script::SayLate(_) = script {
                tokio::time::sleep(SHORT / 2).await;
            }
            if let Script::Say(body) | Script::SayLate(body) = script {
                let _ = replies.send(FromDaemon::Reply(Reply { id: request.id, body })).await;
            }
        }
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
        let remote = |service: &Arc<Service>| Arc::new(service.remote(&clock));
        Context {
            journal: Journal::open(&self.directory.path().join("journal")).unwrap(),
            definitions: Definitions::new().with(IN_TURN).with(BESIDE),
            participants: Participants::new().with(remote(&self.left)).with(remote(&self.right)),
            clock: Arc::clone(&clock),
            origin: Origin::of_this_process(),
            options: Options { attempt_timeout: SHORT, ..Options::default() },
        }
    }

    /// The same, but with this service in the place of the right one.
    fn context_with(&self, right: &Arc<Service>) -> Context {
        let mut context = self.context();
        context.participants = context.participants.with(Arc::new(right.remote(&context.clock)));
        context
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn has_heard(&self, what: &str) -> bool {
        self.heard().iter().any(|heard| heard == what)
    }

    fn states(&self) -> HashMap<SagaId, SagaState> {
        let history = history::read(&self.context().journal).unwrap();
        assert!(history.gaps.are_none());
        history.sagas.into_iter().map(|(_, story)| (story.saga, story.state.unwrap())).collect()
    }
}

fn say(service: &Mutex<Vec<Script>>, scripts: Vec<Script>) {
    *service.lock().unwrap() = scripts;
}

/// A runner with a saga whose second step is in doubt, and where that stands. Its service goes on saying nothing.
async fn in_doubt(bench: &Bench, timeout: Duration) -> (Runner, (SagaId, SagaState)) {
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let mut run = Box::pin(runner.run("pair", Payload::default(), timeout));
    until(|| bench.has_heard("right action"), &mut run).await;
    drop(run);
    let stands = runner.active().remove(0);
    (runner, stands)
}

/// The same saga, left by its runner.
async fn left_in_doubt(bench: &Bench, timeout: Duration) -> (SagaId, SagaState) {
    let (runner, left) = in_doubt(bench, timeout).await;
    runner.let_go();
    left
}

/// A saga that has ended is left by its runner, and the right service does not know of its end.
async fn left_unsettled(bench: &Bench) {
    bench.right.settles.send_replace(false);
    let dead = Runner::start(bench.context()).unwrap();
    dead.run("pair", Payload::default(), LONG).await.unwrap();
    dead.let_go();
}

/// Goes on with a saga, which does not end meanwhile, until this is so.
async fn until<T>(so: impl Fn() -> bool, run: &mut (impl Future<Output = T> + Unpin)) {
    while !so() {
        assert!(tokio::time::timeout(SHORT / 100, &mut *run).await.is_err(), "it has ended");
    }
}

/// Has time pass at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Somebody watches, and `looks` at what is told, to its end.
async fn watched(bench: &Bench, looks: impl AsyncFnOnce(&mut UnboundedReceiver<Notice>)) {
    let (context, (notices, mut told)) = (bench.context(), unbounded_channel());
    tokio::select! {
        () = looks(&mut told) => {}
        watched = watch(&context, Order::GoOn, notices, std::future::pending()) => panic!("{watched:?}"),
    }
}

async fn taken_over(told: &mut UnboundedReceiver<Notice>, unfinished: usize) {
    let taken = tokio::time::timeout(LONG, told.recv()).await;
    assert_eq!(taken, Ok(Some(Notice::TakenOver { slot: 0, unfinished })));
}
