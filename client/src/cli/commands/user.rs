//! `likectl user`: likes.

use clap::{Args, Subcommand};
use like_protocol::likes::{ArticleId, UserId};

use crate::cli::error::CliError;
use crate::cli::output::Column;
use crate::cli::pages::{self, PageArgs};
use crate::cli::tools::Tools;
use crate::view::RecordDocument;

/// Look at users.
#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// List what a user likes
    Likes(LikesArgs),
}

/// Whose likes.
#[derive(Args, Debug)]
pub struct LikesArgs {
    /// Whose
    #[arg(value_name = "USER", allow_negative_numbers = true)]
    user: UserId,
    #[command(flatten)]
    page: PageArgs<ArticleId>,
}

/// Runs `likectl user`.
///
/// # Errors
/// The service did not answer.
pub async fn run(tools: &Tools, command: &UserCommand) -> Result<(), CliError> {
    let UserCommand::Likes(args) = command;
    let service = tools.users();
    let likes = |after, limit| service.likes_of(args.user, after, limit);
    let records = args.page.fetch(likes, |record| record.article).await?;
    if tools.output.json {
        return tools.output.document(&records.iter().map(RecordDocument::from).collect::<Vec<_>>());
    }
    if records.is_empty() {
        args.page.note_empty(tools, format_args!("user {} likes nothing", args.user));
        return Ok(());
    }
    pages::show_records(tools, &records, Column::Right("ARTICLE"), |record| record.article.to_string())
}
