//! Likes: the first domain on top of the engine.
//!
//! * [`acts`]: the two sagas. Pure; they name no socket and no log.
//! * [`articles`], [`users`]: what can be asked of the two services outside any saga.
//! * [`service`]: the acts as a caller means them: checks first, then the saga, then an answer.
//! * [`answer`]: what the checks decide, and what an ended saga means to its caller. Pure.
//! * [`audit`]: likes against like records.
//! * [`pages`]: lists, fetched page by page. `standings`: checks that are made in the same moment are asked together.

pub mod acts;
pub mod answer;
pub mod articles;
pub mod audit;
pub mod pages;
pub mod service;
pub mod users;

mod ask;
mod standings;

use std::sync::Arc;

use like_protocol::time::Clock;

use crate::log::Journal;
use crate::rpc::Remote;
use crate::runner::{Context, Options, Origin, Participants};
use crate::saga::Definitions;

pub use answer::{ActError, LikeAnswer, UnlikeAnswer};
pub use articles::ArticleService;
pub use ask::AskError;
pub use service::{CHECK_TIMEOUT, Likes};
pub use users::UserService;

/// What a runner of likes works with, on behalf of this process.
pub fn context(
    journal: Journal,
    services: [&Arc<Remote>; 2],
    clock: Arc<dyn Clock>,
    options: Options,
) -> Context {
    let participants = services.into_iter().cloned().fold(Participants::new(), Participants::with);
    let origin = Origin::of_this_process();
    Context { journal, definitions: definitions(), participants, clock, origin, options }
}

/// Both sagas: what a runner must know to drive and to recover likes.
pub fn definitions() -> Definitions {
    Definitions::new().with(acts::LIKE).with(acts::UNLIKE)
}
