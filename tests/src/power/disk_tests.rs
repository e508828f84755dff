use super::*;

const FILE: Inode = 7;
const DIRECTORY: Inode = 1;

fn disk(entries: &[Entry]) -> Disk {
    let inodes = BTreeMap::from([(PathBuf::new(), DIRECTORY)]);
    let mut disk = Disk::of(Path::new("/d"), &Tree::default(), &inodes);
    for entry in entries {
        disk.apply(entry);
    }
    disk
}

fn made() -> Entry {
    Entry::Opened { path: "/d/f".into(), file: FILE, emptied: false }
}

fn wrote(at: u64, bytes: &[u8]) -> Entry {
    Entry::Wrote { file: FILE, at, bytes: bytes.to_vec() }
}

fn synced(of: Inode) -> [Entry; 2] {
    [Entry::SyncBegan { thread: 1, of }, Entry::SyncEnded { thread: 1, of, synced: true }]
}

fn found(disk: &Disk, fate: &dyn Fn(Moment) -> Fate) -> Option<Vec<u8>> {
    disk.after(fate).0.get(Path::new("f")).map(|bytes| bytes.as_ref().expect("a file").to_vec())
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone_and_a_name_without_data_may_be_there() {
    let [began, ended] = synced(FILE);
    let disk_ = disk(&[made(), wrote(0, b"abc"), began, ended]);
    assert_eq!(found(&disk_, &|_| Fate::Lost), None);
    assert_eq!(found(&disk_, &|_| Fate::Kept), Some(b"abc".to_vec()));
    let [began, ended] = synced(DIRECTORY);
    let disk_ = disk(&[made(), wrote(0, b"abc"), began, ended]);
    assert_eq!(found(&disk_, &|_| Fate::Lost), Some(Vec::new()));
    assert_eq!(found(&disk_, &|_| Fate::Zeros), Some(vec![0; 3]));
    assert_eq!(found(&disk_, &|_| Fate::Part(1, 2)), Some(vec![0, b'b', 0]));
}

#[test]
fn a_sync_covers_what_was_done_before_it_began_and_counts_from_its_end() {
    let [began, ended] = synced(FILE);
    let [names_began, names_ended] = synced(DIRECTORY);
    let mut disk_ = disk(&[made(), names_began, names_ended, wrote(0, b"a"), began, wrote(1, b"b")]);
    assert_eq!(disk_.open().len(), 2);
    disk_.apply(&ended);
    assert_eq!(disk_.open().len(), 1);
    assert_eq!(found(&disk_, &|_| Fate::Lost), Some(b"a".to_vec()));
    let failed = Entry::SyncEnded { thread: 1, of: FILE, synced: false };
    disk_.apply(&Entry::SyncBegan { thread: 1, of: FILE });
    disk_.apply(&failed);
    assert_eq!(disk_.open().len(), 1, "a sync that failed proves nothing");
}

#[test]
fn a_rename_is_there_or_not_as_a_whole_even_before_its_data() {
    let new = Entry::Opened { path: "/d/new".into(), file: 8, emptied: false };
    let fill = Entry::Wrote { file: 8, at: 0, bytes: b"new".to_vec() };
    let replace = Entry::Renamed { from: "/d/new".into(), to: "/d/f".into() };
    let [began, ended] = synced(FILE);
    let [names_began, names_ended] = synced(DIRECTORY);
    let disk_ = disk(&[made(), wrote(0, b"old"), began, ended, names_began, names_ended, new, fill, replace]);
    let open = disk_.open();
    assert_eq!(
        open.iter().map(|open| open.about).collect::<Vec<_>>(),
        [About::Name, About::Bytes { at: 0, count: 3, lengthens: true }, About::Name]
    );
    assert_eq!(found(&disk_, &|_| Fate::Lost), Some(b"old".to_vec()));
    let only_rename = |moment| if moment == open[2].moment { Fate::Kept } else { Fate::Lost };
    assert_eq!(found(&disk_, &only_rename), Some(Vec::new()));
    assert_eq!(disk_.after(&only_rename).0.len(), 1);
}

#[test]
fn sectors_are_kept_each_for_itself() {
    let [names_began, names_ended] = synced(DIRECTORY);
    let disk_ = disk(&[made(), names_began, names_ended, wrote(500, &[1; 1000])]);
    let bytes = found(&disk_, &|_| Fate::Sectors(0b101)).expect("a file");
    let kept: Vec<_> = (0..1500).filter(|at| bytes[*at] == 1).collect();
    let expected: Vec<_> = (500..512).chain(1024..1500).collect();
    assert_eq!(kept, expected);
}
