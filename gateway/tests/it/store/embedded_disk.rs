//! What a failing disk does to the store of one machine: power loss at every sync, failed commits,
//! no space left. The disk is a model that forgets what was not synced.

use std::path::Path;
use std::sync::Arc;

use kanarie_gateway::clock::WallClock;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::error::StoreError;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Head, Release};
use kanarie_queue::dead::{Buried, Bury, SumLoads};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::intent::{Intent, Memo};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::Evidence;
use kanarie_queue::send::{CommitReply, Complete};
use kanarie_words::class::Class;
use kanarie_words::ids::ConversationId;
use kanarie_words::track::Track;

use crate::store::disk_model::Disk;

fn clock() -> WallClock {
    Arc::new(|| 1_000_000)
}

fn open(disk: &Disk) -> Store {
    let disk = disk.clone();
    Store::Embedded(EmbeddedStore::over(move || disk.clone(), clock()).unwrap())
}

/// Message `sid` of a conversation in shard 1.
fn message(sid: u32) -> Admit {
    Admit {
        channel: "channel".parse().unwrap(),
        dedup_key: sid.to_string().parse().unwrap(),
        conversation: ConversationId::from_bytes([1; 16]),
        envelope: format!("{sid} {}", "text".repeat(200)),
        limit: u32::MAX,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
        lease: None,
    }
}

async fn claim(store: &Store) -> Result<Option<(Head, Lease)>, StoreError> {
    let claim = Claim { shard: 1, nonce: "nonce".parse().unwrap(), lease_ms: 15_000 };
    Ok(match store.run(claim).await? {
        Claimed::Nothing { .. } => None,
        Claimed::Head(head) => {
            let lease = Lease {
                channel: head.channel.clone(),
                conversation: head.conversation.clone(),
                nonce: head.nonce.clone(),
            };
            Some((*head, lease))
        }
    })
}

/// SIDs of all messages that wait, in their order.
async fn waiting(store: &Store) -> Vec<u32> {
    let mut sids = Vec::new();
    while let Some((head, lease)) = claim(store).await.unwrap() {
        sids.push(head.envelope.split_once(' ').unwrap().0.parse().unwrap());
        store.run(Complete { lease, outcome: None }).await.unwrap();
    }
    sids
}

/// Waits until a store that fell has come back by itself.
async fn recovered(store: &Store) {
    while store.ping().await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// What was promised before the power went.
#[derive(Default)]
struct Promised {
    admitted: Vec<u32>,
    completed: Vec<u32>,
    counted: u64,
    intent: bool,
}

/// Some work, until the first verb fails or all is done.
async fn work(store: &Store, promised: &mut Promised) -> Result<(), StoreError> {
    for sid in 0..6 {
        store.run(message(sid)).await?;
        promised.admitted.push(sid);
    }
    for done in 0..2 {
        let Some((_, lease)) = claim(store).await? else { return Ok(()) };
        let evidence = Some(Evidence { serving: 1, track: Track::Canary, class: Class::Http });
        store.run(EndAttempt { lease: lease.clone(), evidence, failed_on: None }).await?;
        promised.counted += 1;
        store.run(Complete { lease, outcome: None }).await?;
        promised.completed.push(done);
    }
    let Some((_, lease)) = claim(store).await? else { return Ok(()) };
    let intent = Intent::fresh("reply".parse().unwrap(), 1, "body".repeat(300));
    store
        .run(CommitReply { lease, intent, outcome: None, memo: Memo::default(), mark: None })
        .await?;
    promised.intent = true;
    Ok(())
}

/// Everything promised is there after the power came back; at most the one verb that was under way
/// is there as well.
async fn keeps(disk: &Disk, promised: &Promised) {
    let store = open(disk);
    let channels = vec!["channel".parse().unwrap()];
    let counts = store.run(ReadCounts { channels }).await.unwrap().counts;
    let counted = counts[0].messages.iter().map(|count| count.messages).sum::<u64>();
    assert!((promised.counted..=promised.counted + 1).contains(&counted));
    if promised.intent {
        let (head, lease) = claim(&store).await.unwrap().unwrap();
        assert_eq!(head.intent.unwrap().body, "body".repeat(300));
        store.run(Release { lease }).await.unwrap();
    }
    let left = waiting(&store).await;
    let owed = promised.admitted.iter().filter(|sid| !promised.completed.contains(sid));
    let owed = owed.copied().collect::<Vec<_>>();
    let next = promised.admitted.len() as u32;
    let with_next = owed.iter().copied().chain([next]).collect::<Vec<_>>();
    let without_head = owed.iter().copied().skip(1).collect::<Vec<_>>();
    assert!(left == owed || left == with_next || left == without_head, "{left:?} of {owed:?}");
    for sid in &promised.admitted {
        assert_eq!(store.run(message(*sid)).await, Ok(Admission::Duplicate));
    }
}

#[tokio::test]
async fn whatever_was_answered_survives_a_loss_of_power_at_every_sync() {
    let mut cuts = 0;
    for syncs in 1.. {
        let disk = Disk::default();
        drop(open(&disk));
        disk.state().syncs_left = Some(syncs);
        let mut promised = Promised::default();
        let storage = disk.clone();
        let store = EmbeddedStore::over(move || storage.clone(), clock()).map(Store::Embedded);
        let worked = match &store {
            Ok(store) => work(store, &mut promised).await.is_ok(),
            Err(_) => false,
        };
        drop(store);
        for seed in 0..8 {
            keeps(&disk.after_power_loss(u64::from(syncs) * 8 + seed), &promised).await;
        }
        if worked {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 12, "the work has at least one sync a verb: {cuts}");
}

#[tokio::test]
async fn a_file_of_layout_1_whose_rewriting_is_cut_at_any_sync_is_rewritten_at_the_next_start() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout1/queue.redb");
    let bytes = std::fs::read(file).unwrap();
    for syncs in 1.. {
        let disk = Disk::of(bytes.clone());
        disk.state().syncs_left = Some(syncs);
        let storage = disk.clone();
        let opened = EmbeddedStore::over(move || storage.clone(), clock()).is_ok();
        for seed in 0..8 {
            let store = open(&disk.after_power_loss(u64::from(syncs) * 8 + seed));
            let loads = store.run(SumLoads).await.unwrap();
            assert_eq!(loads.iter().map(|load| load.messages).sum::<u64>(), 17, "{syncs} {seed}");
        }
        if opened {
            assert!(syncs > 2, "the rewriting has a sync at least: {syncs}");
            return;
        }
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_until_the_store_is_opened_anew() {
    let disk = Disk::default();
    let store = open(&disk);
    store.run(message(0)).await.unwrap();
    disk.state().failing_syncs = 1;
    assert!(matches!(store.run(message(1)).await, Err(StoreError::Unavailable(_))));
    store.broken().await;
    for sid in 2..20 {
        assert!(store.run(message(sid)).await.is_err(), "its pages may be nowhere but in memory");
    }
    assert!(store.ping().await.is_err());
    drop(store);
    let store = open(&disk.after_power_loss(1));
    store.run(message(20)).await.unwrap();
    let waiting = waiting(&store).await;
    assert!(waiting == [0, 20] || waiting == [0, 1, 20], "{waiting:?}");
}

#[tokio::test]
async fn a_sync_that_finds_the_disk_full_is_a_failed_disk_and_not_a_refusal() {
    let disk = Disk::default();
    let store = open(&disk);
    store.run(message(0)).await.unwrap();
    {
        let mut state = disk.state();
        (state.failing_syncs, state.is_sparse) = (1, true);
    }
    assert!(store.run(message(1)).await.is_err());
    store.broken().await;
    assert!(store.ping().await.is_err(), "its pages may be nowhere but in memory");
}

/// Admits until the disk is full; gives what was admitted.
async fn fill(store: &Store) -> Vec<u32> {
    let mut admitted = Vec::new();
    for sid in 0..200 {
        match store.run(message(sid)).await {
            Ok(answer) => {
                assert_eq!(answer, Admission::Queued);
                admitted.push(sid);
            }
            Err(error) => {
                assert!(matches!(error, StoreError::OutOfSpace(_)), "{error}");
                return admitted;
            }
        }
    }
    unreachable!("200 messages are more than the disk holds");
}

async fn survives_a_full_disk(is_sparse: bool) {
    let disk = Disk::default();
    drop(open(&disk));
    let size = disk.state().seen.len();
    {
        let mut state = disk.state();
        (state.capacity, state.is_sparse) = (Some(size + 20_000), is_sparse);
    }
    let store = open(&disk);
    let admitted = fill(&store).await;
    drop(store);

    // Opened again while the disk is still full: refused or not, but no panic and nothing lost.
    let storage = disk.clone();
    let reopened = EmbeddedStore::over(move || storage.clone(), clock());
    if let Err(error) = &reopened {
        let text = format!("{error:?}");
        assert!(!text.contains("Panicked"), "{text}");
    }
    drop(reopened);
    disk.state().capacity = None;
    let left = waiting(&open(&disk)).await;
    assert_eq!(left[..admitted.len()], admitted);
}

#[tokio::test]
async fn a_disk_that_cannot_grow_loses_nothing_and_opens_again() {
    survives_a_full_disk(false).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_under_a_sparse_file_loses_nothing_and_opens_again() {
    survives_a_full_disk(true).await;
}

#[tokio::test]
async fn a_full_disk_that_gets_room_again_is_used_without_a_restart() {
    let disk = Disk::default();
    let store = open(&disk);
    let size = disk.state().seen.len();
    disk.state().capacity = Some(size + 20_000);
    let mut admitted = fill(&store).await;
    disk.state().capacity = None;
    recovered(&store).await;
    store.run(message(500)).await.unwrap();
    admitted.push(500);
    let left = waiting(&store).await;
    assert!(admitted.iter().all(|sid| left.contains(sid)), "{left:?} of {admitted:?}");
}

#[tokio::test]
async fn a_first_commit_that_fails_brings_no_lease_of_the_dead_back() {
    let disk = Disk::default();
    let store = open(&disk);
    store.run(message(0)).await.unwrap();
    claim(&store).await.unwrap().expect("its lease dies with the process");
    drop(store);

    let store = open(&disk);
    let size = disk.state().seen.len();
    disk.state().capacity = Some(size);
    let large = Admit { envelope: "text".repeat(size), ..message(1) };
    assert!(matches!(store.run(large).await, Err(StoreError::OutOfSpace(_))));
    disk.state().capacity = None;
    recovered(&store).await;
    let anew = Claim { shard: 1, nonce: "anew".parse().unwrap(), lease_ms: 15_000 };
    let Claimed::Head(head) = store.run(anew).await.unwrap() else { panic!("it is leased") };
    assert_eq!(head.crashes, 1);
}

#[tokio::test]
async fn a_later_commit_that_fails_takes_no_lease_from_this_process() {
    let disk = Disk::default();
    let store = open(&disk);
    store.run(message(0)).await.unwrap();
    let (_, lease) = claim(&store).await.unwrap().unwrap();
    let size = disk.state().seen.len();
    disk.state().capacity = Some(size);
    let large = Admit { envelope: "text".repeat(size), ..message(1) };
    assert!(matches!(store.run(large).await, Err(StoreError::OutOfSpace(_))));
    disk.state().capacity = None;
    recovered(&store).await;
    let complete = Complete { lease, outcome: None };
    assert_eq!(store.run(complete).await.unwrap(), Owned::Done);
}

#[tokio::test]
async fn a_dead_letter_takes_the_place_of_no_other_one_after_a_loss_of_power() {
    let disk = Disk::default();
    let store = open(&disk);
    bury(&store, 1).await;
    let lost = open(&disk.after_power_loss(7));
    bury(&lost, 2).await;
    let load = lost.run(SumLoads).await.unwrap();
    assert_eq!(load.iter().map(|load| load.dead_letters).collect::<Vec<_>>(), [2]);
}

/// Admits a message and makes it a dead letter.
async fn bury(store: &Store, sid: u32) {
    assert_eq!(store.run(message(sid)).await.unwrap(), Admission::Queued);
    let (_, lease) = claim(store).await.unwrap().expect("it is ready");
    assert_eq!(store.run(Bury { lease, class: "wrong".to_owned() }).await.unwrap(), Buried::Done);
}
