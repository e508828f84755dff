//! The boots that stored deadlines count by, numbered in the order in which the store saw them.
//!
//! A stored deadline names its boot by number: two bytes instead of sixteen in every operation record. Rows:
//! `02 number(4, big endian)` -> boot id (16).

use like_protocol::ids::BootId;

use crate::store::fields::{Fields, Malformed};
use crate::store::{KeyRange, Store, StoreError, Tx};

const TAG: u8 = 0x02;
const PAGE_ROWS: usize = 256;

/// The boots a store has seen; the last one is the present one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boots(Vec<BootId>);

impl Boots {
    /// Reads the boots a store knows.
    ///
    /// # Errors
    /// The store can't be read, or what it says makes no sense.
    pub fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut known = Vec::new();
        let mut range = KeyRange::prefix(&[TAG]);
        loop {
            let rows = store.scan(&range, PAGE_ROWS)?;
            let Some((last, _)) = rows.last() else { return Ok(Self(known)) };
            range = range.after(last);
            for (key, value) in rows {
                let boot = boot(&value).map_err(|e| StoreError::damaged(&key, e))?;
                if key != key_of(known.len()) {
                    return Err(StoreError::damaged(&key, Malformed("a boot before it is missing")));
                }
                known.push(boot);
            }
        }
    }

    /// Makes `boot` the present one.
    pub fn enter(&mut self, boot: BootId, tx: &mut Tx<'_>) {
        if self.0.last() != Some(&boot) {
            tx.put(key_of(self.0.len()), boot.as_bytes().to_vec());
            self.0.push(boot);
        }
    }

    /// The number of a boot.
    pub fn number_of(&self, boot: BootId) -> Option<u64> {
        self.0.iter().rposition(|known| *known == boot).map(|number| number as u64)
    }

    /// The boot of a number.
    pub fn numbered(&self, number: u64) -> Option<BootId> {
        self.0.get(usize::try_from(number).ok()?).copied()
    }
}

fn boot(value: &[u8]) -> Result<BootId, Malformed> {
    let mut fields = Fields::of(value);
    let boot = BootId::from_bytes(fields.array()?);
    fields.end()?;
    Ok(boot)
}

fn key_of(number: usize) -> Vec<u8> {
    // A store that saw four thousand million boots has other worries.
    let mut key = vec![TAG];
    key.extend((number as u32).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const FIRST: BootId = BootId::from_bytes([1; 16]);
    const SECOND: BootId = BootId::from_bytes([2; 16]);

    fn entered(store: &mut MemoryStore, boot: BootId) -> Boots {
        let mut boots = Boots::load(store).unwrap();
        let mut tx = Tx::new(store);
        boots.enter(boot, &mut tx);
        tx.keep();
        for batch in tx.into_batches() {
            store.apply(batch).unwrap();
        }
        boots
    }

    #[test]
    fn boots_keep_their_numbers() {
        let mut store = MemoryStore::default();
        for boot in [FIRST, FIRST, SECOND] {
            entered(&mut store, boot);
        }
        let boots = Boots::load(&store).unwrap();
        assert_eq!(boots, Boots(vec![FIRST, SECOND]));
        assert_eq!((boots.number_of(FIRST), boots.number_of(SECOND)), (Some(0), Some(1)));
        assert_eq!((boots.numbered(1), boots.numbered(2)), (Some(SECOND), None));
    }

    #[test]
    fn rows_are_pinned() {
        let mut store = MemoryStore::default();
        entered(&mut store, FIRST);
        let rows: Vec<_> = store.rows().collect();
        assert_eq!(rows, [(&[2, 0, 0, 0, 0][..], &[1; 16][..])]);
    }
}
