//! One like by a runner that waits for a word: the process that the demo kills in the middle.

use clap::Args;
use like_protocol::likes::user::LikeTarget;
use like_protocol::likes::{ArticleId, UserId};
use tokio::io::{AsyncReadExt, stdin};

use crate::cli::error::CliError;
use crate::cli::output;
use crate::cli::tools::Tools;
use crate::likes::ActError;
use crate::likes::acts::LIKE;

/// The name of the command.
pub const LIKER: &str = "demo-liker";

/// What it says once it is connected and waits.
pub const READY: &str = "ready";

/// Who likes what.
#[derive(Args, Debug)]
pub struct LikerArgs {
    /// Which article
    article: ArticleId,
    /// Which user
    user: UserId,
}

/// Takes a slot, connects to both services, says so, waits for a byte on stdin, and likes.
///
/// # Errors
/// As for a like.
pub async fn run_liker(tools: &Tools, args: &LikerArgs) -> Result<(), CliError> {
    let (runner, _) = tools.likes()?;
    for remote in tools.remotes() {
        remote.connect(tools.config.timeout).await.map_err(ActError::Unavailable)?;
    }
    output::raw(format!("{READY}\n").as_bytes())?;
    let mut word = [0];
    stdin().read_exact(&mut word).await.map_err(|e| CliError::File("stdin".to_owned(), e))?;
    let target = LikeTarget { user: args.user, article: args.article, key: None };
    let params = LIKE.params(&target).map_err(|e| CliError::Internal(e.to_string()))?;
    runner.run(LIKE.kind, params, tools.config.timeout).await.map_err(ActError::from)?;
    runner.close(tools.config.timeout).await;
    Ok(())
}
