//! The store of one machine: what it keeps, what it refuses, and what a failing disk does to it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::{Clock, EmbeddedStore, OpenError};
use kanarie_queue::types::{Admission, Admit, Claimed, ConversationId, Nonce};

/// A directory of its own, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kanarie-embedded-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn clock() -> Clock {
    Arc::new(|| 1_000_000)
}

/// Message `sid` of conversation 1, which lives in shard 1.
fn message(sid: &str) -> Admit {
    Admit {
        channel: "channel".to_owned(),
        dedup_key: sid.to_owned(),
        conversation: ConversationId::from_bytes([1; 16]),
        envelope: format!("text of {sid}"),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
    }
}

async fn head(store: &EmbeddedStore) -> Option<String> {
    match store.claim(1, Nonce("nonce".to_owned()), 15_000).await.unwrap() {
        Claimed::Head(head) => Some(head.envelope),
        Claimed::Nothing { .. } => None,
    }
}

#[tokio::test]
async fn a_restart_keeps_messages_key_and_epochs() {
    let directory = Directory::new();
    let store = EmbeddedStore::open(&directory.0, clock()).unwrap();
    assert_eq!(store.admit(message("SM1")).await, Ok(Admission::Queued));
    let key = store.key().await.unwrap();
    let (epochs, _) = store.counts(Vec::new()).await.unwrap();
    drop(store);

    let store = EmbeddedStore::open(&directory.0, clock()).unwrap();
    assert_eq!(store.admit(message("SM1")).await, Ok(Admission::Duplicate));
    assert_eq!(head(&store).await.as_deref(), Some("text of SM1"));
    assert_eq!(store.key().await.unwrap(), key);
    assert_eq!(store.counts(Vec::new()).await.unwrap().0, epochs);
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let directory = Directory::new();
    let _store = EmbeddedStore::open(&directory.0, clock()).unwrap();
    let second = EmbeddedStore::open(&directory.0, clock());
    assert!(matches!(second, Err(OpenError::InUse)));
}
