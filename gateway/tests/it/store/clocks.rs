//! Clocks that were set wrong for a while: a day ahead, and then put back.

use kanarie_gateway::store::fleet::{Heard, Heartbeat};
use kanarie_queue::admit::Admission;
use kanarie_queue::claim::Claimed;
use kanarie_queue::dead::SumDead;
use kanarie_queue::intent::Sending;
use kanarie_queue::lease::Owned;
use kanarie_queue::letters::{DeadLetterFilter, ReadLetters};
use kanarie_queue::send::Marked;

use crate::store::stage::{LEASE_MS, START, Stage, id, message};
use crate::store::steps::{DAY, SECOND};

on_both_stores!(
    a_clock_that_is_a_minute_behind_is_waited_for,
    a_clock_that_is_further_behind_is_believed_at_once,
    a_lease_of_a_clock_that_was_put_back_ends_within_its_length,
    a_lease_from_before_the_wrong_clock_keeps_its_end,
    a_delay_of_a_clock_that_was_put_back_is_as_long_as_it_was,
    what_waits_for_an_agent_is_probed_and_ends_as_soon_as_it_would_have,
    a_sender_who_used_up_his_limit_under_a_wrong_clock_may_write,
    stamps_of_the_right_clock_still_count,
    a_message_of_a_clock_that_was_put_back_begins_to_wait_when_it_is_claimed,
    a_mark_from_before_a_clock_was_put_back_may_be_of_any_age,
    a_listing_that_missed_under_a_wrong_clock_is_forgotten,
    a_dead_letter_of_a_clock_that_was_put_back_is_as_old_as_the_next_sweep,
    dead_letters_of_a_wrong_clock_come_back_a_hundred_a_call_in_their_order,
    a_replica_that_died_under_a_wrong_clock_is_not_live,
    a_control_request_of_a_clock_that_was_put_back_is_none,
);

/// Where the clock is put back to, ten seconds after the start.
const BACK: u64 = 10 * SECOND;

async fn a_clock_that_is_a_minute_behind_is_waited_for(stage: &Stage) {
    stage.at(60 * SECOND);
    stage.queue(1, "SM1").await;
    stage.at(0);
    assert_eq!(stage.claim("a").await.0.now, START + 60 * SECOND);
}

async fn a_clock_that_is_further_behind_is_believed_at_once(stage: &Stage) {
    stage.at(60 * SECOND + 1);
    stage.queue(1, "SM1").await;
    stage.at(0);
    assert_eq!(stage.claim("a").await.0.now, START);
}

async fn a_lease_of_a_clock_that_was_put_back_ends_within_its_length(stage: &Stage) {
    stage.at(DAY);
    let lease = stage.lease(1, "SM1", "a").await;
    stage.at(BACK);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(LEASE_MS) });
    assert_eq!(stage.keep_run(&lease, Some("run")).await, Owned::Done, "its owner may live");
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("c").await.0.crashes, 1);
}

async fn a_lease_from_before_the_wrong_clock_keeps_its_end(stage: &Stage) {
    stage.lease(1, "SM1", "a").await;
    stage.at(DAY);
    stage.queue(2, "SM2").await;
    stage.at(BACK);
    stage.claim("b").await;
    let next = Claimed::Nothing { next_in_ms: Some(LEASE_MS - BACK) };
    assert_eq!(stage.claimed("c").await, next);
}

async fn a_delay_of_a_clock_that_was_put_back_is_as_long_as_it_was(stage: &Stage) {
    stage.at(DAY);
    let lease = stage.lease(1, "SM1", "a").await;
    stage.retry(&lease, 30 * SECOND, true).await;
    stage.at(BACK);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(30 * SECOND) });
    stage.pass(30 * SECOND);
    assert_eq!(stage.claim("c").await.0.envelope, "SM1");
}

async fn what_waits_for_an_agent_is_probed_and_ends_as_soon_as_it_would_have(stage: &Stage) {
    stage.at(DAY);
    for (number, sid) in [(1, "SM1"), (2, "SM2")] {
        let lease = stage.lease(number, sid, sid).await;
        stage.park(&lease, "r", 300 * SECOND, 20 * SECOND).await;
    }
    stage.at(BACK);
    assert_eq!(stage.claimed("a").await, Claimed::Nothing { next_in_ms: Some(20 * SECOND) });
    stage.pass(20 * SECOND);
    let (head, lease) = stage.claim("b").await;
    assert_eq!(head.envelope, "SM1", "one of them is let try");
    stage.complete(&lease).await;
    stage.at(BACK + 299 * SECOND);
    let (head, lease) = stage.claim("c").await;
    assert_eq!(head.envelope, "SM2", "let try as well, the last probe a minute ago");
    stage.park(&lease, "r", 300 * SECOND, 20 * SECOND).await;
    assert_eq!(stage.wake("shop", "r").await, 1);
    assert_eq!(stage.ready().await, ["SM2"]);
}

async fn a_sender_who_used_up_his_limit_under_a_wrong_clock_may_write(stage: &Stage) {
    stage.at(DAY);
    fill_the_limit(stage).await;
    stage.at(BACK);
    stage.queue(1, "SMa").await;
    stage.queue(1, "SMb").await;
}

async fn stamps_of_the_right_clock_still_count(stage: &Stage) {
    for number in 0..30 {
        stage.queue(1, &format!("SMr{number}")).await;
    }
    stage.at(30 * SECOND + 60 * SECOND + 1);
    stage.queue(2, "SM2").await;
    // The same, had the clock been right all the time.
    stage.at(BACK);
    for number in 0..20 {
        stage.queue(1, &format!("SMb{number}")).await;
    }
    let limited = Admission::Limited { retry_after_ms: 60 * SECOND - BACK };
    assert_eq!(stage.admit(1, "SMx").await, limited);
}

async fn a_message_of_a_clock_that_was_put_back_begins_to_wait_when_it_is_claimed(stage: &Stage) {
    stage.at(DAY);
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    stage.at(BACK);
    let (head, lease) = stage.claim("a").await;
    assert_eq!((head.admitted_at, head.envelope.as_str()), (START + BACK, "SM1"));
    stage.retry(&lease, SECOND, true).await;
    stage.pass(5 * SECOND);
    let (head, lease) = stage.claim("b").await;
    assert_eq!((head.admitted_at, head.now), (START + BACK, START + BACK + 5 * SECOND));
    stage.complete(&lease).await;
    assert_eq!(stage.claim("c").await.0.admitted_at, START + BACK + 5 * SECOND);
}

async fn a_mark_from_before_a_clock_was_put_back_may_be_of_any_age(stage: &Stage) {
    stage.at(DAY);
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Go);
    // Four minutes, of which no change of the shard tells.
    stage.at(BACK + 240 * SECOND);
    let (sending, now) = standing(stage.mark(&lease, "i", 0, "q").await);
    assert_eq!((now - sending.at, sending.missed_at), (DAY, None));
    assert!(sending.is_ageless(now));
}

async fn a_listing_that_missed_under_a_wrong_clock_is_forgotten(stage: &Stage) {
    stage.at(DAY);
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.at(DAY + 20 * SECOND);
    stage.missed(&lease, "i", 0, "p").await;
    stage.at(BACK);
    let (sending, _) = standing(stage.mark(&lease, "i", 0, "q").await);
    assert_eq!((sending.at, sending.missed_at), (START + BACK - DAY, None));
    // Once more, with a mark that is a day old already.
    stage.at(DAY);
    stage.missed(&lease, "i", 0, "p").await;
    stage.at(BACK);
    let (sending, _) = standing(stage.mark(&lease, "i", 0, "q").await);
    assert_eq!((sending.at, sending.missed_at), (START + BACK - DAY, None));
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.mark(&lease, "i", 1, "q").await, Marked::Go);
}

fn standing(marked: Marked) -> (Sending, u64) {
    match marked {
        Marked::Ambiguous { sending, now, .. } => (sending, now),
        other => panic!("no mark stands: {other:?}"),
    }
}

async fn a_dead_letter_of_a_clock_that_was_put_back_is_as_old_as_the_next_sweep(stage: &Stage) {
    let ended = async |sid: &str, number| {
        let lease = stage.lease(number, sid, sid).await;
        stage.bury(&lease, "budget").await;
    };
    stage.at(DAY);
    ended("SM1", 1).await;
    ended("SM2", 2).await;
    stage.at(BACK);
    stage.sweep().await;
    stage.pass(SECOND);
    let sums = stage.run(SumDead).await;
    assert_eq!((sums[0].count, sums[0].oldest_at), (2, START + BACK));
}

async fn dead_letters_of_a_wrong_clock_come_back_a_hundred_a_call_in_their_order(stage: &Stage) {
    let ended = async |sid: &str| {
        let lease = stage.lease(1, sid, sid).await;
        stage.bury(&lease, "budget").await;
    };
    let ahead = async || {
        let wanted = DeadLetterFilter::default();
        let (after, until, limit) = (0, None, 500);
        let read = ReadLetters { shard: 0, after, until, wanted, limit, with_text: false };
        let ends: Vec<u64> = stage.run(read).await.letters.iter().map(|of| of.at).collect();
        assert!(ends.is_sorted(), "by number and by time");
        ends.iter().filter(|at| **at > START + DAY / 2).count()
    };
    stage.at(DAY);
    for number in 0..250 {
        ended(&format!("SM{number}")).await;
        stage.pass(2 * SECOND);
    }
    stage.at(BACK);
    stage.sweep().await;
    assert_eq!(ahead().await, 150);
    ended("SMlast").await;
    assert_eq!(ahead().await, 51, "the last one as well");
    stage.sweep().await;
    assert_eq!(ahead().await, 0);
}

async fn a_replica_that_died_under_a_wrong_clock_is_not_live(stage: &Stage) {
    stage.at(DAY);
    assert_eq!(beat(stage, "gateway-0").await, 1);
    stage.at(BACK);
    assert_eq!(stage.store.replicas().await.unwrap().1, []);
    assert_eq!(stage.store.acknowledged(id("gateway-0"), None).await.unwrap(), []);
    assert_eq!(beat(stage, "gateway-1").await, 1);
    // Nor when that time comes.
    stage.at(DAY);
    assert_eq!(beat(stage, "gateway-1").await, 1);
}

async fn a_control_request_of_a_clock_that_was_put_back_is_none(stage: &Stage) {
    stage.at(DAY);
    stage.store.note_asked().await.unwrap();
    stage.at(BACK);
    assert_eq!(heard(stage, "gateway-0").await, Heard::Done { asked: None, live: 1 });
}

async fn beat(stage: &Stage, replica: &str) -> u64 {
    match heard(stage, replica).await {
        Heard::Done { live, .. } => live,
        Heard::OtherKey => panic!("the key is its own"),
    }
}

async fn heard(stage: &Stage, replica: &str) -> Heard {
    let heartbeat = Heartbeat {
        replica: id(replica),
        key: stage.store.key().await.unwrap(),
        digest: id("d"),
        obeyed: [(id("shop"), (1, id("aa")))].into(),
        cut: [].into(),
    };
    stage.store.heartbeat(heartbeat).await.unwrap()
}

/// All that a sender may write in a minute.
async fn fill_the_limit(stage: &Stage) {
    for number in 0..50 {
        stage.queue(1, &format!("SM{number}")).await;
    }
    assert!(matches!(stage.run(message(1, "SMx")).await, Admission::Limited { .. }));
}
