//! Why a store does not open, whichever of its parts it is that does not.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::carried::CarriedError;
use super::commit_log::LogError;
use super::data_dir::DataDirError;

/// Why a store can't be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory can't be used.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// There is nothing in a store that has been served before.
    #[error(
        "the store in {path} has lost what was in it; restore it from a backup, then start once with --restored"
    )]
    Lost {
        /// The directory.
        path: PathBuf,
    },
    /// There is less than was durable once.
    #[error(
        "the store in {path} has lost changes that were durable: it ends with number {found}, and later ones were synced; make sure that its disk works, restore the store from a backup, then start once with --restored"
    )]
    Short {
        /// The directory.
        path: PathBuf,
        /// The number of the last change in it.
        found: u64,
    },
    /// A file is not what was written.
    #[error(
        "the store in {path} is damaged: {what}; make sure that its disk works, restore the store from a backup, then start once with --restored"
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Which file, where and how.
        what: String,
    },
    /// sled or the file system refused.
    #[error(
        "the store in {path} does not open: {source}; make sure that its disk works and has space and that its files belong to this user, or restore it from a backup and start once with --restored"
    )]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    pub(super) fn refused(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused { path: path.to_owned(), source: source.into() }
    }

    pub(super) fn of_log(path: &Path, e: LogError) -> Self {
        match e {
            LogError::Io(e) => Self::refused(path, e),
            LogError::Short { found } => Self::Short { path: path.to_owned(), found },
            damaged @ LogError::Damaged { .. } => {
                Self::Damaged { path: path.to_owned(), what: damaged.to_string() }
            }
        }
    }

    pub(super) fn of_carried(path: &Path, e: CarriedError) -> Self {
        match e {
            CarriedError::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                Self::Lost { path: path.to_owned() }
            }
            CarriedError::Io(e) => Self::refused(path, e),
            damaged @ CarriedError::Damaged { .. } => {
                Self::Damaged { path: path.to_owned(), what: damaged.to_string() }
            }
        }
    }
}
