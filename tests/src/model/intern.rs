//! Small numbers for large values: a state of the model is a handful of numbers, and what the shipped code says to a
//! combination of values it has been asked before is looked up instead of being computed again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A fast hasher for small keys that nobody chooses in bad faith.
#[derive(Default, Clone, Copy, Debug)]
pub struct Mix(u64);

/// The state of [`Mix`] for maps.
pub type Mixing = BuildHasherDefault<Mix>;

/// A map with small keys.
pub type Memo<K, V> = HashMap<K, V, Mixing>;

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// Values by number, each once.
#[derive(Debug)]
pub struct Interned<K, V> {
    numbers: HashMap<K, u32>,
    values: Vec<V>,
}

impl<K: Hash + Eq, V> Default for Interned<K, V> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<K: Hash + Eq, V> Interned<K, V> {
    /// The number of the value that `key` names, which is made if it is new.
    pub fn number(&mut self, key: K, make: impl FnOnce() -> V) -> u32 {
        let next = self.values.len() as u32;
        let values = &mut self.values;
        *self.numbers.entry(key).or_insert_with(|| {
            values.push(make());
            next
        })
    }

    /// The number of the value that `key` names, if it is known.
    pub fn known(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> &V {
        &self.values[number as usize]
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Sets of small numbers, by number; 0 is the empty set.
#[derive(Debug)]
pub struct Sets {
    sets: Interned<Vec<u16>, Vec<u16>>,
    more: Memo<(u32, u16), u32>,
}

impl Default for Sets {
    fn default() -> Self {
        let mut sets = Interned::default();
        sets.number(Vec::new(), Vec::new);
        Self { sets, more: Memo::default() }
    }
}

impl Sets {
    /// A set with one member more.
    pub fn with(&mut self, set: u32, member: u16) -> u32 {
        if let Some(known) = self.more.get(&(set, member)) {
            return *known;
        }
        let mut members = self.sets.get(set).clone();
        if let Err(place) = members.binary_search(&member) {
            members.insert(place, member);
        }
        let number = self.sets.number(members.clone(), || members);
        self.more.insert((set, member), number);
        number
    }

    /// Its members.
    pub fn members(&self, set: u32) -> &[u16] {
        self.sets.get(set)
    }

    /// Whether it has a member.
    pub fn has(&self, set: u32, member: u16) -> bool {
        self.members(set).binary_search(&member).is_ok()
    }
}
