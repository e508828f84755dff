//! How far a store is known to have been durable: a number in a small file beside it.
//!
//! The mark is written behind every sync of the store and is itself not synced, so it costs a microsecond. It may lag
//! after a power loss, and then says less than could be said; it never says more than is true. What it is for is damage:
//! a store whose log ends before the mark has lost what was durable, and nothing in the log itself would tell.
//!
//! ```text
//! <data>/durable      two places of 512 bytes, written in turn: number(8, little endian), its complement(8)
//! ```
//!
//! A place that a power loss tore does not agree with itself and says nothing; then the other one still does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use tracing::debug;

/// Its name in the data directory.
pub const MARK: &str = "durable";

const PLACES: u64 = 2;
const PLACE_BYTES: u64 = 512;
const MODE: u32 = 0o600;

/// The open mark of a store.
#[derive(Debug)]
pub struct Mark {
    file: File,
}

impl Mark {
    /// Opens the mark in a data directory, and makes one that says nothing if there is none.
    ///
    /// # Errors
    /// The file system refused.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(dir.join(MARK))?;
        if file.metadata()?.len() < PLACES * PLACE_BYTES {
            file.set_len(PLACES * PLACE_BYTES)?;
        }
        Ok(Self { file })
    }

    /// The highest number that is known to have been durable.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn durable(&self) -> io::Result<Option<u64>> {
        let mut durable = None;
        for place in 0..PLACES {
            let mut bytes = [0; 16];
            self.file.read_exact_at(&mut bytes, place * PLACE_BYTES)?;
            durable = durable.max(decode(bytes));
        }
        Ok(durable)
    }

    /// Notes that `number` is durable. A mark that can't be written lags, and is no reason to stop.
    pub fn note(&self, number: u64) {
        if let Err(e) = self.file.write_all_at(&encode(number), number % PLACES * PLACE_BYTES) {
            debug!("can't note how far the store is durable: {e}");
        }
    }
}

fn encode(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    bytes
}

fn decode(bytes: [u8; 16]) -> Option<u64> {
    let [number, complement] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(half)
    });
    (number == !complement).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_found_again_whichever_place_is_torn() {
        let temp = tempfile::tempdir().unwrap();
        let mark = Mark::open(temp.path()).unwrap();
        assert_eq!(mark.durable().unwrap(), None);
        for number in [1, 2, 255, 256, 70_000] {
            mark.note(number);
            assert_eq!(Mark::open(temp.path()).unwrap().durable().unwrap(), Some(number));
        }
        // The next one overwrites what is older than the last, and may be cut anywhere.
        let (before, after) = (encode(255), encode(70_001));
        for cut in 0..=16 {
            let mut torn = before;
            torn[..cut].copy_from_slice(&after[..cut]);
            mark.file.write_all_at(&torn, PLACE_BYTES).unwrap();
            let found = mark.durable().unwrap();
            assert!(matches!(found, Some(70_000 | 70_001)), "{cut}: {found:?}");
        }
    }

    #[test]
    fn the_mark_is_pinned() {
        assert_eq!(encode(0x0102), [2, 1, 0, 0, 0, 0, 0, 0, 0xfd, 0xfe, 255, 255, 255, 255, 255, 255]);
    }
}
