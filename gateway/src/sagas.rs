//! The saga log, read for people and programs. Nothing is remembered from one reading to the next but the last look at
//! what is open: where a saga stands is derived from the log alone.

use std::sync::Arc;

use like_client::cli::view::SagaView;
use like_client::log::{JournalError, Owner, Slot, Story, history, owner};
use like_client::runner::Context;
use like_protocol::ids::SagaId;
use tokio::sync::Semaphore;

/// Reads the saga log, one reader at a time: however many ask, reading takes one thread and the memory of one.
#[derive(Clone)]
pub struct SagaReader {
    context: Context,
    turn: Arc<Semaphore>,
}

/// A saga as it stands in the log.
pub struct Found {
    /// Its slot.
    pub slot: Slot,
    /// How it is shown.
    pub view: SagaView,
}

impl SagaReader {
    /// Reads the journal of this context.
    pub fn new(context: Context) -> Self {
        Self { context, turn: Arc::new(Semaphore::new(1)) }
    }

    /// What the heads of all slots tell, oldest first: everything that is open, and what has ended lately. Cheap however
    /// long the history is.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn recent(&self) -> Result<Vec<Found>, JournalError> {
        self.read(|context| {
            let mut found = Vec::new();
            for slot in context.journal.slots()? {
                match history::recent_in(&slot) {
                    Ok(stories) => found.extend(stories.iter().map(|story| of(context, slot.clone(), story))),
                    Err(e) => tracing::warn!(slot = slot.number(), "slot skipped: {e}"),
                }
            }
            found.sort_by(|a, b| a.view.saga_id.cmp(&b.view.saga_id));
            Ok(found)
        })
        .await
    }

    /// Everything on record that `wanted` wants, newest first, at most `limit`. Reads the whole log.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn all(
        &self,
        limit: usize,
        wanted: impl Fn(&SagaView) -> bool + Send + 'static,
        before: Option<SagaId>,
    ) -> Result<Vec<Found>, JournalError> {
        self.read(move |context| {
            let history = history::read(&context.journal)?;
            for (slot, e) in &history.skipped {
                tracing::warn!(slot = slot.number(), "slot skipped: {e}");
            }
            let newest_first = history.sagas.into_iter().rev();
            let found = newest_first
                .filter(|(_, story)| before.is_none_or(|before| story.saga < before))
                .map(|(slot, story)| of(context, slot, &story))
                .filter(|found| wanted(&found.view));
            Ok(found.take(limit).collect())
        })
        .await
    }

    /// One saga, and the live process that holds its slot, if one does.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn one(&self, saga: SagaId) -> Result<Option<(Found, Option<Owner>)>, JournalError> {
        self.read(move |context| {
            let Some((slot, story)) = find(context, saga)? else { return Ok(None) };
            let owner = owner::owner_of(&slot);
            Ok(Some((of(context, slot, &story), owner)))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Context) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let context = self.context.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&context)
        });
        // A panic ends the process; what is cancelled is cancelled with the runtime.
        match reading.await {
            Ok(read) => read,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The slot and story of a saga: the heads are looked through first, since what people look at is mostly new.
fn find(context: &Context, saga: SagaId) -> Result<Option<(Slot, Story)>, JournalError> {
    for slot in context.journal.slots()? {
        // A slot that can't be read is said aloud when all are read.
        let stories = history::recent_in(&slot).unwrap_or_default();
        if let Some(story) = stories.into_iter().find(|story| story.saga == saga) {
            return Ok(Some((slot, story)));
        }
    }
    like_client::runner::admin::find(context, saga)
}

fn of(context: &Context, slot: Slot, story: &Story) -> Found {
    let view = SagaView::of(story, &context.definitions, context.options.attention_after);
    Found { slot, view }
}
