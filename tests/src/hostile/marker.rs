//! The marker of a daemon's data directory.

use std::fs;

use like_daemon::store::data_dir::{DataDir, FORMAT};

/// Text as a marker, as it is or, if it ends in a line without an end, with the checksum that its whole lines need in
/// place of that line: the directory is opened as what it says, or refused and left as it is.
pub fn marker(data: &[u8]) {
    let lines = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let data = if lines < data.len() {
        let (lines, checksum) = (&data[..lines], crc32c::crc32c(&data[..lines]));
        [lines, format!("checksum {checksum:08x}\n").as_bytes()].concat()
    } else {
        data.to_vec()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("like-store");
    fs::write(&path, &data).expect("a file");
    match DataDir::open(directory.path(), "article", false) {
        Ok(opened) if !opened.is_new() => assert_eq!(data, written(&opened.store_id().to_string(), "ready")),
        // One that was being made is made anew.
        Ok(_) => {
            let store =
                data.split(|byte| *byte == b'\n').nth(2).and_then(|line| line.strip_prefix(b"store "));
            let store = store.and_then(|id| std::str::from_utf8(id).ok()).expect("an id");
            assert_eq!(data, written(store, "making"));
        }
        Err(_) => assert_eq!(fs::read(&path).expect("it is still there"), data),
    }
}

fn written(store: &str, state: &str) -> Vec<u8> {
    let said = format!("like-store {FORMAT}\nrole article\nstore {store}\nstate {state}\n");
    format!("{said}checksum {:08x}\n", crc32c::crc32c(said.as_bytes())).into_bytes()
}
