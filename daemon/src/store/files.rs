//! Small files of our own that are written as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts a file in place under `name`, by way of one called `new`: whatever happens, it is there as a whole or not at all.
/// Durable on return.
///
/// # Errors
/// The file system refused.
pub fn replace(dir: &Path, new: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(new);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    File::open(dir)?.sync_all()
}
