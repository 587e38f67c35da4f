//! Whose turn it is: order in a conversation, fairness between channels.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;

use crate::store::stage::{LEASE_MS, Stage, conversation, id, lease_of, message};

on_both_stores!(
    messages_of_a_conversation_come_in_the_order_of_their_admission,
    a_channel_with_one_conversation_does_not_wait_for_a_channel_with_many,
    conversations_of_one_start_come_in_the_order_of_their_ids,
    a_conversation_with_more_messages_waits_behind_those_that_wait,
    an_expired_head_keeps_its_place,
    a_released_head_keeps_its_place,
    a_delayed_head_queues_again_when_it_is_due,
    eight_due_delays_at_most_become_ready_by_one_claim,
    a_conversation_belongs_to_the_channel_of_its_newest_admission,
    a_message_that_comes_while_the_head_is_worked_on_waits_behind_it,
);

async fn messages_of_a_conversation_come_in_the_order_of_their_admission(stage: &Stage) {
    for sid in ["SM3", "SM1", "SM2"] {
        stage.queue(1, sid).await;
    }
    assert_eq!(drain(stage).await, ["SM3", "SM1", "SM2"]);
}

async fn a_channel_with_one_conversation_does_not_wait_for_a_channel_with_many(stage: &Stage) {
    for number in 1..=3 {
        of_channel(stage, "busy", number, &format!("SM{number}")).await;
    }
    of_channel(stage, "calm", 9, "SM9").await;
    assert_eq!(drain(stage).await, ["SM1", "SM9", "SM2", "SM3"]);
}

async fn conversations_of_one_start_come_in_the_order_of_their_ids(stage: &Stage) {
    for number in [7, 3, 5] {
        of_channel(stage, &format!("channel-{number}"), number, &format!("SM{number}")).await;
    }
    assert_eq!(drain(stage).await, ["SM3", "SM5", "SM7"]);
}

async fn a_conversation_with_more_messages_waits_behind_those_that_wait(stage: &Stage) {
    stage.queue(1, "SM1a").await;
    stage.queue(1, "SM1b").await;
    stage.queue(2, "SM2").await;
    assert_eq!(drain(stage).await, ["SM1a", "SM2", "SM1b"]);
}

async fn an_expired_head_keeps_its_place(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(2, "SM2").await;
    stage.claim("a").await;
    stage.pass(LEASE_MS);
    assert_eq!(drain(stage).await, ["SM1", "SM2"]);
}

async fn a_released_head_keeps_its_place(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(2, "SM2").await;
    let (_, lease) = stage.claim("a").await;
    stage.release(&lease).await;
    assert_eq!(drain(stage).await, ["SM1", "SM2"]);
}

async fn a_delayed_head_queues_again_when_it_is_due(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(2, "SM2").await;
    let (_, lease) = stage.claim("a").await;
    stage.retry(&lease, 1_000, true).await;
    stage.pass(1_000);
    assert_eq!(drain(stage).await, ["SM2", "SM1"]);
}

async fn eight_due_delays_at_most_become_ready_by_one_claim(stage: &Stage) {
    for number in 1..=10 {
        let lease = stage.lease(number, &format!("SM{number:02}"), &format!("n{number}")).await;
        stage.retry(&lease, 1_000 - u64::from(number), true).await;
    }
    stage.pass(1_000);
    // Nine and ten are due first; the ninth of them waits for the next claim, behind the others.
    let order = drain(stage).await;
    assert_eq!(order[..2], ["SM10", "SM09"]);
    assert_eq!(order[8..], ["SM02", "SM01"]);
}

async fn a_conversation_belongs_to_the_channel_of_its_newest_admission(stage: &Stage) {
    of_channel(stage, "old", 1, "SM1").await;
    of_channel(stage, "new", 1, "SM2").await;
    assert_eq!(stage.claim("a").await.0.channel, "new");
}

async fn a_message_that_comes_while_the_head_is_worked_on_waits_behind_it(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.queue(1, "SM2").await;
    assert_eq!(stage.claim("a").await.0.envelope, "SM1");
    stage.complete(&lease).await;
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.conversation, head.envelope.as_str()), (conversation(1), "SM2"));
}

async fn of_channel(stage: &Stage, channel: &str, number: u8, sid: &str) {
    let message = Admit { channel: id(channel), ..message(number, sid) };
    assert_eq!(stage.run(message).await, Admission::Queued);
}

/// Claims and completes until nothing is left; gives the texts in their order.
async fn drain(stage: &Stage) -> Vec<String> {
    let mut texts = Vec::new();
    while let Claimed::Head(head) = stage.claimed(&format!("drain-{}", texts.len())).await {
        stage.complete(&lease_of(&head)).await;
        texts.push(head.envelope);
    }
    texts
}
