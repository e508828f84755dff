//! The marker of a daemon's data directory.

use std::fs;

use like_daemon::store::data_dir::DataDir;

/// Any bytes as a marker: the directory is opened as what they say, or refused and left as it is.
pub fn marker(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("like-store");
    fs::write(&path, data).expect("a file");
    match DataDir::open(directory.path(), "article", false) {
        Ok(opened) if !opened.is_new() => {
            let text = std::str::from_utf8(data).expect("a marker is text");
            assert!(text.contains(&format!("store {}", opened.store_id())), "another id than it says");
            assert!(text.contains("role article"), "another role than it says");
        }
        // One that was being made is made anew.
        Ok(_) => assert!(data.ends_with(b"state making\n") || data.windows(6).any(|word| word == b"making")),
        Err(_) => assert_eq!(fs::read(&path).expect("it is still there"), data),
    }
}
