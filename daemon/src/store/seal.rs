//! The checksum in front of every stored value: what was written is what is read, or it is known not to be.
//!
//! ```text
//! value -> CRC32C(4) of [length of the key(1) key value], then the value
//! ```
//!
//! It covers the key, so a value that turns up under another key is found too. What is found with certainty, and not
//! only most probably:
//!
//! * any change confined to 32 bits in a row, of value or checksum: so every flip of bits in one byte;
//! * every truncation: the checksum comes first, and every stored form says itself where it ends (no stored form is the
//!   beginning of another), so what is cut short either has no whole checksum or does not read as a value.

use like_protocol::checksum::crc32c_of;

use super::fields::Malformed;

/// How many bytes a sealed value is longer than the value.
pub const SEAL_BYTES: usize = 4;

/// The value as it is stored under `key`.
pub fn seal(key: &[u8], value: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut sealed = value.into();
    let (checksum, end) = (checksum(key, &sealed), sealed.len());
    // Most values have the room for it.
    sealed.resize(end + SEAL_BYTES, 0);
    sealed.copy_within(..end, SEAL_BYTES);
    sealed[..SEAL_BYTES].copy_from_slice(&checksum.to_be_bytes());
    sealed
}

/// The value that was stored under `key`.
///
/// # Errors
/// The bytes are not what was stored there.
pub fn open(key: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    let (stated, value) = sealed.split_first_chunk().ok_or(Malformed("it is cut short"))?;
    if u32::from_be_bytes(*stated) != checksum(key, value) {
        return Err(Malformed("its checksum does not match"));
    }
    sealed.drain(..SEAL_BYTES);
    Ok(sealed)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    // No key is longer than a byte can say; were one, its length would only be told less exactly.
    crc32c_of([&[key.len() as u8], key, value])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sealed_value_is_pinned() {
        assert_eq!(seal(&[1, 2], [3]), [102, 84, 57, 34, 3]);
        assert_eq!(seal(&[1, 2], []), [221, 146, 25, 247]);
    }

    #[test]
    fn where_the_key_ends_matters() {
        let sealed = seal(&[1, 2], [3]);
        assert_eq!(open(&[1, 2], sealed.clone()), Ok(vec![3]));
        assert!(open(&[1], [&sealed[..4], &[2, 3]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_and_nothing_else(
            key in proptest::collection::vec(any::<u8>(), 0..40), value: Vec<u8>, other: u8, at: usize,
        ) {
            let sealed = seal(&key, value.clone());
            prop_assert_eq!(open(&key, sealed.clone()), Ok(value));
            let at = at % sealed.len();
            let mut flipped = sealed.clone();
            flipped[at] ^= other;
            prop_assert_eq!(open(&key, flipped).is_ok(), other == 0);
            if let Some(first) = key.first() {
                let mut elsewhere = key.clone();
                elsewhere[0] = first.wrapping_add(1);
                prop_assert!(open(&elsewhere, sealed).is_err());
            }
        }
    }
}
