//! One like of a file, and what came of it: done, there already, refused for its own sake, or a reason to stop.

use std::time::Duration;

use like_protocol::likes::article::ArticleRejection;
use like_protocol::likes::{ArticleId, UserId};

use crate::cli::error::CliError;
use crate::likes::answer::Rule;
use crate::likes::{ActError, ArticleService, AskError, Likes};
use crate::saga::event::FailureKind;

/// What came of a like.
pub enum Came {
    /// It is on disk in both stores.
    Imported,
    /// It was there before.
    AlreadyLiked,
    /// Nothing has changed, and trying again would not help this line.
    Refused(ActError),
    /// The services or the log can't go on as they are: that is no fault of the line, and the next ones would fare the same.
    Stopped(CliError),
}

/// What likes are made with.
#[derive(Clone)]
pub struct Maker {
    /// Likes, each a saga.
    pub likes: Likes,
    /// Where articles are created that are not there, if they are to be.
    pub creates: Option<ArticleService>,
    /// How long one like may take.
    pub timeout: Duration,
}

impl Maker {
    /// Makes one like.
    pub async fn like(self, user: UserId, article: ArticleId) -> Came {
        let came = self.likes.like(user, article, None, self.timeout).await;
        let missing = matches!(&came, Err(ActError::Forbidden { rule: Rule::NoSuchArticle(_), .. }));
        let (true, Some(service)) = (missing, &self.creates) else { return judge(came.err()) };
        match service.create(Some(article), format!("article {article}")).await {
            // Another line, or another process, was quicker.
            Ok(_) | Err(AskError::Rejected(ArticleRejection::AlreadyExists(_))) => {
                judge(self.likes.like(user, article, None, self.timeout).await.err())
            }
            Err(error) => Came::Stopped(error.into()),
        }
    }
}

fn judge(failure: Option<ActError>) -> Came {
    let Some(failure) = failure else { return Came::Imported };
    match &failure {
        ActError::Forbidden { rule: Rule::AlreadyLiked { .. }, .. } => Came::AlreadyLiked,
        // Another saga holds on to the very like, or a row that it needs is damaged: other lines can do without.
        ActError::Forbidden { .. }
        | ActError::Damaged { .. }
        | ActError::Compensated { last: Some(FailureKind::Locked | FailureKind::Damaged), .. } => {
            Came::Refused(failure)
        }
        _ => Came::Stopped(failure.into()),
    }
}
