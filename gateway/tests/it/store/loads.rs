//! How much each channel has waiting, over all shards.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::lease::Owned;
use kanarie_words::ids::ConversationId;

use crate::store::stage::{LEASE_MS, Stage, id, message};

on_both_stores!(
    nothing_waits_in_an_empty_store,
    the_load_of_a_channel_is_what_waits_for_it_in_every_shard,
    bytes_are_those_of_the_text_and_not_its_characters,
    a_leased_a_delayed_and_a_parked_message_still_wait,
    a_completed_message_waits_no_more,
    a_buried_message_is_a_dead_letter_and_waits_no_more,
    a_dead_letter_that_is_dropped_is_no_load,
    a_refused_message_is_no_load,
    a_channel_made_anew_is_counted_for_what_it_inherits,
    dead_letters_stay_with_the_channel_they_were_buried_for,
);

/// A message with an envelope of so many bytes.
async fn heavy(stage: &Stage, number: u8, channel: &str, sid: &str, bytes: usize) {
    let admit = Admit { channel: id(channel), envelope: "x".repeat(bytes), ..message(number, sid) };
    assert_eq!(stage.run(admit).await, Admission::Queued);
}

async fn nothing_waits_in_an_empty_store(stage: &Stage) {
    assert_eq!(stage.loads().await, Vec::<String>::new());
}

async fn the_load_of_a_channel_is_what_waits_for_it_in_every_shard(stage: &Stage) {
    heavy(stage, 1, "a", "SM1", 10).await;
    heavy(stage, 1, "a", "SM2", 7).await;
    heavy(stage, 2, "b", "SM3", 3).await;
    let elsewhere = ConversationId::from_bytes([9; 16]);
    let admit = Admit { channel: id("a"), conversation: elsewhere, ..message(1, "12345") };
    stage.run(admit).await;
    assert_eq!(stage.loads().await, ["a=3/22/0", "b=1/3/0"]);
}

async fn bytes_are_those_of_the_text_and_not_its_characters(stage: &Stage) {
    stage.run(Admit { envelope: "é👋".to_owned(), ..message(1, "SM1") }).await;
    assert_eq!(stage.loads().await, ["shop=1/6/0"]);
}

async fn a_leased_a_delayed_and_a_parked_message_still_wait(stage: &Stage) {
    for (number, sid) in [(1, "SM1"), (2, "SM2"), (3, "SM3")] {
        let lease = stage.lease(number, sid, sid).await;
        match number {
            1 => stage.retry(&lease, 5_000, true).await,
            2 => stage.park(&lease, "r", 5_000, 5_000).await,
            _ => Owned::Done,
        };
    }
    assert_eq!(stage.loads().await, ["shop=3/9/0"]);
    stage.pass(LEASE_MS);
    stage.claim("a").await;
    assert_eq!(stage.loads().await, ["shop=3/9/0"]);
}

async fn a_completed_message_waits_no_more(stage: &Stage) {
    heavy(stage, 1, "a", "SM1", 10).await;
    heavy(stage, 1, "a", "SM2", 7).await;
    let (_, lease) = stage.claim("n").await;
    stage.complete(&lease).await;
    assert_eq!(stage.loads().await, ["a=1/7/0"]);
    let (_, lease) = stage.claim("m").await;
    stage.complete(&lease).await;
    assert_eq!(stage.loads().await, Vec::<String>::new());
}

async fn a_buried_message_is_a_dead_letter_and_waits_no_more(stage: &Stage) {
    heavy(stage, 1, "a", "SM1", 10).await;
    heavy(stage, 1, "a", "SM2", 7).await;
    let (_, lease) = stage.claim("n").await;
    stage.bury(&lease, "agent").await;
    assert_eq!(stage.loads().await, ["a=1/7/1"]);
}

async fn a_dead_letter_that_is_dropped_is_no_load(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.bury(&lease, "agent").await;
    assert_eq!(stage.loads().await, ["shop=0/0/1"]);
    stage.at(14 * 86_400_000);
    stage.sweep().await;
    assert_eq!(stage.loads().await, Vec::<String>::new());
}

async fn a_refused_message_is_no_load(stage: &Stage) {
    let once = || Admit { limit: 1, ..message(1, "SM1") };
    assert_eq!(stage.run(once()).await, Admission::Queued);
    assert_eq!(stage.run(once()).await, Admission::Duplicate);
    let second = Admit { limit: 1, ..message(1, "SM2") };
    assert!(matches!(stage.run(second).await, Admission::Limited { .. }));
    assert_eq!(stage.loads().await, ["shop=1/3/0"]);
}

async fn a_channel_made_anew_is_counted_for_what_it_inherits(stage: &Stage) {
    heavy(stage, 1, "a", "SM1", 10).await;
    heavy(stage, 2, "a", "SM2", 4).await;
    heavy(stage, 1, "anew", "SM3", 7).await;
    assert_eq!(stage.loads().await, ["a=1/4/0", "anew=2/17/0"]);
    heavy(stage, 2, "anew", "SM4", 1).await;
    assert_eq!(stage.loads().await, ["anew=4/22/0"]);
}

async fn dead_letters_stay_with_the_channel_they_were_buried_for(stage: &Stage) {
    heavy(stage, 1, "a", "SM1", 10).await;
    let (_, lease) = stage.claim("n").await;
    stage.bury(&lease, "agent").await;
    heavy(stage, 1, "anew", "SM2", 7).await;
    assert_eq!(stage.loads().await, ["a=0/0/1", "anew=1/7/0"]);
}
