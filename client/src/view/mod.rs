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
#[cfg(test)]
mod tests;
mod words;

pub use documents::{ArticleDocument, Liked, ListedArticleDocument, RecordDocument, Unliked};
pub use saga::{
    HANGING_AFTER, HistoryLine, OwnerView, STATE_WORDS, SagaDocument, SagaView, StepEvent, StepView, Tone,
    ended_ms, is_overdue, state_word,
};
