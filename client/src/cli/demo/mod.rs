//! `likectl demo`: the whole story in a throwaway directory, told to somebody who sees it for the first time.
//!
//! Nothing is staged but the moments of death: the daemons are the real ones, and what is shown is what `likectl` says.
//! No moment is a matter of luck. The user service dies before the like that needs it begins, at a runner that knows it
//! already; the runner dies while the user service is stopped and so can't have answered.

mod liker;
mod programs;
mod stage;
mod story;

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use like_protocol::ids::SagaId;
use like_protocol::likes::{ArticleId, Service, UserId};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use super::config::Config;
use super::error::CliError;
use super::signals;
use super::tools::Tools;
use crate::likes::ActError;
use crate::likes::acts::LIKE;
use crate::log::{Journal, history};
use crate::saga::Action;
pub use liker::{LIKER, LikerArgs, run_liker};
use stage::Stage;
use story::Story;

/// How long the like that needs a dead service tries: long enough to see retries, too short to bore.
const DOOMED_LIKE_TIMEOUT: Duration = Duration::from_millis(1200);

/// How long anything that should take milliseconds may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the log is looked at while something is expected to appear in it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why the demo can't go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A daemon's program is nowhere.
    #[error("there is no {0} beside likectl or in the search path: build or install it first (cargo build)")]
    NoProgram(&'static str),
    /// A daemon does not answer.
    #[error("{name} does not answer; it said:\n{said}")]
    DaemonFailed {
        /// Which.
        name: &'static str,
        /// What it wrote to stderr.
        said: String,
    },
    /// The operating system refused something.
    #[error("can't {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// Something went another way than the story.
    #[error("the demo went off its script: {0}")]
    Unexpected(String),
}

impl DemoError {
    fn io(what: &str, source: io::Error) -> Self {
        Self::Io { what: what.to_owned(), source }
    }
}

/// Runs `likectl demo`. Whatever ends it, its children are killed and its directory is removed.
///
/// # Errors
/// Something went another way than the story; or Ctrl-C.
pub async fn run(tools: &Tools) -> Result<(), CliError> {
    let color = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let mut stage = Stage::set_up(Story::new(tools.output.json), color)?;
    let told = tokio::select! {
        // A terminal's Ctrl-C ends the children too: what becomes of them is no news then.
        biased;
        () = signals::interrupted() => Err(CliError::Interrupted(None)),
        () = signals::asked_to_end() => Err(CliError::Interrupted(None)),
        () = signals::hung_up() => Err(CliError::Interrupted(None)),
        told = story(tools, &mut stage) => told,
    };
    let told = told.and_then(|()| stage.story.end(tools.output));
    stage.clear().await;
    told
}

async fn story(tools: &Tools, stage: &mut Stage) -> Result<(), CliError> {
    stage.story.say(
        "Two services own two facts about one event. A user likes an article: the article service counts",
    );
    stage
        .story
        .say("one like more, the user service keeps a record of it. No transaction spans both; a saga does.");
    stage
        .story
        .say(&format!("Everything happens in {}, which is removed at the end.", stage.directory().display()));
    likes_and_unlikes(stage).await?;
    one_saga(tools, stage).await?;
    the_user_service_dies(tools, stage).await?;
    the_runner_dies(tools, stage).await?;
    everything_adds_up(stage).await
}

async fn likes_and_unlikes(stage: &mut Stage) -> Result<(), CliError> {
    stage.story.chapter("Two daemons, an article, some likes", "");
    stage.start(Service::Article).await?;
    stage.start(Service::User).await?;
    stage.show(&["article", "create", "Sagas in practice"]).await?;
    stage.show(&["like", "1", "--user", "7"]).await?;
    stage.show(&["like", "1", "--user", "8"]).await?;
    stage.show(&["like", "1", "--user", "9"]).await?;
    stage.show(&["unlike", "1", "--user", "8"]).await?;
    stage.show(&["article", "likers", "1"]).await?;
    Ok(())
}

async fn one_saga(tools: &Tools, stage: &mut Stage) -> Result<(), CliError> {
    let text = "Each like was a saga, and the saga log tells its story. This is the first one: two steps, each written \
                \nto the log before it is sent, and an end that is on disk in both services before you are told.";
    stage.story.chapter("What happened inside", text);
    let mut sagas = BTreeSet::new();
    stage_tools(tools, stage)?.survey(|_, story| sagas.extend([story.saga]))?;
    let first = sagas.pop_first().ok_or_else(|| off_script("the log is empty".to_owned()))?;
    stage.show(&["saga", "show", &first.to_string()]).await?;
    Ok(())
}

/// An in-process runner that knows both services loses one of them before it begins a like.
async fn the_user_service_dies(tools: &Tools, stage: &mut Stage) -> Result<(), CliError> {
    let text = "A runner has both services on the line, as user 10 likes the article. Now the user service dies: the \
                \ncount goes up, but the record can't be made. When time is up, the saga takes the count back.";
    stage.story.chapter("The user service dies in the middle of a like", text);
    let staged = stage_tools(tools, stage)?;
    let (runner, likes) = staged.likes()?;
    for remote in staged.remotes() {
        remote.connect(PATIENCE).await.map_err(ActError::Unavailable)?;
    }
    stage.show(&["article", "show", "1"]).await?;
    stage.kill(Service::User).await?;
    stage.story.aside("the runner: like article 1 for user 10, within 1.2 s");
    let saga = match likes.like(UserId(10), ArticleId(1), None, DOOMED_LIKE_TIMEOUT).await {
        Err(ActError::Compensated { saga, .. }) => saga,
        other => return Err(off_script(format!("a like without a user service came to {other:?}"))),
    };
    stage.story.aside("failed, and undone");
    runner.close(PATIENCE).await;
    stage.show(&["saga", "show", &saga.to_string()]).await?;
    stage.show(&["article", "show", "1"]).await?;
    stage.story.aside("the likes are as they were, and the user service is still down; now it comes back");
    stage.start(Service::User).await?;
    Ok(())
}

/// A runner is killed while the user service, stopped, owes it an answer.
async fn the_runner_dies(tools: &Tools, stage: &mut Stage) -> Result<(), CliError> {
    let text = "User 11 likes the article. The runner has sent the second step and waits for the answer, when it is \
                \nkilled. What it began stands in the log; whoever runs `recover` finishes it.";
    stage.story.chapter("The runner dies in the middle of a like", text);
    let staged = stage_tools(tools, stage)?;
    let mut liker = start_liker(stage).await?;
    stage.signal(Service::User, Signal::STOP)?;
    stage.story.aside("a runner: like article 1 for user 11");
    let word = liker.stdin.as_mut().ok_or_else(|| off_script("the runner has no stdin".to_owned()))?;
    word.write_all(b"!").await.map_err(|e| DemoError::io("talk to the runner", e))?;
    let saga = wait_until_in_doubt(&staged).await?;
    stage.story.aside("the second step has been sent; kill -9 hits the runner");
    liker.kill().await.map_err(|e| DemoError::io("kill the runner", e))?;
    stage.signal(Service::User, Signal::CONT)?;
    stage.show(&["saga", "show", &saga.to_string()]).await?;
    stage.show(&["recover"]).await?;
    stage.show(&["saga", "show", &saga.to_string()]).await?;
    Ok(())
}

async fn everything_adds_up(stage: &mut Stage) -> Result<(), CliError> {
    let text = "After all that: three users like the article, and the article has three likes.";
    stage.story.chapter("Everything adds up", text);
    stage.show(&["article", "likers", "1"]).await?;
    stage.show(&["audit"]).await?;
    stage.show(&["status"]).await?;
    stage.story.say(
        "\nThat was all. `likectl --help` lists the commands; everything you saw works the same on real sockets.",
    );
    Ok(())
}

/// The demo's own tools, pointed at the stage.
fn stage_tools(tools: &Tools, stage: &Stage) -> Result<Tools, CliError> {
    Tools::new(Config {
        article_socket: stage.socket(Service::Article),
        user_socket: stage.socket(Service::User),
        journal: stage.journal(),
        json: false,
        ..tools.config.clone()
    })
}

/// Starts the runner that is to die, and waits until it is connected to both services.
async fn start_liker(stage: &Stage) -> Result<Child, DemoError> {
    let mut command = stage.likectl();
    command.args([LIKER, "1", "11"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut liker = command.spawn().map_err(|e| DemoError::io("start a runner", e))?;
    let stdout =
        liker.stdout.take().ok_or_else(|| DemoError::Unexpected("the runner has no stdout".to_owned()))?;
    let mut lines = BufReader::new(stdout).lines();
    let said = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    match said {
        Ok(Ok(Some(line))) if line == liker::READY => Ok(liker),
        other => Err(DemoError::Unexpected(format!("the runner did not get ready: {other:?}"))),
    }
}

/// Waits until the log shows a saga whose user step was sent and not answered.
async fn wait_until_in_doubt(staged: &Tools) -> Result<SagaId, CliError> {
    let journal = Journal::open_existing(&staged.config.journal)?;
    let in_doubt = async {
        loop {
            let stories = history::read(&journal)?.sagas.into_iter().map(|(_, story)| story);
            let sent = stories.rev().find(|story| {
                let step = story.state.as_ref().and_then(|state| state.steps.get(LIKE.record_step));
                step.is_some_and(|step| step.action == Action::InDoubt)
            });
            match sent {
                Some(story) => return Ok(story.saga),
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    };
    let never = |_| off_script("the runner never sent its second step".to_owned());
    tokio::time::timeout(PATIENCE, in_doubt).await.map_err(never)?
}

fn off_script(what: String) -> CliError {
    DemoError::Unexpected(what).into()
}
