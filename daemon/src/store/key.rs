//! Keys: bytes in an order, which stand in the trees that they order.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;

use smallvec::SmallVec;

/// The longest key that takes no memory of its own: all of the engine's, and those of the domains but the ones with a caller's
/// words in them.
const KEY_BYTES_INLINE: usize = 24;

/// A key. It stands in its place in a tree, so that nobody who looks for one follows a pointer for each that he compares.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Key(SmallVec<[u8; KEY_BYTES_INLINE]>);

impl Clone for Key {
    fn clone(&self) -> Self {
        // What `SmallVec` does to clone itself takes one byte after the other.
        Self::from_slice(&self.0)
    }
}

impl Key {
    /// The same bytes.
    pub fn from_slice(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// Puts more bytes behind it.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The order of the bytes, as slices have it, but eight of them at a time: whoever looks for a key compares some thirty, and
/// most differ in their first bytes.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = (self.as_slice(), other.as_slice());
        while let Some((our, our_rest)) = ours.split_first_chunk()
            && let Some((their, their_rest)) = theirs.split_first_chunk()
        {
            match u64::from_be_bytes(*our).cmp(&u64::from_be_bytes(*their)) {
                Ordering::Equal => (ours, theirs) = (our_rest, their_rest),
                order => return order,
            }
        }
        ours.cmp(theirs)
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
        &self.0
    }
}

/// Ends of ranges are looked up as they are: slices are ordered alike.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self::from_slice(bytes)
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
