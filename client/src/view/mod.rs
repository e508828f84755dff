//! What is shown of articles, likes and sagas: the documents and words that every front has in common, `likectl --json`
//! and HTTP alike. Nothing here is stored, and nothing touches a terminal.
//!
//! With the feature `schema`, the documents describe themselves for OpenAPI.

pub mod advice;
mod documents;
pub mod duration;
pub mod moment;
mod saga;
#[cfg(test)]
pub(crate) mod samples;
mod service;
mod summary;
#[cfg(test)]
mod tests;
mod words;

pub use documents::{ArticleDocument, Liked, ListedArticleDocument, RecordDocument, Unliked};
pub use saga::{HistoryLine, OwnerView, SagaDocument, SagaView, StepEvent, StepView, Tone};
pub use service::ServiceStatus;
pub use summary::{Counts, HANGING_AFTER, STATE_WORDS, SagaSummary, ended_ms, state_word};
