//! The store of one machine: what it keeps, what it refuses, and what a failing disk does to it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_gateway::clock::Clock;
use kanarie_gateway::store::embedded::{EmbeddedStore, OpenError};
use kanarie_gateway::store::{Heartbeat, Store};
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

#[tokio::test]
async fn a_directory_is_free_again_when_its_store_is_gone() {
    let directory = Directory::new();
    for _ in 0..3 {
        let store = EmbeddedStore::open(&directory.0, clock()).unwrap();
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_was_half_made_when_the_power_went_is_made_anew() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    std::fs::write(directory.0.join("queue.redb.new"), "half of it").unwrap();
    let store = EmbeddedStore::open(&directory.0, clock()).unwrap();
    assert_eq!(store.admit(message("SM1")).await, Ok(Admission::Queued));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let file = directory.0.join("queue.redb");
    std::fs::write(&file, "something else").unwrap();
    assert!(matches!(EmbeddedStore::open(&directory.0, clock()), Err(OpenError::Database(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"something else");
}

#[tokio::test]
async fn rows_of_a_newer_version_are_refused_with_a_sentence() {
    let directory = Directory::new();
    drop(EmbeddedStore::open(&directory.0, clock()).unwrap());
    let database = redb::Database::open(directory.0.join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let schema = redb::TableDefinition::<&str, u64>::new("schema");
    transaction.open_table(schema).unwrap().insert("version", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = EmbeddedStore::open(&directory.0, clock()).err().unwrap();
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_hundred_copies_at_once_are_one_admission() {
    let store = Arc::new(EmbeddedStore::in_memory(clock()).unwrap());
    let copies = (0..100).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.admit(message("SM1")).await.unwrap() })
    });
    let copies = copies.collect::<Vec<_>>();
    let mut queued = 0;
    for copy in copies {
        match copy.await.unwrap() {
            Admission::Queued => queued += 1,
            other => assert_eq!(other, Admission::Duplicate),
        }
    }
    assert_eq!(queued, 1);
}

#[tokio::test]
async fn a_replica_is_live_for_ten_seconds_and_its_routes_are_known_for_sixty() {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let told = Arc::clone(&now);
    let store = EmbeddedStore::in_memory(Arc::new(move || told.load(Ordering::Relaxed))).unwrap();
    let heartbeat = Heartbeat {
        replica: "gateway-0".to_owned(),
        digest: "digest".to_owned(),
        acknowledged: vec![("uid".to_owned(), 4, "hash".to_owned())],
        forgotten: Vec::new(),
    };
    store.heartbeat(heartbeat).await.unwrap();
    let known = async || store.acknowledged("gateway-0".to_owned(), None).await.unwrap().len();
    let live = async || store.replicas().await.unwrap().1.len();
    for (age, expected) in [(9_999, (1, 1)), (10_000, (0, 1)), (59_999, (0, 1)), (60_000, (0, 0))] {
        now.store(1_000_000 + age, Ordering::Relaxed);
        assert_eq!((live().await, known().await), expected, "after {age} ms");
    }
}
