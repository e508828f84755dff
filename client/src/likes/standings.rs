//! Standings that are asked for in the same moment are asked for together: one question and one answer, which costs both sides
//! a fraction of as many. Whoever is the first lets those join who are about to ask too, and asks for all; who stays alone asks
//! for its own.
//!
//! Nobody depends on the first: if it is dropped, or a damaged row spoils the answer, each asks for its own.

use std::sync::Arc;

use like_protocol::likes::user::{LikeTarget, STANDINGS_MAX, Standing, UserAnswer, UserQuery};
use tokio::sync::oneshot;

use super::ask::{AskError, Asker};
use super::users::{UserError, unexpected};
use crate::gathering::Gathering;

/// Asks for standings, those of all clones together.
#[derive(Clone)]
pub(super) struct Standings {
    asker: Asker,
    asking: Arc<Gathering<Asking>>,
}

/// A target, and whoever waits for its standing: dropped if it is to ask by itself.
type Asking = (LikeTarget, oneshot::Sender<Result<Standing, UserError>>);

impl Standings {
    pub fn new(asker: Asker) -> Self {
        Self { asker, asking: Arc::new(Gathering::of(STANDINGS_MAX)) }
    }

    /// How a user stands to an article, and to a key.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask(&self, target: LikeTarget) -> Result<Standing, UserError> {
        let (tell, told) = oneshot::channel();
        if self.asking.join((target, tell)) {
            let first = First(Some(&self.asking));
            // Whoever else is about to ask does it now.
            tokio::task::yield_now().await;
            self.ask_together(first.depart()).await;
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => self.ask_alone(target).await,
        }
    }

    async fn ask_together(&self, together: Vec<Asking>) {
        if together.len() <= 1 {
            return;
        }
        let targets = together.iter().map(|(target, _)| *target).collect();
        match self.asker.query(&UserQuery::Standings(targets)).await {
            Ok(UserAnswer::Standings(standings)) if standings.len() == together.len() => {
                for ((_, tell), standing) in together.into_iter().zip(standings) {
                    let _gone = tell.send(Ok(standing));
                }
            }
            // The time for an answer is over, for each of them.
            Err(none @ (AskError::Unreachable(_) | AskError::Lost(_) | AskError::Retry { .. })) => {
                for (_, tell) in together {
                    let _gone = tell.send(Err(none.clone()));
                }
            }
            // What one of them has come upon is nothing to the others.
            _ => {}
        }
    }

    async fn ask_alone(&self, target: LikeTarget) -> Result<Standing, UserError> {
        match self.asker.query(&UserQuery::Standing(target)).await? {
            UserAnswer::Standing(standing) => Ok(standing),
            other => unexpected(&self.asker, &other),
        }
    }
}

/// The first of those who ask together, for as long as others may join. If it is dropped meanwhile, they are left to themselves.
struct First<'a>(Option<&'a Gathering<Asking>>);

impl First<'_> {
    /// Nobody joins any more: those who have.
    fn depart(mut self) -> Vec<Asking> {
        self.0.take().map(Gathering::depart).unwrap_or_default()
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        drop(self.0.take().map(Gathering::depart));
    }
}

#[cfg(test)]
mod tests;
