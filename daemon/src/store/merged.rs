//! Rows of several layers, read as one: what a newer layer says of a key hides what an older one says.

use std::iter::Peekable;

use super::{Batch, Key, KeyRange, Row, StoreError};

/// A row of a layer: a value, or that the key is deleted as far as this layer and those below it know.
pub type Layered = Result<(Key, Option<Vec<u8>>), StoreError>;

/// One layer's rows of a range, in the order of their keys.
pub type LayerRows<'a> = Box<dyn Iterator<Item = Layered> + 'a>;

/// The rows of a layer in memory.
pub fn rows_of<'a>(layer: &'a Batch, range: &KeyRange) -> LayerRows<'a> {
    let rows = layer.range::<[u8], _>(range.bounds());
    Box::new(rows.map(|(key, value)| Ok((key.clone(), value.clone()))))
}

/// The rows of all layers, the newest layer first, in the order of their keys.
pub struct Merged<'a> {
    newest_first: Vec<Peekable<LayerRows<'a>>>,
    passed: usize,
}

impl<'a> Merged<'a> {
    /// Merges these layers, given from the newest to the oldest.
    pub fn of(newest_first: impl IntoIterator<Item = LayerRows<'a>>) -> Self {
        Self { newest_first: newest_first.into_iter().map(Iterator::peekable).collect(), passed: 0 }
    }

    /// How many keys it has passed that are deleted.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// What the layers say of the lowest key that any of them has left.
    fn lowest(&mut self) -> Option<Layered> {
        let mut lowest: Option<Key> = None;
        for layer in &mut self.newest_first {
            match layer.peek() {
                Some(Err(_)) => return layer.next(),
                Some(Ok((key, _))) if lowest.as_ref().is_none_or(|lowest| key < lowest) => {
                    lowest = Some(key.clone());
                }
                _ => {}
            }
        }
        let lowest = lowest?;
        let is_lowest = |row: &Layered| row.as_ref().is_ok_and(|(key, _)| *key == lowest);
        let mut said = self.newest_first.iter_mut().filter_map(|layer| layer.next_if(is_lowest));
        let newest = said.next();
        said.for_each(drop);
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
        ) {
            let layer = |rows: BTreeMap<Vec<u8>, _>| rows.into_iter().map(|(key, value)| (key.into(), value)).collect();
            let layers: Vec<Batch> = layers.into_iter().map(layer).collect();
            let range = KeyRange { from: vec![from], to: vec![3, 2] };
            let merged = Merged::of(layers.iter().rev().map(|layer| rows_of(layer, &range)));
            let merged: Vec<Row> = merged.collect::<Result<_, _>>().unwrap();
            let mut one = Batch::new();
            layers.into_iter().for_each(|layer| one.extend(layer));
            let expected: Vec<Row> = one
                .into_iter()
                .filter(|(key, _)| range.has(key))
                .filter_map(|(key, value)| Some((key, value?)))
                .collect();
            prop_assert_eq!(merged, expected);
        }
    }
}
