//! The store of one machine, its memory and its disk: what it reads at the start, what it keeps, what it
//! refuses.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::embedded::open_error::EmbeddedOpenError;
use kanarie_gateway::store::embedded::opening::Opening;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::send::Complete;
use kanarie_words::ids::ConversationId;
use redb::{ReadableDatabase as _, ReadableTable as _};

use crate::store::stage::{id, lease_of};

const DAY: u64 = 86_400_000;

/// A clock that the test moves.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn at(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

fn open(directory: &Path, memory: Option<u64>, hands: &Hands) -> Store {
    let now = Arc::clone(&hands.0);
    let clock = Arc::new(move || now.load(Ordering::SeqCst));
    let opened = EmbeddedStore::open_within(directory, memory, clock, &Arc::default());
    Store::Embedded(opened.unwrap())
}

fn message(conversation: u8, sid: u64) -> Admit {
    Admit {
        channel: id("channel"),
        dedup_key: id(&format!("AC:SM{sid:032x}")),
        conversation: ConversationId::from_bytes([conversation; 16]),
        envelope: "text".to_owned(),
        limit: u32::MAX,
        window_ms: 60_000,
        dedup_ms: DAY,
        lease: None,
    }
}

async fn claim(store: &Store, nonce: &str) -> Lease {
    match store.run(Claim { shard: 1, nonce: id(nonce), lease_ms: 15_000 }).await.unwrap() {
        Claimed::Head(head) => lease_of(&head),
        Claimed::Nothing { .. } => panic!("nothing is ready"),
    }
}

/// A message that is answered at once.
async fn answered(store: &Store, sid: u64) {
    assert_eq!(store.run(message(1, sid)).await.unwrap(), Admission::Queued);
    let lease = claim(store, &format!("n{sid}")).await;
    let completed = store.run(Complete { lease, outcome: None }).await.unwrap();
    assert_eq!(completed, Owned::Done);
}

/// The file with SIDs that were admitted at such times, as rows of a store that is closed.
fn write_sids(directory: &Path, sids: impl Iterator<Item = (u64, u64)>) {
    let database = redb::Database::open(directory.join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let rows = redb::TableDefinition::<&str, &[u8]>::new("rows");
        let mut table = transaction.open_table(rows).unwrap();
        for (sid, admitted_at) in sids {
            let until = (admitted_at + DAY).to_string();
            table.insert(format!("01:dd:AC:SM{sid:032x}").as_str(), until.as_bytes()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

/// How many rows of a kind stand in the file of a store that is closed.
fn rows(directory: &Path, kind: &str) -> usize {
    let database = redb::Database::open(directory.join("queue.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(redb::TableDefinition::<&str, &[u8]>::new("rows")).unwrap();
    let names = table.iter().unwrap().map(|row| row.unwrap().0.value().to_owned());
    names.filter(|name| name.split(':').nth(1) == Some(kind)).count()
}

#[tokio::test]
async fn rows_that_have_outlived_their_time_go_from_the_file_while_it_is_used() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::at(1_000));
    let store = open(directory.path(), None, &hands);
    for sid in 0..600 {
        answered(&store, sid).await;
    }
    drop(store);
    assert_eq!((rows(directory.path(), "dd"), rows(directory.path(), "rl")), (600, 1));
    hands.set(1_000 + DAY);
    let store = open(directory.path(), None, &hands);
    store.ping().await.unwrap();
    drop(store);
    assert!(rows(directory.path(), "dd") >= 600 - 256, "no look takes more than it looks at");
    let store = open(directory.path(), None, &hands);
    // Each look is a tenth of a second after the one before, as the clock says.
    for look in 0..40 {
        hands.set(1_000 + DAY + look * 100);
        store.ping().await.unwrap();
    }
    answered(&store, 0).await;
    drop(store);
    assert_eq!((rows(directory.path(), "dd"), rows(directory.path(), "rl")), (1, 1));
}

#[tokio::test]
async fn a_row_that_is_written_anew_in_the_moment_of_its_end_stays() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::at(1_000));
    let store = open(directory.path(), None, &hands);
    answered(&store, 7).await;
    // The admission and the look that finds its old row over are one batch.
    hands.set(1_000 + DAY);
    answered(&store, 7).await;
    drop(store);
    let store = open(directory.path(), None, &hands);
    assert_eq!(store.run(message(1, 7)).await.unwrap(), Admission::Duplicate);
}

#[tokio::test]
async fn a_file_with_more_sids_than_fit_opens_with_the_newest() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::at(1_000));
    drop(open(directory.path(), None, &hands));
    // Ten thousand, one a second; half of the memory is two thousand.
    write_sids(directory.path(), (0..10_000).map(|sid| (sid, sid * 1_000)));
    hands.set(10_000_000);
    let store = open(directory.path(), Some(2 * 2_000 * 32), &hands);
    assert_eq!(store.run(message(1, 9_000)).await.unwrap(), Admission::Duplicate);
    assert_eq!(store.run(message(1, 8_500)).await.unwrap(), Admission::Duplicate);
    let old = store.run(message(1, 7_000)).await.unwrap();
    assert!(matches!(old, Admission::Queued | Admission::Full), "{old:?}");
    // What went early keeps its row: with more memory it is remembered again.
    drop(store);
    let store = open(directory.path(), None, &hands);
    assert_eq!(store.run(message(1, 100)).await.unwrap(), Admission::Duplicate);
}

#[tokio::test]
async fn over_its_memory_the_store_admits_nothing_and_completes() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::at(1_000));
    let store = open(directory.path(), Some(40_000), &hands);
    let mut admitted = 0;
    while store.run(message(1, admitted)).await.unwrap() == Admission::Queued {
        admitted += 1;
    }
    assert!((50..190).contains(&admitted), "{admitted}");
    assert_eq!(store.run(message(2, 1_000)).await.unwrap(), Admission::Full);
    for nonce in 0..20 {
        let lease = claim(&store, &format!("n{nonce}")).await;
        let completed = store.run(Complete { lease, outcome: None }).await.unwrap();
        assert_eq!(completed, Owned::Done);
    }
    assert_eq!(store.run(message(2, 1_000)).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn an_opening_tells_how_far_it_is_and_ends_when_it_is_told_to() {
    let (directory, hands) = (tempfile::tempdir().unwrap(), Hands::at(1_000));
    drop(open(directory.path(), None, &hands));
    write_sids(directory.path(), (0..5_000).map(|sid| (sid, 1_000)));
    let opening = Arc::new(Opening::default());
    let clock = Arc::new(|| 1_000);
    drop(EmbeddedStore::open_within(directory.path(), None, clock.clone(), &opening).unwrap());
    // SIDs, the key, and a row a shard.
    let told = "the store is loading, 5033 of 5033 rows read";
    assert_eq!(opening.to_string(), told);
    opening.stop();
    let stopped = EmbeddedStore::open_within(directory.path(), None, clock, &opening);
    assert!(matches!(stopped.err(), Some(EmbeddedOpenError::Stopped)));
}

/// A small disk of its own, if whoever runs the tests may mount one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder.path());
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_disk_with_no_more_than_the_reserve_admits_nothing_and_completes() {
    let Some(mounted) = Mounted::new() else {
        println!("skipped: whoever runs this may not mount a disk");
        return;
    };
    // Each look at the clock is two seconds later, and so is each look at the disk.
    let hands = AtomicU64::new(1_000_000);
    let clock = Arc::new(move || hands.fetch_add(2_000, Ordering::SeqCst));
    let store =
        Store::Embedded(EmbeddedStore::open(&mounted.0.path().join("queue"), clock).unwrap());
    for sid in 0..3 {
        assert_eq!(store.run(message(1, sid)).await.unwrap(), Admission::Queued);
    }
    // A sixteenth of 64 MiB is kept: three are left.
    let other = mounted.0.path().join("other");
    let free = rustix::fs::statvfs(mounted.0.path()).unwrap();
    let free = usize::try_from(free.f_bavail * free.f_frsize).unwrap();
    std::fs::write(&other, vec![7; free - (3 << 20)]).unwrap();
    assert_eq!(store.run(message(1, 3)).await.unwrap(), Admission::Full);
    for nonce in ["n1", "n2"] {
        let lease = claim(&store, nonce).await;
        let completed = store.run(Complete { lease, outcome: None }).await.unwrap();
        assert_eq!(completed, Owned::Done);
    }
    std::fs::remove_file(&other).unwrap();
    assert_eq!(store.run(message(1, 3)).await.unwrap(), Admission::Queued);
}
