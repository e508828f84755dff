//! What a start makes of what it finds.

use super::super::super::mark::MARK;
use super::super::super::opening::{LOG, Opening};
use super::super::super::tests::copied;
use super::*;

#[test]
fn a_store_whose_log_is_gone_is_refused_however_often_it_is_opened() {
    for ruin in [&b""[..], &[7; 10_000]] {
        let temp = tempfile::tempdir().unwrap();
        let mut store = open(temp.path());
        store.apply(batch(&[(b"a", Some(b"1"))])).unwrap();
        store.sync().unwrap();
        drop(store);
        fs::write(temp.path().join("db"), ruin).unwrap();
        for _ in 0..3 {
            let refused = again(temp.path(), TINY, false);
            assert!(matches!(refused, Err(OpenError::Lost { .. } | OpenError::Refused { .. })));
        }
    }
}

#[test]
fn a_store_that_ends_before_what_was_durable_is_refused_until_it_is_called_restored() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path();
    written(path, LOG_BYTES_MAX, 1, 2);
    let before = named(path, "log.");
    written(path, LOG_BYTES_MAX, 3, 4);
    for later in named(path, "log.") {
        if !before.contains(&later) {
            fs::remove_file(later).unwrap();
        }
    }
    for _ in 0..2 {
        let refused = again(path, LOG_BYTES_MAX, false).err().unwrap();
        assert!(matches!(refused, OpenError::Short { found: 2, .. }), "{refused}");
    }
    let restored = again(path, LOG_BYTES_MAX, true).unwrap();
    assert_eq!(restored.get(&[0x10]).unwrap(), Some(vec![2]));
    drop(restored);
    assert!(again(path, LOG_BYTES_MAX, false).is_ok());
}

#[test]
fn a_store_that_is_moved_away_while_it_is_open_keeps_its_files_and_touches_none_of_the_next_one() {
    let temp = tempfile::tempdir().unwrap();
    let (path, moved) = (temp.path().join("data"), temp.path().join("moved"));
    let write = |store: &mut LoggedStore, value: u8| {
        store.apply(batch(&[(&[0x10], Some(&[value])), (&[0x01, value], Some(&[value]))])).unwrap();
        store.sync().unwrap();
    };
    let mut first = again(&path, TINY, false).unwrap();
    write(&mut first, 1);
    fs::rename(&path, &moved).unwrap();
    let mut next = again(&path, TINY, false).unwrap();
    for value in 2..20 {
        write(&mut first, value);
        write(&mut next, 100 + value);
    }
    drop((first, next));
    for (path, last) in [(&moved, 19), (&path, 119)] {
        let store = again(path, TINY, false).unwrap();
        assert_eq!(store.get(&[0x10]).unwrap(), Some(vec![last]), "{path:?}");
        assert_eq!(store.get(&[0x01, last]).unwrap(), Some(vec![last]), "{path:?}");
    }
}

#[test]
fn a_checkpoint_whose_carried_rows_are_gone_or_damaged_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), TINY, 1, 3);
    let carried = named(temp.path(), "carried.").remove(0);
    let mut bytes = fs::read(&carried).unwrap();
    fs::remove_file(&carried).unwrap();
    assert!(matches!(again(temp.path(), TINY, false), Err(OpenError::Lost { .. })));
    bytes[20] ^= 1;
    fs::write(&carried, bytes).unwrap();
    assert!(matches!(again(temp.path(), TINY, false), Err(OpenError::Damaged { .. })));
    // What can't be read is not lost.
    fs::remove_file(&carried).unwrap();
    fs::create_dir(&carried).unwrap();
    assert!(matches!(again(temp.path(), TINY, false), Err(OpenError::Refused { .. })));
}

#[test]
fn a_start_removes_the_carried_rows_of_checkpoints_that_were_cut_short() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), TINY, 1, 3);
    let before = named(temp.path(), "carried.");
    for cut_short in ["carried.new", "carried.99"] {
        fs::write(temp.path().join(cut_short), "cut short").unwrap();
    }
    drop(open(temp.path()));
    assert_eq!(named(temp.path(), "carried."), before);
}

#[test]
fn a_start_that_is_refused_removes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), TINY, 1, 3);
    // The base may have lost the checkpoint that these are of.
    let later = temp.path().join("carried.99");
    fs::write(&later, "later").unwrap();
    named(temp.path(), "log.").iter().for_each(|segment| fs::write(segment, "damaged").unwrap());
    let refused = again(temp.path(), TINY, false).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert!(later.exists());
}

#[test]
fn what_a_start_has_found_is_missed_from_then_on_though_the_mark_had_lagged() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), LOG_BYTES_MAX, 1, 2);
    fs::write(temp.path().join(MARK), "").unwrap();
    drop(open(temp.path()));
    named(temp.path(), "log.").iter().for_each(|segment| fs::remove_file(segment).unwrap());
    let refused = again(temp.path(), LOG_BYTES_MAX, false).err().unwrap();
    assert!(matches!(refused, OpenError::Short { found: 0, .. }), "{refused}");
}

#[test]
fn damage_that_sled_takes_for_a_torn_end_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), TINY, 1, 1);
    // What is written from here on stands behind what is damaged.
    let from = fs::read(temp.path().join(LOG)).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    written(temp.path(), TINY, 2, 9);
    let mut bytes = fs::read(temp.path().join(LOG)).unwrap();
    bytes[from + 40] ^= 0x10;
    fs::write(temp.path().join(LOG), bytes).unwrap();
    let refused = again(temp.path(), TINY, false).err().unwrap();
    assert!(matches!(refused, OpenError::Short { .. } | OpenError::Lost { .. }), "{refused}");
}

#[test]
fn starts_that_come_to_nothing_leave_only_so_many_segments_however_often_there_is_one() {
    for (writes, starts, segments_max) in [(false, 5, 1), (true, 3 * SEGMENTS_MAX, 2 * SEGMENTS_MAX)] {
        let temp = tempfile::tempdir().unwrap();
        for start in 0..starts as u8 {
            let mut store = open(temp.path());
            if writes {
                store.apply(batch(&[(&[0x10, start], Some(&[start]))])).unwrap();
                store.sync().unwrap();
            }
            let segments = named(temp.path(), "log.").len();
            assert!(segments <= segments_max, "start {start}: {segments} segments");
            // Its daemon dies before any checkpoint has ended.
        }
        let found = open(temp.path()).scan(&KeyRange::prefix(&[0x10]), usize::MAX).unwrap();
        assert_eq!(found.len(), if writes { starts } else { 0 });
    }
}

/// Opens a store as sled alone does. Then the power fails: the removal of the old snapshot is on disk, and the name of the
/// new one is not.
fn opened_and_cut(path: &Path) {
    drop(sled::Config::new().path(path).flush_every_ms(None).open().unwrap());
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_power_loss_while_a_store_is_opened_costs_nothing_where_it_would_cost_sled_everything() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let (mut lost, mut value) = (0, 0_u32);
    // Whether sled overwrites what it would need depends on where its pages happen to lie.
    for round in 0..24 {
        let mut store = again(&path, TINY, false).unwrap();
        for _ in 0..40 {
            value += 1;
            let rows: Vec<_> =
                (0..30_u8).map(|key| ([0x10, key], [&value.to_be_bytes()[..], &[7; 60]].concat())).collect();
            let rows: Vec<_> = rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
            store.apply(batch(&rows)).unwrap();
            store.sync().unwrap();
        }
        drop(store);
        let alone = temp.path().join(format!("alone-{round}"));
        copied(&path, &alone);
        opened_and_cut(&alone);
        match again(&alone, TINY, false) {
            Ok(_) => continue,
            Err(OpenError::Lost { .. } | OpenError::Short { .. }) => lost += 1,
            Err(other) => panic!("{other}"),
        }
        // What is left may as well be a backup: a snapshot of the file system is no other than a power loss.
        for restored in [false, true] {
            let kept = temp.path().join(format!("kept-{round}-{restored}"));
            copied(&path, &kept);
            let _cut_short = Opening::begin(&kept).unwrap();
            opened_and_cut(&kept);
            let store = again(&kept, TINY, restored).unwrap();
            assert_eq!(store.get(&[0x10, 29]).unwrap().unwrap()[..4], value.to_be_bytes());
        }
    }
    assert!(lost > 0, "sled has lost nothing: this test shows nothing any more");
}
