//! The list of runs: what a base holds, in one row that is replaced as a whole.
//!
//! ```text
//! list -> CRC32C(4) of all that follows; number of the last record that the base is complete for, how many runs;
//!         for each, the oldest first: its number, level, rows, blocks, pieces of its index (all as [`super::fields`] has numbers)
//! ```
//!
//! What a run holds hides what older ones say. Blocks of runs that are not in the list are nobody's.

use super::fields::{Fields, Malformed, put_number};

/// No run takes more of the list: five numbers, the longest of which have ten bytes and five.
pub const ENTRY_BYTES_MAX: usize = 40;

/// A run as the list has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number: under it stand its blocks. Numbers of runs say nothing of their age.
    pub run: u64,
    /// How often what it holds was merged.
    pub level: u64,
    /// How many rows it has, deleted ones included.
    pub rows: u64,
    /// In how many blocks.
    pub blocks: u32,
    /// In how many pieces its index is stored, behind the blocks.
    pub pieces: u32,
}

impl Entry {
    /// How many values of the base are the run's.
    pub fn values(&self) -> u32 {
        self.blocks.saturating_add(self.pieces)
    }
}

/// What a base holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RunList {
    /// Everything up to the record of this number is in it.
    pub through: u64,
    /// Its runs, the oldest first.
    pub runs: Vec<Entry>,
}

impl RunList {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        put_number(&mut out, self.through);
        put_number(&mut out, self.runs.len() as u64);
        for entry in &self.runs {
            let Entry { run, level, rows, blocks, pieces } = *entry;
            [run, level, rows, u64::from(blocks), u64::from(pieces)]
                .into_iter()
                .for_each(|number| put_number(&mut out, number));
        }
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Reads the row.
    ///
    /// # Errors
    /// It is not what was written.
    pub fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let (stated, rest) =
            row.split_first_chunk::<4>().ok_or(Malformed("the list of runs is cut short"))?;
        if u32::from_be_bytes(*stated) != crc32c::crc32c(rest) {
            return Err(Malformed("the checksum of the list of runs does not match"));
        }
        let mut fields = Fields::of(rest);
        let (through, count) = (fields.number()?, fields.number()?);
        let mut runs = Vec::new();
        for _ in 0..count {
            let small = |number: u64| u32::try_from(number).map_err(|_| Malformed("a run is too long"));
            let (run, level, rows) = (fields.number()?, fields.number()?, fields.number()?);
            let (blocks, pieces) = (small(fields.number()?)?, small(fields.number()?)?);
            runs.push(Entry { run, level, rows, blocks, pieces });
        }
        fields.end()?;
        Ok(Self { through, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_pinned_and_every_changed_byte_is_noticed() {
        let list = RunList {
            through: 300,
            runs: vec![
                Entry { run: 5, level: 2, rows: 1000, blocks: 9, pieces: 1 },
                Entry { run: 4, level: 0, rows: 1, blocks: 1, pieces: 1 },
            ],
        };
        let golden = [172, 2, 2, 5, 2, 232, 7, 9, 1, 4, 0, 1, 1, 1];
        let row = list.encode();
        assert_eq!(row, [&[85, 155, 123, 111][..], &golden].concat());
        assert_eq!(RunList::decode(&row), Ok(list));
        for at in 0..row.len() {
            assert!(RunList::decode(&row[..at]).is_err());
            for other in 1..=u8::MAX {
                let mut changed = row.clone();
                changed[at] ^= other;
                assert!(RunList::decode(&changed).is_err());
            }
        }
    }
}
