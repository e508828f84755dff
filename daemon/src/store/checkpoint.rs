//! A checkpoint: what the commit log holds goes where it needs no log any more, beside whatever the store does meanwhile.
//!
//! In these steps, and each durable before the next: the engine's rows into a file of their own ([`super::carried`]),
//! the domain's into a new run of the base, the run into the list of runs, which says at once that all of it is there; then
//! the segments go, and the file of the checkpoint before. Wherever this is cut short, the log still holds all of it, and
//! another run with it changes nothing: rows say what is, not what was done.

use std::sync::Arc;

use super::aside::{Aside, Steps};
use super::disk::Disk;
use super::run_writer::RunWriter;
use super::runs::Runs;
use super::{Batch, DOMAIN_TAG_FIRST, Key, StoreError, carried, commit_log};

/// What is to be put where it belongs.
pub struct Work {
    /// Where the store's own files are.
    pub disk: Arc<dyn Disk>,
    /// Where the domain's rows go.
    pub runs: Arc<Runs>,
    /// The engine's rows, as the checkpoint before left them.
    pub carried: Arc<Batch>,
    /// Everything that changed since.
    pub changes: Arc<Batch>,
    /// The number of the record that the changes go up to.
    pub through: u64,
    /// The segments that hold the changes.
    pub segments: Vec<u64>,
    /// What earlier checkpoints have made superfluous and is not freed yet: it is freed with all of this.
    pub unneeded: Vec<Batch>,
}

enum Step {
    Carry,
    /// The domain's rows from this key on.
    Feed(RunWriter, Key),
    Add(RunWriter),
    Remove,
}

/// A checkpoint under way.
pub struct Checkpoint {
    /// What changed since the checkpoint before: hides what is below until this has ended.
    pub changes: Arc<Batch>,
    steps: Aside<Checkpointing>,
}

impl Checkpoint {
    /// Begins it.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn begin(work: Work) -> Result<Self, StoreError> {
        let (disk, changes, kept) =
            (Arc::clone(&work.disk), Arc::clone(&work.changes), Arc::clone(&work.carried));
        let steps = Checkpointing { work, next: Some(Step::Carry), kept };
        Ok(Self { changes, steps: Aside::begin(&*disk, "checkpoint", steps)? })
    }

    /// What changed, when nobody needs the rest of it any more.
    pub fn into_changes(self) -> Arc<Batch> {
        self.changes
    }

    /// The engine's rows as it leaves them, if it has ended.
    ///
    /// # Errors
    /// It failed.
    pub fn ended(&self) -> Result<Option<Arc<Batch>>, StoreError> {
        self.steps.ended()
    }

    /// Brings it to its end: the engine's rows as it leaves them.
    ///
    /// # Errors
    /// It failed.
    pub fn finish(&self) -> Result<Option<Arc<Batch>>, StoreError> {
        self.steps.hurry_while(|| true)
    }
}

/// How far it has got.
struct Checkpointing {
    work: Work,
    /// What comes next.
    next: Option<Step>,
    /// The engine's rows as it leaves them, once they are written.
    kept: Arc<Batch>,
}

impl Steps for Checkpointing {
    type Outcome = Arc<Batch>;

    fn step(&mut self) -> Result<Option<Arc<Batch>>, StoreError> {
        self.next = match self.next.take() {
            Some(step) => self.take(step)?,
            None => None,
        };
        Ok(self.next.is_none().then(|| Arc::clone(&self.kept)))
    }
}

impl Checkpointing {
    fn take(&mut self, step: Step) -> Result<Option<Step>, StoreError> {
        let failed = |e| StoreError::failed("write a checkpoint of the store", e);
        let Work { disk, runs, changes, through, segments, .. } = &self.work;
        Ok(Some(match step {
            Step::Carry => {
                let kept = self.work.carried_on();
                let bytes = carried::write(&**disk, *through, &kept).map_err(failed)?;
                runs.allowance().carries(bytes);
                self.kept = Arc::new(kept);
                let from = Key::from_slice(&[DOMAIN_TAG_FIRST]);
                let rows_max = changes.range(from.clone()..).count();
                Step::Feed(runs.begin(0, rows_max as u64), from)
            }
            Step::Feed(mut writer, from) => {
                let mut rows = changes.range(from.clone()..);
                let next = loop {
                    match rows.next() {
                        Some((key, _)) if writer.is_full() => break key.clone(),
                        Some((key, value)) => writer.push(key, value.as_deref()),
                        None => {
                            writer.end();
                            break Key::from_slice(&[u8::MAX]);
                        }
                    }
                };
                if writer.feed(&**runs.base())? { Step::Add(writer) } else { Step::Feed(writer, next) }
            }
            Step::Add(writer) => {
                runs.add(writer.written(), *through)?;
                Step::Remove
            }
            Step::Remove => {
                carried::remove_others(&**disk, *through).map_err(failed)?;
                commit_log::remove(&**disk, segments).map_err(failed)?;
                return Ok(None);
            }
        }))
    }
}

impl Work {
    /// The engine's rows that are left.
    fn carried_on(&self) -> Batch {
        let mut kept = Batch::clone(&self.carried);
        for (key, value) in self.changes.range(..Key::from_slice(&[DOMAIN_TAG_FIRST])) {
            match value {
                Some(_) => drop(kept.insert(key.clone(), value.clone())),
                None => drop(kept.remove(key)),
            }
        }
        kept
    }
}
