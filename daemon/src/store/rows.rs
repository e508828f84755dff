//! How rows stand in files of our own: the commit log and what a checkpoint carries over.
//!
//! ```text
//! head -> eight bytes that say what the file is, two numbers(8 each), CRC32C(4) of these
//! row -> length of the key(1), length of the value + 1(4) or 0 where the key is deleted, CRC32C(4) of these and the key,
//!        the key, the value
//! ```
//!
//! Numbers are little endian. The checksum covers what says where things stand and whose they are, not the value: that
//! carries its own ([`super::seal`]), so that a flipped bit in a value costs that row, and one elsewhere is known to be
//! in the way of everything behind it.

use like_protocol::checksum::crc32c_of;

use super::fields::Malformed;
use super::{Batch, Key};

/// How long the head of a file is.
pub const HEAD_BYTES: usize = 28;

const HEADER_BYTES: usize = 9;

/// The head of a file.
pub fn head(what: &[u8; 8], first: u64, second: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(what);
    head[8..16].copy_from_slice(&first.to_le_bytes());
    head[16..24].copy_from_slice(&second.to_le_bytes());
    let checksum = crc32c::crc32c(&head[..24]);
    head[24..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// The second number of a head whose first one is known, and what follows it; nothing if it is not what was written.
pub fn behind_head<'a>(bytes: &'a [u8], what: &[u8; 8], first: u64) -> Option<(u64, &'a [u8])> {
    let (found, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let second = u64::from_le_bytes(*found[16..].first_chunk()?);
    (*found == head(what, first, second)).then_some((second, rest))
}

/// Appends a row: a value, or that the key is deleted.
pub fn put(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    // No key is longer than a byte can say, and no value longer than a page.
    let lengths = (key.len() as u8, value.map_or(0, |value| value.len() as u32 + 1));
    out.push(lengths.0);
    out.extend(lengths.1.to_le_bytes());
    out.extend(checksum(lengths, key).to_le_bytes());
    out.extend(key);
    out.extend(value.unwrap_or_default());
}

/// Reads so many rows into a batch, and makes sure that nothing follows them.
///
/// # Errors
/// The bytes are no such rows.
pub fn read_all(mut bytes: &[u8], count: u64) -> Result<Batch, Malformed> {
    let mut rows = Batch::new();
    for _ in 0..count {
        let (key, value) = take(&mut bytes)?;
        rows.insert(Key::from_slice(key), value.map(<[u8]>::to_vec));
    }
    if bytes.is_empty() { Ok(rows) } else { Err(Malformed("there are more rows than it says")) }
}

/// Takes one row off the front.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), Malformed> {
    const CUT: Malformed = Malformed("a row is cut short");
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(CUT)?;
    let [key_bytes, a, b, c, d, stated @ ..] = *header;
    let value_bytes = u32::from_le_bytes([a, b, c, d]);
    let (key, rest) = rest.split_at_checked(usize::from(key_bytes)).ok_or(CUT)?;
    if u32::from_le_bytes(stated) != checksum((key_bytes, value_bytes), key) {
        return Err(Malformed("a row's checksum does not match"));
    }
    let Some(value_bytes) = value_bytes.checked_sub(1) else {
        *bytes = rest;
        return Ok((key, None));
    };
    let (value, rest) = rest.split_at_checked(value_bytes as usize).ok_or(CUT)?;
    *bytes = rest;
    Ok((key, Some(value)))
}

fn checksum((key_bytes, value_bytes): (u8, u32), key: &[u8]) -> u32 {
    crc32c_of([&[key_bytes], &value_bytes.to_le_bytes(), key])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn written(rows: &Batch) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in rows {
            let before = out.len();
            put(&mut out, key, value.as_deref());
            assert_eq!(out.len() - before, HEADER_BYTES + key.len() + value.as_ref().map_or(0, Vec::len));
        }
        out
    }

    #[test]
    fn rows_are_pinned() {
        let rows = [(vec![1, 2].into(), Some(vec![3])), (vec![4].into(), None)].into();
        let golden = [
            &[2, 2, 0, 0, 0, 0xbe, 0x7b, 0x2d, 0x42][..],
            &[1, 2, 3],
            &[1, 0, 0, 0, 0, 0x8c, 0x80, 0x80, 0x7f],
            &[4],
        ];
        assert_eq!(written(&rows), golden.concat());
    }

    proptest! {
        #[test]
        fn rows_are_read_back_and_a_change_outside_of_values_is_noticed(
            rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>, at: usize, other in 1..=u8::MAX, cut: usize,
        ) {
            let rows = rows.into_iter().filter(|(key, _)| key.len() < 256);
            let rows: Batch = rows.map(|(key, value)| (key.into(), value)).collect();
            let bytes = written(&rows);
            prop_assert_eq!(read_all(&bytes, rows.len() as u64), Ok(rows.clone()));
            prop_assert!(read_all(&bytes, rows.len() as u64 + 1).is_err());
            if bytes.is_empty() {
                return Ok(());
            }
            prop_assert!(read_all(&bytes[..cut % bytes.len()], rows.len() as u64).is_err());
            let mut changed = bytes.clone();
            changed[at % bytes.len()] ^= other;
            if let Ok(read) = read_all(&changed, rows.len() as u64) {
                let shape = |rows: &Batch| {
                    rows.iter().map(|(key, value)| (key.clone(), value.as_ref().map(Vec::len))).collect::<Vec<_>>()
                };
                prop_assert_eq!(shape(&read), shape(&rows), "only a value differs");
            }
        }
    }
}
