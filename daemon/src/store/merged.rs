//! Rows of several layers, read as one: what a newer layer says of a key hides what an older one says.

use std::collections::btree_map;

use super::{Batch, Key, KeyRange, Row, StoreError};

/// A row of a layer: a value, or that the key is deleted as far as this layer and those below it know.
pub type Layered = Result<(Key, Option<Vec<u8>>), StoreError>;

/// One layer's rows of a range, in the order of their keys.
pub trait Rows: Iterator<Item = Layered> {
    /// Passes all rows below `key` that are left, without a look at each of them.
    fn skip_to(&mut self, key: &[u8]);
}

/// The rows of whatever layer.
pub type LayerRows<'a> = Box<dyn Rows + 'a>;

/// The rows of a layer in memory.
pub fn rows_of<'a>(layer: &'a Batch, range: &KeyRange) -> LayerRows<'a> {
    let rows = layer.range::<[u8], _>(range.bounds());
    Box::new(InMemory { layer, to: range.to.clone(), rows })
}

struct InMemory<'a> {
    layer: &'a Batch,
    to: Vec<u8>,
    rows: btree_map::Range<'a, Key, Option<Vec<u8>>>,
}

impl Iterator for InMemory<'_> {
    type Item = Layered;

    fn next(&mut self) -> Option<Layered> {
        self.rows.next().map(|(key, value)| Ok((key.clone(), value.clone())))
    }
}

impl Rows for InMemory<'_> {
    fn skip_to(&mut self, key: &[u8]) {
        let left = KeyRange { from: key.to_vec(), to: self.to.clone() };
        self.rows = if left.is_empty() {
            btree_map::Range::default()
        } else {
            self.layer.range::<[u8], _>(left.bounds())
        };
    }
}

/// A layer and its next row, as soon as that was asked for.
struct Layer<'a> {
    rows: LayerRows<'a>,
    next: Option<Option<Layered>>,
}

impl Layer<'_> {
    fn peek(&mut self) -> Option<&Layered> {
        self.next.get_or_insert_with(|| self.rows.next()).as_ref()
    }

    fn take(&mut self) -> Option<Layered> {
        self.next.take().unwrap_or_else(|| self.rows.next())
    }

    fn skip_to(&mut self, key: &[u8]) {
        // An error is for whoever reads on, and behind the last row there is nothing to skip.
        if let None | Some(Some(Ok(_))) = &self.next
            && !matches!(&self.next, Some(Some(Ok((next, _)))) if next[..] >= *key)
        {
            self.next = None;
            self.rows.skip_to(key);
        }
    }
}

/// The rows of all layers, the newest layer first, in the order of their keys.
pub struct Merged<'a> {
    newest_first: Vec<Layer<'a>>,
    passed: usize,
}

impl<'a> Merged<'a> {
    /// Merges these layers, given from the newest to the oldest.
    pub fn of(newest_first: impl IntoIterator<Item = LayerRows<'a>>) -> Self {
        let newest_first = newest_first.into_iter().map(|rows| Layer { rows, next: None }).collect();
        Self { newest_first, passed: 0 }
    }

    /// How many keys it has passed that are deleted.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Passes all rows below `key` that are left, without a look at each of them. `key` is above that of the last row.
    pub fn skip_to(&mut self, key: &[u8]) {
        self.newest_first.iter_mut().for_each(|layer| layer.skip_to(key));
    }

    /// What the layers say of the lowest key that any of them has left.
    fn lowest(&mut self) -> Option<Layered> {
        let mut lowest: Option<Key> = None;
        for layer in &mut self.newest_first {
            match layer.peek() {
                Some(Err(_)) => return layer.take(),
                Some(Ok((key, _))) if lowest.as_ref().is_none_or(|lowest| key < lowest) => {
                    lowest = Some(key.clone());
                }
                _ => {}
            }
        }
        let lowest = lowest?;
        let mut newest = None;
        for layer in &mut self.newest_first {
            if layer.peek().is_some_and(|row| row.as_ref().is_ok_and(|(key, _)| *key == lowest)) {
                let said = layer.take();
                newest = newest.or(said);
            }
        }
        newest
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.lowest()? {
                Ok((key, Some(value))) => return Some(Ok((key, value))),
                Ok((_, None)) => self.passed += 1,
                Err(failed) => return Some(Err(failed)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merged_layers_read_like_one_that_was_written_to_in_turn(
            layers in proptest::collection::vec(
                proptest::collection::btree_map(
                    proptest::collection::vec(0..4_u8, 1..3),
                    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2)),
                    0..12,
                ),
                0..4,
            ),
            from in 0..4_u8,
            skips in proptest::collection::vec(proptest::option::of(0..4_u8), 0..8),
        ) {
            let layer = |rows: BTreeMap<Vec<u8>, _>| rows.into_iter().map(|(key, value)| (key.into(), value)).collect();
            let layers: Vec<Batch> = layers.into_iter().map(layer).collect();
            let range = KeyRange { from: vec![from], to: vec![3, 2] };
            let merged = Merged::of(layers.iter().rev().map(|layer| rows_of(layer, &range)));
            let merged: Vec<Row> = merged.collect::<Result<_, _>>().unwrap();
            let mut one = Batch::new();
            layers.iter().for_each(|layer| one.extend(layer.clone()));
            let expected: Vec<Row> = one
                .into_iter()
                .filter(|(key, _)| range.has(key))
                .filter_map(|(key, value)| Some((key, value?)))
                .collect();
            prop_assert_eq!(&merged, &expected);

            // Now with skips, each to somewhere above the row before.
            let mut skipping = Merged::of(layers.iter().rev().map(|layer| rows_of(layer, &range)));
            let mut expected = expected.into_iter().peekable();
            for skip in skips {
                let row = skipping.next().transpose().unwrap();
                prop_assert_eq!(&row, &expected.next());
                if let (Some((last, _)), Some(tail)) = (row, skip) {
                    let to = [&last[..], &[tail]].concat();
                    skipping.skip_to(&to);
                    while expected.next_if(|(key, _)| key[..] < to[..]).is_some() {}
                }
            }
        }
    }
}
