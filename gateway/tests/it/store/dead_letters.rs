//! Dead letters: heads that were given up, and how long they are kept.

use futures::future::join_all;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::dead::{Buried, DeadSum, SumDead};
use kanarie_queue::sweep::Sweep;
use kanarie_words::ids::ConversationId;

use crate::store::stage::{START, Stage, id, lease_of, message};

const DAY_MS: u64 = 86_400_000;

on_both_stores!(
    a_buried_head_is_a_dead_letter_and_the_next_message_follows,
    a_repeated_burial_is_stale,
    a_buried_message_is_still_a_duplicate,
    dead_letters_are_told_by_channel_over_all_shards,
    a_dead_letter_is_dropped_after_14_days,
    a_hundred_dead_letters_at_most_are_dropped_by_one_sweep,
    a_sweep_leaves_what_still_waits,
    without_room_for_dead_letters_the_head_stays,
);

async fn a_buried_head_is_a_dead_letter_and_the_next_message_follows(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    let (_, lease) = stage.claim("a").await;
    stage.pass(500);
    assert_eq!(stage.bury(&lease, "crash-loop").await, Buried::Done);
    let expected = [letters("shop", 1, 500, "crash-loop")];
    assert_eq!(stage.run(SumDead).await, expected);
    assert_eq!(stage.claim("b").await.0.envelope, "SM2");
}

async fn a_repeated_burial_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.bury(&lease, "budget").await;
    assert_eq!(stage.bury(&lease, "budget").await, Buried::Stale);
    assert_eq!(stage.run(SumDead).await[0].count, 1);
}

async fn a_buried_message_is_still_a_duplicate(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.bury(&lease, "budget").await;
    assert_eq!(stage.admit(1, "SM1").await, Admission::Duplicate);
}

async fn dead_letters_are_told_by_channel_over_all_shards(stage: &Stage) {
    for (at, shard, channel, class) in [
        (1, 5, "b", "budget"),
        (2, 0, "a", "crash-loop"),
        (3, 9, "b", "refused"),
        (4, 5, "b", "late"),
    ] {
        stage.at(at);
        bury_elsewhere(stage, shard, channel, &format!("SM{at}"), class).await;
    }
    let expected = [letters("a", 1, 2, "crash-loop"), letters("b", 3, 1, "late")];
    assert_eq!(stage.run(SumDead).await, expected);
}

async fn a_dead_letter_is_dropped_after_14_days(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.bury(&lease, "budget").await;
    stage.at(DAY_MS);
    stage.run(Sweep { shard: 0 }).await;
    stage.at(14 * DAY_MS - 1);
    stage.run(Sweep { shard: 0 }).await;
    assert_eq!(stage.run(SumDead).await, [letters("shop", 1, 0, "budget")]);
    stage.at(14 * DAY_MS);
    stage.run(Sweep { shard: 0 }).await;
    assert_eq!(stage.run(SumDead).await, []);
}

async fn a_hundred_dead_letters_at_most_are_dropped_by_one_sweep(stage: &Stage) {
    for number in 0..130_u8 {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.bury(&lease, "budget").await;
    }
    stage.at(DAY_MS);
    stage.run(Sweep { shard: 0 }).await;
    stage.at(14 * DAY_MS);
    stage.run(Sweep { shard: 0 }).await;
    assert_eq!(stage.run(SumDead).await[0].count, 30);
    stage.run(Sweep { shard: 0 }).await;
    assert_eq!(stage.run(SumDead).await, []);
}

async fn a_sweep_leaves_what_still_waits(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.at(30 * DAY_MS);
    stage.run(Sweep { shard: 0 }).await;
    assert_eq!(stage.claim("a").await.0.envelope, "SM1");
}

async fn without_room_for_dead_letters_the_head_stays(stage: &Stage) {
    for round in 0..200 {
        join_all((0..50).map(|number| async move {
            let sid = format!("SM{round}.{number}");
            let message = Admit { limit: u32::MAX, window_ms: 1, ..message(number, &sid) };
            stage.run(message).await;
            let (_, lease) = stage.claim(&sid).await;
            assert_eq!(stage.bury(&lease, "budget").await, Buried::Done);
        }))
        .await;
        stage.pass(1);
    }
    let lease = stage.lease(1, "SMlast", "a").await;
    assert_eq!(stage.bury(&lease, "budget").await, Buried::Full);
    assert_eq!(stage.claim("a").await.0.envelope, "SMlast");
    assert_eq!(stage.run(SumDead).await[0].count, 10_000);
}

fn letters(channel: &str, count: u64, oldest: u64, class: &str) -> DeadSum {
    DeadSum { channel: id(channel), count, oldest_at: START + oldest, class: class.to_owned() }
}

async fn bury_elsewhere(stage: &Stage, shard: u8, channel: &str, sid: &str, class: &str) {
    let mut message = Admit { channel: id(channel), ..message(1, sid) };
    message.conversation = ConversationId::from_bytes([shard; 16]);
    stage.run(message).await;
    let Claimed::Head(head) = stage.claimed_in(shard, sid).await else {
        panic!("nothing to claim")
    };
    assert_eq!(stage.bury(&lease_of(&head), class).await, Buried::Done);
}
