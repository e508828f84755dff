//! What came of the lines of a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What came of lines, counted.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Counts {
    /// Likes that this import made: on disk in both stores.
    pub imported: u64,
    /// Likes that were there already.
    pub already_liked: u64,
    /// Lines that are no likes, and likes that were refused, by the kind that the error of a single like would have had.
    pub rejects: BTreeMap<String, u64>,
}

impl Counts {
    /// Lines of which nothing was imported, and should have been.
    pub fn rejected(&self) -> u64 {
        self.rejects.values().sum()
    }

    /// All lines.
    pub fn lines(&self) -> u64 {
        self.imported + self.already_liked + self.rejected()
    }
}
