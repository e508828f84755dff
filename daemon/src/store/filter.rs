//! Which keys a run surely lacks: a Bloom filter in lines as long as those of a processor's cache, so that one look costs one
//! access to memory (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
//!
//! It is stored beside its run, so how a key is hashed is part of the store's format.

/// How many bits of it a key is worth: one look in some sixty at a key that is not there says that it may be.
const BITS_PER_KEY: u64 = 10;

/// How many bits a key sets.
const PROBES: u32 = 6;

/// A line has 512 bits: nine bits say which.
const LINE_WORDS: usize = 8;
const LINE_BITS: u64 = 512;
const PLACE_BITS: u32 = 9;

/// Odd numbers without a pattern.
const MIX: [u64; 3] = [0xd6e8_feb8_6659_fd93, 0x9e37_79b9_7f4a_7c15, 0x243f_6a88_85a3_08d3];

/// A filter. No key that was put in is ever called absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty one for so many keys.
    pub fn for_keys(keys: u64) -> Self {
        let lines = (keys * BITS_PER_KEY).div_ceil(LINE_BITS).max(1);
        Self { words: vec![0; lines as usize * LINE_WORDS] }
    }

    /// Puts keys in, best many at once: each has a line of its own in a memory that may be large, and the processor waits for several
    /// lines at a time if nothing else comes between.
    pub fn put_all(&mut self, keys: impl IntoIterator<Item = Hashed>) {
        for key in keys {
            for (word, bit) in self.bits_of(key) {
                self.words[word] |= bit;
            }
        }
    }

    /// Whether a key may be in it. All of its bits are looked at before that is decided: the processor guesses one rare answer right,
    /// and looks into the next filters while it still waits for the memory of this one; but not each bit, half of which are set.
    pub fn may_have(&self, key: Hashed) -> bool {
        self.bits_of(key).fold(0, |missing, (word, bit)| missing | (bit & !self.words[word])) == 0
    }

    /// Appends its bytes.
    pub fn store(&self, out: &mut Vec<u8>) {
        self.words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    }

    /// Reads it from all of the bytes; nothing if it can't be one.
    pub fn load(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let is_one = rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(LINE_WORDS);
        is_one.then(|| Self { words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }

    /// The bits of a key, all in one line: in which word each is, and which of that.
    fn bits_of(&self, Hashed(hash): Hashed) -> impl Iterator<Item = (usize, u64)> + use<> {
        let lines = self.words.len() / LINE_WORDS;
        let line = (u128::from(hash) * lines as u128) >> 64;
        let (first, places) = (line as usize * LINE_WORDS, fold(hash, MIX[2]));
        (0..PROBES).map(move |probe| {
            let place = (places >> (probe * PLACE_BITS)) % LINE_BITS;
            (first + (place / 64) as usize, 1 << (place % 64))
        })
    }
}

/// A product's halves laid over each other: every bit of it depends on every bit of both factors.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// All that a filter knows of a key.
#[derive(Clone, Copy, Debug)]
pub struct Hashed(u64);

impl Hashed {
    /// That of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(hash(key))
    }
}

fn hash(key: &[u8]) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let all = words.iter().chain([&last]);
    let mixed = all.fold(MIX[1], |mixed, word| fold(mixed ^ u64::from_le_bytes(*word), MIX[0]));
    fold(mixed ^ key.len() as u64, MIX[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_filter_is_pinned() {
        for (key, set) in [
            (&b""[..], [21, 51, 410, 423, 479, 489]),
            (&[0x10, 0, 0, 0, 0, 0, 0, 0, 7], [12, 109, 129, 253, 436, 438]),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [1, 94, 116, 154, 276, 356]),
            (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], [71, 90, 293, 325, 341, 468]),
        ] {
            let (mut filter, mut bytes) = (Filter::for_keys(1), Vec::new());
            filter.put_all([Hashed::of(key)]);
            filter.store(&mut bytes);
            assert_eq!(bytes.len(), 64);
            let is_set = |place: &usize| bytes[place / 8] & (1 << (place % 8)) != 0;
            assert_eq!((0..512).filter(is_set).collect::<Vec<_>>(), set, "{key:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_lines_are_no_filter() {
        for (bytes, is_one) in [(0, false), (8, false), (63, false), (64, true), (65, false), (128, true)] {
            assert_eq!(Filter::load(&vec![0; bytes]).is_some(), is_one, "{bytes} bytes");
        }
    }

    #[test]
    fn one_look_in_forty_at_the_most_is_in_vain() {
        // Keys as they are: numbers in a row, in eight bytes each.
        let key =
            |first: u64, second: u64| [&[0x10][..], &first.to_be_bytes(), &second.to_be_bytes()].concat();
        let mut filter = Filter::for_keys(100_000);
        filter.put_all((0..100_000).map(|number| Hashed::of(&key(number, number % 16))));
        assert!((0..100_000).all(|number| filter.may_have(Hashed::of(&key(number, number % 16)))));
        let in_vain = (0..100_000)
            .filter(|number| filter.may_have(Hashed::of(&key(*number, 16 + number % 16))))
            .count();
        assert!(in_vain < 2_500, "{in_vain} of 100,000");
    }

    proptest! {
        #[test]
        fn no_key_that_was_put_in_is_called_absent(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..40),
            room in 0..40_u64,
        ) {
            let mut filter = Filter::for_keys(room);
            filter.put_all(keys.iter().map(|key| Hashed::of(key)));
            let mut bytes = Vec::new();
            filter.store(&mut bytes);
            let read = Filter::load(&bytes).unwrap();
            prop_assert_eq!(&read, &filter);
            prop_assert!(keys.iter().all(|key| read.may_have(Hashed::of(key))));
        }
    }
}
