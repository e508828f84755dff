//! `likectl like` and `likectl unlike`.

use std::time::Duration;

use clap::Args;
use like_protocol::ids::SagaId;
use like_protocol::likes::user::CallerKey;
use like_protocol::likes::{ArticleId, UserId};
use uuid::Uuid;

use crate::cli::error::CliError;
use crate::cli::output::{DIM, GOOD, count, paint};
use crate::cli::signals;
use crate::cli::tools::Tools;
use crate::likes::ActError;
use crate::likes::acts::{Act, LIKE, UNLIKE};
use crate::runner::Runner;
use crate::view::{Liked, Unliked};

/// How long a saga that a dead runner left in this one's slot is given to end before this process does. What is left
/// then stands in the log.
const LEFT_OVER_GRACE: Duration = Duration::from_secs(1);

/// Who likes what, or no longer.
#[derive(Args, Debug)]
pub struct LikeArgs {
    /// Which article
    #[arg(value_name = "ARTICLE", allow_negative_numbers = true)]
    article: ArticleId,
    /// Which user
    #[arg(long, value_name = "USER", allow_negative_numbers = true)]
    user: UserId,
    /// Draw one before the first try: a retry with the same key gets the first one's answer
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    key: Option<Uuid>,
}

fn uuid(typed: &str) -> Result<Uuid, String> {
    Uuid::try_parse(typed)
        .map_err(|_| "no UUID: draw a random one for every new act, as with uuidgen".to_owned())
}

impl LikeArgs {
    fn key(&self) -> Option<CallerKey> {
        self.key.map(CallerKey)
    }
}

/// Runs `likectl like`.
///
/// # Errors
/// The like did not come about, or nobody knows yet.
pub async fn run_like(tools: &Tools, args: &LikeArgs) -> Result<(), CliError> {
    let (runner, likes) = tools.likes()?;
    let acting = likes.like(args.user, args.article, args.key(), tools.config.timeout);
    let answer = interruptible(&runner, LIKE, acting).await;
    let told = answer.and_then(|answer| {
        if tools.output.json {
            return tools.output.document(&Liked::from(&answer));
        }
        let likes = likes_now(answer.current_likes);
        tools.output.text(format!("{} article {} now has {likes}", paint(GOOD, "liked:"), answer.article))?;
        tools.output.text(paint(DIM, format!("record {}", answer.record)))
    });
    close(runner, told).await
}

/// Runs `likectl unlike`.
///
/// # Errors
/// The unlike did not come about, or nobody knows yet.
pub async fn run_unlike(tools: &Tools, args: &LikeArgs) -> Result<(), CliError> {
    let (runner, likes) = tools.likes()?;
    let acting = likes.unlike(args.user, args.article, args.key(), tools.config.timeout);
    let answer = interruptible(&runner, UNLIKE, acting).await;
    let told = answer.and_then(|answer| {
        if tools.output.json {
            return tools.output.document(&Unliked::from(&answer));
        }
        let likes = likes_now(answer.current_likes);
        tools.output.text(format!(
            "{} article {} now has {likes}",
            paint(GOOD, "unliked:"),
            answer.article
        ))?;
        tools.output.text(paint(DIM, format!("saga {}", answer.saga)))
    });
    close(runner, told).await
}

fn likes_now(likes: Option<u64>) -> String {
    likes.map_or_else(|| "an unknown number of likes".to_owned(), |likes| count(likes, "like", "likes"))
}

/// Waits for an act, or for Ctrl-C; then names the saga that had been begun.
async fn interruptible<T>(
    runner: &Runner,
    act: Act,
    acting: impl Future<Output = Result<T, ActError>>,
) -> Result<T, CliError> {
    let left_over: Vec<SagaId> = runner.active().into_iter().map(|(saga, _)| saga).collect();
    tokio::select! {
        answer = acting => Ok(answer?),
        () = signals::interrupted() => {
            let mut active = runner.active().into_iter();
            let begun = active.find(|(saga, state)| state.begun.kind == act.kind && !left_over.contains(saga));
            Err(CliError::Interrupted(begun.map(|(saga, _)| saga)))
        }
    }
}

/// Lets go of the slot. A saga that has ended is settled before; nobody waits for one that goes on, or for a service that
/// does not answer.
async fn close(runner: Runner, told: Result<(), CliError>) -> Result<(), CliError> {
    let in_vain = matches!(
        told,
        Err(CliError::Interrupted(_) | CliError::Act(ActError::Unfinished { .. } | ActError::Unavailable(_)))
    );
    if !in_vain {
        runner.close(LEFT_OVER_GRACE).await;
    }
    told
}
