//! Leases: who owns a head, for how long, and what a former owner can still do.

use kanarie_queue::claim::Claimed;
use kanarie_queue::dead::Buried;
use kanarie_queue::expire::ExpireLeases;
use kanarie_queue::lease::Owned;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, Holder, Nonce};

use crate::store::stage::{LEASE_MS, Stage, canary, conversation, id, lease_of, message};

on_both_stores!(
    a_claim_gives_the_head_with_all_that_is_known_of_it,
    an_empty_shard_has_nothing_and_no_end_to_wait_for,
    a_conversation_is_leased_to_one_owner_at_a_time,
    a_claim_finds_only_its_own_shard,
    a_claim_repeated_with_its_nonce_gives_the_same_head,
    a_claim_repeated_with_its_nonce_renews_nothing,
    with_nothing_to_take_the_first_end_of_a_lease_is_told,
    with_nothing_to_take_the_first_end_of_a_delay_is_told,
    a_lease_is_taken_over_exactly_at_its_end_and_counts_as_a_crash,
    an_expired_lease_that_nobody_took_over_is_still_the_owners,
    a_former_owner_changes_nothing,
    the_nonce_of_an_expired_lease_is_worth_nothing_once_it_was_taken_back,
    eight_expired_leases_at_most_are_taken_back_by_one_claim,
    extend_renews_from_now,
    extend_names_the_leases_that_are_lost,
    extend_reaches_every_shard,
    a_kept_run_is_told_to_the_next_owner,
    a_forgotten_run_is_gone,
    a_released_head_can_be_claimed_at_once_and_its_try_does_not_count,
    a_retried_head_waits_for_its_delay,
    a_retry_counts_its_try_only_when_told,
    a_retry_keeps_the_work_on_the_head,
    a_repeated_retry_or_release_is_stale,
    the_next_head_starts_with_nothing_of_the_one_before,
    a_claim_in_an_earlier_time_counts_as_now,
    the_leases_of_a_process_that_died_end_at_once_and_count_as_crashes,
    the_leases_of_all_processes_end_when_none_is_named,
);

async fn a_claim_gives_the_head_with_all_that_is_known_of_it(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.pass(250);
    let (head, _) = stage.claim("a").await;
    assert_eq!(head.conversation, conversation(1));
    assert_eq!((head.channel.as_str(), head.envelope.as_str()), ("shop", "SM1"));
    assert_eq!((head.now - head.admitted_at, head.tries, head.crashes), (250, 1, 0));
    assert_eq!((head.counted, head.failed_on, head.run, head.intent), (false, None, None, None));
}

async fn an_empty_shard_has_nothing_and_no_end_to_wait_for(stage: &Stage) {
    assert_eq!(stage.claimed("a").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_conversation_is_leased_to_one_owner_at_a_time(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    stage.claim("a").await;
    assert!(matches!(stage.claimed("b").await, Claimed::Nothing { .. }));
}

async fn a_claim_finds_only_its_own_shard(stage: &Stage) {
    stage.queue(1, "SM1").await;
    assert_eq!(stage.claimed_in(1, "a").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_claim_repeated_with_its_nonce_gives_the_same_head(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(2, "SM2").await;
    let (first, _) = stage.claim("a").await;
    let (again, _) = stage.claim("a").await;
    assert_eq!(again, first);
}

async fn a_claim_repeated_with_its_nonce_renews_nothing(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.claim("a").await;
    stage.pass(LEASE_MS - 1);
    stage.claim("a").await;
    stage.pass(1);
    assert_eq!(stage.claim("b").await.0.crashes, 1);
}

async fn with_nothing_to_take_the_first_end_of_a_lease_is_told(stage: &Stage) {
    stage.lease(1, "SM1", "a").await;
    stage.pass(1_000);
    stage.lease(2, "SM2", "b").await;
    let next_in_ms = Some(LEASE_MS - 1_000);
    assert_eq!(stage.claimed("c").await, Claimed::Nothing { next_in_ms });
}

async fn with_nothing_to_take_the_first_end_of_a_delay_is_told(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.retry(&lease, 2_000, true).await;
    stage.lease(2, "SM2", "b").await;
    stage.pass(500);
    assert_eq!(stage.claimed("c").await, Claimed::Nothing { next_in_ms: Some(1_500) });
}

async fn a_lease_is_taken_over_exactly_at_its_end_and_counts_as_a_crash(stage: &Stage) {
    stage.lease(1, "SM1", "a").await;
    stage.pass(LEASE_MS - 1);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(1) });
    stage.pass(1);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 2, 1));
}

async fn an_expired_lease_that_nobody_took_over_is_still_the_owners(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.pass(10 * LEASE_MS);
    assert_eq!(stage.complete(&lease).await, Owned::Done);
}

async fn a_former_owner_changes_nothing(stage: &Stage) {
    let former = stage.lease(1, "SM1", "a").await;
    stage.pass(LEASE_MS);
    let (before, present) = stage.claim("b").await;
    let outcome = canary(1, Class::Timeout);
    assert_eq!(stage.keep_run(&former, Some("run")).await, Owned::Stale);
    assert_eq!(stage.end(&former, outcome, Some("r")).await, Owned::Stale);
    assert_eq!(stage.commit(&former, "i", 1).await, Committed::Stale);
    assert_eq!(stage.mark(&former, "i", 0, "p").await, Marked::Stale);
    assert_eq!(stage.unmark(&former, "i", 0, "p").await, Owned::Stale);
    assert_eq!(stage.complete(&former).await, Owned::Stale);
    assert_eq!(stage.retry(&former, 1, true).await, Owned::Stale);
    assert_eq!(stage.release(&former).await, Owned::Stale);
    assert_eq!(stage.bury(&former, "crash").await, Buried::Stale);
    assert_eq!(stage.claim("b").await.0, before);
    assert_eq!(stage.counted("shop").await, Vec::<String>::new());
    assert_eq!(stage.complete(&present).await, Owned::Done);
}

async fn the_nonce_of_an_expired_lease_is_worth_nothing_once_it_was_taken_back(stage: &Stage) {
    let former = stage.lease(1, "SM1", "a").await;
    stage.lease(2, "SM2", "b").await;
    stage.pass(LEASE_MS);
    // Both go back, the first is taken: the second waits in its old place without an owner.
    let (head, _) = stage.claim("c").await;
    assert_eq!(head.conversation, conversation(1));
    assert_eq!(stage.complete(&former).await, Owned::Stale);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.conversation, head.tries, head.crashes), (conversation(2), 2, 1));
}

async fn eight_expired_leases_at_most_are_taken_back_by_one_claim(stage: &Stage) {
    let mut owners = Vec::new();
    for number in 1..=10 {
        owners.push(stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await);
    }
    stage.pass(LEASE_MS);
    stage.claim("next").await;
    let mut still = Vec::new();
    for (number, owner) in (1..).zip(&owners) {
        if stage.keep_run(owner, Some("run")).await == Owned::Done {
            still.push(number);
        }
    }
    assert_eq!(still, [9, 10]);
}

async fn extend_renews_from_now(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.pass(10_000);
    assert_eq!(stage.extend(&[lease], 20_000).await, []);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(20_000) });
}

async fn extend_names_the_leases_that_are_lost(stage: &Stage) {
    let lost = stage.lease(1, "SM1", "a").await;
    stage.pass(LEASE_MS);
    stage.claim("b").await;
    let kept = stage.lease(2, "SM2", "c").await;
    assert_eq!(stage.extend(&[lost, kept], LEASE_MS).await, [conversation(1)]);
}

async fn extend_reaches_every_shard(stage: &Stage) {
    let mut leases = Vec::new();
    for number in [1_u8, 9, 31] {
        let mut message = message(1, &format!("SM{number}"));
        message.conversation = ConversationId::from_bytes([number; 16]);
        stage.run(message).await;
        let claimed = stage.claimed_in(number, &format!("n{number}")).await;
        let Claimed::Head(head) = claimed else { panic!("nothing to claim") };
        leases.push(lease_of(&head));
    }
    stage.pass(LEASE_MS - 1);
    assert_eq!(stage.extend(&leases, LEASE_MS).await, []);
    for shard in [1, 9, 31] {
        let found = stage.claimed_in(shard, "other").await;
        assert_eq!(found, Claimed::Nothing { next_in_ms: Some(LEASE_MS) });
    }
}

async fn a_kept_run_is_told_to_the_next_owner(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.keep_run(&lease, Some("run 1")).await, Owned::Done);
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.run.as_deref(), Some("run 1"));
}

async fn a_forgotten_run_is_gone(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.keep_run(&lease, Some("run 1")).await;
    assert_eq!(stage.keep_run(&lease, None).await, Owned::Done);
    assert_eq!(stage.claim("a").await.0.run, None);
}

async fn a_released_head_can_be_claimed_at_once_and_its_try_does_not_count(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.release(&lease).await, Owned::Done);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 1, 0));
}

async fn a_retried_head_waits_for_its_delay(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.retry(&lease, 2_000, true).await, Owned::Done);
    stage.pass(1_999);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(1) });
    stage.pass(1);
    assert_eq!(stage.claim("b").await.0.envelope, "SM1");
}

async fn a_retry_counts_its_try_only_when_told(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.retry(&lease, 0, true).await;
    let (head, lease) = stage.claim("b").await;
    assert_eq!(head.tries, 2);
    stage.retry(&lease, 0, false).await;
    assert_eq!(stage.claim("c").await.0.tries, 2);
}

async fn a_retry_keeps_the_work_on_the_head(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(1, Class::Http), Some("revision-2")).await;
    stage.commit(&lease, "i", 1).await;
    stage.keep_run(&lease, Some("run")).await;
    stage.retry(&lease, 0, true).await;
    let (head, _) = stage.claim("b").await;
    assert!(head.counted);
    assert_eq!(head.failed_on, Some(id("revision-2")));
    assert_eq!(head.run.as_deref(), Some("run"));
    assert_eq!(head.intent.map(|intent| intent.id), Some(id("i")));
}

async fn a_repeated_retry_or_release_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.retry(&lease, 1_000, true).await;
    assert_eq!(stage.retry(&lease, 1_000, true).await, Owned::Stale);
    assert_eq!(stage.release(&lease).await, Owned::Stale);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(1_000) });
}

async fn the_next_head_starts_with_nothing_of_the_one_before(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    stage.claim("a").await;
    stage.pass(LEASE_MS);
    let (_, lease) = stage.claim("b").await;
    stage.end(&lease, canary(1, Class::Http), Some("revision-2")).await;
    stage.keep_run(&lease, Some("run")).await;
    stage.commit(&lease, "i", 1).await;
    stage.keep_run(&lease, Some("run")).await;
    stage.complete(&lease).await;
    let (head, _) = stage.claim("c").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM2", 1, 0));
    assert_eq!((head.counted, head.failed_on, head.run, head.intent), (false, None, None, None));
}

async fn a_claim_in_an_earlier_time_counts_as_now(stage: &Stage) {
    stage.at(20_000);
    stage.lease(1, "SM1", "a").await;
    stage.at(0);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(LEASE_MS) });
}

async fn the_leases_of_a_process_that_died_end_at_once_and_count_as_crashes(stage: &Stage) {
    let (dead, lives) = (Holder::from_bytes([7; 8]), Holder::from_bytes([8; 8]));
    for customer in 1..=2 {
        stage.queue(customer, &format!("SM{customer}")).await;
    }
    stage.queue(33, "SM33").await;
    let held = |holder: &Holder, number: u8| Nonce::held_by(holder, [number; 16]).to_string();
    let (first, lease) = stage.claim(&held(&dead, 1)).await;
    stage.keep_run(&lease, Some("run")).await;
    let (_, kept) = stage.claim(&held(&lives, 1)).await;
    stage.claim(&held(&dead, 2)).await;
    stage.pass(1);
    assert_eq!(stage.run(ExpireLeases { holder: Some(dead.clone()) }).await, 2);
    assert_eq!(stage.run(ExpireLeases { holder: Some(dead.clone()) }).await, 0);
    assert_eq!(stage.keep_run(&lease, None).await, Owned::Stale, "it owns nothing any more");
    assert_eq!(stage.keep_run(&kept, None).await, Owned::Done);
    let (again, _) = stage.claim(&held(&lives, 2)).await;
    assert_eq!(again.conversation, first.conversation, "at its old place");
    assert_eq!((again.tries, again.crashes, again.run.as_deref()), (2, 1, Some("run")));
}

async fn the_leases_of_all_processes_end_when_none_is_named(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(33, "SM33").await;
    let (_, isolated) = stage.claim("a").await;
    stage.isolate(&isolated).await;
    stage.claim("b").await;
    assert_eq!(stage.run(ExpireLeases { holder: None }).await, 2);
    let (again, _) = stage.claim("c").await;
    assert_eq!((again.crashes, again.crashed_alone), (1, true));
}
