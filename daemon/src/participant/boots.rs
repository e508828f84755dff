//! The boots that stored deadlines count by, numbered in the order in which the store saw them.
//!
//! A stored deadline names its boot by number: two bytes instead of sixteen in every operation record. Rows:
//! `02 number(4, big endian)` -> boot id (16).
//!
//! Nobody needs to know what an earlier boot was called, only that it is not the present one. So a damaged row costs
//! nothing that matters: one that another follows was certainly of an earlier boot. The last one may have been of the
//! present boot, and is taken for it: what counts by it is kept for longer then, never for less.

use like_protocol::ids::BootId;

use crate::store::fields::{Fields, Malformed, Stored};
use crate::store::{Damage, Key, KeyRange, StoreError, Tx};

pub(super) const TAG: u8 = 0x02;
const PAGE_ROWS: usize = 256;

/// Stands for a boot whose row is damaged. No kernel draws it: a boot id is a random UUID, which is never all zero.
const LOST: BootId = BootId::from_bytes([0; 16]);

/// The boots a store has seen; the last one is the present one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boots(Vec<BootId>);

impl Boots {
    /// Reads the boots a store knows, and says which of their rows are damaged.
    ///
    /// # Errors
    /// The store can't be read; or there is a row that is none of these, or one is missing: what the others mean is
    /// not certain then.
    pub fn load(tx: &Tx<'_>) -> Result<(Self, Vec<Damage>), StoreError> {
        let (mut known, mut damaged) = (Vec::new(), Vec::new());
        let mut range = KeyRange::prefix(&[TAG]);
        loop {
            let rows = tx.scan(&range, PAGE_ROWS)?;
            let Some(last) = rows.last() else { return Ok((Self(known), damaged)) };
            range = range.after(&last.key);
            for row in rows {
                if row.key != key_of(known.len()) {
                    return Err(StoreError::damaged(&row.key, Malformed("a boot before it is missing")));
                }
                known.push(match row.load::<Boot>() {
                    Ok(Boot(boot)) => boot,
                    Err(StoreError::Damaged(damage)) => {
                        damaged.push(damage);
                        LOST
                    }
                    Err(failed) => return Err(failed),
                });
            }
        }
    }

    /// Makes `boot` the present one. If the row of the last boot is damaged, that boot is taken for this one.
    pub fn enter(&mut self, boot: BootId, tx: &mut Tx<'_>) {
        if self.0.last() == Some(&LOST) {
            self.0.pop();
        }
        if self.0.last() != Some(&boot) {
            tx.put(key_of(self.0.len()), Boot(boot).stored());
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

/// Sixteen bytes.
struct Boot(BootId);

impl Stored for Boot {
    fn store(&self, out: &mut Vec<u8>) {
        out.extend(self.0.as_bytes());
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self(BootId::from_bytes(fields.array()?)))
    }
}

fn key_of(number: usize) -> Key {
    // A store that saw four thousand million boots has other worries.
    let mut key = Key::from_slice(&[TAG]);
    key.extend_from_slice(&(number as u32).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store};

    const FIRST: BootId = BootId::from_bytes([1; 16]);
    const SECOND: BootId = BootId::from_bytes([2; 16]);
    const THIRD: BootId = BootId::from_bytes([3; 16]);

    fn load(store: &MemoryStore) -> (Boots, usize) {
        let (boots, damaged) = Boots::load(&Tx::new(store)).unwrap();
        (boots, damaged.len())
    }

    fn entered(store: &mut MemoryStore, boot: BootId) -> Boots {
        let mut tx = Tx::new(store);
        let (mut boots, _) = Boots::load(&tx).unwrap();
        boots.enter(boot, &mut tx);
        tx.keep();
        store.apply(tx.into_batch()).unwrap();
        boots
    }

    fn damage(store: &mut MemoryStore, number: usize) {
        let key = key_of(number);
        let mut value = store.get(&key).unwrap().unwrap();
        value[9] ^= 1;
        store.apply([(key, Some(value))].into()).unwrap();
    }

    #[test]
    fn boots_keep_their_numbers() {
        let mut store = MemoryStore::default();
        for boot in [FIRST, FIRST, SECOND] {
            entered(&mut store, boot);
        }
        let (boots, _) = load(&store);
        assert_eq!(boots, Boots(vec![FIRST, SECOND]));
        assert_eq!((boots.number_of(FIRST), boots.number_of(SECOND)), (Some(0), Some(1)));
        assert_eq!((boots.numbered(1), boots.numbered(2)), (Some(SECOND), None));
    }

    #[test]
    fn rows_are_pinned() {
        let mut store = MemoryStore::default();
        entered(&mut store, FIRST);
        let rows = Tx::new(&store).scan(&KeyRange::prefix(&[TAG]), 9).unwrap();
        assert_eq!((&rows[0].key[..], rows[0].value.clone()), (&[2, 0, 0, 0, 0][..], Ok(vec![1; 16])));
    }

    #[test]
    fn a_damaged_boot_that_another_follows_is_an_earlier_one() {
        let mut store = MemoryStore::default();
        for boot in [FIRST, SECOND] {
            entered(&mut store, boot);
        }
        damage(&mut store, 0);
        assert_eq!(load(&store), (Boots(vec![LOST, SECOND]), 1));
        assert_eq!(entered(&mut store, SECOND), Boots(vec![LOST, SECOND]));
        assert_eq!(entered(&mut store, THIRD), Boots(vec![LOST, SECOND, THIRD]));
    }

    #[test]
    fn a_damaged_last_boot_is_taken_for_the_present_one() {
        for present in [SECOND, THIRD] {
            let mut store = MemoryStore::default();
            for boot in [FIRST, SECOND] {
                entered(&mut store, boot);
            }
            damage(&mut store, 1);
            assert_eq!(load(&store), (Boots(vec![FIRST, LOST]), 1));
            assert_eq!(entered(&mut store, present), Boots(vec![FIRST, present]));
            assert_eq!(load(&store), (Boots(vec![FIRST, present]), 0));
        }
    }

    #[test]
    fn a_boot_that_is_missing_is_noticed() {
        let mut store = MemoryStore::default();
        for boot in [FIRST, SECOND] {
            entered(&mut store, boot);
        }
        store.apply([(key_of(0), None)].into()).unwrap();
        assert!(matches!(Boots::load(&Tx::new(&store)), Err(StoreError::Damaged(_))));
    }
}
