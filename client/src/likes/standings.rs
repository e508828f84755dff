//! Standings that are asked for in the same moment are asked for together: one question and one answer, which costs both sides
//! a fraction of as many. Whoever is the first has a task ask for all, once those have joined who are about to ask too; who stays
//! alone asks for its own.
//!
//! Nobody depends on another: the task goes on whoever is dropped or not polled, and if a damaged row spoils the answer, each asks
//! for its own, in what is left of the time.

use std::sync::Arc;
use std::time::Duration;

use like_protocol::likes::user::{LikeTarget, STANDINGS_MAX, Standing, UserAnswer, UserQuery};
use tokio::sync::oneshot;
use tokio::time::Instant;

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
        let until = Instant::now() + self.asker.limit();
        let (tell, told) = oneshot::channel();
        if self.asking.join((target, tell)) {
            let standings = self.clone();
            // Its turn comes behind those of all others who are about to ask.
            tokio::spawn(async move { standings.ask_together(standings.asking.depart()).await });
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => self.ask_alone(target, until.saturating_duration_since(Instant::now())).await,
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

    async fn ask_alone(&self, target: LikeTarget, within: Duration) -> Result<Standing, UserError> {
        match self.asker.within(within).query(&UserQuery::Standing(target)).await? {
            UserAnswer::Standing(standing) => Ok(standing),
            other => unexpected(&self.asker, &other),
        }
    }
}

#[cfg(test)]
mod tests;
