use super::*;

fn open(path: &Path) -> SledStore {
    SledStore::open(DataDir::open(path, "article", false).unwrap()).unwrap()
}

fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    changes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

#[test]
fn what_was_synced_is_found_by_the_next_opening() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    let id = store.id();
    store.apply(batch(&[(b"a", Some(b"1")), (b"b", Some(b"2"))])).unwrap();
    store.apply(batch(&[(b"a", None)])).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.id(), id);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"b").unwrap(), Some(b"2".to_vec()));
    assert!(store.bytes() > 0);
}

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
            let refused = SledStore::open(DataDir::open(temp.path(), "article", false).unwrap());
            assert!(matches!(refused, Err(OpenError::Lost { .. } | OpenError::Sled { .. })));
        }
    }
}

#[test]
fn it_reads_as_the_store_in_memory_does() {
    let temp = tempfile::tempdir().unwrap();
    let (mut on_disk, mut in_memory) = (open(temp.path()), super::super::MemoryStore::default());
    let rows: Vec<[u8; 2]> = (0..40u8).map(|n| [n % 4, n.wrapping_mul(37)]).collect();
    let rows: Vec<_> = rows.iter().map(|key| (&key[..], Some(&key[1..]))).collect();
    on_disk.apply(batch(&rows)).unwrap();
    in_memory.apply(batch(&rows)).unwrap();
    for range in [KeyRange::prefix(&[1]), KeyRange::prefix(&[2]).after(&[2, 100]), KeyRange::prefix(&[9])] {
        for limit in [0, 1, 5, 100] {
            assert_eq!(on_disk.scan(&range, limit).unwrap(), in_memory.scan(&range, limit).unwrap());
        }
        assert_eq!(on_disk.last(&range).unwrap(), in_memory.last(&range).unwrap());
    }
}

/// A store that holds 1 to `last` under one key, one synced batch after the other.
fn written(path: &Path, first: u8, last: u8) {
    let mut store = open(path);
    for value in first..=last {
        store.apply(batch(&[(b"k", Some(&[value]))])).unwrap();
        store.sync().unwrap();
    }
}

#[test]
fn a_store_that_ends_before_what_was_durable_is_refused_until_it_is_called_restored() {
    let temp = tempfile::tempdir().unwrap();
    let log = temp.path().join(LOG);
    written(temp.path(), 1, 2);
    let before = fs::read(&log).unwrap();
    written(temp.path(), 3, 4);
    fs::write(&log, before).unwrap();
    let again = |restored| SledStore::open(DataDir::open(temp.path(), "article", restored).unwrap());
    for _ in 0..2 {
        let refused = again(false).err().unwrap();
        assert!(matches!(refused, OpenError::Short { found: 2, durable: 4, .. }), "{refused}");
    }
    let restored = again(true).unwrap();
    assert_eq!(restored.get(b"k").unwrap(), Some(vec![2]));
    drop(restored);
    assert!(again(false).is_ok());
}

#[test]
fn damage_that_sled_takes_for_a_torn_end_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), 1, 1);
    // What is written from here on stands behind what is damaged.
    let from = fs::read(temp.path().join(LOG)).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    written(temp.path(), 2, 9);
    let mut bytes = fs::read(temp.path().join(LOG)).unwrap();
    bytes[from + 40] ^= 0x10;
    fs::write(temp.path().join(LOG), bytes).unwrap();
    let refused = SledStore::open(DataDir::open(temp.path(), "article", false).unwrap()).err().unwrap();
    assert!(matches!(refused, OpenError::Short { durable: 9, .. }), "{refused}");
}

#[test]
fn no_page_is_written_into_a_file_of_its_own_however_long_its_values_are() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    for round in 0..40_u16 {
        let rows: Vec<_> = (0..30_u16)
            .map(|row| {
                (
                    row.wrapping_mul(7919).wrapping_add(round * 31).to_be_bytes(),
                    vec![round as u8; VALUE_BYTES_MAX],
                )
            })
            .collect();
        let rows: Vec<_> = rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
        store.apply(batch(&rows)).unwrap();
        store.sync().unwrap();
    }
    assert_eq!(fs::read_dir(temp.path().join("blobs")).unwrap().count(), 0);
}

/// Copies a store to where nothing is yet.
fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
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
        let mut store = open(&path);
        for _ in 0..40 {
            value += 1;
            let rows: Vec<_> =
                (0..30_u8).map(|key| ([1, key], [&value.to_be_bytes()[..], &[7; 60]].concat())).collect();
            let rows: Vec<_> = rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
            store.apply(batch(&rows)).unwrap();
            store.sync().unwrap();
        }
        drop(store);
        let (alone, kept) =
            (temp.path().join(format!("alone-{round}")), temp.path().join(format!("kept-{round}")));
        copied(&path, &alone);
        opened_and_cut(&alone);
        match SledStore::open(DataDir::open(&alone, "article", false).unwrap()) {
            Ok(_) => continue,
            Err(OpenError::Lost { .. } | OpenError::Short { .. }) => lost += 1,
            Err(other) => panic!("{other}"),
        }
        copied(&path, &kept);
        let _cut_short = Opening::begin(&kept).unwrap();
        opened_and_cut(&kept);
        assert_eq!(open(&kept).get(&[1, 29]).unwrap().unwrap()[..4], value.to_be_bytes());
    }
    assert!(lost > 0, "sled has lost nothing: this test shows nothing any more");
}
