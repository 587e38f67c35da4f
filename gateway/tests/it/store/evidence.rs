//! Evidence: how first attempts ended, each message once.

use kanarie_queue::claim::Claimed;
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::lease::Owned;
use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::ids::ConversationId;
use kanarie_words::track::Track;

use crate::store::stage::{LEASE_MS, Stage, canary, id, intent, lease_of, message};

on_both_stores!(
    an_attempt_that_ended_is_counted,
    scenario_18_a_message_counts_once_however_often_it_is_ended,
    a_commit_counts_what_it_is_given,
    a_commit_after_a_failed_attempt_counts_nothing_more,
    a_complete_counts_a_deliberate_silence,
    a_verb_without_evidence_counts_nothing,
    a_message_that_was_taken_over_counts_once,
    the_next_message_counts_again,
    a_failed_canary_is_told_to_the_next_owner,
    an_attempt_without_a_failed_canary_keeps_the_one_that_stands,
    the_three_newest_servings_stay_readable,
    a_newer_serving_removes_the_counts_of_all_but_the_three_newest,
    scenario_21_an_older_serving_still_counts_among_the_three_newest,
    a_serving_older_than_the_three_newest_counts_nothing,
    counts_name_every_channel_in_the_order_asked,
    counts_are_summed_over_all_shards,
    counting_does_not_change_the_epochs,
);

async fn an_attempt_that_ended_is_counted(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.end(&lease, canary(3, Class::NoAnswer), None).await, Owned::Done);
    assert_eq!(stage.counted("shop").await, ["3:canary:no-answer=1"]);
    assert!(stage.claim("a").await.0.counted);
}

/// Scenario 18: on both stores a message is counted once.
async fn scenario_18_a_message_counts_once_however_often_it_is_ended(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Timeout), None).await;
    assert_eq!(stage.end(&lease, canary(3, Class::Timeout), None).await, Owned::Done);
    stage.end(&lease, canary(3, Class::Http), None).await;
    assert_eq!(stage.counted("shop").await, ["3:canary:timeout=1"]);
}

async fn a_commit_counts_what_it_is_given(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    let outcome = Evidence { serving: 3, track: Track::Stable, class: Class::Success };
    stage.commit_reply(&lease, intent("i", 1), Some(outcome)).await;
    assert_eq!(stage.counted("shop").await, ["3:stable:success=1"]);
}

async fn a_commit_after_a_failed_attempt_counts_nothing_more(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Timeout), Some("r2")).await;
    let outcome = Evidence { serving: 3, track: Track::Stable, class: Class::Success };
    stage.commit_reply(&lease, intent("i", 1), Some(outcome)).await;
    assert_eq!(stage.counted("shop").await, ["3:canary:timeout=1"]);
}

async fn a_complete_counts_a_deliberate_silence(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.complete_with(&lease, Some(canary(3, Class::Success))).await;
    assert_eq!(stage.counted("shop").await, ["3:canary:success=1"]);
}

async fn a_verb_without_evidence_counts_nothing(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.complete(&lease).await;
    assert_eq!(stage.counted("shop").await, Vec::<String>::new());
}

async fn a_message_that_was_taken_over_counts_once(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Timeout), None).await;
    stage.pass(LEASE_MS);
    let (head, lease) = stage.claim("b").await;
    assert!(head.counted);
    stage.end(&lease, canary(3, Class::Success), None).await;
    assert_eq!(stage.counted("shop").await, ["3:canary:timeout=1"]);
}

async fn the_next_message_counts_again(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    for nonce in ["a", "b"] {
        let (_, lease) = stage.claim(nonce).await;
        stage.complete_with(&lease, Some(canary(3, Class::Success))).await;
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=2"]);
}

async fn a_failed_canary_is_told_to_the_next_owner(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.failed_on, Some(id("r2")));
}

async fn an_attempt_without_a_failed_canary_keeps_the_one_that_stands(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.end(&lease, canary(3, Class::Http), None).await;
    assert_eq!(stage.claim("a").await.0.failed_on, Some(id("r2")));
    stage.end(&lease, canary(4, Class::Http), Some("r3")).await;
    assert_eq!(stage.claim("a").await.0.failed_on, Some(id("r3")));
}

async fn the_three_newest_servings_stay_readable(stage: &Stage) {
    end_under(stage, &[(1, 9), (2, 9), (3, 10), (4, 11)]).await;
    let three = ["9:canary:success=2", "10:canary:success=1", "11:canary:success=1"];
    assert_eq!(stage.counted("shop").await, three);
}

async fn a_newer_serving_removes_the_counts_of_all_but_the_three_newest(stage: &Stage) {
    end_under(stage, &[(1, 8), (2, 9), (3, 10), (4, 11)]).await;
    let three = ["9:canary:success=1", "10:canary:success=1", "11:canary:success=1"];
    assert_eq!(stage.counted("shop").await, three);
    end_under(stage, &[(5, 20)]).await;
    let three = ["10:canary:success=1", "11:canary:success=1", "20:canary:success=1"];
    assert_eq!(stage.counted("shop").await, three);
}

/// Scenario 21: what ends after a change of weight is counted where it was asked.
async fn scenario_21_an_older_serving_still_counts_among_the_three_newest(stage: &Stage) {
    end_under(stage, &[(1, 10), (2, 8), (3, 9), (4, 10), (5, 8)]).await;
    let three = ["8:canary:success=2", "9:canary:success=1", "10:canary:success=2"];
    assert_eq!(stage.counted("shop").await, three);
}

async fn a_serving_older_than_the_three_newest_counts_nothing(stage: &Stage) {
    end_under(stage, &[(1, 8), (2, 9), (3, 10), (4, 7)]).await;
    let three = ["8:canary:success=1", "9:canary:success=1", "10:canary:success=1"];
    assert_eq!(stage.counted("shop").await, three);
    assert!(stage.claim("n4").await.0.counted);
}

async fn counts_name_every_channel_in_the_order_asked(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Slow), None).await;
    let channels = ["zoo", "shop", "bar"].map(id).to_vec();
    let read = stage.run(ReadCounts { channels }).await;
    let told = read.counts.iter().map(|of| (of.channel.as_str(), of.messages.len()));
    let told: Vec<_> = told.collect();
    assert_eq!(told, [("zoo", 0), ("shop", 1), ("bar", 0)]);
}

async fn counts_are_summed_over_all_shards(stage: &Stage) {
    for shard in [0_u8, 7, 31] {
        let mut message = message(1, &format!("SM{shard}"));
        message.conversation = ConversationId::from_bytes([shard; 16]);
        stage.run(message).await;
        let Claimed::Head(head) = stage.claimed_in(shard, "n").await else {
            panic!("nothing to claim")
        };
        stage.end(&lease_of(&head), canary(3, Class::Success), None).await;
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=3"]);
}

async fn counting_does_not_change_the_epochs(stage: &Stage) {
    let before = stage.run(ReadCounts { channels: vec![id("shop")] }).await.epochs;
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Success), None).await;
    let after = stage.run(ReadCounts { channels: Vec::new() }).await.epochs;
    assert_eq!(after, before);
    assert!(before.len() == 32 && before.iter().all(Option::is_some));
}

/// Ends the first attempts at messages of these conversations, each under a serving.
async fn end_under(stage: &Stage, servings: &[(u8, u64)]) {
    for (number, serving) in servings {
        let lease = stage.lease(*number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.end(&lease, canary(*serving, Class::Success), None).await;
    }
}
