//! What becomes of replies: which report is a change, and what a channel could not deliver.

use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered, Undelivered};
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_queue::sweep::Sweep;
use kanarie_words::ids::ConversationId;
use redis::{FromRedisValue, cmd};

use crate::store::stage::{START, Stage, conversation, id};

const DAY_MS: u64 = 86_400_000;

on_both_stores!(
    each_step_of_a_reply_is_a_change_once,
    what_comes_late_or_again_changes_nothing,
    reports_of_one_batch_are_taken_one_after_the_other,
    an_empty_batch_changes_nothing,
    undelivered_replies_are_told_by_channel_with_the_last_code,
    a_reply_that_was_delivered_after_all_is_not_told_of,
    the_last_eight_segments_are_remembered_for_two_minutes,
    a_channel_is_told_of_for_fourteen_days,
    a_clock_that_steps_back_a_minute_at_most_brings_nothing_back,
    a_clock_that_was_put_back_further_is_believed,
    what_is_remembered_of_an_erased_conversation_goes_with_it,
    a_batch_of_sixty_four_customers_is_taken_at_once,
);

fn report(number: u8, word: &str, code: u32) -> SegmentReport {
    SegmentReport {
        channel: id("shop"),
        conversation: conversation(number),
        intent: id("a"),
        segment: 0,
        delivery: Delivery::reported(word, Some(code)).unwrap(),
    }
}

async fn note(stage: &Stage, reports: impl Into<Vec<SegmentReport>>) -> Vec<bool> {
    stage.run(NoteDeliveries { reports: reports.into() }).await
}

fn told(channel: &str, count: u64, code: Option<u32>, at: u64) -> Undelivered {
    Undelivered { channel: id(channel), count, last_code: code, last_at: START + at }
}

async fn each_step_of_a_reply_is_a_change_once(stage: &Stage) {
    for word in ["accepted", "scheduled", "queued", "sending", "sent", "delivered", "read"] {
        assert_eq!(note(stage, [report(1, word, 0)]).await, [true], "{word}");
        assert_eq!(note(stage, [report(1, word, 0)]).await, [false], "{word} again");
    }
}

async fn what_comes_late_or_again_changes_nothing(stage: &Stage) {
    for (number, first, late) in [
        (1, "delivered", "sent"),
        (2, "read", "undelivered"),
        (3, "undelivered", "sent"),
        (4, "failed", "undelivered"),
        (5, "canceled", "queued"),
    ] {
        assert_eq!(note(stage, [report(number, first, 63_016)]).await, [true]);
        assert_eq!(note(stage, [report(number, late, 63_016)]).await, [false], "{first}, {late}");
    }
}

async fn reports_of_one_batch_are_taken_one_after_the_other(stage: &Stage) {
    let batch = [
        report(1, "sent", 0),
        report(2, "delivered", 0),
        report(1, "undelivered", 63_016),
        report(2, "sent", 0),
        report(1, "undelivered", 63_016),
    ];
    assert_eq!(note(stage, batch).await, [true, true, true, false, false]);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(63_016), 0)]);
}

async fn an_empty_batch_changes_nothing(stage: &Stage) {
    assert!(note(stage, Vec::new()).await.is_empty());
    assert_eq!(stage.run(SumUndelivered).await, []);
}

async fn undelivered_replies_are_told_by_channel_with_the_last_code(stage: &Stage) {
    let of =
        |channel: &str, report: SegmentReport| SegmentReport { channel: id(channel), ..report };
    note(stage, [report(1, "undelivered", 63_016), of("b", report(2, "failed", 0))]).await;
    stage.pass(500);
    note(stage, [report(3, "failed", 63_024), report(4, "sent", 0)]).await;
    let expected = [told("b", 1, None, 0), told("shop", 2, Some(63_024), 500)];
    assert_eq!(stage.run(SumUndelivered).await, expected);
}

async fn a_reply_that_was_delivered_after_all_is_not_told_of(stage: &Stage) {
    note(stage, [report(1, "undelivered", 63_016), report(2, "failed", 63_018)]).await;
    stage.pass(500);
    assert_eq!(note(stage, [report(1, "delivered", 0)]).await, [true]);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(63_018), 0)]);
    note(stage, [report(2, "read", 0)]).await;
    assert_eq!(stage.run(SumUndelivered).await, []);
}

async fn the_last_eight_segments_are_remembered_for_two_minutes(stage: &Stage) {
    let nth = |segment| SegmentReport { segment, ..report(1, "sent", 0) };
    let nine: Vec<SegmentReport> = (0..9).map(nth).collect();
    assert_eq!(note(stage, nine).await, [true; 9]);
    stage.at(119_999);
    assert_eq!(note(stage, [nth(8), nth(1), nth(0)]).await, [false, false, true]);
    stage.at(239_998);
    assert_eq!(note(stage, [nth(0)]).await, [false]);
    stage.at(239_999);
    assert_eq!(note(stage, [nth(0)]).await, [true]);
}

async fn a_channel_is_told_of_for_fourteen_days(stage: &Stage) {
    note(stage, [report(1, "undelivered", 63_016)]).await;
    stage.at(14 * DAY_MS - 1);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(63_016), 0)]);
    stage.at(14 * DAY_MS);
    assert_eq!(stage.run(SumUndelivered).await, []);
    note(stage, [report(2, "failed", 63_049)]).await;
    let anew = told("shop", 1, Some(63_049), 14 * DAY_MS);
    assert_eq!(stage.run(SumUndelivered).await, [anew]);
}

async fn a_clock_that_steps_back_a_minute_at_most_brings_nothing_back(stage: &Stage) {
    stage.at(60_000);
    note(stage, [report(1, "sent", 0)]).await;
    stage.at(0);
    assert_eq!(note(stage, [report(1, "sent", 0)]).await, [false]);
    assert_eq!(note(stage, [report(2, "failed", 1)]).await, [true]);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(1), 60_000)]);
}

async fn a_clock_that_was_put_back_further_is_believed(stage: &Stage) {
    stage.at(30 * DAY_MS);
    note(stage, [report(1, "sent", 0), report(2, "failed", 1)]).await;
    stage.at(0);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(1), 0)], "only asked");
    let batch = [report(1, "sent", 0), report(3, "sent", 0)];
    assert_eq!(note(stage, batch.clone()).await, [false, true]);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(1), 0)]);
    stage.at(120_000);
    assert_eq!(note(stage, batch).await, [true, true], "two minutes later both are forgotten");
    stage.at(14 * DAY_MS);
    assert_eq!(stage.run(SumUndelivered).await, []);
}

async fn what_is_remembered_of_an_erased_conversation_goes_with_it(stage: &Stage) {
    note(stage, [report(1, "sent", 0), report(2, "sent", 0)]).await;
    stage.erase(1).await;
    let again = note(stage, [report(1, "sent", 0), report(2, "sent", 0)]).await;
    assert_eq!(again, [true, false]);
}

async fn a_batch_of_sixty_four_customers_is_taken_at_once(stage: &Stage) {
    let batch: Vec<SegmentReport> =
        (0..64).map(|number| report(number, "failed", 63_016)).collect();
    assert_eq!(note(stage, batch.clone()).await, [true; 64]);
    assert_eq!(note(stage, batch).await, [false; 64]);
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 64, Some(63_016), 0)]);
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_as_if_it_were_absent() {
    let stage = Stage::redis().await;
    let of = conversation(1).to_string();
    for nonsense in ["", "x", "a.0", "a.0=x", "=7"] {
        ask::<()>(&stage, &["HSET", "{gw:dlv}:st", &of, nonsense]).await;
        ask::<()>(&stage, &["ZADD", "{gw:dlv}:stz", "9999999999999", &of]).await;
        assert_eq!(note(&stage, [report(1, "sent", 0)]).await, [true], "{nonsense}");
        assert_eq!(note(&stage, [report(1, "sent", 0)]).await, [false], "{nonsense}");
    }
    ask::<()>(&stage, &["HSET", "{gw:dlv}:un", "shop", "melted"]).await;
    assert_eq!(stage.run(SumUndelivered).await, []);
    note(&stage, [report(2, "failed", 63_016)]).await;
    assert_eq!(stage.run(SumUndelivered).await, [told("shop", 1, Some(63_016), 0)]);
}

#[tokio::test]
async fn redis_forgets_with_the_sweep_and_keeps_no_more_conversations_than_it_may() {
    let stage = Stage::redis().await;
    note(&stage, [report(1, "sent", 0)]).await;
    stage.at(120_000);
    stage.run(Sweep { shard: 7 }).await;
    let kept = ["{gw:dlv}:st", "{gw:dlv}:stz"];
    assert_eq!(ask::<Vec<String>>(&stage, &["KEYS", "{gw:dlv}:st*"]).await, [""; 0]);
    let of = |nth: u32| {
        let bytes = [nth.to_be_bytes(); 4].concat().try_into().unwrap();
        SegmentReport { conversation: ConversationId::from_bytes(bytes), ..report(1, "sent", 0) }
    };
    for batch in (0..33_000).collect::<Vec<u32>>().chunks(64) {
        note(&stage, batch.iter().map(|nth| of(*nth)).collect::<Vec<_>>()).await;
    }
    let sizes = (
        ask::<u64>(&stage, &["HLEN", kept[0]]).await,
        ask::<u64>(&stage, &["ZCARD", kept[1]]).await,
    );
    assert_eq!(sizes, (32_768, 32_768));
}

async fn ask<T: FromRedisValue>(stage: &Stage, words: &[&str]) -> T {
    let client = redis::Client::open(stage.server.as_ref().unwrap().url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}
