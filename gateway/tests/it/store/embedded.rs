//! The store of one machine: what it keeps, what it refuses, and what a failing disk does to it.

use std::collections::BTreeSet;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_gateway::clock::WallClock;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::embedded::open_error::EmbeddedOpenError;
use kanarie_gateway::store::fleet::{Heard, Heartbeat};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::evidence::ReadCounts;
use kanarie_words::ids::{ConversationId, Epoch, ReplicaName};

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

fn clock() -> WallClock {
    Arc::new(|| 1_000_000)
}

/// Message `sid` of conversation 1, which lives in shard 1.
fn message(sid: &str) -> Admit {
    Admit {
        channel: "channel".parse().unwrap(),
        dedup_key: sid.parse().unwrap(),
        conversation: ConversationId::from_bytes([1; 16]),
        envelope: format!("text of {sid}"),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
        lease: None,
    }
}

fn open(directory: &Directory) -> Store {
    Store::Embedded(EmbeddedStore::open(&directory.0, clock()).unwrap())
}

async fn epochs(store: &Store) -> Vec<Option<Epoch>> {
    store.run(ReadCounts { channels: Vec::new() }).await.unwrap().epochs
}

async fn head(store: &Store) -> Option<String> {
    let claim = Claim { shard: 1, nonce: "nonce".parse().unwrap(), lease_ms: 15_000 };
    match store.run(claim).await.unwrap() {
        Claimed::Head(head) => Some(head.envelope),
        Claimed::Nothing { .. } => None,
    }
}

#[tokio::test]
async fn a_restart_keeps_messages_key_and_epochs() {
    let directory = Directory::new();
    let store = open(&directory);
    assert_eq!(store.run(message("SM1")).await, Ok(Admission::Queued));
    let key = store.key().await.unwrap();
    let of_shards = epochs(&store).await;
    drop(store);

    let store = open(&directory);
    assert_eq!(store.run(message("SM1")).await, Ok(Admission::Duplicate));
    assert_eq!(head(&store).await.as_deref(), Some("text of SM1"));
    assert_eq!(store.key().await.unwrap(), key);
    assert_eq!(epochs(&store).await, of_shards);
    assert!(of_shards.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let directory = Directory::new();
    let _store = open(&directory);
    let second = EmbeddedStore::open(&directory.0, clock());
    assert!(matches!(second, Err(EmbeddedOpenError::InUse)));
}

#[tokio::test]
async fn a_directory_is_free_again_when_its_store_is_gone() {
    let directory = Directory::new();
    for _ in 0..3 {
        let store = open(&directory);
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_was_half_made_when_the_power_went_is_made_anew() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    std::fs::write(directory.0.join("queue.redb.new"), "half of it").unwrap();
    let store = open(&directory);
    assert_eq!(store.run(message("SM1")).await, Ok(Admission::Queued));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let file = directory.0.join("queue.redb");
    std::fs::write(&file, "something else").unwrap();
    assert!(matches!(
        EmbeddedStore::open(&directory.0, clock()),
        Err(EmbeddedOpenError::Database(_))
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"something else");
}

#[tokio::test]
async fn rows_of_a_newer_version_are_refused_with_a_sentence() {
    let directory = Directory::new();
    drop(open(&directory));
    let database = redb::Database::open(directory.0.join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let schema = redb::TableDefinition::<&str, u64>::new("schema");
    transaction.open_table(schema).unwrap().insert("version", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = EmbeddedStore::open(&directory.0, clock()).err().unwrap();
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_hundred_copies_at_once_are_one_admission() {
    let store = Arc::new(Store::Embedded(EmbeddedStore::in_memory(clock()).unwrap()));
    let copies = (0..100).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.run(message("SM1")).await.unwrap() })
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
    let clock: WallClock = Arc::new(move || told.load(Ordering::Relaxed));
    let store = Store::Embedded(EmbeddedStore::in_memory(clock).unwrap());
    let replica: ReplicaName = "gateway-0".parse().unwrap();
    let heartbeat = Heartbeat {
        replica: replica.clone(),
        key: store.key().await.unwrap(),
        digest: "digest".parse().unwrap(),
        obeyed: [("uid".parse().unwrap(), (4, "hash".parse().unwrap()))].into(),
        cut: BTreeSet::new(),
    };
    assert_eq!(store.heartbeat(heartbeat).await.unwrap(), Heard::Done { asked: None, live: 1 });
    let known = async || store.acknowledged(replica.clone(), None).await.unwrap().len();
    let live = async || store.replicas().await.unwrap().1.len();
    for (age, expected) in [(9_999, (1, 1)), (10_000, (0, 1)), (59_999, (0, 1)), (60_000, (0, 0))] {
        now.store(1_000_000 + age, Ordering::Relaxed);
        assert_eq!((live().await, known().await), expected, "after {age} ms");
    }
}
