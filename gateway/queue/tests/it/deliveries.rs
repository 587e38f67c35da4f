//! What becomes of replies: one end for any order of reports, one change of each, and a count by channel.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered, Undelivered};
use kanarie_queue::delivery::{Delivery, DeliveryStatus, SegmentReport};
use kanarie_queue::erase::EraseConversation;
use kanarie_queue::queue::Queue;
use kanarie_queue::sweep::Sweep;
use kanarie_words::Millis;
use kanarie_words::ids::ConversationId;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};

use crate::words::{DAY, channel, conversation, intent_id, new_queue};

/// What a callback says of the first segment of a conversation's only reply.
fn report(number: u8, word: &str, code: u32) -> SegmentReport {
    report_of(number, "a", 0, word, code)
}

fn report_of(number: u8, intent: &str, segment: u32, word: &str, code: u32) -> SegmentReport {
    SegmentReport {
        channel: channel("shop"),
        conversation: conversation(number),
        intent: intent_id(intent),
        segment,
        delivery: Delivery::reported(word, Some(code)).unwrap(),
    }
}

fn note(queue: &mut Queue, now: Millis, reports: &[SegmentReport]) -> Vec<bool> {
    queue.run(now, NoteDeliveries { reports: reports.to_vec() })
}

fn undelivered(queue: &mut Queue, now: Millis) -> Vec<(u64, Option<u32>, Millis)> {
    let sums = queue.run(now, SumUndelivered).into_iter();
    sums.map(|Undelivered { count, last_code, last_at, .. }| (count, last_code, last_at)).collect()
}

#[test]
fn each_step_of_a_reply_is_a_change_once() {
    let mut queue = new_queue();
    for word in ["queued", "sending", "sent", "delivered", "read"] {
        assert_eq!(note(&mut queue, 0, &[report(1, word, 0)]), [true], "{word}");
        assert_eq!(note(&mut queue, 1, &[report(1, word, 0)]), [false], "{word} again");
    }
    assert_eq!(undelivered(&mut queue, 1), []);
}

#[test]
fn what_comes_too_late_changes_nothing() {
    for (first, late) in [
        ("delivered", "sent"),
        ("read", "delivered"),
        ("failed", "sent"),
        ("undelivered", "queued"),
        ("delivered", "undelivered"),
        ("read", "failed"),
    ] {
        let mut queue = new_queue();
        let reports = [report(1, first, 0), report(1, late, 63_016)];
        assert_eq!(note(&mut queue, 0, &reports), [true, false], "{first}, then {late}");
    }
}

#[test]
fn a_reply_that_is_not_delivered_is_counted_for_its_channel_with_its_code() {
    let mut queue = new_queue();
    note(&mut queue, 5, &[report(1, "sent", 0), report(1, "undelivered", 63_016)]);
    assert_eq!(undelivered(&mut queue, 6), [(1, Some(63_016), 5)]);
    note(&mut queue, 7, &[report(1, "undelivered", 63_016), report(2, "failed", 63_024)]);
    assert_eq!(undelivered(&mut queue, 8), [(2, Some(63_024), 7)]);
}

#[test]
fn a_reply_that_was_delivered_after_all_is_not_counted_any_more() {
    let mut queue = new_queue();
    note(&mut queue, 0, &[report(1, "undelivered", 63_016), report(2, "failed", 63_018)]);
    note(&mut queue, 9, &[report(1, "delivered", 0)]);
    assert_eq!(undelivered(&mut queue, 9), [(1, Some(63_018), 0)]);
    note(&mut queue, 9, &[report(2, "read", 0)]);
    assert_eq!(undelivered(&mut queue, 9), []);
}

#[test]
fn the_last_eight_segments_of_a_conversation_are_remembered_for_two_minutes() {
    let mut queue = new_queue();
    let nth = |segment| report_of(1, "a", segment, "sent", 0);
    let nine: Vec<_> = (0..9).map(nth).collect();
    assert!(note(&mut queue, 0, &nine).iter().all(|changed| *changed));
    assert_eq!(note(&mut queue, 119_999, &[nth(1), nth(8)]), [false, false]);
    assert_eq!(note(&mut queue, 119_999, &[nth(0)]), [true], "the first of nine is forgotten");
    assert_eq!(note(&mut queue, 239_998, &[nth(0)]), [false]);
    assert_eq!(note(&mut queue, 239_999, &[nth(0)]), [true], "two minutes after the last change");
}

#[test]
fn segments_and_replies_of_a_conversation_are_told_apart() {
    let mut queue = new_queue();
    let reports =
        [("a", 0), ("a", 1), ("b", 0)].map(|(of, number)| report_of(1, of, number, "sent", 0));
    assert_eq!(note(&mut queue, 0, &reports), [true; 3]);
    assert_eq!(note(&mut queue, 0, &reports), [false; 3]);
}

#[test]
fn a_channel_without_an_undelivered_reply_for_fourteen_days_is_told_of_no_more() {
    let mut queue = new_queue();
    note(&mut queue, 0, &[report(1, "undelivered", 63_016)]);
    assert_eq!(undelivered(&mut queue, 14 * DAY - 1).len(), 1);
    assert_eq!(undelivered(&mut queue, 14 * DAY), []);
    note(&mut queue, 14 * DAY, &[report(2, "undelivered", 63_024)]);
    assert_eq!(undelivered(&mut queue, 14 * DAY), [(1, Some(63_024), 14 * DAY)]);
}

#[test]
fn only_a_change_is_a_row_and_what_is_forgotten_is_none() {
    let mut queue = new_queue();
    queue.take_changes();
    note(&mut queue, 0, &[report(1, "sent", 0), report(2, "undelivered", 63_016)]);
    let rows = |queue: &mut Queue| {
        let changes = queue.take_changes().into_iter();
        changes.map(|row| (row.key, row.value.is_some())).collect::<BTreeMap<_, _>>()
    };
    let (one, two) = (conversation(1), conversation(2));
    let named = |names: &[(String, bool)]| names.iter().cloned().collect::<BTreeMap<_, _>>();
    let written = [
        (format!("sys:st:{one}"), true),
        (format!("sys:st:{two}"), true),
        ("sys:un:shop".to_owned(), true),
    ];
    assert_eq!(rows(&mut queue), named(&written));
    note(&mut queue, 1, &[report(1, "sent", 0), report(2, "sent", 0)]);
    assert_eq!(rows(&mut queue), named(&[]));
    note(&mut queue, 120_000, &[report(3, "sent", 0)]);
    let forgotten = [
        (format!("sys:st:{one}"), false),
        (format!("sys:st:{two}"), false),
        (format!("sys:st:{}", conversation(3)), true),
    ];
    assert_eq!(rows(&mut queue), named(&forgotten));
}

#[test]
fn a_clock_that_steps_back_a_minute_at_most_brings_nothing_back() {
    let mut queue = new_queue();
    note(&mut queue, 1_000_000, &[report(1, "sent", 0)]);
    assert_eq!(note(&mut queue, 940_000, &[report(1, "sent", 0)]), [false]);
    assert_eq!(note(&mut queue, 940_000, &[report(2, "failed", 1)]), [true]);
    assert_eq!(undelivered(&mut queue, 940_000), [(1, Some(1), 1_000_000)]);
}

#[test]
fn a_clock_that_was_put_back_further_is_believed_and_nothing_stays_ahead_of_it() {
    let mut queue = new_queue();
    note(&mut queue, 30 * DAY, &[report(1, "sent", 0), report(2, "failed", 1)]);
    assert_eq!(undelivered(&mut queue, 0), [(1, Some(1), 0)], "though only asked");
    assert_eq!(note(&mut queue, 0, &[report(1, "sent", 0), report(3, "sent", 0)]), [false, true]);
    assert_eq!(undelivered(&mut queue, 0), [(1, Some(1), 0)]);
    queue.take_changes();
    queue.run(120_000, Sweep { shard: 0 });
    assert_eq!(rows_gone(&mut queue), BTreeSet::from([1, 2, 3].map(row)));
    assert_eq!(undelivered(&mut queue, 14 * DAY), []);
}

#[test]
fn what_has_ended_goes_with_the_sweep_though_nobody_reports() {
    let mut queue = new_queue();
    note(&mut queue, 0, &[report(1, "sent", 0), report(2, "sent", 0)]);
    queue.take_changes();
    queue.run(119_999, Sweep { shard: 31 });
    assert_eq!(rows_gone(&mut queue), BTreeSet::new());
    queue.run(120_000, Sweep { shard: 31 });
    assert_eq!(rows_gone(&mut queue), BTreeSet::from([1, 2].map(row)));
}

#[test]
fn what_is_remembered_of_an_erased_conversation_goes_with_it() {
    let mut queue = new_queue();
    note(&mut queue, 0, &[report(1, "sent", 0), report(2, "sent", 0)]);
    queue.take_changes();
    let erase = EraseConversation { conversation: conversation(1), channels: Vec::new() };
    queue.run(1, erase);
    assert_eq!(rows_gone(&mut queue), BTreeSet::from([row(1)]));
    assert_eq!(note(&mut queue, 2, &[report(1, "sent", 0), report(2, "sent", 0)]), [true, false]);
}

#[test]
fn whoever_names_conversations_without_end_makes_the_oldest_go_and_no_more_room() {
    let mut queue = new_queue();
    let of = |nth: u32| {
        let bytes = [nth.to_be_bytes(); 4].concat().try_into().unwrap();
        SegmentReport { conversation: ConversationId::from_bytes(bytes), ..report(1, "sent", 0) }
    };
    let mut rows = BTreeSet::new();
    for batch in (0..40_000).collect::<Vec<u32>>().chunks(64) {
        let reports: Vec<SegmentReport> = batch.iter().map(|nth| of(*nth)).collect();
        note(&mut queue, u64::from(batch[0] / 1_000), &reports);
        for row in queue.take_changes().into_iter().filter(|row| row.key.starts_with("sys:st:")) {
            if row.value.is_some() {
                rows.insert(row.key)
            } else {
                rows.remove(&row.key)
            };
        }
    }
    assert_eq!(rows.len(), 32_768);
    assert_eq!(note(&mut queue, 40, &[of(39_999), of(0)]), [false, true]);
}

fn row(number: u8) -> String {
    format!("sys:st:{}", conversation(number))
}

fn rows_gone(queue: &mut Queue) -> BTreeSet<String> {
    let changes = queue.take_changes().into_iter().filter(|row| row.key.starts_with("sys:"));
    let gone = changes.filter(|row| row.value.is_none());
    gone.map(|row| row.key).collect()
}

#[test]
fn a_word_that_nobody_knows_and_a_code_that_is_none_are_no_delivery() {
    for word in ["", "received", "partially_delivered", "Delivered", "melted"] {
        assert_eq!(Delivery::reported(word, None), None, "{word}");
    }
    let code = |word, code| Delivery::reported(word, Some(code)).and_then(Delivery::code);
    assert_eq!(code("undelivered", 63_016), Some(63_016));
    for (word, none) in [("undelivered", 0), ("failed", 1_000_000), ("delivered", 63_016)] {
        assert_eq!(code(word, none), None, "{word} {none}");
    }
}

#[test]
fn a_number_is_a_delivery_and_as_great() {
    let codes = [None, Some(1), Some(63_016), Some(999_999)];
    let all = DeliveryStatus::ALL.into_iter();
    let all = all.flat_map(|status| codes.map(|code| Delivery::reported(status.as_str(), code)));
    let all: BTreeSet<Delivery> = all.flatten().collect();
    assert!(all.iter().zip(all.iter().skip(1)).all(|(one, next)| one.number() < next.number()));
    for delivery in &all {
        assert_eq!(Delivery::of_number(delivery.number()), Some(*delivery));
    }
    for number in [4_000_001, 8_063_016, 10_000_000, u32::MAX] {
        assert_eq!(Delivery::of_number(number), None, "{number}");
    }
}

/// Reports of four segments, in an order that Twilio chose, and the same once more in another.
fn reports() -> impl Strategy<Value = (Vec<SegmentReport>, Vec<SegmentReport>)> {
    let code = proptest::option::of(0..4_usize);
    let one = (0..2_u8, 0..2_u32, 0..DeliveryStatus::ALL.len(), code).prop_map(
        |(number, segment, status, code)| {
            let word = DeliveryStatus::ALL[status].as_str();
            let code = code.map_or(0, |at| [63_016, 63_018, 63_024, 63_049][at]);
            report_of(number, "a", segment, word, code)
        },
    );
    proptest::collection::vec(one, 1..40).prop_flat_map(|reports| {
        let repeated = (Just(reports.clone()), any::<bool>());
        let repeated = repeated.prop_map(|(reports, again)| {
            let times = if again { 2 } else { 1 };
            reports.iter().cycle().take(times * reports.len()).cloned().collect::<Vec<_>>()
        });
        (Just(reports), repeated.prop_flat_map(|again| Just(again).prop_shuffle()))
    })
}

/// The rows of deliveries after these reports, a batch of so many at a time; the time of the last
/// undelivered one, and its code, are those of the last to come.
fn rows_after(reports: &[SegmentReport], batch: usize) -> (Vec<(String, Vec<u8>)>, u64) {
    let mut queue = new_queue();
    queue.take_changes();
    for some in reports.chunks(batch) {
        note(&mut queue, 5, some);
    }
    let rows = queue.take_changes().into_iter().filter(|row| row.key.starts_with("sys:st:"));
    let rows = rows.filter_map(|row| Some((row.key, sorted(&row.value?)))).collect();
    (rows, undelivered(&mut queue, 5).first().map_or(0, |(count, ..)| *count))
}

/// Segments stand in the order in which they were first heard of.
fn sorted(row: &[u8]) -> Vec<u8> {
    let mut row: serde_json::Value = serde_json::from_slice(row).unwrap();
    let mut kept: Vec<String> =
        row["kept"].as_array().unwrap().iter().map(ToString::to_string).collect();
    kept.sort();
    row["kept"] = kept.into();
    row.to_string().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_repetition_ends_in_the_same_state_and_the_same_count(
        (reports, others) in reports(),
        batch in 1..9_usize,
    ) {
        assert_eq!(rows_after(&reports, batch), rows_after(&others, 64));
    }

    #[test]
    fn the_count_is_that_of_the_segments_that_end_undelivered((reports, _) in reports()) {
        let mut ends: BTreeMap<String, Delivery> = BTreeMap::new();
        for SegmentReport { conversation, segment, delivery, .. } in &reports {
            let end = ends.entry(format!("{conversation}.{segment}")).or_insert(*delivery);
            *end = (*end).max(*delivery);
        }
        let expected = ends.values().filter(|end| end.is_undelivered()).count() as u64;
        assert_eq!(rows_after(&reports, 8).1, expected);
    }

    #[test]
    fn a_machine_read_back_between_any_two_batches_answers_alike(
        (reports, others) in reports(),
        batch in 1..9_usize,
    ) {
        let (mut queue, mut read_back) = (new_queue(), new_queue());
        let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (at, some) in reports.chunks(batch).chain(others.chunks(batch)).enumerate() {
            let now = 50_000 * at as Millis;
            assert_eq!(note(&mut queue, now, some), note(&mut read_back, now, some));
            for row in read_back.take_changes() {
                match row.value {
                    Some(value) => drop(rows.insert(row.key, value)),
                    None => drop(rows.remove(&row.key)),
                }
            }
            read_back = Queue::load(rows.clone()).expect("its own rows are good");
        }
        let now = 50_000_000;
        assert_eq!(undelivered(&mut queue, now), undelivered(&mut read_back, now));
    }
}
