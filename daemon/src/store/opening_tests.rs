use super::*;

fn header(lsn: u64, stable: i64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[4..12].copy_from_slice(&(lsn ^ i64::MAX as u64).to_le_bytes());
    bytes[12..].copy_from_slice(&(stable as u64 ^ i64::MAX as u64).to_le_bytes());
    let checksum = crc32fast::hash(&bytes[4..]) ^ u32::MAX;
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A log of three segments, of which the newest stands first and calls stable what stands in the last.
fn made(dir: &Path) -> Vec<u8> {
    let mut log = vec![7; 3 * SEGMENT_BYTES as usize];
    let newest = 4 * SEGMENT_BYTES;
    let before = 3 * SEGMENT_BYTES;
    for (at, lsn, stable) in [(0, newest, newest as i64 - 90), (1, 0, -1), (2, before, before as i64 - 5)] {
        let at = at * SEGMENT_BYTES as usize;
        log[at..at + SEGMENT_HEADER_BYTES].copy_from_slice(&header(lsn, stable));
    }
    log.truncate(log.len() - 100);
    fs::write(dir.join(LOG), &log).unwrap();
    fs::write(dir.join(snapshot_name(0xab)), "a snapshot").unwrap();
    log
}

#[test]
fn the_checksum_is_that_of_ieee_802_3() {
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
}

#[test]
fn what_an_opening_cut_short_has_destroyed_is_put_back_however_often_it_is_cut_short() {
    let temp = tempfile::tempdir().unwrap();
    let log = made(temp.path());
    for _ in 0..3 {
        let _cut_short = Opening::begin(temp.path()).unwrap();
        assert_eq!(fs::read(temp.path().join(LOG)).unwrap(), log);
        assert_eq!(fs::read(temp.path().join(snapshot_name(0xab))).unwrap(), b"a snapshot");
        let mut destroyed = log.clone();
        destroyed[2 * SEGMENT_BYTES as usize..].fill(0);
        destroyed.truncate(2 * SEGMENT_BYTES as usize + 1000);
        fs::write(temp.path().join(LOG), &destroyed).unwrap();
        fs::remove_file(temp.path().join(snapshot_name(0xab))).unwrap();
    }
}

#[test]
fn nothing_is_kept_once_the_store_is_open() {
    let temp = tempfile::tempdir().unwrap();
    made(temp.path());
    let opening = Opening::begin(temp.path()).unwrap();
    assert!(temp.path().join(OPENING).exists());
    opening.done().unwrap();
    assert!(!temp.path().join(OPENING).exists());
    fs::write(temp.path().join(LOG), "written since").unwrap();
    let _next = Opening::begin(temp.path()).unwrap();
    assert_eq!(fs::read(temp.path().join(LOG)).unwrap(), b"written since");
}

#[test]
fn a_header_says_where_its_segment_begins_and_what_was_stable_then() {
    let stands = |lsn, stable| Some(Header { offset: 9, lsn, stable });
    assert_eq!(Header::decode(&header(0x1234_5678, 0x1234_0000), 9), stands(0x1234_5678, 0x1234_0000));
    assert_eq!(Header::decode(&header(0, -1), 9), stands(0, 0));
    assert_eq!(Header::decode(&[0; SEGMENT_HEADER_BYTES], 9), None);
}

#[test]
fn the_end_of_the_log_begins_with_the_segment_that_is_called_stable_last() {
    let all = [
        Header { offset: 0, lsn: 4 * SEGMENT_BYTES, stable: 4 * SEGMENT_BYTES - 90 },
        Header { offset: SEGMENT_BYTES, lsn: 2 * SEGMENT_BYTES, stable: 2 * SEGMENT_BYTES - 5 },
        Header { offset: 2 * SEGMENT_BYTES, lsn: 3 * SEGMENT_BYTES, stable: 3 * SEGMENT_BYTES - 5 },
    ];
    assert_eq!(end_of(&all), [0, 2 * SEGMENT_BYTES]);
    assert_eq!(end_of(&all[..2]), [0], "what it began with is gone already: then a snapshot says the rest");
    assert!(end_of(&all[..1]).is_empty());
}

#[test]
fn what_is_kept_is_pinned() {
    let kept = Part::encode_all(&[Part::Log(SEGMENT_BYTES, vec![1, 2, 3]), Part::Snapshot(7, vec![4, 5])]);
    let golden = [
        &[0x75, 0x73, 0x2d, 0xc4][..],
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
        &[1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 5],
    ];
    assert_eq!(kept, golden.concat());
}

#[test]
fn every_changed_byte_and_every_truncation_of_what_is_kept_is_found_and_nothing_is_put_back() {
    let parts = [Part::Log(SEGMENT_BYTES, vec![1, 2, 3]), Part::Snapshot(7, vec![4, 5])];
    let kept = Part::encode_all(&parts);
    assert_eq!(Part::decode_all(&kept).as_deref(), Some(&parts[..]));
    for at in 0..kept.len() {
        assert_eq!(Part::decode_all(&kept[..at]), None, "cut to {at}");
        for change in 1..=u8::MAX {
            let mut damaged = kept.clone();
            damaged[at] ^= change;
            assert_eq!(Part::decode_all(&damaged), None, "byte {at} ^ {change}");
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let log = made(temp.path());
    fs::write(temp.path().join(OPENING), &kept[..kept.len() - 1]).unwrap();
    let refused = Opening::begin(temp.path()).unwrap_err().to_string();
    assert!(refused.contains("restore the data directory from a backup"), "{refused}");
    assert_eq!(fs::read(temp.path().join(LOG)).unwrap(), log);
}

#[test]
fn what_can_not_be_looked_at_is_not_taken_for_absent() {
    let temp = tempfile::tempdir().unwrap();
    let kept = temp.path().join(OPENING);
    fs::create_dir(&kept).unwrap();
    assert!(Opening::begin(temp.path()).is_err(), "nobody can read what was kept");
    fs::remove_dir(&kept).unwrap();
    made(temp.path());
    let opening = Opening::begin(temp.path()).unwrap();
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    assert!(opening.done().is_err(), "nobody can remove what was kept");
    fs::remove_dir(&kept).unwrap();
    let log = temp.path().join(LOG);
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&log, &log).unwrap();
    assert!(Opening::begin(temp.path()).is_err(), "nobody can read the log");
}
