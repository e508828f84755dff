use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::disk::RealDisk;
use super::*;

const BYTES_MAX: u64 = 32 * 1024 * 1024;

fn on(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(dir).unwrap())
}

fn path_of(dir: &Path, segment: u64) -> PathBuf {
    dir.join(name_of(segment))
}

fn go_on(dir: &Path, found: &Found) -> CommitLog {
    CommitLog::go_on(on(dir), found, BYTES_MAX).unwrap()
}

fn batch(key: u8, value: u8) -> Batch {
    [(vec![0x10, key].into(), Some(vec![value; 5])), (vec![0x11, key].into(), None)].into()
}

/// A log of two segments: four records in the first, three in the second.
fn written(dir: &Path) {
    let mut log = go_on(dir, &read(&*on(dir), 0, None).unwrap());
    for number in 1..=7 {
        if number == 5 {
            log.sync().unwrap();
            log = go_on(dir, &read(&*on(dir), 0, Some(4)).unwrap());
        }
        log.append(&batch(number % 3, number)).unwrap();
    }
    log.sync().unwrap();
    assert_eq!((log.last(), log.segments()), (7, 2));
}

fn rows_through(number: u8) -> Batch {
    (1..=number).flat_map(|number| batch(number % 3, number)).collect()
}

fn a_log() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    temp
}

/// The same, and a third segment with one record, which may not be durable.
fn a_log_with_one_more() -> TempDir {
    let temp = a_log();
    go_on(temp.path(), &read(&*on(temp.path()), 0, Some(7)).unwrap()).append(&batch(8, 8)).unwrap();
    temp
}

fn rows_with_one_more() -> Batch {
    rows_through(7).into_iter().chain(batch(8, 8)).collect()
}

/// Where a segment's records begin and end.
fn records(dir: &Path, segment: u64, first: u64) -> Vec<usize> {
    let bytes = fs::read(path_of(dir, segment)).unwrap();
    let mut ends = vec![HEAD_BYTES];
    for number in first.. {
        let at = *ends.last().unwrap();
        let Some(record) = record_at(&bytes[at..], segment, number).unwrap() else { break };
        ends.push(at + record.bytes);
    }
    ends
}

#[test]
fn a_segment_is_pinned() {
    let temp = tempfile::tempdir().unwrap();
    let found = Found { segments: vec![2], last: 7, ..Found::default() };
    go_on(temp.path(), &found).append(&batch(1, 2)).unwrap();
    let golden = [
        b"likelog1\x03\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0".as_slice(),
        &[0x86, 0x4d, 0x52, 0xcf],
        &[27, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0xe4, 0x6b, 0x91, 0xe0, 0x6b, 0xa8, 0x7a, 0x72],
        &[2, 6, 0, 0, 0, 0xcb, 0xd6, 0xef, 0xcf, 0x10, 1, 2, 2, 2, 2, 2],
        &[2, 0, 0, 0, 0, 0x08, 0xd9, 0x34, 0xb5, 0x11, 1],
    ];
    let mut bytes = fs::read(temp.path().join("log.3")).unwrap();
    assert_eq!(bytes.len() as u64, ALLOTTED_BYTES_MAX);
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    assert_eq!(bytes, golden.concat());
}

#[test]
fn records_are_read_back_behind_any_checkpoint() {
    let temp = a_log();
    for checkpoint in 0..=7 {
        let found = read(&*on(temp.path()), checkpoint, Some(7)).unwrap();
        let expected = (checkpoint as u8 + 1..=7).flat_map(|number| batch(number % 3, number)).collect();
        assert_eq!((found.last, found.rows), (7, expected));
        // The first segment has four records, and the second one the others.
        let needless: &[u64] = if checkpoint < 4 {
            &[]
        } else if checkpoint < 7 {
            &[1]
        } else {
            &[1, 2]
        };
        assert_eq!(found.needless, needless, "behind {checkpoint}");
        assert_eq!([found.needless, found.segments].concat(), [1, 2]);
    }
}

#[test]
fn a_torn_end_goes_and_what_was_durable_is_missed() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let whole = fs::read(&path).unwrap();
    let ends = records(temp.path(), 2, 5);
    assert_eq!(ends.len(), 4);
    for cut in 0..=ends[3] {
        let mut torn = whole[..cut].to_vec();
        torn.resize(whole.len(), 0);
        let is_left = |end: &&usize| torn[..**end] == whole[..**end];
        let left = 4 + ends[1..].iter().filter(is_left).count() as u8;
        fs::write(&path, &torn).unwrap();
        if cut < HEAD_BYTES {
            let refused = read(&*on(temp.path()), 0, Some(4)).unwrap_err();
            assert!(matches!(refused, LogError::Damaged { at: 0, .. }), "cut at {cut}: {refused}");
        } else {
            let found = read(&*on(temp.path()), 0, Some(u64::from(left))).unwrap();
            assert_eq!((found.last, found.rows), (u64::from(left), rows_through(left)), "cut at {cut}");
        }
        fs::write(&path, &torn).unwrap();
        if left < 7 {
            let missed = read(&*on(temp.path()), 0, Some(u64::from(left) + 1)).unwrap_err();
            assert!(!matches!(missed, LogError::Io(_)), "{missed}");
        }
    }
}

#[test]
fn a_last_record_that_nobody_was_told_of_goes_if_any_byte_of_it_is_not_what_was_written() {
    let temp = a_log_with_one_more();
    let path = path_of(temp.path(), 3);
    let whole = fs::read(&path).unwrap();
    let end = records(temp.path(), 3, 8)[1];
    for at in HEAD_BYTES..end {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = read(&*on(temp.path()), 0, Some(7)).unwrap();
        assert!(found.last == 7 && found.rows == rows_through(7), "byte {at}");
    }
}

#[test]
fn a_torn_end_stays_one_when_the_log_has_gone_on_behind_it() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let mut torn = fs::read(&path).unwrap();
    let ends = records(temp.path(), 2, 5);
    torn[ends[2] + 30..].fill(0);
    fs::write(&path, &torn).unwrap();
    for number in 7..=9 {
        // Each start finds the torn end again, though by now as many records are durable as it would have made.
        let found = read(&*on(temp.path()), 0, Some(number - 1)).unwrap();
        assert_eq!(found.last, number - 1);
        let mut log = go_on(temp.path(), &found);
        log.append(&batch(8, number as u8)).unwrap();
        log.sync().unwrap();
    }
    let found = read(&*on(temp.path()), 0, Some(9)).unwrap();
    assert_eq!((found.last, found.rows.get(&[0x10, 8][..])), (9, Some(&Some(vec![9; 5]))));
    assert_eq!(found.segments, [1, 2, 3, 4, 5]);
    // What was durable before the torn end is missed all the same.
    torn[ends[2] - 1] ^= 1;
    fs::write(&path, &torn).unwrap();
    assert!(matches!(read(&*on(temp.path()), 0, Some(9)), Err(LogError::Damaged { .. })));
}

#[test]
fn what_may_not_be_durable_is_written_anew_by_a_start() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let whole = fs::read(&path).unwrap();
    let end = records(temp.path(), 2, 5)[2];
    // The sync of the last record has failed: it is read, and may never be on the disk.
    for mark in [None, Some(6)] {
        let mut log = go_on(temp.path(), &read(&*on(temp.path()), 0, mark).unwrap());
        log.append(&batch(8, 8)).unwrap();
        for other in [0, 0xff] {
            let mut lost = whole.clone();
            lost[end..].fill(other);
            fs::write(&path, &lost).unwrap();
            let found = read(&*on(temp.path()), 0, Some(7)).unwrap();
            assert_eq!((found.last, found.rows, found.unsure), (8, rows_with_one_more(), Some(batch(8, 8))));
        }
        fs::remove_file(path_of(temp.path(), 3)).unwrap();
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_record_is_written_and_a_segment_begun_when_all_before_it_is_durable() {
    #[derive(Debug, Default)]
    struct Asked(std::sync::Mutex<Vec<&'static str>>);
    impl DiskFile for Asked {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            self.0.lock().unwrap().push("write");
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            self.0.lock().unwrap().push("sync");
            Ok(())
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let (mut log, file) = (go_on(temp.path(), &Found::default()), Arc::new(Asked::default()));
    log.file = Arc::clone(&file) as _;
    (0..2).for_each(|number| log.append(&batch(1, number)).unwrap());
    log.sync().unwrap();
    log.append(&batch(1, 2)).unwrap();
    log.roll().unwrap();
    assert_eq!(*file.0.lock().unwrap(), ["write", "sync", "write", "sync", "write", "sync"]);
}

/// Where each write begins and ends.
#[derive(Debug, Default)]
struct Writes(std::sync::Mutex<Vec<(u64, u64)>>);

impl DiskFile for Writes {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.lock().unwrap().push((at, at + bytes.len() as u64));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn most_records_lengthen_no_file_and_take_no_more_than_they_are_long() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, file) = (go_on(temp.path(), &Found::default()), Arc::new(Writes::default()));
    log.file = Arc::clone(&file) as _;
    (0..100).for_each(|_| log.append(&[(vec![0x10].into(), Some(vec![7; 4000]))].into()).unwrap());
    let (record_bytes, writes) = (log.bytes() / 100, file.0.lock().unwrap());
    let longer = writes.iter().filter(|(begin, end)| end - begin > record_bytes);
    assert_eq!(longer.map(|(_, end)| *end).collect::<Vec<_>>(), [2 * ALLOTTED_BYTES_MAX]);
}

#[test]
fn a_large_record_leaves_no_memory_behind() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = go_on(temp.path(), &Found::default());
    let large = (0..300_u16).map(|row| (row.to_be_bytes().as_slice().into(), Some(vec![7; 4000]))).collect();
    log.append(&large).unwrap();
    log.append(&batch(1, 1)).unwrap();
    assert!(log.buffer.capacity() <= ALLOTTED_BYTES_MAX as usize, "{}", log.buffer.capacity());
}

#[test]
fn damage_of_a_record_that_others_stand_behind_is_no_torn_end_though_nothing_says_how_much_was_durable() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let whole = fs::read(&path).unwrap();
    let ends = records(temp.path(), 2, 5);
    // What disks damage at once, up to two of the three records.
    for (from, to) in
        (ends[0]..ends[2]).map(|at| (at, at + 1)).chain([(ends[0], ends[1]), (ends[0], ends[2])])
    {
        for other in [0, 0xff] {
            let mut changed = whole.clone();
            changed[from..to].iter_mut().for_each(|byte| *byte = other);
            fs::write(&path, &changed).unwrap();
            match read(&*on(temp.path()), 0, None) {
                Ok(found) => {
                    assert_eq!(
                        (found.last, found.unsure),
                        (7, Some(batch(1, 7))),
                        "bytes from {from} to {to}"
                    );
                    assert!(found.rows.keys().eq(rows_through(7).keys()), "only a value is another one");
                }
                Err(refused) => assert!(matches!(refused, LogError::Damaged { .. }), "{refused}"),
            }
        }
    }
}

#[test]
fn damage_of_many_records_is_no_torn_end_if_another_one_stands_behind_them() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = go_on(temp.path(), &Found::default());
    (1..=60).for_each(|number| log.append(&batch(number % 3, number)).unwrap());
    let (path, ends) = (path_of(temp.path(), 1), records(temp.path(), 1, 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[ends[0]..ends[59]].fill(0);
    fs::write(&path, bytes).unwrap();
    let refused = read(&*on(temp.path()), 0, None).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { at: HEAD_BYTES, .. }), "{refused}");
}

#[test]
fn a_torn_end_with_a_value_that_looks_like_the_next_record_is_a_torn_end() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let mut next = Vec::new();
    put_record(&mut next, 2, 9, &Batch::new()).unwrap();
    let made: Batch = [(vec![0x10, 9].into(), Some(next)), (vec![0x11, 9].into(), Some(vec![9; 5]))].into();
    let mut whole = fs::read(&path).unwrap();
    let begin = *records(temp.path(), 2, 5).last().unwrap();
    let mut record = Vec::new();
    put_record(&mut record, 2, 8, &made).unwrap();
    let end = begin + record.len();
    whole[begin..end].copy_from_slice(&record);
    // What a power cut has left of it has the value, and lacks a byte in front of it or behind.
    for lost in (begin + RECORD_HEADER_BYTES..end).filter(|at| whole[*at] != 0) {
        let mut torn = whole.clone();
        torn[lost] = 0;
        fs::write(&path, torn).unwrap();
        let found = read(&*on(temp.path()), 0, Some(7)).unwrap();
        assert!(found.last == 7 && found.rows == rows_through(7), "byte {lost}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read(&*on(temp.path()), 0, Some(7)).unwrap().last, 8);
}

#[test]
fn a_torn_segment_that_a_power_loss_brought_back_is_passed_over() {
    let temp = a_log();
    let path = path_of(temp.path(), 2);
    let mut torn = fs::read(&path).unwrap();
    torn[records(temp.path(), 2, 5)[2] + 30..].fill(0);
    fs::write(&path, &torn).unwrap();
    let mut log = go_on(temp.path(), &read(&*on(temp.path()), 0, Some(6)).unwrap());
    log.append(&batch(8, 8)).unwrap();
    log.sync().unwrap();
    let old = log.roll().unwrap();
    assert_eq!((old.as_slice(), log.last()), (&[1, 2, 3][..], 7));
    // The checkpoint is made, and of the segments that it removes only the last one is gone for good.
    remove(&*on(temp.path()), &[3]).unwrap();
    let found = read(&*on(temp.path()), 7, Some(7)).unwrap();
    assert_eq!((found.last, found.rows, found.needless), (7, Batch::new(), vec![1, 2, 4]));
}

#[test]
fn every_changed_byte_of_what_was_durable_is_found_or_costs_one_value() {
    let temp = a_log();
    let mut values = 0;
    for (segment, first) in [(1, 1), (2, 5)] {
        let path = path_of(temp.path(), segment);
        let whole = fs::read(&path).unwrap();
        for at in 0..*records(temp.path(), segment, first).last().unwrap() {
            for other in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= other;
                fs::write(&path, &changed).unwrap();
                match read(&*on(temp.path()), 0, Some(7)) {
                    Err(LogError::Damaged { path: told, .. }) => assert_eq!(told, path),
                    Err(LogError::Short { .. }) => {
                        panic!("byte {at} of segment {segment} is taken for an end")
                    }
                    Err(LogError::Io(e)) => panic!("{e}"),
                    Ok(found) => {
                        assert_eq!(found.last, 7);
                        assert!(found.rows.keys().eq(rows_through(7).keys()));
                        values += u32::from(found.rows != rows_through(7));
                    }
                }
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(values > 0, "some values are not overwritten by later records");
}

#[test]
fn a_missing_segment_is_missed() {
    let temp = a_log();
    fs::remove_file(path_of(temp.path(), 1)).unwrap();
    assert!(matches!(read(&*on(temp.path()), 0, None), Err(LogError::Short { found: 0 })));
    assert_eq!(read(&*on(temp.path()), 4, Some(7)).unwrap().last, 7);
}

#[test]
fn a_segment_that_a_power_loss_brought_back_is_passed_over() {
    let temp = a_log();
    let first = fs::read(path_of(temp.path(), 1)).unwrap();
    let mut log = go_on(temp.path(), &read(&*on(temp.path()), 0, None).unwrap());
    let old = log.roll().unwrap();
    assert_eq!(old, [1, 2, 3]);
    log.append(&batch(9, 9)).unwrap();
    remove(&*on(temp.path()), &old).unwrap();
    // As it was, cut off within its header, or with what another file holds that was given its place on the disk since.
    for back in [&first[..], &first[..9], b"", &[7; 4096]] {
        fs::write(path_of(temp.path(), 1), back).unwrap();
        let found = read(&*on(temp.path()), 7, Some(8)).unwrap();
        assert_eq!((found.last, found.rows), (8, batch(9, 9)));
        assert_eq!((found.needless, found.segments), (vec![1], vec![4]));
    }
}

#[test]
fn a_segment_without_a_header_is_damaged_if_any_of_it_may_be_needed() {
    let temp = a_log();
    fs::write(path_of(temp.path(), 1), "").unwrap();
    for (checkpoint, refused) in [(0, true), (3, true), (4, false)] {
        let read = read(&*on(temp.path()), checkpoint, Some(7));
        assert_eq!(matches!(read, Err(LogError::Damaged { at: 0, .. })), refused, "{read:?}");
    }
}

#[test]
fn a_start_removes_the_segments_that_nobody_needs_once_it_has_gone_on_and_no_other() {
    let temp = a_log_with_one_more();
    let segments = || segments_on(&*on(temp.path())).unwrap();
    let found = |durable| read(&*on(temp.path()), 0, Some(durable)).unwrap();
    // The one record of the third one is given anew, and then nobody writes any.
    go_on(temp.path(), &found(7));
    assert_eq!(segments(), [1, 2, 4]);
    for newest in 5..9 {
        go_on(temp.path(), &found(8));
        assert_eq!(segments(), [1, 2, 4, newest]);
    }
    assert_eq!((found(8).rows, found(8).segments), (rows_with_one_more(), vec![1, 2, 4]));
}

#[test]
fn a_start_that_can_not_go_on_removes_nothing() {
    let temp = a_log_with_one_more();
    let found = read(&*on(temp.path()), 0, Some(7)).unwrap();
    assert_eq!(found.needless, [3], "its record is given anew by whoever goes on");
    let in_the_way = temp.path().join(NEW);
    fs::create_dir(&in_the_way).unwrap();
    CommitLog::go_on(on(temp.path()), &found, BYTES_MAX).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(read(&*on(temp.path()), 0, Some(7)).unwrap().rows, rows_with_one_more());
}

#[test]
fn a_segment_that_nobody_needed_is_passed_over_if_a_power_loss_brings_it_back() {
    let temp = a_log_with_one_more();
    let third = fs::read(path_of(temp.path(), 3)).unwrap();
    go_on(temp.path(), &read(&*on(temp.path()), 0, Some(7)).unwrap());
    for torn_from in [third.len(), HEAD_BYTES + 30, HEAD_BYTES] {
        let mut torn = third.clone();
        torn[torn_from..].fill(0);
        fs::write(path_of(temp.path(), 3), torn).unwrap();
        let found = read(&*on(temp.path()), 0, Some(8)).unwrap();
        assert_eq!((found.last, found.rows, found.needless), (8, rows_with_one_more(), vec![3]));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, durable in 0..3_u64) {
        let temp = tempfile::tempdir().unwrap();
        let mut segment = rows::head(MAGIC, 1, 1).to_vec();
        segment.extend(bytes);
        fs::write(path_of(temp.path(), 1), segment).unwrap();
        if let Ok(found) = read(&*on(temp.path()), 0, Some(durable)) {
            prop_assert!(found.last >= durable);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn large_records_and_many_are_read_back(sizes in proptest::collection::vec(0..2000_usize, 1..20)) {
        let temp = tempfile::tempdir().unwrap();
        let mut log = go_on(temp.path(), &Found::default());
        let mut expected = Batch::new();
        for (number, size) in sizes.iter().enumerate() {
            let rows: Batch = (0..*size)
                .map(|row| ([number.to_be_bytes(), row.to_be_bytes()].concat().into(), Some(vec![7; 60])))
                .collect();
            log.append(&rows).unwrap();
            expected.extend(rows);
        }
        log.sync().unwrap();
        let found = read(&*on(temp.path()), 0, Some(sizes.len() as u64)).unwrap();
        prop_assert_eq!(found.bytes, log.bytes());
        prop_assert!(found.rows == expected);
    }
}
