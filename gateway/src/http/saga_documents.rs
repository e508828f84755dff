//! Sagas as HTTP alone answers them: in a list, and after an act. Names are the same as those of `likectl saga --json`.

use like_client::view::{SagaDocument, SagaView};
use serde::Serialize;
use utoipa::ToSchema;

/// A saga in a list.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct SagaSummary {
    /// Its id.
    pub saga_id: String,
    /// Its kind; null if its beginning is lost.
    pub kind: Option<String>,
    /// running, compensating, completed, compensated, forced_completed, forced_compensated or quarantined.
    pub state: &'static str,
    /// The article that it is about.
    pub article_id: Option<u64>,
    /// The user that it is about.
    pub user_id: Option<u64>,
    /// When it began.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: Option<String>,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
    /// How many attempts at its steps were sent, compensations included.
    pub attempts: u32,
    /// What the last attempt came to, while nothing better is known; of one that was undone, why.
    pub last_failure: Option<String>,
}

impl From<&SagaView> for SagaSummary {
    fn from(saga: &SagaView) -> Self {
        Self {
            saga_id: saga.saga_id.clone(),
            kind: saga.kind.clone(),
            state: saga.state,
            article_id: saga.article_id,
            user_id: saga.user_id,
            started_at: saga.started_at.clone(),
            ended_at: saga.ended_at.clone(),
            settled: saga.settled,
            needs_attention: saga.needs_attention,
            attempts: saga.attempts,
            last_failure: saga.last_failure.clone(),
        }
    }
}

/// What an administrator's act came to.
#[derive(Serialize, ToSchema)]
pub struct Acted {
    /// The saga as it stands now.
    pub saga: SagaDocument,
    /// Of a forced end: what may be left broken.
    pub leaves_broken: Vec<String>,
}
