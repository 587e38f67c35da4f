//! Evidence: how first attempts ended, each message once.

use kanarie_queue::types::{Claimed, Class, ConversationId, Evidence, Nonce, Owned, Track};

use crate::stage::{LEASE_MS, Stage, canary, intent, lease_of, message};

on_both_stores!(
    an_attempt_that_ended_is_counted,
    a_message_counts_once_however_often_it_is_ended,
    a_commit_counts_what_it_is_given,
    a_commit_after_a_failed_attempt_counts_nothing_more,
    a_complete_counts_a_deliberate_silence,
    a_verb_without_evidence_counts_nothing,
    a_message_that_was_taken_over_counts_once,
    the_next_message_counts_again,
    a_failed_canary_is_told_to_the_next_owner,
    an_attempt_without_a_failed_canary_keeps_the_one_that_stands,
    a_newer_serving_removes_the_counts_of_older_ones,
    an_older_serving_still_counts,
    counts_name_every_channel_in_the_order_asked,
    counts_are_summed_over_all_shards,
    counting_does_not_change_the_digest_of_the_epochs,
);

async fn an_attempt_that_ended_is_counted(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.end(&lease, canary(3, Class::NoAnswer), None).await, Owned::Done);
    assert_eq!(stage.counted("shop").await, ["3:canary:no-answer=1"]);
    assert!(stage.claim("a").await.0.counted);
}

async fn a_message_counts_once_however_often_it_is_ended(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Timeout), None).await;
    assert_eq!(stage.end(&lease, canary(3, Class::Timeout), None).await, Owned::Done);
    stage.end(&lease, canary(3, Class::Http), None).await;
    assert_eq!(stage.counted("shop").await, ["3:canary:timeout=1"]);
}

async fn a_commit_counts_what_it_is_given(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    let outcome = Evidence { serving: 3, track: Track::Stable, class: Class::Success };
    stage.store.commit_reply(lease, intent("i", 1), Some(outcome)).await.unwrap();
    assert_eq!(stage.counted("shop").await, ["3:stable:success=1"]);
}

async fn a_commit_after_a_failed_attempt_counts_nothing_more(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Timeout), Some("r2")).await;
    let outcome = Evidence { serving: 3, track: Track::Stable, class: Class::Success };
    stage.store.commit_reply(lease, intent("i", 1), Some(outcome)).await.unwrap();
    assert_eq!(stage.counted("shop").await, ["3:canary:timeout=1"]);
}

async fn a_complete_counts_a_deliberate_silence(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.store.complete(lease, Some(canary(3, Class::Success))).await.unwrap();
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
        stage.store.complete(lease, Some(canary(3, Class::Success))).await.unwrap();
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=2"]);
}

async fn a_failed_canary_is_told_to_the_next_owner(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.failed_on.as_deref(), Some("r2"));
}

async fn an_attempt_without_a_failed_canary_keeps_the_one_that_stands(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.end(&lease, canary(3, Class::Http), None).await;
    assert_eq!(stage.claim("a").await.0.failed_on.as_deref(), Some("r2"));
    stage.end(&lease, canary(4, Class::Http), Some("r3")).await;
    assert_eq!(stage.claim("a").await.0.failed_on.as_deref(), Some("r3"));
}

async fn a_newer_serving_removes_the_counts_of_older_ones(stage: &Stage) {
    for (number, serving) in [(1, 9), (2, 9), (3, 10)] {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.end(&lease, canary(serving, Class::Success), None).await;
    }
    assert_eq!(stage.counted("shop").await, ["10:canary:success=1"]);
}

async fn an_older_serving_still_counts(stage: &Stage) {
    for (number, serving) in [(1, 10), (2, 9), (3, 10), (4, 9)] {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.end(&lease, canary(serving, Class::Success), None).await;
    }
    assert_eq!(stage.counted("shop").await, ["9:canary:success=2", "10:canary:success=2"]);
}

async fn counts_name_every_channel_in_the_order_asked(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Slow), None).await;
    let asked = ["zoo", "shop", "bar"].map(str::to_owned);
    let (_, counts) = stage.store.counts(asked.to_vec()).await.unwrap();
    let told: Vec<_> = counts.iter().map(|(name, counts)| (name.as_str(), counts.len())).collect();
    assert_eq!(told, [("zoo", 0), ("shop", 1), ("bar", 0)]);
}

async fn counts_are_summed_over_all_shards(stage: &Stage) {
    for shard in [0_u8, 7, 31] {
        let mut message = message(1, &format!("SM{shard}"));
        message.conversation = ConversationId::from_bytes([shard; 16]);
        stage.store.admit(message).await.unwrap();
        let claim = stage.store.claim(shard, Nonce("n".to_owned()), LEASE_MS).await.unwrap();
        let Claimed::Head(head) = claim else { panic!("nothing to claim") };
        stage.end(&lease_of(&head), canary(3, Class::Success), None).await;
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=3"]);
}

async fn counting_does_not_change_the_digest_of_the_epochs(stage: &Stage) {
    let (before, _) = stage.store.counts(vec!["shop".to_owned()]).await.unwrap();
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Success), None).await;
    let (after, _) = stage.store.counts(Vec::new()).await.unwrap();
    assert_eq!(after, before);
    assert!(!before.is_empty());
}
