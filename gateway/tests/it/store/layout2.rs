//! A file of layout 2, as the version before left it (`fixtures/layout2`): taken over with all that it
//! holds, row by row.

use std::path::Path;

use kanarie_queue::dead::{DeadSum, SumDead};
use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered};
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::send::{MarkSending, Marked};
use kanarie_words::ids::ConversationId;

use crate::store::layouts::{claim, complete, open, rows_of};
use crate::store::stage::{id, post};

/// The story's clock at its end.
const END: u64 = 1_780_000_003_310;

fn old_file() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout2/queue.redb");
    std::fs::copy(fixture, directory.path().join("queue.redb")).unwrap();
    directory
}

#[tokio::test]
async fn a_file_of_layout_2_becomes_layout_3_at_its_first_start_with_every_row_as_it_was() {
    let directory = old_file();
    let (old, version) = rows_of(&directory);
    assert_eq!(version, 2);
    drop(open(&directory, END));
    let (new, version) = rows_of(&directory);
    assert_eq!(version, 3);
    assert_eq!(old.len(), new.len());
    for (name, row) in &old {
        // A customer's row has the end of his channel's memory as it is when the row is written.
        let same = new.get(name).is_some_and(|new| new == row || name.contains(":cu:"));
        assert!(same, "{name}");
    }
    drop(open(&directory, END));
    assert!(rows_of(&directory).0 == new, "a second start writes nothing");
}

#[tokio::test]
async fn what_waited_in_a_file_of_layout_2_is_handed_out_in_its_turn() {
    let directory = old_file();
    let store = open(&directory, END + 700_000);
    let mut texts = Vec::new();
    for shard in 0..32 {
        while let Some((head, lease)) = claim(&store, shard, &format!("d{}", texts.len())).await {
            texts.push((shard, head.envelope));
            complete(&store, lease).await;
        }
    }
    let expected = [(5, 6), (5, 8), (5, 12), (5, 7), (6, 9), (7, 10), (8, 11)];
    assert_eq!(texts, expected.map(|(shard, number)| (shard, format!("message {number}"))));
}

#[tokio::test]
async fn what_owners_and_counts_in_a_file_of_layout_2_had_stands() {
    let directory = old_file();
    let store = open(&directory, END);
    let (head, lease) = claim(&store, 6, "a").await.unwrap();
    let reply = head.intent.unwrap();
    assert_eq!((head.crashes, head.counted, reply.segments), (1, true, 3));
    assert_eq!(reply.sent, ["SMout9"]);
    let other = MarkSending { lease, post: post("i9", 1, "c9"), refuted: None };
    let Marked::Ambiguous { sending, attributed, .. } = store.run(other).await.unwrap() else {
        unreachable!("another attempt has marked it")
    };
    assert_eq!(sending.attempt, "b9");
    assert_eq!(attributed, ["SMout9"]);
    let letters = |channel: &str, count, oldest_at, class: &str| DeadSum {
        channel: id(channel),
        count,
        oldest_at,
        class: class.to_owned(),
    };
    let dead = [
        letters("clinic", 1, 1_780_000_000_210, "timeout"),
        letters("shop", 2, 1_780_000_000_110, "permanent"),
    ];
    assert_eq!(store.run(SumDead).await.unwrap(), dead);
    let read = store.run(ReadCounts { channels: vec![id("shop")] }).await.unwrap();
    let messages = read.counts[0].messages.iter();
    let messages = messages.map(|of| format!("{} {}", of.evidence.field(), of.messages));
    assert_eq!(
        messages.collect::<Vec<_>>(),
        ["4:stable:slow 1", "4:canary:success 1", "4:canary:http 1"]
    );
    let customers = read.counts[0].customers.iter().map(|of| (of.conversations, of.failed));
    assert_eq!(customers.collect::<Vec<_>>(), [(1, 1), (2, 1)]);
}

#[tokio::test]
async fn a_file_of_layout_3_keeps_what_became_of_replies() {
    let directory = old_file();
    let report = SegmentReport {
        channel: id("shop"),
        conversation: ConversationId::from_bytes([6; 16]),
        intent: id("i9"),
        segment: 0,
        delivery: Delivery::reported("undelivered", Some(63_016)).unwrap(),
    };
    let reports = vec![report];
    let store = open(&directory, END);
    let changed = store.run(NoteDeliveries { reports: reports.clone() }).await.unwrap();
    let told = store.run(SumUndelivered).await.unwrap();
    assert_eq!((changed, told.len()), (vec![true], 1));
    drop(store);
    let store = open(&directory, END + 1_000);
    assert_eq!(store.run(NoteDeliveries { reports }).await.unwrap(), [false]);
    assert_eq!(store.run(SumUndelivered).await.unwrap(), told);
}
