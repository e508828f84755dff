//! How long the daemon has been running, all its lives added up: the clock by which a domain keeps things for a time.
//!
//! It needs no wall clock and survives restarts. What a crash may take from it is the time since it was last saved,
//! so things are kept longer then, never shorter. Rows: `03` and `04` -> milliseconds(number), always written together:
//! if one of them is damaged, the other still says it. Nothing else does, so a store with neither is not served.

use like_protocol::time::Now;

use crate::store::fields::{Fields, Malformed, Stored, put_number};
use crate::store::{Damage, StoreError, Tx};

pub(super) const TAG: u8 = 0x03;
pub(super) const COPY_TAG: u8 = 0x04;

/// How old the saved value may be before a group that writes anyway saves it again.
const SAVED_EVERY_MS: u64 = 1000;

/// The running time of a store's daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningTime {
    at_start_ms: u64,
    started: Now,
    saved_ms: u64,
}

impl RunningTime {
    /// Goes on from what is saved, and says which of the two rows is damaged.
    ///
    /// # Errors
    /// The store can't be read, or both rows are damaged.
    pub fn load(tx: &Tx<'_>, now: &Now) -> Result<(Self, Option<Damage>), StoreError> {
        let (saved_ms, damaged) = match (tx.load::<Saved>(&[TAG]), tx.load::<Saved>(&[COPY_TAG])) {
            (Err(StoreError::Damaged(damage)), Ok(Some(saved)))
            | (Ok(Some(saved)), Err(StoreError::Damaged(damage))) => (saved.0, Some(damage)),
            (first, copy) => {
                let saved = first?.into_iter().chain(copy?).map(|saved| saved.0);
                (saved.max().unwrap_or(0), None)
            }
        };
        Ok((Self { at_start_ms: saved_ms, started: *now, saved_ms }, damaged))
    }

    /// The running time at `now`, in milliseconds.
    pub fn at_ms(&self, now: &Now) -> u64 {
        self.at_start_ms + now.at_ms.saturating_sub(self.started.at_ms)
    }

    /// Saves it.
    pub fn save(&mut self, now: &Now, tx: &mut Tx<'_>) {
        self.saved_ms = self.at_ms(now);
        for tag in [TAG, COPY_TAG] {
            tx.put([tag].as_slice(), Saved(self.saved_ms).stored());
        }
    }

    /// Whether it should be saved with a group that writes.
    pub fn is_stale(&self, now: &Now) -> bool {
        self.at_ms(now) - self.saved_ms >= SAVED_EVERY_MS
    }
}

/// `milliseconds(number)`.
struct Saved(u64);

impl Stored for Saved {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.0);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        fields.number().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::BootId;

    use super::*;
    use crate::store::{Key, MemoryStore, Store};

    fn at(boot: u8, at_ms: u64) -> Now {
        Now { boot: BootId::from_bytes([boot; 16]), at_ms }
    }

    fn load(store: &MemoryStore, now: &Now) -> Result<(RunningTime, Option<Damage>), StoreError> {
        RunningTime::load(&Tx::new(store), now)
    }

    /// A store that was served for a second.
    fn served() -> MemoryStore {
        let mut store = MemoryStore::default();
        let (mut running, damaged) = load(&store, &at(1, 5000)).unwrap();
        assert_eq!((running.at_ms(&at(1, 5300)), damaged), (300, None));
        assert!(!running.is_stale(&at(1, 5999)) && running.is_stale(&at(1, 6000)));
        let mut tx = Tx::new(&store);
        running.save(&at(1, 6000), &mut tx);
        tx.keep();
        assert!(!running.is_stale(&at(1, 6999)));
        store.apply(tx.into_batch()).unwrap();
        store
    }

    #[test]
    fn it_adds_up_over_restarts_and_boots() {
        let store = served();
        let tx = Tx::new(&store);
        assert_eq!([tx.get(&[3]).unwrap(), tx.get(&[4]).unwrap()], [Some(vec![232, 7]), Some(vec![232, 7])]);
        let (running, _) = load(&store, &at(2, 10)).unwrap();
        assert_eq!(running.at_ms(&at(2, 30)), 1020);
    }

    #[test]
    fn one_damaged_row_is_made_up_for_by_the_other_and_two_are_not() {
        let whole = served();
        let mut worst = whole.clone();
        for tag in [TAG, COPY_TAG] {
            let (mut store, key) = (whole.clone(), Key::from_slice(&[tag]));
            let mut value = store.get(&key).unwrap().unwrap();
            value[4] ^= 0x10;
            store.apply([(key.clone(), Some(value.clone()))].into()).unwrap();
            worst.apply([(key.clone(), Some(value))].into()).unwrap();
            let (running, damaged) = load(&store, &at(2, 10)).unwrap();
            assert_eq!((running.at_ms(&at(2, 10)), damaged.unwrap().key), (1000, key));
        }
        assert!(matches!(load(&worst, &at(2, 10)), Err(StoreError::Damaged(_))));
    }
}
