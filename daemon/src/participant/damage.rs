//! What is known to be damaged, and what follows from it.
//!
//! A damaged row is found by its checksum, or because it does not read as what must stand in its place. It costs those
//! who need that very row: they are told so, and everybody else is served. Nothing is repaired on the quiet, and damage
//! is never taken for absence: where a record should be and can't be read, an action never runs and nothing is undone.
//!
//! A damaged operation record keeps its saga from ending by itself. What the step did stands as it is, since only the
//! record could undo it. Therefore it locks nothing once the daemon has been started anew, and need not: a lock keeps
//! others from building on what may still be taken back, and this can't be. What it *touches* is not known, so whoever
//! compares or repairs numbers is told how many such records there are ([`super::domain::Context::unaccounted`]). An
//! operator ends it by force; only that replaces the record.

use std::collections::{BTreeMap, BTreeSet};

use like_protocol::ids::StepId;
use like_protocol::message::{DAMAGED_SHOWN_MAX, DamagedRow};
use tracing::error;

use super::domain::Domain;
use super::{Participant, Record, boots, record, running};
use crate::store::fields::Malformed;
use crate::store::{Damage, Key, KeyRange, StoreError, Tx};

/// How many damaged rows are remembered and named in the log. Of more, a store is a ruin, and their number says enough.
const REMEMBERED_MAX: usize = 1000;

/// How many rows are read at once while a store is looked through.
const PAGE_ROWS: usize = 1024;

/// The rows that were found damaged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Damaged {
    rows: BTreeMap<Key, Malformed>,
    /// Those that are operation records.
    pub steps: BTreeSet<StepId>,
}

impl<D: Domain> Participant<D> {
    /// Notes a damaged row, names it in the log if it is a new one, and says what is told of it.
    pub(super) fn note_damage(&mut self, damage: &Damage) -> DamagedRow {
        let row = self.describe(damage);
        if let Some(step) = row.step {
            self.damaged.steps.insert(step);
            // Whether it was settled is not known, so it is not.
            self.unsettled.insert(step);
        }
        let rows = &mut self.damaged.rows;
        if rows.len() < REMEMBERED_MAX && rows.insert(damage.key.clone(), damage.why).is_none() {
            let (saga_id, step) = (row.step.map(|id| id.saga.to_string()), row.step.map(|id| id.step));
            error!(row = row.row, saga_id, step, "damaged: {}: {}", row.what, row.why);
        }
        row
    }

    /// Finds the record of a step, for whoever may write one. Ids sort by when their sagas began, so most steps that come for the first
    /// time are later than all before them, and need not be looked for.
    pub(super) fn find(&mut self, id: &StepId, tx: &Tx<'_>) -> Result<Option<Record<D>>, StoreError> {
        if self.latest.is_none_or(|latest| latest < *id) {
            self.latest = Some(*id);
            return Ok(None);
        }
        self.read(id, tx)
    }

    /// Reads a step's record. One that was found damaged once stays so until it is replaced, whatever is read now.
    pub(super) fn read(&self, id: &StepId, tx: &Tx<'_>) -> Result<Option<Record<D>>, StoreError> {
        if self.damaged.steps.contains(id) {
            let key = record::key_of(id);
            let why = self.damaged.rows.get(&key).copied();
            return Err(StoreError::damaged(&key, why.unwrap_or(Malformed("it was found so before"))));
        }
        Record::<D>::read(id, tx, &self.boots)
    }

    /// Looks through up to `rows_max` rows of the domain, and notes what is damaged. Where so much is that nothing tells what comes
    /// behind it, it ends: whoever needs a row there is told.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn look_through(&mut self, tx: &Tx<'_>, rows_max: usize) -> Result<(), StoreError> {
        let mut range = KeyRange { from: vec![crate::store::DOMAIN_TAG_FIRST], to: vec![u8::MAX] };
        let mut looked_at = 0;
        while looked_at < rows_max {
            let rows = match tx.scan(&range, PAGE_ROWS) {
                Err(StoreError::Damaged(damage)) => {
                    self.note_damage(&damage);
                    break;
                }
                scanned => scanned?,
            };
            let Some(last) = rows.last() else { break };
            range = range.after(&last.key);
            looked_at += rows.len();
            for row in rows {
                if let Err(why) = row.value {
                    self.note_damage(&Damage { key: row.key, why });
                }
            }
        }
        Ok(())
    }

    /// How many rows are known to be damaged, and the first of them.
    pub fn damaged(&self) -> (u64, Vec<DamagedRow>) {
        let rows = self.damaged.rows.iter();
        let shown = rows.take(DAMAGED_SHOWN_MAX).map(|(key, why)| Damage { key: key.clone(), why: *why });
        (self.damaged.rows.len() as u64, shown.map(|damage| self.describe(&damage)).collect())
    }

    /// Forgets what a group has written anew or deleted.
    pub(super) fn forget_replaced(&mut self, tx: &Tx<'_>) {
        self.damaged.rows.retain(|key, _| !tx.has_written(key));
    }

    fn describe(&self, damage: &Damage) -> DamagedRow {
        let step = match damage.key.first() {
            Some(&record::TAG) => record::id_of(&damage.key).ok(),
            _ => None,
        };
        let what = match (step, damage.key.first()) {
            (Some(StepId { saga, step }), _) => format!("the operation record of saga {saga}, step {step}"),
            (None, Some(&boots::TAG)) => "the name of a boot".to_owned(),
            (None, Some(&running::TAG | &running::COPY_TAG)) => "the daemon's running time".to_owned(),
            _ => self.domain.name_of(&damage.key).unwrap_or_else(|| "a row that nobody knows".to_owned()),
        };
        DamagedRow { row: damage.row(), what, step, why: damage.why.to_string() }
    }
}
