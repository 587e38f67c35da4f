//! Notes of this process on channels. They may be lost at any time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kanarie_words::ids::RevisionName;
use tokio::time::Instant;

use crate::reconcile::untold::Untold;

/// Notes on channels.
#[derive(Default)]
pub struct Notes {
    notes: Mutex<BTreeMap<String, Note>>,
}

/// What this process has done for a channel, so that it need not do it again.
#[derive(Clone, Default)]
pub struct Note {
    /// A content, by its digest, and what it was found or made to be called.
    pub resolved: Option<([u8; 32], RevisionName)>,
    /// The new content that is asked for.
    pub asked: Option<AskedContent>,
    /// The transition for which revisions were marked and pruned, and when.
    pub marked: Option<(u64, Instant)>,
    /// Highest transition that this process has told of, or will.
    pub told: Option<u64>,
    /// What it has not told yet.
    pub untold: Untold,
    /// When status was last written.
    pub status_written: Option<Instant>,
    /// Version of the route that the last reconcile saw or wrote.
    pub route: Option<String>,
    /// Failures in a row.
    pub failures: u32,
}

/// A content that is asked for and was never carried out.
#[derive(Clone)]
pub struct AskedContent {
    /// Its digest.
    pub content: [u8; 32],
    /// Since when it is asked for.
    pub since: Instant,
    /// Since when it, or another new one before it, is.
    pub first: Instant,
}

impl Notes {
    /// The note on a channel.
    pub fn get(&self, uid: &str) -> Note {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes the note on a channel.
    pub fn update<R>(&self, uid: &str, change: impl FnOnce(&mut Note) -> R) -> R {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// Forgets a channel that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
