//! Groups far larger than those of daily use, written straight into a store that makes a checkpoint after every one: what
//! goes into its base at once is then more than sled lets pass before it uses a segment of its log again. Of any two such runs of
//! its base one is made.

use std::path::Path;
use std::process::ExitCode;

use like_daemon::store::data_dir::DataDir;
use like_daemon::store::runs::Shape;
use like_daemon::store::{Batch, Key, KeyRange, LoggedStore, Store};

use crate::process::eventually;

const ROLE: &str = "bulk";

/// How many batches a group has.
pub const BATCHES: u32 = 48;

/// How many rows a batch writes, in pages all over the store.
const ROWS: u32 = 100;

/// What a row holds besides its group's number.
const PADDING: [u8; 100] = [0x5a; 100];

fn key(batch: u32, row: u32) -> Key {
    let mut key = Key::from_slice(&[0x10]);
    key.extend_from_slice(&(row * BATCHES + batch).to_be_bytes());
    key
}

/// The batches of a group: each group writes the same rows.
fn batches(group: u32) -> impl Iterator<Item = Batch> {
    let value = move || [&group.to_be_bytes()[..], &PADDING].concat();
    (0..BATCHES).map(move |batch| (0..ROWS).map(|row| (key(batch, row), Some(value()))).collect())
}

fn open(data: &Path) -> Result<LoggedStore, String> {
    let data = DataDir::open(data, ROLE, false).map_err(|e| e.to_string())?;
    LoggedStore::open_with(data, 1, Shape { fan_in: 2, ..Shape::USUAL }).map_err(|e| e.to_string())
}

/// The program: a directory, and how many groups. The number of each group is told once it is durable.
pub fn main(arguments: &[String]) -> Option<ExitCode> {
    let [data, groups] = arguments else { return None };
    let mut store = open(Path::new(data)).expect("a store");
    for group in 1..=groups.parse().ok()? {
        for batch in batches(group) {
            store.apply(batch).expect("applied");
        }
        store.sync().expect("synced");
        println!("{group}");
    }
    eventually("runs that are merged", || {
        store.sync().expect("synced");
        (store.runs().runs.len() < 3).then_some(())
    });
    Some(ExitCode::SUCCESS)
}

/// Opens a store and insists that no group up to `told` has lost anything, and that of later ones the first batches are
/// there, each as a whole.
///
/// # Errors
/// What is broken.
pub fn check(data: &Path, told: u32) -> Result<(), String> {
    let store = open(data)?;
    let rows = store.scan(&KeyRange::prefix(&[0x10]), usize::MAX).map_err(|e| e.to_string())?;
    let group_of = |batch, row| {
        let found = rows.binary_search_by(|(have, _)| have.cmp(&key(batch, row)));
        found.map_or(0, |at| u32::from_be_bytes(rows[at].1[..4].try_into().expect("four bytes")))
    };
    let mut before = u32::MAX;
    for batch in 0..BATCHES {
        let group = group_of(batch, 0);
        if let Some(row) = (0..ROWS).find(|row| group_of(batch, *row) != group) {
            return Err(format!(
                "batch {batch} is of group {group}, and row {row} of group {}",
                group_of(batch, row)
            ));
        }
        if group < told || group > before {
            return Err(format!(
                "batch {batch} is of group {group} where {told} was told, the one before of {before}"
            ));
        }
        before = group;
    }
    Ok(())
}
