//! A store's commit log, and what a checkpoint has carried over: records with any rows, and any bytes.

use std::fs;
use std::sync::Arc;

use like_daemon::store::disk::{Disk, RealDisk};
use like_daemon::store::{Batch, carried, commit_log};

/// How large the log is expected to grow.
const LOG_BYTES_MAX: u64 = 4096;

/// The first byte says what follows the header of a file: any bytes; or pieces, each as a record, or as rows, with the
/// checksums that it needs. Whatever it is, it is refused with a reason; or read as far as it is whole, and then the
/// log goes on behind that.
pub fn commits(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::open(directory.path()).expect("it is there");
    let durable = u64::from(how >> 4);
    if how & 1 == 0 { log(disk, how & 2 == 0, data, durable) } else { kept(&disk, how & 2 == 0, data) }
}

fn log(disk: RealDisk, is_raw: bool, data: &[u8], durable: u64) {
    let mut bytes = header(*b"likelog1", 1, 1);
    if is_raw {
        bytes.extend(data);
    } else {
        super::pieces(data)
            .into_iter()
            .zip(1..)
            .for_each(|(piece, number)| bytes.extend(record(piece, number)));
    }
    fs::write(disk.path().join("log.1"), &bytes).expect("a file");
    let Ok(found) = commit_log::read(&disk, 0, Some(durable)) else {
        assert_eq!(fs::read(disk.path().join("log.1")).expect("it is still there"), bytes);
        return;
    };
    assert!(found.last >= durable);
    let mut expected = found.rows.clone();
    let mut log =
        commit_log::CommitLog::go_on(Arc::new(disk.clone()), &found, LOG_BYTES_MAX).expect("a segment");
    let more: Batch = [(vec![0x10].into(), Some(vec![1])), (vec![0x11].into(), None)].into();
    log.append(&more).expect("a record");
    log.sync().expect("a sync");
    expected.extend(more);
    let again = commit_log::read(&disk, 0, Some(found.last + 1)).expect("what was just written");
    assert_eq!((again.last, again.rows), (found.last + 1, expected));
}

fn kept(disk: &RealDisk, is_raw: bool, data: &[u8]) {
    let pieces = if is_raw { Vec::new() } else { super::pieces(data) };
    let mut bytes = header(*b"likecar1", 1, pieces.len() as u64);
    if is_raw {
        bytes = data.to_vec();
    } else {
        pieces.into_iter().for_each(|piece| bytes.extend(row(piece)));
    }
    fs::write(disk.path().join("carried.1"), &bytes).expect("a file");
    if let Ok((rows, _)) = carried::read(disk, 1) {
        let bytes = carried::write(disk, 2, &rows).expect("a file");
        assert_eq!(carried::read(disk, 2).expect("what was just written"), (rows, bytes));
    }
}

fn header(magic: [u8; 8], first: u64, second: u64) -> Vec<u8> {
    let header = [&magic[..], &first.to_le_bytes(), &second.to_le_bytes()].concat();
    [&header[..], &crc32c::crc32c(&header).to_le_bytes()].concat()
}

/// A record of the first segment. The first byte of a piece says how many rows it claims, and whether the rest stands
/// there as it is or as one row.
fn record(piece: &[u8], number: u64) -> Vec<u8> {
    let (how, rest) = piece.split_first().unwrap_or((&0, &[]));
    let rows = if how & 1 == 0 { rest.to_vec() } else { row(rest) };
    let length = u32::try_from(rows.len()).expect("no input is that long");
    let claimed = u32::from(how >> 1);
    let mut header = [&length.to_le_bytes()[..], &claimed.to_le_bytes(), &number.to_le_bytes()].concat();
    header.extend(crc32c::crc32c(&rows).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&1_u64.to_le_bytes()), &header);
    [header, checksum.to_le_bytes().to_vec(), rows].concat()
}

/// A row: the first byte of a piece says how much of it is the key, the rest is the value, or says that there is none.
fn row(piece: &[u8]) -> Vec<u8> {
    let (key_bytes, rest) = piece.split_first().unwrap_or((&0, &[]));
    let (key, value) = rest.split_at(usize::from(*key_bytes).min(rest.len()));
    let value_bytes =
        if value == [0] { 0 } else { u32::try_from(value.len()).expect("no input is that long") + 1 };
    let lengths = [&[key.len() as u8][..], &value_bytes.to_le_bytes()].concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&lengths), key);
    [&lengths[..], &checksum.to_le_bytes(), key, if value_bytes == 0 { &[] } else { value }].concat()
}
