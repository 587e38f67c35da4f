//! Notes of this process on channels. They may be lost at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_words::ids::RevisionName;
use tokio::time::Instant;

use crate::cluster::route_object::RouteObject;
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
    /// What the marks on the revisions say.
    pub marked: Option<Marks>,
    /// When the revisions are to be looked at although nothing has happened.
    pub looked_after: Option<Instant>,
    /// Highest transition that this process has told of, or will.
    pub told: Option<u64>,
    /// Whether it was met at rest by this process.
    pub met: bool,
    /// What it has not told yet.
    pub untold: Untold,
    /// When status was last written.
    pub status_written: Option<jiff::Timestamp>,
    /// What was written then, of a channel that is not at rest.
    pub status: Option<Arc<ToldStatus>>,
    /// When the route was last written.
    pub route_written: Option<Instant>,
    /// Version of the route that the last reconcile saw or wrote.
    pub route: Option<String>,
    /// The route as the last pass left it, of a channel that rolls.
    pub held: Option<Arc<RouteObject>>,
    /// Failures in a row.
    pub failures: u32,
}

/// A status that was written, which the watch may not have told of yet.
#[derive(Clone, Debug)]
pub struct ToldStatus {
    /// The version of the channel that it was written over.
    pub over: Option<String>,
    /// The version that it made.
    pub version: Option<String>,
    /// What it says.
    pub status: WhatsAppChannelStatus,
}

/// What stands on the revisions of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The stable one.
    pub stable: RevisionName,
    /// The rejected ones.
    pub rejected: BTreeSet<RevisionName>,
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
