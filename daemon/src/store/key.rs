//! Keys: bytes in an order, which stand in the trees that they order.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// The longest key that takes no memory of its own: all of the engine's, and those of the domains but the ones with a caller's
/// words in them.
const KEY_BYTES_INLINE: usize = 24;

/// A key. It stands in its place in a tree, so that nobody who looks for one follows a pointer for each that he compares.
#[derive(Clone, Debug)]
pub struct Key(Bytes);

#[derive(Clone, Debug)]
enum Bytes {
    /// Zeros stand behind the key.
    Here {
        bytes: [u8; KEY_BYTES_INLINE],
        length: u8,
    },
    Apart(Vec<u8>),
}

impl Key {
    /// The same bytes.
    pub fn from_slice(key: &[u8]) -> Self {
        let mut bytes = [0; KEY_BYTES_INLINE];
        Self(match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                Bytes::Here { bytes, length: key.len() as u8 }
            }
            None => Bytes::Apart(key.to_vec()),
        })
    }

    /// Puts more bytes behind it.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        *self = Self::from_slice(&[self.as_slice(), more].concat());
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Bytes::Here { bytes, length } => &bytes[..usize::from(*length)],
            Bytes::Apart(bytes) => bytes,
        }
    }
}

/// Eight bytes as a number, in the order of the bytes.
fn number(bytes: &[u8; KEY_BYTES_INLINE], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(eight)
}

/// The order of the bytes, as slices have it, but eight of them at a time: whoever looks for a key compares some thirty, and most
/// differ in their first bytes. Where the zeros behind two keys make them alike, the shorter one is the beginning of the other.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Bytes::Here { bytes, length }, Bytes::Here { bytes: others, length: others_length }) =
            (&self.0, &other.0)
        else {
            return self.as_slice().cmp(other.as_slice());
        };
        for at in [0, 8, 16] {
            match number(bytes, at).cmp(&number(others, at)) {
                Ordering::Equal => {}
                order => return order,
            }
        }
        length.cmp(others_length)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Ends of ranges are looked up as they are: slices are ordered alike.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self::from_slice(bytes)
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_slice(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zeros_at_the_end_of_a_key_count() {
        let keys: Vec<_> =
            (0..30).flat_map(|zeros| [vec![0; zeros], [&[1][..], &vec![0; zeros]].concat()]).collect();
        for (one, other) in keys.iter().flat_map(|one| keys.iter().map(move |other| (one, other))) {
            assert_eq!(
                Key::from_slice(one).cmp(&Key::from_slice(other)),
                one.cmp(other),
                "{one:?} {other:?}"
            );
        }
        assert_eq!(size_of::<Key>(), 32, "no more than with a pointer to them");
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes_are(
            shared in proptest::collection::vec(any::<u8>(), 0..30),
            one in proptest::collection::vec(0..3u8, 0..12), other in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let (one, other) = ([&shared[..], &one].concat(), [&shared[..], &other].concat());
            let keys = (Key::from_slice(&one), Key::from(other.clone()));
            prop_assert_eq!(keys.0.cmp(&keys.1), one.cmp(&other));
            prop_assert_eq!(keys.1.cmp(&keys.0), other.cmp(&one));
            prop_assert_eq!(keys.0 == keys.1, one == other);
        }
    }
}
