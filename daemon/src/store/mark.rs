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

use std::io;
use std::sync::Arc;

use tracing::debug;

use super::disk::{Disk, DiskFile};

/// Its name in the data directory.
pub const MARK: &str = "durable";

const PLACES: usize = 2;
const PLACE_BYTES: usize = 512;

/// The open mark of a store.
#[derive(Debug)]
pub struct Mark {
    file: Arc<dyn DiskFile>,
}

impl Mark {
    /// Opens the mark, and makes one that says nothing if there is none. Also tells the highest number that is known to
    /// have been durable, if one is.
    ///
    /// # Errors
    /// The file system refused.
    pub fn open(disk: &dyn Disk) -> io::Result<(Self, Option<u64>)> {
        let file = match disk.open(MARK) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk.create(MARK)?,
            opened => opened?,
        };
        let bytes = disk.read(MARK, Some(PLACES * PLACE_BYTES))?;
        let said = (0..PLACES).map(|place| decode(bytes.get(place * PLACE_BYTES..)?.first_chunk()?));
        let durable = said.max().flatten();
        if bytes.len() < PLACES * PLACE_BYTES {
            file.write_at(&[0], (PLACES * PLACE_BYTES) as u64 - 1)?;
        }
        Ok((Self { file }, durable))
    }

    /// Notes that `number` is durable. A mark that can't be written lags, and is no reason to stop.
    pub fn note(&self, number: u64) {
        let place = number % PLACES as u64 * PLACE_BYTES as u64;
        if let Err(e) = self.file.write_at(&encode(number), place) {
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

fn decode(bytes: &[u8; 16]) -> Option<u64> {
    let [number, complement] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(half)
    });
    (number == !complement).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    #[test]
    fn the_last_number_is_found_again_whichever_place_is_torn() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        let found = || Mark::open(&disk).unwrap().1;
        let (mark, durable) = Mark::open(&disk).unwrap();
        assert_eq!(durable, None);
        for number in [1, 2, 255, 256, 70_000] {
            mark.note(number);
            assert_eq!(found(), Some(number));
        }
        // The next one overwrites what is older than the last, and may be cut anywhere.
        let (before, after) = (encode(255), encode(70_001));
        for cut in 0..=16 {
            let mut torn = before;
            torn[..cut].copy_from_slice(&after[..cut]);
            mark.file.write_at(&torn, PLACE_BYTES as u64).unwrap();
            assert!(matches!(found(), Some(70_000 | 70_001)), "{cut}: {:?}", found());
        }
    }

    #[test]
    fn a_mark_that_was_cut_short_says_what_is_left_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        let (mark, _) = Mark::open(&disk).unwrap();
        mark.note(8);
        let whole = disk.read(MARK, None).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(temp.path().join(MARK), &whole[..cut]).unwrap();
            let (mark, found) = Mark::open(&disk).unwrap();
            assert_eq!(found, (cut >= 16).then_some(8), "{cut}");
            mark.note(9);
            assert_eq!(Mark::open(&disk).unwrap().1, Some(9));
        }
    }

    #[test]
    fn of_a_mark_that_can_not_be_opened_the_reason_is_told() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join(MARK)).unwrap();
        let refused = Mark::open(&RealDisk::open(temp.path()).unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn the_mark_is_pinned() {
        let temp = tempfile::tempdir().unwrap();
        let (mark, _) = Mark::open(&RealDisk::open(temp.path()).unwrap()).unwrap();
        let mut golden = [0; 1024];
        let written = || std::fs::read(temp.path().join("durable")).unwrap();
        assert_eq!(written(), golden);
        mark.note(0x0102);
        mark.note(0x0103);
        golden[..16].copy_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 0xfd, 0xfe, 255, 255, 255, 255, 255, 255]);
        golden[512..528].copy_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0, 0xfc, 0xfe, 255, 255, 255, 255, 255, 255]);
        assert_eq!(written(), golden);
    }
}
