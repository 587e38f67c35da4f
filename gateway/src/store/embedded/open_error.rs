//! Why the embedded store cannot be opened, and what to do about it.
//!
//! Takes what directory, database and rows have to say, gives one sentence for whoever starts the
//! gateway; to a store that is open already the same is a `StoreError`. Never shows what a row
//! holds.

use std::io;
use std::path::PathBuf;

use kanarie_queue::load::LoadError;

use crate::store::error::StoreError;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedOpenError {
    /// Somebody has it open.
    #[error("the store is in use by another process: stop that one or give this one its own path")]
    InUse,
    /// The directory is missing and cannot be made, or cannot be written.
    #[error("the store's directory {} cannot be used: make it writable", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A newer version has written it.
    #[error(
        "the store was written by a newer version (rows {found}, this one reads up to {reads}): run that version or start with an empty path"
    )]
    Newer {
        /// The version that it found.
        found: u64,
        /// The newest that this program reads.
        reads: u64,
    },
    /// The rows are not what they must be.
    #[error("the store is damaged: restore it or start with an empty path")]
    Damaged(#[from] LoadError),
    /// The database cannot be opened or read.
    #[error("the store cannot be opened: look after its disk")]
    Database(#[from] redb::Error),
    /// The database failed in a way that it does not describe.
    #[error("the store's database stopped with: {0}")]
    Panicked(String),
    /// Nobody waits for it any more.
    #[error("the gateway was told to stop before its store was open")]
    Stopped,
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                Self::OutOfSpace(error.to_string())
            }
            redb::Error::Corrupted(text) => Self::Corrupt(text),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<EmbeddedOpenError> for StoreError {
    fn from(error: EmbeddedOpenError) -> Self {
        match error {
            EmbeddedOpenError::Database(error) => error.into(),
            EmbeddedOpenError::Damaged(_) | EmbeddedOpenError::Newer { .. } => {
                Self::Corrupt(error.to_string())
            }
            error => Self::Unavailable(error.to_string()),
        }
    }
}
