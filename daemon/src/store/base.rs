//! The base of the store: values under keys, in a sled database. What they are is not its business ([`super::runs`] knows).
//!
//! This is the one file that names sled. Two things about it decide how it is used here. Its `flush` asks the kernel to
//! write but does not sync, so everything it calls flushed can still be lost when the power fails; and it overwrites and
//! removes files by that measure. Therefore these are synced here:
//!
//! * all files and names once, when a store is made;
//! * `db` before sled opens it, so that no snapshot that sled makes then stands for more than is on disk, and what sled
//!   destroys while it opens a store is kept until what replaces it is durable ([`Opening`]);
//! * `db` after every flush, and before sled has written half a segment of its log: sled takes for durable what it has
//!   flushed, and writes over segments that it needs no longer by that measure.
//!
//! Values stay far below the size at which sled would put a page into a file of its own, which nobody would sync.
//!
//! Reads may go on in one thread while others feed it, one at a time.

use std::error::Error;
use std::fs::File;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::data_dir::DataDir;
use super::fields::Malformed;
use super::open_error::OpenError;
use super::opening::{LOG, Opening};
use super::{Key, KeyRange, StoreError};

/// An ordered map with one row besides that is replaced as a whole. It may be read while it is fed.
pub trait Base: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// It can't be read; [`StoreError::Damaged`] if it is not what was written, and others may be.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first `limit` keys of a range, which is not empty.
    ///
    /// # Errors
    /// As for [`Base::get`].
    fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, StoreError>;

    /// Makes changes, from the first one on, as many as may be made without a sync between them: durably, but not
    /// atomically. Tells the key of the first one that is left.
    ///
    /// # Errors
    /// It can't be written or synced. [`StoreError::Full`] if only space was missing, and [`StoreError::Damaged`] if what stands
    /// in their place or beside it is not what was written: then any of these changes may be in the base, and all before them are.
    fn feed(&self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Key>, StoreError>;

    /// What was concluded last; nothing if the base has lost that.
    ///
    /// # Errors
    /// It can't be read.
    fn concluded(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces the row that stands for all the others, atomically and durably. What was fed before is durable.
    ///
    /// # Errors
    /// It can't be written or synced.
    fn conclude(&self, row: &[u8]) -> Result<(), StoreError>;
}

/// A key, and its value unless it is deleted.
pub type Change<'a> = (&'a Key, &'a Option<Vec<u8>>);

/// How much sled may keep of the store in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The longest value. A page of sled's holds up to some 28 rows before it is split, and beyond 128 KiB it would be
/// written into a file of its own, which nobody would sync.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 + 400;

/// The row that stands for all the others, written when the base was made and with every conclusion. sled opens a log that
/// it can't read from its beginning as an empty store; one without this row is such a ruin, and must not be served as if
/// nothing had ever been in it.
const CORNERSTONE: &[u8] = &[0];

/// How much of its own log sled may write between two syncs: half a segment. So a batch has some sixty blocks: far more than 128
/// writes at once would make sled's memory grow tenfold.
const UNSYNCED_BYTES_MAX: usize = 256 * 1024;

/// About what a change makes sled write: a part of a page, and now and then the page. What is deleted is taken for as long as a
/// value can be, since its neighbours are written anew: some 12 KB were measured for each value of 4 KB.
const fn sled_bytes_of(value_bytes: usize) -> usize {
    640 + 4 * value_bytes
}

/// So many values are on a page of sled's at most.
const PAGE_VALUES_MAX: usize = 32;

/// So often is the same written that meets damage.
const WRITES_MAX: usize = 8;

const DAMAGED: Malformed = Malformed("the page it is on can't be read, or is not what was written");

/// A sled database and its log.
pub struct SledBase {
    db: sled::Db,
    log: File,
    /// Held by whoever feeds it: what may be written between two syncs is for all of them.
    feeding: Mutex<()>,
}

impl SledBase {
    /// Opens the base in `data`. If the directory is new, makes it, durably, with `first` as what was concluded.
    ///
    /// sled can hang on a store that a power loss damaged. Who must not wait for ever opens it in a thread of its own.
    ///
    /// # Errors
    /// sled or the file system refused.
    pub fn open(data: &mut DataDir, first: &[u8]) -> Result<Self, OpenError> {
        let path = data.path().to_owned();
        let refused = |source: Box<dyn Error + Send + Sync>| OpenError::refused(&path, source);
        let opening = Opening::begin(&path).map_err(|e| refused(e.into()))?;
        let config = sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|e| refused(e.into()))?;
        opening.done().map_err(|e| refused(e.into()))?;
        let log = File::open(path.join(LOG)).map_err(|e| refused(e.into()))?;
        let base = Self { db, log, feeding: Mutex::default() };
        if data.is_new() {
            base.conclude(first).map_err(|e| refused(e.into()))?;
            data.complete()?;
        }
        Ok(base)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.feeding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that what stands before a key can be read. Where few values of a page are left, sled puts them to those of the
    /// page before; it makes a note of that first, and if that page is damaged, nothing below the note can be read any more.
    fn look_before(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut before = self.db.range::<&[u8], _>(..key).rev().take(2 * PAGE_VALUES_MAX);
        before.try_for_each(|row| row.map(drop).map_err(|e| unread(key, e)))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| failed("flush the store", e))?;
        // For want of space too that is final: what sled takes for written may not be there.
        self.log.sync_data().map_err(|e| StoreError::failed("sync the store", e))
    }
}

/// Whether a page is not what was written, or is on a sector that can't be read: that costs what is on it.
fn is_damage(e: &sled::Error) -> bool {
    match e {
        sled::Error::Corruption { .. } => true,
        sled::Error::Io(e) => e.raw_os_error() == Some(Errno::IO.raw_os_error()),
        _ => false,
    }
}

/// What comes of a read of sled's that failed.
fn unread(key: &[u8], e: sled::Error) -> StoreError {
    if is_damage(&e) { StoreError::damaged(key, DAMAGED) } else { StoreError::failed("read the store", e) }
}

/// Writes from a key on; and again, if that meets damage: sled moves pages meanwhile that it wants elsewhere, tries that once with
/// each of them, and fails where one is damaged. (Once a write itself has failed, all others do.)
fn written<T>(key: &[u8], write: impl Fn() -> sled::Result<T>) -> Result<T, StoreError> {
    let mut left = WRITES_MAX;
    loop {
        left -= 1;
        match write() {
            Err(e) if left > 0 && is_damage(&e) => {}
            Err(sled::Error::Corruption { .. }) => return Err(StoreError::damaged(key, DAMAGED)),
            done => return done.map_err(|e| failed("write to the store", e)),
        }
    }
}

/// What comes of a write of sled's that failed. After one it writes nothing any more, whatever it is asked: what is on disk
/// then ends before that write, and the next opening goes on from there.
fn failed(what: &'static str, e: sled::Error) -> StoreError {
    match e {
        sled::Error::Io(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            StoreError::Full { what, source: e.into() }
        }
        e => StoreError::failed(what, e),
    }
}

impl Base for SledBase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|e| unread(key, e))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, StoreError> {
        let rows = self.db.range::<&[u8], _>(range.from.as_slice()..range.to.as_slice()).take(limit);
        let keys = rows.map(|row| row.map(|(key, _)| Key::from_slice(&key)));
        keys.collect::<Result<_, _>>().map_err(|e| unread(&range.from, e))
    }

    fn feed(&self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Key>, StoreError> {
        let _alone = self.alone();
        let (mut batch, mut unsynced, mut left) = (sled::Batch::default(), 0, None);
        let (mut first, mut removes) = (None, false);
        for (key, value) in changes {
            unsynced += sled_bytes_of(value.as_ref().map_or(VALUE_BYTES_MAX, Vec::len));
            if unsynced > UNSYNCED_BYTES_MAX {
                left = Some(key.clone());
                break;
            }
            first.get_or_insert(key);
            removes |= value.is_none();
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        if let Some(first) = first {
            if removes {
                self.look_before(first)?;
            }
            written(first, || self.db.apply_batch(batch.clone()))?;
            self.sync()?;
        }
        Ok(left)
    }

    fn concluded(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(CORNERSTONE)
    }

    fn conclude(&self, row: &[u8]) -> Result<(), StoreError> {
        let _alone = self.alone();
        // Which list will be found is unknown if this fails, for whatever reason.
        let written = written(CORNERSTONE, || self.db.insert(CORNERSTONE, row));
        written.and_then(|_| self.sync()).map_err(StoreError::into_final)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Batch;
    use super::super::opening::OPENING;
    use super::super::tests::{copied, damage};
    use super::*;

    fn open(path: &Path) -> SledBase {
        SledBase::open(&mut DataDir::open(path, "article", false).unwrap(), b"first").unwrap()
    }

    /// What the files hold now, as if the process had been killed. It is opened there.
    fn killed(path: &Path) -> (tempfile::TempDir, SledBase) {
        let copy = tempfile::tempdir().unwrap();
        copied(path, copy.path());
        let base = open(copy.path());
        (copy, base)
    }

    fn key(number: u16) -> Key {
        Key::from_slice(&number.to_be_bytes())
    }

    fn changes(numbers: std::ops::Range<u16>, value: &Option<Vec<u8>>) -> Batch {
        numbers.map(|number| (key(number), value.clone())).collect()
    }

    /// Feeds all of it. How much of it at a time.
    fn feed(base: &SledBase, mut changes: Batch) -> Vec<usize> {
        let mut fed = Vec::new();
        while let Some(first) = base.feed(&mut changes.iter()).unwrap() {
            let left = changes.split_off(&first);
            fed.push(changes.len());
            changes = left;
        }
        fed.push(changes.len());
        fed
    }

    #[test]
    fn what_was_fed_or_concluded_is_in_the_files_on_return() {
        let temp = tempfile::tempdir().unwrap();
        let base = open(temp.path());
        let found = || {
            let (_copy, base) = killed(temp.path());
            (base.concluded().unwrap().unwrap(), base.get(&key(1)).unwrap(), base.get(&key(2)).unwrap())
        };
        assert_eq!(found(), (b"first".to_vec(), None, None));
        feed(&base, changes(1..3, &Some(vec![7])));
        assert_eq!(found(), (b"first".to_vec(), Some(vec![7]), Some(vec![7])));
        feed(&base, changes(1..2, &None));
        assert_eq!(found(), (b"first".to_vec(), None, Some(vec![7])));
        base.conclude(b"second").unwrap();
        assert_eq!(found().0, b"second");
    }

    #[test]
    fn no_more_is_fed_at_a_time_than_may_be_written_between_two_syncs_and_in_the_end_all_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let base = open(temp.path());
        let range = KeyRange { from: key(1).to_vec(), to: key(999).to_vec() };
        let keys = |limit| base.keys(&range, limit).unwrap();
        for (last, value, at_a_time) in [
            (50, Some(vec![7; VALUE_BYTES_MAX]), UNSYNCED_BYTES_MAX / sled_bytes_of(VALUE_BYTES_MAX)),
            // What is deleted is taken for as long.
            (50, None, UNSYNCED_BYTES_MAX / sled_bytes_of(VALUE_BYTES_MAX)),
            // And many small ones.
            (500, Some(vec![]), UNSYNCED_BYTES_MAX / sled_bytes_of(0)),
        ] {
            let all = changes(1..last + 1, &value);
            let numbers: Vec<_> = all.keys().cloned().collect();
            let parts: Vec<_> = numbers.chunks(at_a_time).map(<[_]>::len).collect();
            assert_eq!(feed(&base, all), parts);
            let there = if value.is_some() { numbers } else { Vec::new() };
            assert_eq!(keys(usize::MAX), there);
            assert_eq!(keys(3), there[..there.len().min(3)]);
            assert_eq!(base.get(&key(last)).unwrap(), value);
        }
    }

    #[test]
    fn nothing_is_kept_of_an_opening_once_the_base_is_open() {
        let temp = tempfile::tempdir().unwrap();
        let base = open(temp.path());
        feed(&base, changes(0..130, &Some(vec![7; VALUE_BYTES_MAX])));
        let (copy, _again) = killed(temp.path());
        assert!(!copy.path().join(OPENING).exists());
        let _cut_short = Opening::begin(copy.path()).unwrap();
        assert!(copy.path().join(OPENING).exists(), "there was something to keep");
    }

    #[test]
    fn that_space_is_missing_is_told_apart_from_other_failures() {
        let of = |kind: ErrorKind| failed("write", sled::Error::Io(kind.into()));
        assert!(matches!(of(ErrorKind::StorageFull), StoreError::Full { .. }));
        assert!(matches!(of(ErrorKind::QuotaExceeded), StoreError::Full { .. }));
        assert!(matches!(of(ErrorKind::StorageFull).into_final(), StoreError::Failed { .. }));
        assert!(matches!(of(ErrorKind::Other), StoreError::Failed { .. }));
        let bug = sled::Error::ReportableBug(String::new());
        assert!(matches!(failed("write", bug), StoreError::Failed { .. }));
    }

    #[test]
    fn a_sector_that_can_not_be_read_is_damage_and_other_failures_are_none() {
        let of = |errno: Errno| unread(&[1], sled::Error::Io(errno.into()));
        assert!(matches!(of(Errno::IO), StoreError::Damaged(damage) if damage.key[..] == [1]));
        assert!(matches!(of(Errno::NOMEM), StoreError::Failed { .. }));
    }

    #[test]
    fn nothing_is_removed_behind_a_damaged_page_and_so_all_others_can_be_read() {
        let temp = tempfile::tempdir().unwrap();
        let value = |number: u16| Some(number.to_be_bytes().repeat(VALUE_BYTES_MAX / 2));
        feed(&open(temp.path()), (1..=200).map(|number| (key(number), value(number))).collect());
        let (copy, base) = killed(temp.path());
        drop(base);
        damage(copy.path(), &value(60).unwrap());
        let (_copy, base) = killed(copy.path());
        let damaged = || {
            let is_damaged = |number: &u16| match base.get(&key(*number)) {
                Err(StoreError::Damaged(_)) => true,
                read => {
                    assert_eq!(read.unwrap(), value(*number), "{number}");
                    false
                }
            };
            (1..200).filter(is_damaged).collect::<Vec<_>>()
        };
        let page = damaged();
        assert!(page.contains(&60) && page.len() < PAGE_VALUES_MAX, "{page:?}");
        for number in page.last().unwrap() + 1..100 {
            let removed = base.feed(&mut [(&key(number), &None)].into_iter());
            assert!(matches!(removed, Err(StoreError::Damaged(_))), "{number}");
        }
        assert_eq!(damaged(), page);
        assert!(base.feed(&mut [(&key(200), &None)].into_iter()).is_ok(), "far behind it");
    }

    #[test]
    fn what_meets_damage_is_written_again_and_other_failures_are_final() {
        let of = |fails: usize, with: &dyn Fn() -> sled::Error| {
            let writes = std::cell::Cell::new(0);
            let write = || {
                writes.set(writes.get() + 1);
                if writes.get() > fails { Ok(()) } else { Err(with()) }
            };
            (written(&[1], write), writes.get())
        };
        let io = |errno: Errno| move || sled::Error::Io(errno.into());
        let damage = || sled::Error::Corruption { at: None, bt: () };
        assert!(matches!(of(WRITES_MAX - 1, &damage), (Ok(()), WRITES_MAX)));
        assert!(matches!(of(WRITES_MAX - 1, &io(Errno::IO)), (Ok(()), WRITES_MAX)));
        assert!(matches!(of(WRITES_MAX, &damage), (Err(StoreError::Damaged(_)), WRITES_MAX)));
        // Whatever it was that failed for good: what is on disk is not known.
        assert!(matches!(of(WRITES_MAX, &io(Errno::IO)), (Err(StoreError::Failed { .. }), WRITES_MAX)));
        assert!(matches!(of(1, &io(Errno::NOSPC)), (Err(StoreError::Full { .. }), 1)));
        assert!(matches!(of(1, &io(Errno::NOMEM)), (Err(StoreError::Failed { .. }), 1)));
    }
}
