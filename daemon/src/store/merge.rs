//! Merging runs, beside whatever the store does: four of a size become one, so that there are never many.
//!
//! Runs are merged by their levels: what a checkpoint writes has level 0, what comes of merging runs of a level has the next one.
//! Only runs that follow each other in age are merged. A merge of a lower level goes first, even in the middle of one of a higher
//! level, which may take minutes: so checkpoints never wait for that.
//!
//! What a merge has written is nothing before the list names it; if it is cut short, its work is lost and nothing else. So one
//! that does not fit on the disk ([`super::room`]) is not begun, or given up, and nobody else need stop for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::error;

use super::StoreError;
use super::aside::Steps;
use super::filter::Hashed;
use super::run::{Run, RunRows};
use super::run_writer::RunWriter;
use super::runs::{Listed, Runs};

/// All merges under way.
pub struct Merges {
    runs: Arc<Runs>,
    /// At most one for each level.
    under_way: BTreeMap<u64, Merge>,
}

/// A merge of some runs that follow each other.
struct Merge {
    /// The oldest first.
    merged: Vec<Arc<Run>>,
    /// Their rows, the newest first; those that have come to their end are gone.
    rows: Vec<RunRows>,
    /// The runs older than all of them.
    older: Vec<Arc<Run>>,
    writer: RunWriter,
    /// The key of the last row that was merged.
    key: Vec<u8>,
}

/// Whether there is anything to be done, and room for it. Nothing may be under way.
pub fn is_due(runs: &Runs) -> bool {
    let Choice { fits, is_short } = choose(&runs.listed(), runs, &BTreeMap::new());
    runs.allowance().note(is_short);
    runs.has_gone() || fits.is_some()
}

/// What to merge next.
struct Choice {
    /// Runs that follow each other in the list, in its order, and for whose merge there is room.
    fits: Option<Vec<Arc<Run>>>,
    /// Whether there are others, which would come before these or with them, for which there is too little.
    is_short: bool,
}

/// Looks for the runs to be merged next.
fn choose(listed: &Listed, runs: &Runs, under_way: &BTreeMap<u64, Merge>) -> Choice {
    let fan_in = runs.shape().fan_in;
    let is_taken = |run: &Arc<Run>| {
        let mut taken = under_way.values().flat_map(|merge| &merge.merged);
        run.is_damaged() || taken.any(|taken| Arc::ptr_eq(taken, run))
    };
    let groups = listed.runs.chunk_by(|a, b| a.entry.level == b.entry.level && is_taken(a) == is_taken(b));
    let mut wanted: Vec<_> =
        groups.filter(|group| group.len() >= fan_in && !group.iter().any(is_taken)).collect();
    wanted.sort_by_key(|group| group.iter().map(|run| run.entry.level).max());
    // Too many, and no four of a level: whatever of the newest can be merged.
    if under_way.is_empty() && listed.runs.len() >= runs.shape().runs_max {
        let newest = listed.runs.rsplit(is_taken).find(|group| group.len() > 1);
        wanted.extend(newest.map(|group| &group[group.len().saturating_sub(fan_in)..]));
    }
    let mut choice = Choice { fits: None, is_short: false };
    if wanted.is_empty() {
        return choice;
    }
    let room_bytes = runs.allowance().bytes_to_begin(listed.through);
    let has_room = |part: &&[Arc<Run>]| Some(runs.bytes_of(values_of(part))) <= room_bytes;
    for group in wanted {
        // The oldest of a group if not all of it fits: so levels keep the order of age.
        let lengths = (fan_in.min(group.len())..=group.len()).rev();
        choice.fits = lengths.map(|length| &group[..length]).find(has_room).map(<[_]>::to_vec);
        if choice.fits.is_some() {
            break;
        }
        choice.is_short = true;
    }
    choice
}

/// In how many values of the base these runs are.
fn values_of(runs: &[Arc<Run>]) -> u64 {
    runs.iter().map(|run| u64::from(run.entry.values())).sum()
}

impl Merges {
    /// Nothing is begun yet.
    pub fn of(runs: Arc<Runs>) -> Self {
        Self { runs, under_way: BTreeMap::new() }
    }

    /// Begins the next merge, if one is due that goes before those under way.
    fn begin(&mut self) {
        let listed = self.runs.listed();
        let Some(merged) = choose(&listed, &self.runs, &self.under_way).fits else { return };
        let level = merged.iter().map(|run| run.entry.level).max().unwrap_or(0);
        if self.under_way.first_key_value().is_some_and(|(lowest, _)| *lowest <= level) {
            return;
        }
        let rows_max = merged.iter().map(|run| run.entry.rows).sum();
        let is_first = |run: &Arc<Run>| merged.first().is_some_and(|first| Arc::ptr_eq(first, run));
        let older = listed.runs.iter().take_while(|run| !is_first(run)).cloned().collect();
        let is_even = merged.iter().all(|run| run.entry.level == level);
        let writer = self.runs.begin(level + u64::from(is_even), rows_max);
        let rows = merged.iter().rev().map(|run| self.runs.rows_of(run, &[])).collect();
        self.under_way.insert(level, Merge { merged, rows, older, writer, key: Vec::new() });
    }

    /// Removes something, or goes on with a merge. That all is done, if it is.
    fn go_on(&mut self) -> Result<Option<()>, StoreError> {
        if self.runs.remove_some()? {
            return Ok(None);
        }
        self.begin();
        let Some(mut lowest) = self.under_way.first_entry() else { return Ok(Some(())) };
        if Some(lowest.get().bytes_left(&self.runs)) > self.runs.allowance().bytes_to_go_on() {
            self.runs.give_up(&lowest.remove().writer);
            self.runs.allowance().given_up(self.runs.listed().through);
            return Ok(None);
        }
        match lowest.get_mut().step(&self.runs) {
            Ok(false) => {}
            Ok(true) => {
                let Merge { merged, writer, .. } = lowest.remove();
                self.runs.replace(merged, writer.written())?;
            }
            Err(StoreError::Damaged(damage)) => {
                error!("{damage}: runs of rows are left unmerged");
                self.runs.give_up(&lowest.remove().writer);
            }
            Err(failed) => return Err(failed),
        }
        Ok(None)
    }
}

impl Steps for Merges {
    type Outcome = ();

    fn step(&mut self) -> Result<Option<()>, StoreError> {
        match self.go_on() {
            Err(full @ StoreError::Full { .. }) => {
                error!("{full}: runs of rows are left unmerged until the next checkpoint");
                std::mem::take(&mut self.under_way)
                    .values()
                    .for_each(|merge| self.runs.give_up(&merge.writer));
                self.runs.allowance().full(self.runs.listed().through);
                Ok(Some(()))
            }
            other => other,
        }
    }
}

impl Merge {
    /// How much disk it will still take, in bytes, at most.
    fn bytes_left(&self, runs: &Runs) -> u64 {
        let written = u64::from(self.writer.entry().values());
        runs.bytes_of(values_of(&self.merged).saturating_sub(written))
    }

    /// Merges some rows. Whether all of them are merged, durably.
    fn step(&mut self, runs: &Runs) -> Result<bool, StoreError> {
        while !self.writer.is_full() {
            if !self.merge_row()? {
                self.writer.end();
                break;
            }
        }
        self.writer.feed(&**runs.base())
    }

    /// Merges the row with the next key. Whether there was one.
    fn merge_row(&mut self) -> Result<bool, StoreError> {
        let (key, mut failed) = (&self.key, None);
        // At the beginning all stand before their first row, with no key.
        self.rows.retain_mut(|rows| {
            rows.key() != key
                || rows.advance().unwrap_or_else(|e| {
                    failed = Some(e);
                    false
                })
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        // Of equal keys the first one is the newest.
        let Some(lowest) = self.rows.iter().min_by_key(|rows| rows.key()) else { return Ok(false) };
        self.key.clear();
        self.key.extend(lowest.key());
        // That a key is deleted need not be told where nothing older has it.
        let older_may_have = |key| self.older.iter().any(|run| run.may_have(key));
        if lowest.value().is_some() || older_may_have(Hashed::of(&self.key)) {
            self.writer.push(&self.key, lowest.value());
        }
        Ok(true)
    }
}
