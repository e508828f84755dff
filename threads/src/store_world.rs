//! One thread writes and reads a store whose checkpoints and merges go on beside it, in threads of their own. What it reads must be what
//! a plain map holds; after a crash at any moment, what was synced must be found, and nothing that was never applied; and when the
//! store is dropped, nobody may go on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use fastrand::Rng;

use crate::store::runs::Shape;
use crate::store::{Batch, Key, KeyRange, LoggedStore, Row, Store, StoreError};
use crate::store_disk::StoreDisk;
use crate::sync::{Mutex, MutexGuard, thread};

/// First bytes of keys: the engine's, and the domain's.
const TAGS: [u8; 2] = [0x01, 0x10];

/// So few different keys that most are written again and again.
const KEYS: u8 = 6;

/// Runs of several blocks each, any two of which are merged.
const SMALL: Shape = Shape { block_bytes: 30, fan_in: 2, runs_max: 3 };

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was applied, one state for each batch, and how many of the batches were synced.
#[derive(Debug)]
struct Applied {
    states: Vec<Rows>,
    synced: usize,
}

/// A store and a map of what it must hold.
struct Writer {
    store: LoggedStore<()>,
    applied: Arc<Mutex<Applied>>,
    rows: Rows,
    random: Rng,
    /// Whether every group makes a checkpoint.
    hurries: bool,
}

/// Plays what a seed says, in the order that the scheduler of the running search chooses.
///
/// # Panics
/// A promise was broken.
pub fn play(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let (disk, log_bytes_max) = (StoreDisk::empty(), random.choice([1, 100, 300]).unwrap_or(1));
    let fails = random.u8(..6) == 0;
    let loses_power = random.bool();
    let open = move |disk: &StoreDisk| {
        let base = Arc::new(disk.clone());
        LoggedStore::over(Arc::new(disk.clone()), base, log_bytes_max, SMALL, ()).expect("a store")
    };
    let applied = Arc::new(Mutex::new(Applied { states: vec![Rows::new()], synced: 0 }));
    let (groups, store) = (random.usize(2..=5), open(&disk));
    if fails {
        disk.fail_after(random.u32(..6));
    }
    let (rows, hurries) = (Rows::new(), log_bytes_max == 1);
    let mut writer = Writer { store, applied: Arc::clone(&applied), rows, random, hurries };
    let crash = thread::spawn({
        let (disk, applied) = (disk.clone(), Arc::clone(&applied));
        move || {
            let synced = applied.lock().unwrap_or_else(PoisonError::into_inner).synced;
            (synced, if loses_power { disk.after_power_loss() } else { disk.copy() })
        }
    });
    for _ in 0..groups {
        if let Err(failed) = writer.write() {
            assert!(fails, "the store fails: {failed}");
            break;
        }
        writer.read();
    }
    drop(writer);
    assert_eq!(disk.beside(), 0, "somebody goes on beside a store that was dropped");
    let crashed = crash.join().expect("a crash");
    let applied = applied.lock().unwrap_or_else(PoisonError::into_inner);
    let (synced, all_of_it) = (applied.synced, applied.states.len() - 1);
    for (synced, left) in [crashed, (synced, disk.after_power_loss()), (all_of_it, disk.copy())] {
        let found = all(&open(&left));
        assert!(
            applied.states[synced..].contains(&found),
            "after {synced} groups that were synced there is {found:?} of {:?}",
            applied.states
        );
    }
}

impl Writer {
    /// A group: some batches, and a sync. Who makes a checkpoint for each waits for the one before.
    fn write(&mut self) -> Result<(), StoreError> {
        let before = self.applied().synced;
        for _ in 0..self.random.usize(1..=2) {
            let batch: Batch = (0..self.random.usize(1..=4)).map(|_| change(&mut self.random)).collect();
            for (key, value) in &batch {
                match value {
                    Some(value) => drop(self.rows.insert(key.to_vec(), value.clone())),
                    None => drop(self.rows.remove(&key[..])),
                }
            }
            // Before it is: a power loss may leave it as soon as it is written.
            self.applied().states.push(self.rows.clone());
            self.store.apply(batch)?;
        }
        self.store.sync()?;
        if self.random.bool() {
            self.store.tidy();
        }
        let through = self.store.runs().through;
        assert!(
            !self.hurries || through >= before as u64,
            "of {before} groups {through} are in a checkpoint"
        );
        let mut applied = self.applied();
        applied.synced = applied.states.len() - 1;
        Ok(())
    }

    /// Everything that can be asked.
    fn read(&mut self) {
        assert_eq!(all(&self.store), self.rows, "a scan");
        for tag in TAGS {
            let range = KeyRange::prefix(&[tag]);
            let rows = self.rows.range(range.from.clone()..range.to.clone());
            let last = rows.last().map(|(key, value)| (key.as_slice().into(), value.clone()));
            assert_eq!(self.store.last(&range).expect("it is read"), last, "the last of {tag}");
            let key = [tag, self.random.u8(..KEYS)];
            assert_eq!(
                self.store.get(&key).expect("it is read"),
                self.rows.get(&key[..]).cloned(),
                "{key:?}"
            );
        }
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change(random: &mut Rng) -> (Key, Option<Vec<u8>>) {
    let key = [random.choice(TAGS).unwrap_or(TAGS[0]), random.u8(..KEYS)];
    (key.as_slice().into(), (random.u8(..3) > 0).then(|| vec![random.u8(..); 8]))
}

fn all(store: &dyn Store) -> Rows {
    let rows = TAGS.map(|tag| store.scan(&KeyRange::prefix(&[tag]), usize::MAX).expect("it is read"));
    rows.into_iter().flatten().map(|(key, value): Row| (key.to_vec(), value)).collect()
}
