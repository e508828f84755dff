//! What a checkpoint carries over instead of putting it into the base: the engine's rows, which live for seconds.
//!
//! ```text
//! <data>/carried.N    N is the number of the last record that the checkpoint stands for
//!
//! -> "likecar1", N(8), how many rows(8), CRC32C(4) of these; then rows as in [`super::rows`]
//! ```
//!
//! The file is durable before the base says that it holds everything up to N, and the one before goes after that.

use std::io;
use std::path::PathBuf;

use super::Batch;
use super::disk::{self, Disk};
use super::fields::Malformed;
use super::rows;

/// What the names of these files begin with.
pub const CARRIED: &str = "carried.";

const NEW: &str = "carried.new";
const MAGIC: &[u8; 8] = b"likecar1";

/// Why there is nothing to carry on with.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: Malformed,
    },
}

/// Writes the rows of the checkpoint behind record `number`, in so many bytes. Durable on return, as a whole or not at all.
///
/// # Errors
/// The file system refused.
pub fn write(disk: &dyn Disk, number: u64, carried: &Batch) -> io::Result<u64> {
    let mut bytes = rows::head(MAGIC, number, carried.len() as u64).to_vec();
    for (key, value) in carried {
        rows::put(&mut bytes, key, value.as_deref());
    }
    disk::replace(disk, NEW, &name_of(number), &bytes)?;
    Ok(bytes.len() as u64)
}

/// Reads the rows of the checkpoint behind record `number`, and in how many bytes they are; there are none before the first record.
///
/// # Errors
/// The file is missing or damaged, or can't be read.
pub fn read(disk: &dyn Disk, number: u64) -> Result<(Batch, u64), CarriedError> {
    if number == 0 {
        return Ok((Batch::new(), 0));
    }
    let name = name_of(number);
    let bytes = disk.read(&name, None)?;
    let rows = decode(&bytes, number);
    let rows = rows.map_err(|why| CarriedError::Damaged { path: disk.path().join(name), why })?;
    Ok((rows, bytes.len() as u64))
}

/// Removes all such files but that of the checkpoint behind record `number`.
///
/// # Errors
/// The file system refused.
pub fn remove_others(disk: &dyn Disk, number: u64) -> io::Result<()> {
    let keep = name_of(number);
    let names = disk.list()?;
    let mut others = names.iter().filter(|name| name.starts_with(CARRIED) && **name != keep);
    others.try_for_each(|name| disk.remove(name))
}

fn decode(bytes: &[u8], number: u64) -> Result<Batch, Malformed> {
    let (count, rest) =
        rows::behind_head(bytes, MAGIC, number).ok_or(Malformed("its header is not what was written"))?;
    rows::read_all(rest, count)
}

fn name_of(number: u64) -> String {
    format!("{CARRIED}{number}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::disk::RealDisk;
    use super::*;

    fn rows(names: &[u8]) -> Batch {
        names.iter().map(|name| (vec![1, *name].into(), Some(vec![*name; 3]))).collect()
    }

    #[test]
    fn what_was_written_is_read_and_others_go() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        let bytes =
            [(7, &[1, 2]), (9, &[2, 3])].map(|(number, names)| write(&disk, number, &rows(names)).unwrap());
        assert_eq!(
            bytes,
            [7, 9].map(|number| fs::metadata(temp.path().join(name_of(number))).unwrap().len())
        );
        assert_eq!(read(&disk, 7).unwrap(), (rows(&[1, 2]), bytes[0]));
        remove_others(&disk, 9).unwrap();
        assert!(matches!(read(&disk, 7), Err(CarriedError::Io(_))));
        assert_eq!(read(&disk, 9).unwrap(), (rows(&[2, 3]), bytes[1]));
        assert_eq!(read(&disk, 0).unwrap(), (Batch::new(), 0));
    }

    #[test]
    fn the_file_is_pinned() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        write(&disk, 7, &[(vec![1, 2].into(), Some(vec![2; 3])), (vec![1, 3].into(), None)].into()).unwrap();
        let golden = [
            b"likecar1\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".as_slice(),
            &[0xa8, 0xc1, 0x58, 0x65],
            &[2, 4, 0, 0, 0, 0x0a, 0xec, 0x54, 0x2b, 1, 2, 2, 2, 2],
            &[2, 0, 0, 0, 0, 0x7e, 0x58, 0xca, 0x6b, 1, 3],
        ];
        assert_eq!(fs::read(temp.path().join("carried.7")).unwrap(), golden.concat());
    }

    #[test]
    fn every_changed_byte_outside_of_values_and_every_truncation_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        write(&RealDisk::open(temp.path()).unwrap(), 7, &rows(&[1, 2])).unwrap();
        let bytes = fs::read(temp.path().join(name_of(7))).unwrap();
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at], 7).is_err(), "cut at {at}");
            for other in 1..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] ^= other;
                if let Ok(read) = decode(&changed, 7) {
                    assert!(read.keys().eq(rows(&[1, 2]).keys()), "byte {at}");
                    assert_ne!(read, rows(&[1, 2]), "a change goes unnoticed at byte {at}");
                }
            }
        }
        assert!(decode(&bytes, 8).is_err());
    }
}
