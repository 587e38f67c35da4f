//! The file of the store of one machine gets shorter after a backlog, at the start and while it is used;
//! no row goes with what is cut off, whatever happens meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::{join_all, try_join_all};
use kanarie_gateway::clock::WallClock;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::error::StoreError;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::lease::Owned;
use kanarie_queue::send::Complete;
use kanarie_words::ids::ConversationId;
use redb::ReadableTable as _;

use crate::store::disk_model::Disk;
use crate::store::stage::{START, id, lease_of};

const HOUR: u64 = 3_600_000;
/// Shorter files are left as they are.
const LEAST: u64 = 16 << 20;
/// Messages of the backlog, in a shard of their own.
const BACKLOG: u8 = 48;
/// Messages that came after it and wait still.
const WAITING: u8 = 20;

/// A clock that the test moves.
fn clock() -> (Arc<AtomicU64>, WallClock) {
    let now = Arc::new(AtomicU64::new(START));
    let told = Arc::clone(&now);
    (now, Arc::new(move || told.load(Ordering::SeqCst)))
}

fn in_directory(directory: &Path, clock: &WallClock) -> Store {
    Store::Embedded(EmbeddedStore::open(directory, Arc::clone(clock)).unwrap())
}

fn over(disk: &Disk) -> Store {
    let (disk, (_, clock)) = (disk.clone(), clock());
    Store::Embedded(EmbeddedStore::over(move || disk.clone(), clock).unwrap())
}

fn length(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("queue.redb")).unwrap().len()
}

/// A message of a customer of its own; customers of a shard are numbered.
fn message(shard: u8, customer: u8, bytes: usize) -> Admit {
    let mut conversation = [customer; 16];
    conversation[0] = shard;
    Admit {
        channel: id("channel"),
        dedup_key: id(&format!("AC:SM{shard}-{customer}")),
        conversation: ConversationId::from_bytes(conversation),
        envelope: format!("{customer} {}", "x".repeat(bytes)),
        limit: u32::MAX,
        window_ms: 60_000,
        dedup_ms: 24 * HOUR,
        lease: None,
    }
}

/// Twenty megabytes of messages that wait, and a few that come after them.
async fn fill(store: &Store, shard: u8) {
    let large = (0..BACKLOG).map(|customer| store.run(message(shard, customer, 400_000)));
    for admitted in join_all(large).await {
        assert_eq!(admitted, Ok(Admission::Queued));
    }
    let small = (0..WAITING).map(|customer| store.run(message(shard + 1, customer, 500)));
    for admitted in join_all(small).await {
        assert_eq!(admitted, Ok(Admission::Queued));
    }
}

/// Answers everything of a shard.
async fn drain(store: &Store, shard: u8) -> Result<(), StoreError> {
    let claims =
        (0..BACKLOG).map(|turn| Claim { shard, nonce: id(&format!("n{turn}")), lease_ms: 15_000 });
    let claimed = try_join_all(claims.map(|claim| store.run(claim))).await?;
    let completes = claimed.iter().map(|claimed| match claimed {
        Claimed::Head(head) => store.run(Complete { lease: lease_of(head), outcome: None }),
        Claimed::Nothing { .. } => panic!("the backlog is longer"),
    });
    for completed in try_join_all(completes).await? {
        assert_eq!(completed, Owned::Done);
    }
    Ok(())
}

/// The numbers of those who wait in a shard; after this nobody does.
async fn waiting(store: &Store, shard: u8) -> Vec<u8> {
    let (mut customers, mut turn) = (Vec::new(), 0);
    loop {
        turn += 1;
        let claim = Claim { shard, nonce: id(&format!("w{turn}")), lease_ms: 15_000 };
        let Claimed::Head(head) = store.run(claim).await.unwrap() else { return customers };
        let (customer, text) = head.envelope.split_once(' ').unwrap();
        assert!(text.bytes().all(|byte| byte == b'x'), "the text is as it was");
        customers.push(customer.parse().unwrap());
        store.run(Complete { lease: lease_of(&head), outcome: None }).await.unwrap();
    }
}

/// What waits behind a backlog is there, and every SID is known.
async fn has_kept(store: &Store, shard: u8) {
    for (shard, customers) in [(shard, BACKLOG), (shard + 1, WAITING)] {
        for customer in 0..customers {
            let again = store.run(message(shard, customer, 1)).await;
            assert_eq!(again, Ok(Admission::Duplicate), "{shard} {customer}");
        }
    }
    assert_eq!(waiting(store, shard + 1).await, (0..WAITING).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_a_backlog_the_file_is_short_again_and_holds_every_row() {
    let (directory, (_, clock)) = (tempfile::tempdir().unwrap(), clock());
    let store = in_directory(directory.path(), &clock);
    fill(&store, 1).await;
    let peak = length(directory.path());
    assert!(peak > LEAST, "{peak} is too short for this test");
    drain(&store, 1).await.unwrap();
    store.ping().await.unwrap();
    let short = length(directory.path());
    assert!(short < peak / 16, "{short} of {peak}");
    // What is read from the file and what the process knows is the same.
    assert_eq!(store.run(message(2, WAITING, 500)).await, Ok(Admission::Queued));
    drop(store);
    let store = in_directory(directory.path(), &clock);
    assert_eq!(store.run(message(2, WAITING, 500)).await, Ok(Admission::Duplicate));
    assert_eq!(waiting(&store, 2).await, (0..=WAITING).collect::<Vec<_>>());
    for customer in 0..BACKLOG {
        assert_eq!(store.run(message(1, customer, 1)).await, Ok(Admission::Duplicate));
    }
}

#[tokio::test]
async fn while_it_is_used_it_is_made_shorter_once_an_hour_at_most() {
    let (directory, (now, clock)) = (tempfile::tempdir().unwrap(), clock());
    let store = in_directory(directory.path(), &clock);
    for shard in [1, 3] {
        fill(&store, shard).await;
        drain(&store, shard).await.unwrap();
    }
    store.ping().await.unwrap();
    assert!(length(directory.path()) > LEAST, "the second backlog came within the hour");
    now.fetch_add(HOUR, Ordering::SeqCst);
    // The second one comes when the first one's batch is over.
    store.ping().await.unwrap();
    store.ping().await.unwrap();
    assert!(length(directory.path()) < LEAST / 4, "an hour later");
    has_kept(&store, 1).await;
    has_kept(&store, 3).await;
}

/// Makes the file of a closed store long and its rows the last thing in it.
fn loosen(directory: &Path) {
    let database = redb::Database::open(directory.join("queue.redb")).unwrap();
    let other = redb::TableDefinition::<u32, &[u8]>::new("other");
    let rows = redb::TableDefinition::<&str, &[u8]>::new("rows");
    let transaction = database.begin_write().unwrap();
    {
        let mut other = transaction.open_table(other).unwrap();
        (0..8_000).for_each(|row| drop(other.insert(row, &[7; 3_000][..]).unwrap()));
        let mut rows = transaction.open_table(rows).unwrap();
        let all: Vec<(String, Vec<u8>)> = rows
            .iter()
            .unwrap()
            .map(Result::unwrap)
            .map(|(name, value)| (name.value().to_owned(), value.value().to_vec()))
            .collect();
        for (name, value) in all {
            drop(rows.remove(name.as_str()).unwrap());
            drop(rows.insert(name.as_str(), value.as_slice()).unwrap());
        }
    }
    transaction.commit().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(other).unwrap();
    transaction.commit().unwrap();
}

#[tokio::test]
async fn at_the_start_it_is_made_shorter_before_anybody_is_answered() {
    let (directory, (_, clock)) = (tempfile::tempdir().unwrap(), clock());
    let store = in_directory(directory.path(), &clock);
    for customer in 0..WAITING {
        store.run(message(2, customer, 500)).await.unwrap();
    }
    drop(store);
    loosen(directory.path());
    assert!(length(directory.path()) > LEAST, "closing it leaves it as long");
    let store = in_directory(directory.path(), &clock);
    assert!(length(directory.path()) < LEAST / 4, "{}", length(directory.path()));
    assert_eq!(waiting(&store, 2).await, (0..WAITING).collect::<Vec<_>>());
}

/// A disk with a backlog on it, from a store that was closed.
async fn filled() -> Vec<u8> {
    let disk = Disk::default();
    let store = over(&disk);
    fill(&store, 1).await;
    drop(store);
    let filled = disk.state().seen.clone();
    assert!(filled.len() as u64 > LEAST);
    filled
}

#[tokio::test]
async fn a_loss_of_power_at_any_sync_of_it_loses_nothing() {
    let filled = filled().await;
    let mut cuts = 0;
    for syncs in 1.. {
        let disk = Disk::of(filled.clone());
        let store = over(&disk);
        disk.state().syncs_left = Some(syncs);
        let drained = drain(&store, 1).await.is_ok();
        let compacted = drained && store.ping().await.is_ok();
        if drained && !compacted {
            cuts += 1;
            store.broken().await;
            assert!(store.ping().await.is_err(), "its pages may be nowhere but in memory");
        }
        drop(store);
        if compacted {
            break;
        }
        if !drained {
            continue;
        }
        for seed in 0..3 {
            let store = over(&disk.after_power_loss(u64::from(syncs) * 3 + seed));
            has_kept(&store, 1).await;
            assert_eq!(waiting(&store, 1).await, Vec::<u8>::new());
        }
    }
    assert!(cuts >= 4, "it has some syncs: {cuts}");
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_no_failure_and_it_is_tried_again() {
    let filled = filled().await;
    let mut refused = 0;
    for syncs in 1.. {
        let disk = Disk::of(filled.clone());
        let (storage, (now, clock)) = (disk.clone(), clock());
        let store = EmbeddedStore::over(move || storage.clone(), clock).map(Store::Embedded);
        let store = store.unwrap();
        disk.state().full_after = Some(syncs);
        let drained = drain(&store, 1).await.is_ok();
        if drained {
            store.ping().await.unwrap();
        }
        let is_long = disk.state().seen.len() as u64 > LEAST;
        let is_full = disk.state().capacity.is_some();
        {
            let mut state = disk.state();
            (state.capacity, state.full_after) = (None, None);
        }
        if !drained {
            continue;
        }
        if !is_full {
            assert!(!is_long);
            break;
        }
        refused += 1;
        now.fetch_add(HOUR, Ordering::SeqCst);
        store.ping().await.unwrap();
        store.ping().await.unwrap();
        assert!((disk.state().seen.len() as u64) < LEAST / 4, "an hour later, after {syncs}");
        has_kept(&store, 1).await;
        assert_eq!(waiting(&store, 1).await, Vec::<u8>::new());
    }
    assert!(refused >= 4, "it writes more than once: {refused}");
}
