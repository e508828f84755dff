use std::collections::{BTreeMap, BTreeSet};

use super::*;

const NOBODY: u32 = 65534;

fn complete(path: &Path, role: &str) -> StoreId {
    let mut data = DataDir::open(path, role, false).unwrap();
    data.complete().unwrap();
    data.store_id()
}

/// Every file below a directory and what it holds.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn the_marker_is_pinned() {
    let store = StoreId::from_bytes([0x11; 16]);
    let marker = Marker { role: "user".to_owned(), store, ready: true };
    let text = "like-store 4\nrole user\nstore 11111111-1111-1111-1111-111111111111\nstate ready\nchecksum 4801d43c\n";
    assert_eq!(marker.text(), text);
    assert_eq!(Marker::parse(text), Some(marker));
}

#[test]
fn every_changed_byte_and_every_truncation_of_the_marker_is_found_and_says_what_to_do() {
    let bad = |found: Result<Marker, DataDirError>| {
        let refused = found.unwrap_err();
        assert!(matches!(&refused, DataDirError::BadMarker(path) if *path == Path::new("d/like-store")));
        assert!(refused.to_string().contains("restore the data directory from a backup"), "{refused}");
    };
    for ready in [true, false] {
        let marker = Marker { role: "article".to_owned(), store: StoreId::from_bytes([0x5a; 16]), ready };
        let whole = marker.text().into_bytes();
        for at in 0..whole.len() {
            bad(Marker::decode(Path::new("d"), &whole[..at]));
            for change in 1..=u8::MAX {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                bad(Marker::decode(Path::new("d"), &damaged));
            }
        }
        bad(Marker::decode(Path::new("d"), &[&whole[..], b"\n"].concat()));
        assert_eq!(Marker::decode(Path::new("d"), &whole).unwrap(), marker);
    }
}

#[test]
fn a_damaged_marker_is_left_untouched() {
    let temp = tempfile::tempdir().unwrap();
    complete(temp.path(), "article");
    let mut marker = fs::read(temp.path().join(MARKER)).unwrap();
    let id = marker.windows(6).position(|word| word == b"store ").unwrap() + 10;
    marker[id] = if marker[id] == b'7' { b'8' } else { b'7' };
    fs::write(temp.path().join(MARKER), &marker).unwrap();
    let before = contents(temp.path());
    for restored in [false, true] {
        let refused = DataDir::open(temp.path(), "article", restored).unwrap_err();
        assert!(matches!(refused, DataDirError::BadMarker(_)), "{refused}");
    }
    assert_eq!(contents(temp.path()), before);
}

#[test]
fn a_store_from_before_the_first_release_is_refused_and_says_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let text = "like-store 1\nrole article\nstore 11111111-1111-1111-1111-111111111111\nstate ready\n";
    fs::write(temp.path().join(MARKER), text).unwrap();
    let refused = DataDir::open(temp.path(), "article", false).unwrap_err();
    assert!(matches!(refused, DataDirError::OlderFormat { found: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("give a new directory"), "{refused}");
    assert_eq!(fs::read_to_string(temp.path().join(MARKER)).unwrap(), text);
}

#[test]
fn a_new_directory_is_private_and_its_store_keeps_its_id() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data");
    let id = complete(&path, "article");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(complete(&path, "article"), id);
}

#[test]
fn a_directory_in_use_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let _first = DataDir::open(temp.path(), "article", false).unwrap();
    assert!(matches!(DataDir::open(temp.path(), "article", false), Err(DataDirError::InUse(_))));
}

#[test]
fn what_is_refused_is_left_untouched() {
    let newer = "like-store 5\nsomething else entirely\n";
    for (name, text) in [("like-store", newer), ("like-store", "garbage"), ("letters.txt", "dear you")] {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(name), text).unwrap();
        fs::write(temp.path().join("snap.1.generating"), "x").unwrap();
        fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
        let before = contents(temp.path());
        let refused = DataDir::open(temp.path(), "article", false).unwrap_err();
        match (name, text) {
            (_, "garbage") => assert!(matches!(refused, DataDirError::BadMarker(_)), "{refused}"),
            ("like-store", _) => {
                assert!(matches!(refused, DataDirError::NewerFormat { found: 5, .. }), "{refused}")
            }
            _ => assert!(matches!(refused, DataDirError::Foreign(_)), "{refused}"),
        }
        assert_eq!(contents(temp.path()), before);
        assert_eq!(fs::metadata(temp.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn the_store_of_the_other_service_is_refused_and_left_untouched() {
    let temp = tempfile::tempdir().unwrap();
    complete(temp.path(), "article");
    let before = contents(temp.path());
    for restored in [false, true] {
        let refused = DataDir::open(temp.path(), "user", restored).unwrap_err();
        assert!(matches!(refused, DataDirError::OtherRole { .. }), "{refused}");
    }
    assert_eq!(contents(temp.path()), before);
}

#[test]
fn a_file_systems_root_and_what_an_attempt_cut_short_leaves_are_as_good_as_empty() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join(LOST_AND_FOUND)).unwrap();
    fs::write(temp.path().join(MARKER_NEW), "half").unwrap();
    assert!(DataDir::open(temp.path(), "article", false).unwrap().is_new());
}

/// Does something as somebody whom permissions bind.
fn as_nobody<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let of_this_thread_alone = move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
        }
        work()
    };
    std::thread::spawn(of_this_thread_alone).join().unwrap()
}

#[test]
fn the_directory_above_need_not_be_ours_to_open() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o311)).unwrap();
    as_nobody(move || {
        assert!(File::open(path.parent().unwrap()).is_err());
        sync_name(&path).unwrap();
    });
}

#[test]
fn a_store_is_made_at_the_root_of_a_file_system_though_not_all_there_is_ours_to_open() {
    let temp = tempfile::tempdir().unwrap();
    let (path, lost) = (temp.path().to_owned(), temp.path().join(LOST_AND_FOUND));
    DirBuilder::new().mode(0o000).create(&lost).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    }
    as_nobody(move || {
        assert!(fs::read_dir(lost).is_err());
        complete(&path, "article");
    });
}

#[test]
fn a_store_that_was_never_completed_is_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    drop(DataDir::open(temp.path(), "article", false).unwrap());
    for name in ["conf", "db", "snap.0000", "log.1", "carried.7", "durable", "opening", "somebody's"] {
        fs::write(temp.path().join(name), "half").unwrap();
    }
    fs::create_dir(temp.path().join("blobs")).unwrap();
    let data = DataDir::open(temp.path(), "article", false).unwrap();
    assert!(data.is_new());
    let left: BTreeSet<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [MARKER, "somebody's"].map(str::to_owned).into());
}

#[test]
fn unfinished_files_go_and_finished_ones_stay() {
    let temp = tempfile::tempdir().unwrap();
    complete(temp.path(), "article");
    let there = ["snap.0000", "db", "log.1", "carried.7", "opening", "somebody's.new"];
    // What is half written takes space, which the start may lack.
    let unfinished = ["snap.0000.generating", "log.new", "carried.new", "opening.new"];
    for name in there.iter().chain(&unfinished) {
        fs::write(temp.path().join(name), "x").unwrap();
    }
    drop(DataDir::open(temp.path(), "article", false).unwrap());
    let exists = |name: &&str| temp.path().join(name).exists();
    assert!(there.iter().all(exists) && !unfinished.iter().any(exists));
}

#[test]
fn a_restored_store_gets_a_new_id_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data");
    let nothing = DataDir::open(&path, "article", true).unwrap_err();
    assert!(matches!(nothing, DataDirError::NothingRestored(_)), "{nothing}");
    let original = complete(&path, "article");
    let restored = DataDir::open(&path, "article", true).unwrap().store_id();
    assert_ne!(restored, original);
    assert_eq!(complete(&path, "article"), restored);
}

#[test]
fn how_much_was_durable_once_is_forgotten_when_a_store_is_restored_and_what_its_opening_kept_is_not() {
    let temp = tempfile::tempdir().unwrap();
    complete(temp.path(), "article");
    let [mark, opening] = [MARK, OPENING].map(|name| temp.path().join(name));
    for (restored, is_left) in [(false, true), (true, false)] {
        [&mark, &opening].iter().for_each(|path| fs::write(path, "x").unwrap());
        drop(DataDir::open(temp.path(), "article", restored).unwrap());
        assert_eq!((mark.exists(), opening.exists()), (is_left, true));
    }
}

#[test]
fn a_store_that_did_not_get_its_new_id_is_not_restored_and_still_knows_how_much_was_durable_once() {
    let temp = tempfile::tempdir().unwrap();
    let original = complete(temp.path(), "article");
    fs::write(temp.path().join(MARK), "x").unwrap();
    let in_the_way = temp.path().join(MARKER_NEW);
    fs::create_dir(&in_the_way).unwrap();
    DataDir::open(temp.path(), "article", true).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(complete(temp.path(), "article"), original);
    assert!(temp.path().join(MARK).exists());
}

#[test]
fn a_store_is_not_taken_for_restored_while_how_much_was_durable_once_can_not_be_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    complete(temp.path(), "article");
    fs::create_dir(temp.path().join(MARK)).unwrap();
    let refused = DataDir::open(temp.path(), "article", true).unwrap_err();
    assert!(matches!(refused, DataDirError::Io { what: "remove", .. }), "{refused}");
}

#[test]
fn of_a_directory_that_can_not_be_looked_at_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = DataDir::open(&path, "user", false).unwrap_err();
    assert!(refused.to_string().contains("symbolic links"), "{refused}");
    // Nor is one whose marker can't be read taken for somebody else's.
    fs::create_dir(dir.path().join(MARKER)).unwrap();
    let refused = DataDir::open(dir.path(), "user", false).unwrap_err();
    assert!(refused.to_string().contains("Is a directory"), "{refused}");
}

#[test]
fn a_directory_on_a_network_file_system_is_refused() {
    const NFS: u64 = 0x6969;
    const EXT4: u64 = 0xef53;
    let refused = refuse_network(Path::new("/srv/data"), NFS).unwrap_err().to_string();
    assert!(refused.contains("/srv/data is on a network file system (nfs)"), "{refused}");
    assert!(refused.contains("--data"), "it says what to do: {refused}");
    refuse_network(Path::new("/srv/data"), EXT4).unwrap();
}
