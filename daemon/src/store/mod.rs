//! What a daemon keeps: ordered rows of bytes, changed by atomic batches, durable when [`Store::sync`] has returned.
//!
//! * [`Store`]: the trait that the engine writes against; [`memory`] is one for tests and simulations.
//! * [`logged_store`]: the real one: a [`commit_log`] in front, layers in memory that are read as one ([`merged`]), and
//!   [`runs`] to which a [`checkpoint`] adds one with what they hold; what it does not put there is [`carried`] over. [`rows`]
//!   says how rows stand in files of our own, [`mark`] knows how far the log was durable, [`disk`] is all that they take from
//!   their host. Checkpoints and merges are steps that are taken [`aside`].
//! * [`runs`]: sorted runs of rows in a base, and their list ([`run_list`]); [`merge`] keeps them few. [`run`] is one of them, in
//!   [`block`]s, with a [`filter`]; [`run_writer`] makes it. [`gaps`] are where a scan need not look. [`room`] says what of the
//!   disk merges may take.
//! * [`base`]: the one file that names sled; [`opening`] keeps what opening it may destroy. [`open_error`]: why a store does not
//!   open.
//! * [`data_dir`]: guards the directory that all of it lives in.
//! * [`tx`]: a store as one group of requests sees it: with the group's own writes, before they are applied.
//! * [`key`]: keys, and their order. [`fields`]: how rows are put together from numbers and bytes, so that stored bytes depend on no library.
//! * [`seal`]: the checksum that every value carries, put on and checked by [`tx`] alone.
//!
//! The first byte of every key says whose row it is: the engine's rows begin with a byte below
//! [`DOMAIN_TAG_FIRST`], a domain's with one from there on.

pub mod aside;
pub mod base;
pub mod block;
pub mod carried;
pub mod checkpoint;
pub mod commit_log;
pub mod data_dir;
pub mod disk;
pub mod fields;
pub mod filter;
pub mod gaps;
pub mod key;
pub mod logged_store;
pub mod mark;
pub mod memory;
pub mod merge;
pub mod merged;
pub mod open_error;
pub mod opening;
pub mod room;
pub mod rows;
pub mod run;
pub mod run_list;
pub mod run_writer;
pub mod runs;
pub mod seal;
pub mod tx;

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Bound;

use fields::Malformed;
pub use key::Key;
pub use logged_store::LoggedStore;
pub use memory::MemoryStore;
pub use tx::{Found, Tx};

/// The lowest first byte of a domain's keys. What is below is the engine's.
pub const DOMAIN_TAG_FIRST: u8 = 0x10;

/// A key and its value.
pub type Row = (Key, Vec<u8>);

/// Changes that take effect together or not at all: a value to put, or nothing to delete the key.
pub type Batch = BTreeMap<Key, Option<Vec<u8>>>;

/// Ordered rows of bytes.
///
/// One writer owns a store. What is stored is what [`Tx::into_batch`] made: values with their checksums. Every error
/// is final: what a store does after one is unknown, so the process that sees one answers nothing more and ends.
pub trait Store: Send {
    /// The value under `key`, as of the last [`Store::apply`].
    ///
    /// # Errors
    /// The store can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first `limit` rows of `range` in the order of their keys.
    ///
    /// # Errors
    /// The store can't be read.
    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The first row of each of the first `limit` groups of `range`. The keys of a group begin with the same `shared` bytes, at least one; a
    /// shorter key is a group by itself.
    ///
    /// # Errors
    /// The store can't be read.
    fn firsts(&self, range: &KeyRange, shared: usize, limit: usize) -> Result<Vec<Row>, StoreError> {
        firsts_by(range, shared, limit, |range| Ok(self.scan(range, 1)?.pop()), |(key, _)| key)
    }

    /// The last row of `range`.
    ///
    /// # Errors
    /// The store can't be read.
    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError>;

    /// Makes the changes of `batch`, atomically: whatever happens then, a later opening finds all of them or none,
    /// and none without those of every batch applied before. Nothing is durable yet.
    ///
    /// # Errors
    /// The store can't be written; whether the changes will be found later is unknown.
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Returns when everything applied before would survive a power loss.
    ///
    /// # Errors
    /// The store can't be synced. That can't be tried again: the kernel may have dropped what it could not write.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Does what is left to do about the last batch and changes nothing that anybody can see: for when nobody waits for the store. What
    /// is not done here is done by the next [`Store::apply`].
    fn tidy(&mut self) {}

    /// How many bytes the store takes on disk, for people. 0 if that can't be told.
    fn bytes(&self) -> u64;
}

/// The first row of each of the first `limit` groups of a range, by looking for each. `first` finds the first row of a range.
fn firsts_by<T>(
    range: &KeyRange,
    shared: usize,
    limit: usize,
    first: impl Fn(&KeyRange) -> Result<Option<T>, StoreError>,
    key_of: impl Fn(&T) -> &Key,
) -> Result<Vec<T>, StoreError> {
    let (mut firsts, mut range) = (Vec::new(), range.clone());
    while firsts.len() < limit
        && !range.is_empty()
        && let Some(row) = first(&range)?
    {
        range.from = behind_group(key_of(&row), shared);
        firsts.push(row);
    }
    Ok(firsts)
}

/// The lowest key above all that begin with the same `shared` bytes as this one; or above this one, if it is shorter.
fn behind_group(key: &[u8], shared: usize) -> Vec<u8> {
    match key.get(..shared) {
        Some(group) => KeyRange::prefix(group).to,
        None => [key, &[0]].concat(),
    }
}

/// The keys from one on, up to another that is not included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The lowest key.
    pub from: Vec<u8>,
    /// The lowest key above the range.
    pub to: Vec<u8>,
}

impl KeyRange {
    /// All keys that begin with `prefix`, which does not consist of bytes 0xff alone (no tag is 0xff).
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        debug_assert!(!to.is_empty(), "a prefix of 0xff bytes alone has no end");
        Self { from: prefix.to_vec(), to }
    }

    /// The same range without the keys up to `key`, and without `key`.
    pub fn after(mut self, key: &[u8]) -> Self {
        let mut next = key.to_vec();
        next.push(0);
        if next > self.from {
            self.from = next;
        }
        self
    }

    /// The same range without `key` and the keys above it.
    pub fn before(mut self, key: &[u8]) -> Self {
        if key < self.to.as_slice() {
            self.to = key.to_vec();
        }
        self
    }

    /// The same range as a tree is asked for it. It must not be empty.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.from), Bound::Excluded(&self.to))
    }

    /// Whether a key is in it.
    pub fn has(&self, key: &[u8]) -> bool {
        *self.from <= *key && *key < *self.to
    }

    /// Whether there can be no key in it.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// Why the store gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading, writing or syncing failed: the store can't be used any further.
    #[error("can't {what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There was no space to write what is in nobody's way: values of a base that nothing names yet, or the removal of some.
    /// What was there before is as it was. Only [`base::Base::feed`] says so; who can't do without what he fed goes by
    /// it as if it were [`StoreError::Failed`].
    #[error("can't {what}: {source}")]
    Full {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// One row is not what was written. The store itself works: whatever does not need that row can go on.
    #[error("{0}")]
    Damaged(#[from] Damage),
}

/// A row that is not what was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the row {} is damaged: {why}", hex(.key))]
pub struct Damage {
    /// The row's key.
    pub key: Key,
    /// What is wrong with it.
    pub why: Malformed,
}

impl Damage {
    /// The row's key in hexadecimal digits.
    pub fn row(&self) -> String {
        hex(&self.key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl StoreError {
    pub(crate) fn failed(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { what, source: source.into() }
    }

    /// The same, where even a want of space is final.
    pub(crate) fn into_final(self) -> Self {
        match self {
            Self::Full { what, source } => Self::Failed { what, source },
            other => other,
        }
    }

    /// What stands under `key` is not what was written.
    pub fn damaged(key: &[u8], why: Malformed) -> Self {
        Self::Damaged(Damage { key: Key::from_slice(key), why })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Display;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Opens what was closed just now: a thread of sled's may go on for a moment behind a store that was dropped.
    pub(crate) fn again<T, E: Display>(open: impl Fn() -> Result<T, E>) -> Result<T, E> {
        loop {
            match open() {
                Err(e) if e.to_string().contains("acquire lock") => std::thread::yield_now(),
                opened => return opened,
            }
        }
    }

    /// Copies a store's files, as a process that is killed now leaves them.
    pub(super) fn copied(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }

    /// Changes a value wherever it stands in sled's file.
    pub(super) fn damage(path: &Path, value: &[u8]) {
        let file = path.join(opening::LOG);
        let mut bytes = fs::read(&file).unwrap();
        let found = bytes.windows(value.len()).enumerate().filter(|(_, found)| *found == value);
        let places: Vec<_> = found.map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|at| bytes[at + value.len() / 2] ^= 1);
        fs::write(file, bytes).unwrap();
    }

    #[test]
    fn a_prefix_holds_exactly_the_keys_that_begin_with_it() {
        let range = KeyRange::prefix(&[3, 255]);
        assert!(range.has(&[3, 255]) && range.has(&[3, 255, 0]) && range.has(&[3, 255, 255, 255]));
        assert!(!range.has(&[3, 254, 255]) && !range.has(&[4]) && !range.has(&[4, 0]));
    }

    #[test]
    fn after_and_before_leave_their_key_out() {
        let range = KeyRange::prefix(&[3]).after(&[3, 7]).before(&[3, 9]);
        assert!(
            !range.has(&[3, 7]) && range.has(&[3, 7, 0]) && range.has(&[3, 8, 255]) && !range.has(&[3, 9])
        );
        assert!(KeyRange::prefix(&[3]).after(&[3, 9]).before(&[3, 9]).is_empty());
        assert_eq!(KeyRange::prefix(&[3]).after(&[2]), KeyRange::prefix(&[3]), "never wider");
    }
}
