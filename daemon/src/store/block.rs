//! Blocks: rows in the order of their keys, packed into one value of the base.
//!
//! ```text
//! block -> CRC32C(4) of run(8), number of the block(4) and all that follows; then rows until it ends
//! row   -> how many bytes of the key are those of the key before(1), how many follow(1),
//!          length of the value + 1, or 0 where the key is deleted(number); the rest of the key, the value
//! ```
//!
//! The checksum covers which block it is, so one that turns up in the place of another is found too. Values carry their
//! own besides ([`super::seal`]). The number in the head is big endian, as it is in keys; the others are as [`super::fields`] has
//! them.

use std::ops::Range;

use super::fields::{Fields, Malformed, put_number};

/// How many bytes a block's checksum takes.
const SEAL_BYTES: usize = 4;

/// How many bytes the lengths of a row take at most.
const LENGTHS_BYTES_MAX: usize = 7;

/// Puts a checksum in front of what stands in `bytes` behind room for it.
pub fn seal(run: u64, number: u32, bytes: &mut [u8]) {
    if let Some((stated, rest)) = bytes.split_first_chunk_mut::<SEAL_BYTES>() {
        *stated = checksum(run, number, rest);
    }
}

/// What stands behind the checksum.
///
/// # Errors
/// It is not what was written there.
pub fn unseal(run: u64, number: u32, bytes: &[u8]) -> Result<&[u8], Malformed> {
    let (stated, rest) =
        bytes.split_first_chunk::<SEAL_BYTES>().ok_or(Malformed("a block of rows is cut short"))?;
    if *stated != checksum(run, number, rest) {
        return Err(Malformed("the checksum of a block of rows does not match"));
    }
    Ok(rest)
}

/// Room for a checksum.
pub fn unsealed() -> Vec<u8> {
    vec![0; SEAL_BYTES]
}

fn checksum(run: u64, number: u32, rest: &[u8]) -> [u8; SEAL_BYTES] {
    let place = crc32c::crc32c_append(crc32c::crc32c(&run.to_be_bytes()), &number.to_be_bytes());
    crc32c::crc32c_append(place, rest).to_be_bytes()
}

/// A block that is being put together.
#[derive(Debug)]
pub struct BlockWriter {
    bytes: Vec<u8>,
    /// The last key in it.
    last: Vec<u8>,
}

impl Default for BlockWriter {
    fn default() -> Self {
        Self { bytes: unsealed(), last: Vec::new() }
    }
}

impl BlockWriter {
    /// Whether no row is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == SEAL_BYTES
    }

    /// Whether one more row would make it longer than `bytes_max`. A row that is alone always has room.
    pub fn is_full_for(&self, key: &[u8], value: Option<&[u8]>, bytes_max: usize) -> bool {
        let row = LENGTHS_BYTES_MAX + key.len() + value.map_or(0, <[u8]>::len);
        !self.is_empty() && self.bytes.len() + row > bytes_max
    }

    /// Appends a row, whose key is above all before it.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        debug_assert!(self.is_empty() || key > self.last.as_slice(), "rows come in the order of their keys");
        put_key(&mut self.bytes, &self.last, key, |out| {
            put_number(out, value.map_or(0, |value| value.len() as u64 + 1));
        });
        self.bytes.extend(value.unwrap_or_default());
        self.last.clear();
        self.last.extend(key);
    }

    /// Hands out the block with its checksum, and is empty again.
    pub fn take(&mut self, run: u64, number: u32) -> Vec<u8> {
        self.last.clear();
        let mut bytes = std::mem::replace(&mut self.bytes, unsealed());
        seal(run, number, &mut bytes);
        bytes
    }
}

/// Appends a key as what it has besides the one before: both lengths, whatever else is to stand in front, the rest of it.
pub fn put_key(out: &mut Vec<u8>, before: &[u8], key: &[u8], between: impl FnOnce(&mut Vec<u8>)) {
    let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    // No key is longer than a byte can say.
    out.push(shared as u8);
    out.push((key.len() - shared) as u8);
    between(out);
    out.extend(&key[shared..]);
}

/// Turns the key before into the one that follows it.
///
/// # Errors
/// That is no key which could follow.
pub fn follow_key(key: &mut Vec<u8>, shared: usize, rest: &[u8], is_first: bool) -> Result<(), Malformed> {
    let replaced = key.get(shared..).ok_or(Malformed("a key shares more than there is"))?;
    if !is_first && rest <= replaced {
        return Err(Malformed("keys are in disorder"));
    }
    key.truncate(shared);
    key.extend(rest);
    Ok(())
}

/// The rows of a block, one after the other.
#[derive(Default, Debug)]
pub struct BlockRows {
    bytes: Vec<u8>,
    at: usize,
    key: Vec<u8>,
    value: Option<Range<usize>>,
}

impl BlockRows {
    /// Stands before the first row.
    ///
    /// # Errors
    /// It is not the block that was written there.
    pub fn of(run: u64, number: u32, bytes: Vec<u8>) -> Result<Self, Malformed> {
        unseal(run, number, &bytes)?;
        Ok(Self { bytes, at: SEAL_BYTES, key: Vec::new(), value: None })
    }

    /// The same block, if its first row has this key.
    ///
    /// # Errors
    /// It has another one, or there is no row.
    pub fn beginning_with(mut self, key: &[u8]) -> Result<Self, Malformed> {
        if !self.advance()? || self.key != key {
            return Err(Malformed("a block of rows begins with another key than it must"));
        }
        self.at = SEAL_BYTES;
        self.key.clear();
        Ok(self)
    }

    /// Goes to the next row. Whether there is one.
    ///
    /// # Errors
    /// There is something else.
    pub fn advance(&mut self) -> Result<bool, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(false);
        }
        let mut fields = Fields::of(&self.bytes[self.at..]);
        let (shared, rest_bytes) = (usize::from(fields.byte()?), usize::from(fields.byte()?));
        let value_bytes = usize::try_from(fields.number()?).map_err(|_| Malformed("a value is too long"))?;
        let behind = fields.rest();
        let (rest, behind) =
            behind.split_at_checked(rest_bytes).ok_or(Malformed("a block of rows is cut short"))?;
        follow_key(&mut self.key, shared, rest, self.at == SEAL_BYTES)?;
        let begin = self.bytes.len() - behind.len();
        self.value = value_bytes.checked_sub(1).map(|length| begin..begin.saturating_add(length));
        self.at = self.value.as_ref().map_or(begin, |value| value.end);
        if self.at > self.bytes.len() {
            return Err(Malformed("a block of rows is cut short"));
        }
        Ok(true)
    }

    /// The key of the row at which it stands.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of that row, unless it is deleted.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|value| &self.bytes[value])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Batch;
    use super::*;

    fn written(run: u64, number: u32, rows: &Batch) -> Vec<u8> {
        let mut block = BlockWriter::default();
        rows.iter().for_each(|(key, value)| block.push(key, value.as_deref()));
        block.take(run, number)
    }

    fn read(run: u64, number: u32, bytes: &[u8]) -> Result<Batch, Malformed> {
        let (mut rows, mut found) = (BlockRows::of(run, number, bytes.to_vec())?, Batch::new());
        while rows.advance()? {
            found.insert(rows.key().into(), rows.value().map(<[u8]>::to_vec));
        }
        Ok(found)
    }

    #[test]
    fn a_block_is_pinned() {
        let rows = Batch::from([
            (vec![0x10, 1, 2].into(), Some(vec![7])),
            (vec![0x10, 1, 3].into(), None),
            (vec![0x11].into(), Some(vec![])),
        ]);
        let golden =
            [&[145, 88, 131, 163][..], &[0, 3, 2, 0x10, 1, 2, 7, 2, 1, 0, 3, 0, 1, 1, 0x11]].concat();
        assert_eq!(written(1, 2, &rows), golden);
        assert_eq!(read(1, 2, &golden), Ok(rows));
    }

    #[test]
    fn a_block_is_read_in_its_own_place_only_and_every_changed_byte_is_noticed() {
        let bytes =
            written(7, 1, &Batch::from([(vec![0x10].into(), Some(vec![1, 2])), (vec![0x12].into(), None)]));
        assert!(read(7, 2, &bytes).is_err() && read(8, 1, &bytes).is_err());
        for at in 0..bytes.len() {
            assert!(read(7, 1, &bytes[..at]).is_err());
            for other in 1..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] ^= other;
                assert!(read(7, 1, &changed).is_err());
            }
        }
    }

    #[test]
    fn a_block_whose_first_row_has_another_key_than_its_index_says_is_refused() {
        let begins = |rows: &Batch, key: &[u8]| {
            BlockRows::of(7, 1, written(7, 1, rows)).unwrap().beginning_with(key).is_ok()
        };
        let rows = Batch::from([(vec![0x10].into(), None), (vec![0x12].into(), None)]);
        assert!(begins(&rows, &[0x10]) && !begins(&rows, &[0x12]));
        assert!(!begins(&Batch::new(), &[]));
    }

    #[test]
    fn no_block_becomes_longer_than_it_may_be_if_rows_are_long_or_deleted_ones_have_long_keys() {
        for value in [None, Some(&[7; 90][..])] {
            let mut block = BlockWriter::default();
            for key in (0..=u8::MAX).map(|first| [first; 200]) {
                if block.is_full_for(&key, value, 1000) {
                    break;
                }
                block.push(&key, value);
            }
            let bytes = block.take(1, 2).len();
            assert!((600..=1000).contains(&bytes), "{bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(
            rows in proptest::collection::btree_map(
                proptest::collection::vec(0..3_u8, 0..6),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
                0..20,
            ),
            run: u64, number: u32,
        ) {
            let rows: Batch = rows.into_iter().map(|(key, value)| (key.into(), value)).collect();
            let bytes = written(run, number, &rows);
            prop_assert_eq!(read(run, number, &bytes), Ok(rows));
        }
    }
}
