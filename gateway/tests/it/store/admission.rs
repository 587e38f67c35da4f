//! Admission: duplicate, then limit, then capacity, then append.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;

use crate::store::stage::{LEASE_MS, Stage, id, message};

on_both_stores!(
    a_repeated_message_is_a_duplicate_and_is_queued_once,
    a_message_is_new_again_exactly_at_the_end_of_its_memory,
    a_message_over_the_limit_waits_until_the_oldest_stamp_has_gone,
    a_limited_message_is_no_duplicate_later,
    a_duplicate_costs_no_quota,
    each_conversation_has_its_own_limit,
    a_limit_of_zero_admits_nothing_and_names_a_whole_window,
    a_lowered_limit_waits_for_the_stamp_that_must_go,
    a_conversation_is_full_at_200_messages,
    a_message_refused_as_full_is_no_duplicate_later,
    a_shard_is_full_at_64_mebibytes_of_envelopes,
    a_duplicate_is_told_before_a_limit,
    a_limit_is_told_before_a_full_conversation,
    an_admission_in_an_earlier_time_counts_as_now,
    an_envelope_comes_back_byte_for_byte,
);

async fn a_repeated_message_is_a_duplicate_and_is_queued_once(stage: &Stage) {
    stage.queue(1, "SM1").await;
    assert_eq!(stage.admit(1, "SM1").await, Admission::Duplicate);
    let (_, lease) = stage.claim("a").await;
    stage.complete(&lease).await;
    assert_eq!(stage.admit(1, "SM1").await, Admission::Duplicate);
    assert!(nothing(stage).await);
}

async fn a_message_is_new_again_exactly_at_the_end_of_its_memory(stage: &Stage) {
    let brief = || Admit { dedup_ms: 300_000, ..message(1, "SM1") };
    assert_eq!(stage.run(brief()).await, Admission::Queued);
    stage.at(299_999);
    assert_eq!(stage.run(brief()).await, Admission::Duplicate);
    stage.at(300_000);
    assert_eq!(stage.run(brief()).await, Admission::Queued);
}

async fn a_message_over_the_limit_waits_until_the_oldest_stamp_has_gone(stage: &Stage) {
    let limited = |sid: &str| Admit { limit: 2, ..message(1, sid) };
    assert_eq!(stage.run(limited("SM1")).await, Admission::Queued);
    stage.pass(10_000);
    assert_eq!(stage.run(limited("SM2")).await, Admission::Queued);
    stage.pass(5_000);
    let wait = Admission::Limited { retry_after_ms: 45_000 };
    assert_eq!(stage.run(limited("SM3")).await, wait);
    stage.pass(44_999);
    let wait = Admission::Limited { retry_after_ms: 1 };
    assert_eq!(stage.run(limited("SM3")).await, wait);
    stage.pass(1);
    assert_eq!(stage.run(limited("SM3")).await, Admission::Queued);
    let wait = Admission::Limited { retry_after_ms: 10_000 };
    assert_eq!(stage.run(limited("SM4")).await, wait);
}

async fn a_limited_message_is_no_duplicate_later(stage: &Stage) {
    let limited = |sid: &str| Admit { limit: 1, ..message(1, sid) };
    assert_eq!(stage.run(limited("SM1")).await, Admission::Queued);
    assert!(matches!(stage.run(limited("SM2")).await, Admission::Limited { .. }));
    stage.pass(60_000);
    assert_eq!(stage.run(limited("SM2")).await, Admission::Queued);
}

async fn a_duplicate_costs_no_quota(stage: &Stage) {
    let limited = |sid: &str| Admit { limit: 2, ..message(1, sid) };
    for sid in ["SM1", "SM1", "SM1", "SM2"] {
        let answer = stage.run(limited(sid)).await;
        assert!(!matches!(answer, Admission::Limited { .. }));
    }
}

async fn each_conversation_has_its_own_limit(stage: &Stage) {
    let limited = |number: u8, sid: &str| Admit { limit: 1, ..message(number, sid) };
    assert_eq!(stage.run(limited(1, "SM1")).await, Admission::Queued);
    assert_eq!(stage.run(limited(2, "SM2")).await, Admission::Queued);
}

async fn a_limit_of_zero_admits_nothing_and_names_a_whole_window(stage: &Stage) {
    let refused = Admit { limit: 0, ..message(1, "SM1") };
    let wait = Admission::Limited { retry_after_ms: 60_000 };
    assert_eq!(stage.run(refused).await, wait);
}

async fn a_lowered_limit_waits_for_the_stamp_that_must_go(stage: &Stage) {
    for at in 0..5 {
        stage.at(at * 1_000);
        stage.queue(1, &format!("SM{at}")).await;
    }
    // Of five stamps four must go, the last of them made at 3,000.
    let lowered = Admit { limit: 2, ..message(1, "SM9") };
    let wait = Admission::Limited { retry_after_ms: 59_000 };
    assert_eq!(stage.run(lowered).await, wait);
}

async fn a_conversation_is_full_at_200_messages(stage: &Stage) {
    fill_conversation(stage).await;
    assert_eq!(stage.run(unlimited("SM200")).await, Admission::Full);
    stage.queue(2, "SMother").await;
}

async fn a_message_refused_as_full_is_no_duplicate_later(stage: &Stage) {
    fill_conversation(stage).await;
    assert_eq!(stage.run(unlimited("SM200")).await, Admission::Full);
    let (_, lease) = stage.claim("a").await;
    stage.complete(&lease).await;
    assert_eq!(stage.run(unlimited("SM200")).await, Admission::Queued);
}

async fn a_shard_is_full_at_64_mebibytes_of_envelopes(stage: &Stage) {
    let large = |sid: &str, bytes: usize| Admit { envelope: "x".repeat(bytes), ..unlimited(sid) };
    for part in 0..8 {
        let message = large(&format!("SM{part}"), 8 << 20);
        assert_eq!(stage.run(message).await, Admission::Queued);
    }
    assert_eq!(stage.run(large("SM9", 1)).await, Admission::Full);
    let (_, lease) = stage.claim("a").await;
    stage.complete(&lease).await;
    assert_eq!(stage.run(large("SM9", 8 << 20)).await, Admission::Queued);
}

async fn a_duplicate_is_told_before_a_limit(stage: &Stage) {
    let limited = || Admit { limit: 1, ..message(1, "SM1") };
    assert_eq!(stage.run(limited()).await, Admission::Queued);
    assert_eq!(stage.run(limited()).await, Admission::Duplicate);
}

async fn a_limit_is_told_before_a_full_conversation(stage: &Stage) {
    fill_conversation(stage).await;
    let limited = Admit { limit: 200, ..message(1, "SM200") };
    let wait = Admission::Limited { retry_after_ms: 60_000 };
    assert_eq!(stage.run(limited).await, wait);
}

async fn an_admission_in_an_earlier_time_counts_as_now(stage: &Stage) {
    stage.at(20_000);
    stage.queue(1, "SM1").await;
    stage.at(0);
    stage.queue(2, "SM2").await;
    let (first, _) = stage.claim("a").await;
    let (second, _) = stage.claim("b").await;
    assert_eq!(second.admitted_at, first.admitted_at);
    assert_eq!(second.now, first.admitted_at);
}

async fn an_envelope_comes_back_byte_for_byte(stage: &Stage) {
    let text = "{\"a\": \"Héllo 👋\\n\", \"b\": [], \"c\": null}\0\r\n:12:%d\u{7f}";
    let message =
        Admit { envelope: text.to_owned(), dedup_key: id("AC:9:%d:"), ..message(1, "SM1") };
    assert_eq!(stage.run(message).await, Admission::Queued);
    assert_eq!(stage.claim("a").await.0.envelope, text);
}

fn unlimited(sid: &str) -> Admit {
    Admit { limit: 100_000, ..message(1, sid) }
}

async fn fill_conversation(stage: &Stage) {
    for number in 0..200 {
        let message = unlimited(&format!("SM{number}"));
        assert_eq!(stage.run(message).await, Admission::Queued);
    }
}

async fn nothing(stage: &Stage) -> bool {
    stage.pass(LEASE_MS);
    matches!(stage.claimed("nobody").await, Claimed::Nothing { .. })
}
