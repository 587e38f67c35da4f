//! Waiting for an agent: one probe at a time, success wakes all, and no wait is without an end.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::lease::Owned;
use kanarie_queue::send::Marked;
use kanarie_words::ids::ConversationId;

use crate::store::stage::{LEASE_MS, Stage, conversation, id, intent, lease_of, message};

const PATIENCE_MS: u64 = 900_000;

on_both_stores!(
    a_parked_head_is_nobodys_and_its_try_does_not_count,
    a_parked_head_keeps_its_work,
    with_nothing_to_take_the_next_probe_is_told,
    of_all_that_wait_for_one_agent_one_is_let_try_when_the_probe_is_due,
    the_one_whose_patience_ends_first_is_let_try_first,
    a_probe_that_parks_again_is_followed_by_the_one_that_it_asks_for,
    a_probe_that_nobody_brings_back_is_followed_by_another_after_a_minute,
    a_probe_whose_worker_died_is_taken_over,
    eight_due_probes_at_most_are_let_try_by_one_claim,
    whoever_finds_the_agent_well_wakes_them_all,
    an_agent_that_nobody_waits_for_is_not_probed,
    a_probe_without_anybody_who_waits_ends,
    a_wake_is_for_one_channel_and_one_revision,
    a_call_wakes_200_of_a_shard_and_the_next_call_the_others,
    a_wake_reaches_every_shard,
    a_head_comes_back_at_the_end_of_its_own_patience,
    more_messages_of_a_customer_who_waits_wait_too,
    a_channel_made_anew_wakes_what_waited_for_an_agent_of_the_former_one,
    a_channel_made_anew_leaves_every_other_delay,
    a_callback_wakes_a_head_that_waits_for_an_agent_while_a_post_is_open,
    woken_heads_take_turns_with_those_of_other_channels,
    a_woken_head_is_woken_once,
);

/// So many conversations, parked in the order of their numbers, each a millisecond more patient than
/// the one before; the probe is due in five seconds.
async fn parked(stage: &Stage, count: u8) {
    for number in 1..=count {
        stage.queue(number, &format!("SM{number}")).await;
    }
    for number in 1..=count {
        let (_, lease) = stage.claim(&format!("first-{number}")).await;
        let patience = PATIENCE_MS + u64::from(number);
        assert_eq!(stage.park(&lease, "r", patience, 5_000).await, Owned::Done);
    }
}

async fn a_parked_head_is_nobodys_and_its_try_does_not_count(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.park(&lease, "r", PATIENCE_MS, 5_000).await, Owned::Done);
    assert_eq!(stage.park(&lease, "r", PATIENCE_MS, 9_000).await, Owned::Stale);
    assert_eq!(stage.complete(&lease).await, Owned::Stale);
    stage.pass(4_999);
    assert!(matches!(stage.claimed("b").await, Claimed::Nothing { .. }));
    stage.pass(1);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 1, 0));
}

async fn a_parked_head_keeps_its_work(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.keep_run(&lease, Some("run")).await;
    stage.end_without(&lease).await;
    stage.park(&lease, "r", 0, 5_000).await;
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.run.as_deref(), head.counted), (Some("run"), true));
    assert_eq!(head.intent, Some(intent("i", 1)));
}

async fn with_nothing_to_take_the_next_probe_is_told(stage: &Stage) {
    parked(stage, 2).await;
    stage.pass(1_000);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(4_000) });
}

async fn of_all_that_wait_for_one_agent_one_is_let_try_when_the_probe_is_due(stage: &Stage) {
    parked(stage, 3).await;
    stage.at(4_999);
    assert_eq!(stage.ready().await, Vec::<String>::new());
    stage.at(5_000);
    assert_eq!(stage.ready().await, ["SM1"]);
    stage.at(5_001);
    assert_eq!(stage.ready().await, Vec::<String>::new());
}

async fn the_one_whose_patience_ends_first_is_let_try_first(stage: &Stage) {
    for (number, patience) in [(1, 9_999), (2, 300_000), (3, 1_000_000), (4, 9_998)] {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.park(&lease, "r", patience, 5_000).await;
    }
    stage.at(5_000);
    assert_eq!(stage.ready().await, ["SM4"]);
}

async fn a_probe_that_parks_again_is_followed_by_the_one_that_it_asks_for(stage: &Stage) {
    parked(stage, 2).await;
    stage.at(5_000);
    let (_, lease) = stage.claim("b").await;
    stage.at(6_000);
    stage.park(&lease, "r", PATIENCE_MS - 6_000, 10_000).await;
    stage.at(15_999);
    assert_eq!(stage.ready().await, Vec::<String>::new());
    stage.at(16_000);
    assert_eq!(stage.ready().await, ["SM1"]);
}

async fn a_probe_that_nobody_brings_back_is_followed_by_another_after_a_minute(stage: &Stage) {
    parked(stage, 2).await;
    stage.at(5_000);
    let (_, lease) = stage.claim("b").await;
    stage.extend(&[lease], 120_000).await;
    stage.at(64_999);
    assert_eq!(stage.ready().await, Vec::<String>::new());
    stage.at(65_000);
    assert_eq!(stage.ready().await, ["SM2"]);
}

async fn a_probe_whose_worker_died_is_taken_over(stage: &Stage) {
    parked(stage, 2).await;
    stage.at(5_000);
    stage.claim("b").await;
    stage.pass(LEASE_MS);
    let (head, _) = stage.claim("c").await;
    assert_eq!((head.envelope.as_str(), head.crashes), ("SM1", 1));
}

async fn eight_due_probes_at_most_are_let_try_by_one_claim(stage: &Stage) {
    for number in 1..=10 {
        let admit = message(number, &format!("SM{number}"));
        let channel = id(&format!("channel-{number}"));
        stage.run(Admit { channel, ..admit }).await;
        let (_, lease) = stage.claim(&format!("n{number}")).await;
        stage.park(&lease, "r", PATIENCE_MS, 1_000 - u64::from(number)).await;
    }
    stage.pass(1_000);
    stage.claim("a").await;
    for number in 1..=2 {
        assert_eq!(stage.wake(&format!("channel-{number}"), "r").await, 1, "{number}");
    }
    assert_eq!(stage.wake("channel-3", "r").await, 0);
}

async fn whoever_finds_the_agent_well_wakes_them_all(stage: &Stage) {
    parked(stage, 3).await;
    stage.at(5_000);
    let (_, lease) = stage.claim("b").await;
    assert_eq!(stage.wake("shop", "r").await, 2);
    stage.complete(&lease).await;
    assert_eq!(stage.ready().await, ["SM2", "SM3"]);
}

async fn an_agent_that_nobody_waits_for_is_not_probed(stage: &Stage) {
    parked(stage, 1).await;
    stage.wake("shop", "r").await;
    let (_, lease) = stage.claim("b").await;
    stage.complete(&lease).await;
    assert_eq!(stage.claimed("c").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_probe_without_anybody_who_waits_ends(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.park(&lease, "r", 1_000, 5_000).await;
    stage.at(1_000);
    let (_, lease) = stage.claim("b").await;
    stage.complete(&lease).await;
    assert_eq!(stage.claimed("c").await, Claimed::Nothing { next_in_ms: Some(4_000) });
    stage.at(5_000);
    assert_eq!(stage.claimed("c").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_wake_is_for_one_channel_and_one_revision(stage: &Stage) {
    let waits = [("shop", "r"), ("shop", "r2"), ("shop2", "r"), ("sho", "r")];
    for (number, (channel, revision)) in (1..).zip(waits) {
        let admit = message(number, &format!("{channel}-{revision}"));
        stage.run(Admit { channel: id(channel), ..admit }).await;
        let (_, lease) = stage.claim(&format!("n{number}")).await;
        stage.park(&lease, revision, PATIENCE_MS, PATIENCE_MS).await;
    }
    assert_eq!(stage.wake("shop", "r").await, 1);
    assert_eq!(stage.ready().await, ["shop-r"]);
    stage.pass(1);
    assert_eq!(stage.wake("shop", "r2").await, 1);
    assert_eq!(stage.ready().await, ["shop-r2"]);
}

async fn a_call_wakes_200_of_a_shard_and_the_next_call_the_others(stage: &Stage) {
    parked(stage, 201).await;
    let woken = [stage.wake("shop", "r").await, stage.wake("shop", "r").await];
    assert_eq!((woken, stage.wake("shop", "r").await), ([200, 1], 0));
    assert_eq!(stage.ready().await.len(), 201);
}

async fn a_wake_reaches_every_shard(stage: &Stage) {
    for shard in [0, 7, 31] {
        let admit = message(1, &format!("SM{shard}"));
        let conversation = ConversationId::from_bytes([shard; 16]);
        assert_eq!(stage.run(Admit { conversation, ..admit }).await, Admission::Queued);
        let Claimed::Head(head) = stage.claimed_in(shard, "n").await else {
            panic!("nothing to claim")
        };
        stage.park(&lease_of(&head), "r", PATIENCE_MS, 5_000).await;
    }
    assert_eq!(stage.wake("shop", "r").await, 3);
    for shard in [0, 7, 31] {
        assert!(matches!(stage.claimed_in(shard, "m").await, Claimed::Head(_)));
    }
}

async fn a_head_comes_back_at_the_end_of_its_own_patience(stage: &Stage) {
    for (number, patience) in [(1, 2_000), (2, 90_000)] {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("n{number}")).await;
        stage.park(&lease, "r", patience, 1_000_000).await;
    }
    assert_eq!(stage.claimed("a").await, Claimed::Nothing { next_in_ms: Some(2_000) });
    stage.at(2_000);
    assert_eq!(stage.ready().await, ["SM1"]);
    stage.at(90_000);
    assert_eq!(stage.claim("b").await.0.conversation, conversation(1), "its lease expired");
    assert_eq!(stage.claim("c").await.0.conversation, conversation(2));
}

async fn more_messages_of_a_customer_who_waits_wait_too(stage: &Stage) {
    parked(stage, 1).await;
    stage.queue(1, "SM2").await;
    assert!(matches!(stage.claimed("b").await, Claimed::Nothing { .. }));
    stage.at(5_000);
    assert_eq!(stage.ready().await, ["SM1"]);
}

async fn a_channel_made_anew_wakes_what_waited_for_an_agent_of_the_former_one(stage: &Stage) {
    parked(stage, 2).await;
    stage.run(Admit { channel: id("anew"), ..message(1, "SM1b") }).await;
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.channel), ("SM1", id("anew")));
    assert_eq!(stage.wake("anew", "r").await, 0);
    assert_eq!(stage.wake("shop", "r").await, 1);
}

async fn a_channel_made_anew_leaves_every_other_delay(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.retry(&lease, 5_000, true).await;
    stage.run(Admit { channel: id("anew"), ..message(1, "SM2") }).await;
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(5_000) });
}

async fn a_callback_wakes_a_head_that_waits_for_an_agent_while_a_post_is_open(stage: &Stage) {
    let mut parked = Vec::new();
    for (number, sid, is_open) in [(1, "SM1", true), (2, "SM2", false)] {
        let lease = stage.lease(number, sid, sid).await;
        stage.commit(&lease, "i", 2).await;
        if is_open {
            assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Go);
        }
        stage.park(&lease, "r", PATIENCE_MS, PATIENCE_MS).await;
        parked.push(lease);
    }
    for lease in &parked {
        assert!(stage.sent(lease, "i", 0, "SMout").await);
    }
    assert_eq!(stage.ready().await, ["SM1"]);
    assert_eq!(stage.wake("shop", "r").await, 1);
}

async fn woken_heads_take_turns_with_those_of_other_channels(stage: &Stage) {
    parked(stage, 4).await;
    for number in 10..13 {
        let admit = message(number, &format!("SM{number}"));
        stage.run(Admit { channel: id("quiet"), ..admit }).await;
    }
    stage.wake("shop", "r").await;
    let order = stage.ready().await;
    let quiet = order.iter().position(|text| text == "SM12");
    assert!(quiet.is_some_and(|at| at < 5), "{order:?}");
}

async fn a_woken_head_is_woken_once(stage: &Stage) {
    parked(stage, 2).await;
    stage.wake("shop", "r").await;
    let (_, lease) = stage.claim("b").await;
    stage.complete(&lease).await;
    let (_, lease) = stage.claim("c").await;
    stage.complete(&lease).await;
    stage.pass(2 * PATIENCE_MS);
    assert_eq!(stage.claimed("d").await, Claimed::Nothing { next_in_ms: None });
}
