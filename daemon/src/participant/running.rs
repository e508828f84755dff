//! How long the daemon has been running, all its lives added up: the clock by which a domain keeps things for a time.
//!
//! It needs no wall clock and survives restarts. What a crash may take from it is the time since it was last saved,
//! so things are kept longer then, never shorter. Row: `03` -> milliseconds(number).

use like_protocol::time::Now;

use crate::store::fields::{Fields, Malformed, put_number};
use crate::store::{Store, StoreError, Tx};

const KEY: [u8; 1] = [0x03];

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
    /// Goes on from what is saved.
    ///
    /// # Errors
    /// The store can't be read, or the row is damaged.
    pub fn load(store: &dyn Store, now: &Now) -> Result<Self, StoreError> {
        let parse = |value: &[u8]| -> Result<u64, Malformed> {
            let mut fields = Fields::of(value);
            let saved_ms = fields.number()?;
            fields.end()?;
            Ok(saved_ms)
        };
        let saved_ms = match store.get(&KEY)? {
            Some(value) => parse(&value).map_err(|e| StoreError::damaged(&KEY, e))?,
            None => 0,
        };
        Ok(Self { at_start_ms: saved_ms, started: *now, saved_ms })
    }

    /// The running time at `now`, in milliseconds.
    pub fn at_ms(&self, now: &Now) -> u64 {
        self.at_start_ms + now.at_ms.saturating_sub(self.started.at_ms)
    }

    /// Saves it.
    pub fn save(&mut self, now: &Now, tx: &mut Tx<'_>) {
        self.saved_ms = self.at_ms(now);
        let mut value = Vec::new();
        put_number(&mut value, self.saved_ms);
        tx.put(KEY.to_vec(), value);
    }

    /// Whether it should be saved with a group that writes.
    pub fn is_stale(&self, now: &Now) -> bool {
        self.at_ms(now) - self.saved_ms >= SAVED_EVERY_MS
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::BootId;

    use super::*;
    use crate::store::MemoryStore;

    fn at(boot: u8, at_ms: u64) -> Now {
        Now { boot: BootId::from_bytes([boot; 16]), at_ms }
    }

    #[test]
    fn it_adds_up_over_restarts_and_boots() {
        let mut store = MemoryStore::default();
        let mut running = RunningTime::load(&store, &at(1, 5000)).unwrap();
        assert_eq!(running.at_ms(&at(1, 5300)), 300);
        assert!(!running.is_stale(&at(1, 5999)) && running.is_stale(&at(1, 6000)));
        let mut tx = Tx::new(&store);
        running.save(&at(1, 6000), &mut tx);
        tx.keep();
        assert!(!running.is_stale(&at(1, 6999)));
        for batch in tx.into_batches() {
            store.apply(batch).unwrap();
        }
        assert_eq!(store.rows().collect::<Vec<_>>(), [(&[3][..], &[232, 7][..])], "pinned");
        let running = RunningTime::load(&store, &at(2, 10)).unwrap();
        assert_eq!(running.at_ms(&at(2, 30)), 1020);
    }
}
