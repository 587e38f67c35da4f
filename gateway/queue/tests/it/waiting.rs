//! What waits and what was given up, by channel; and the way back from rows.

use std::collections::BTreeMap;

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::dead::{Buried, DeadSum, Load, MAX_DEAD};
use kanarie_queue::queue::Queue;
use kanarie_queue::rows::is_over;
use kanarie_words::class::Class;
use kanarie_words::track::Track;

use crate::words::{
    DAY, Words as _, all_rows, channel, claimed, committed, conversation, evidence, message,
    neighbour, new_queue, read_back,
};

fn load(of: &str, messages: u64, bytes: u64, dead_letters: u64) -> Load {
    Load { channel: channel(of), messages, bytes, dead_letters }
}

/// A message with an envelope of so many bytes.
fn heavy(number: u8, of: &str, nth: u32, bytes: usize) -> Admit {
    let admit = message(number, &format!("{of}-{number}-{nth}"));
    Admit { channel: channel(of), envelope: "x".repeat(bytes), ..admit }
}

#[test]
fn the_load_of_a_channel_is_what_waits_for_it_in_every_shard() {
    let mut queue = new_queue();
    for (number, of, bytes) in [(1, "a", 10), (1, "a", 7), (2, "a", 5), (33, "b", 3)] {
        let nth = u32::try_from(bytes).unwrap();
        assert_eq!(queue.admit(0, heavy(number, of, nth, bytes)), Admission::Queued);
    }
    assert_eq!(queue.loads(), [load("a", 3, 22, 0), load("b", 1, 3, 0)]);
    assert_eq!(read_back(&mut queue).loads(), queue.loads());
}

#[test]
fn a_leased_message_still_waits_and_a_completed_one_does_not() {
    let mut queue = new_queue();
    queue.admit(0, heavy(1, "a", 0, 10));
    queue.admit(0, heavy(1, "a", 1, 7));
    let (_, lease) = queue.take(0, 1, "n").unwrap();
    assert_eq!(queue.loads(), [load("a", 2, 17, 0)]);
    queue.complete(0, &lease, None);
    assert_eq!(queue.loads(), [load("a", 1, 7, 0)]);
    assert_eq!(read_back(&mut queue).loads(), [load("a", 1, 7, 0)]);
    let (_, lease) = queue.take(0, 1, "m").unwrap();
    queue.complete(0, &lease, None);
    assert_eq!(queue.loads(), []);
}

#[test]
fn a_buried_message_is_a_dead_letter_of_its_channel_and_waits_no_more() {
    let mut queue = new_queue();
    queue.admit(0, heavy(1, "a", 0, 10));
    queue.admit(0, heavy(1, "a", 1, 7));
    let (_, lease) = queue.take(0, 1, "n").unwrap();
    queue.bury(0, &lease, "agent");
    assert_eq!(queue.loads(), [load("a", 1, 7, 1)]);
    assert_eq!(read_back(&mut queue).loads(), [load("a", 1, 7, 1)]);
    queue.sweep(14 * DAY, 1);
    assert_eq!(queue.loads(), [load("a", 1, 7, 0)]);
}

#[test]
fn a_channel_made_anew_is_counted_for_what_it_inherits() {
    let mut queue = new_queue();
    queue.admit(0, heavy(1, "a", 0, 10));
    queue.admit(0, heavy(33, "a", 0, 4));
    queue.admit(0, heavy(1, "anew", 1, 7));
    assert_eq!(queue.loads(), [load("a", 1, 4, 0), load("anew", 2, 17, 0)]);
    assert_eq!(read_back(&mut queue).loads(), queue.loads());
}

#[test]
fn a_refused_message_is_no_load() {
    let mut queue = new_queue();
    let admit = Admit { limit: 1, ..heavy(1, "a", 0, 10) };
    queue.admit(0, admit.clone());
    queue.admit(0, admit);
    queue.admit(0, Admit { limit: 1, ..heavy(1, "a", 1, 10) });
    assert_eq!(queue.loads(), [load("a", 1, 10, 0)]);
}

#[test]
fn a_buried_head_is_counted_by_channel_and_makes_room_for_the_next() {
    let (mut queue, lease) = claimed();
    queue.admit(0, message(1, "SM2"));
    assert_eq!(queue.bury(7, &lease, "agent"), Buried::Done);
    assert_eq!(queue.bury(7, &lease, "agent"), Buried::Stale);
    let letters =
        DeadSum { channel: channel("channel"), count: 1, oldest_at: 7, class: "agent".to_owned() };
    assert_eq!(queue.dead_letters(), [letters]);
    assert_eq!(queue.take(7, 1, "b").unwrap().0.envelope, "SM2");
}

#[test]
fn dead_letters_of_a_channel_tell_the_oldest_time_and_the_newest_class() {
    let mut queue = new_queue();
    for (at, number, class) in [(3, 2, "first"), (5, 1, "second"), (9, 33, "third")] {
        queue.admit(at, message(number, &format!("SM{at}")));
        let (_, lease) = queue.take(at, number % 32, &format!("n{at}")).unwrap();
        assert_eq!(queue.bury(at, &lease, class), Buried::Done);
    }
    let expected =
        DeadSum { channel: channel("channel"), count: 3, oldest_at: 3, class: "third".to_owned() };
    assert_eq!(queue.dead_letters(), [expected]);
    assert_eq!(read_back(&mut queue).dead_letters(), queue.dead_letters());
}

#[test]
fn without_room_for_dead_letters_a_head_stays_where_it_is() {
    let mut queue = new_queue();
    for nth in 0..=MAX_DEAD {
        let admit = Admit { limit: u32::MAX, ..message(1, &format!("SM{nth}")) };
        assert_eq!(queue.admit(0, admit), Admission::Queued);
        let (_, lease) = queue.take(0, 1, "a").unwrap();
        let expected = if nth < MAX_DEAD { Buried::Done } else { Buried::Full };
        assert_eq!(queue.bury(0, &lease, "agent"), expected);
    }
    assert!(queue.take(0, 1, "a").is_some());
    assert_eq!(queue.dead_letters()[0].count, MAX_DEAD as u64);
}

/// The row of the first dead letter of shard 1, if it changed, and its content, if it has one.
fn letter(queue: &mut Queue) -> Option<Option<serde_json::Value>> {
    let mut changes = queue.take_changes().into_iter();
    let row = changes.rfind(|row| row.key == "01:dl:1")?;
    Some(row.value.map(|text| serde_json::from_slice(&text).unwrap()))
}

#[test]
fn a_dead_letter_keeps_all_that_a_replay_needs() {
    let mut queue = new_queue();
    queue.admit(3, message(1, "SM1"));
    let (_, lease) = queue.take(5, 1, "a").unwrap();
    queue.end_attempt(5, &lease, None, None);
    queue.bury(7, &lease, "agent");
    let expected = serde_json::json!({
        "channel": "channel",
        "conversation": conversation(1).as_str(),
        "key": "AC:SM1",
        "class": "agent",
        "at": 7,
        "admitted_at": 3,
        "envelope": "SM1",
        "counted": true,
    });
    assert_eq!(letter(&mut queue), Some(Some(expected)));
}

#[test]
fn a_dead_letter_loses_its_text_after_a_day_and_goes_after_fourteen() {
    let mut queue = new_queue();
    queue.admit(0, Admit { envelope: "words".to_owned(), ..message(1, "SM1") });
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    queue.bury(0, &lease, "agent");
    queue.take_changes();
    queue.sweep(DAY - 1, 1);
    assert_eq!(letter(&mut queue), None);
    queue.sweep(DAY, 1);
    let stripped = letter(&mut queue).unwrap().unwrap();
    assert_eq!(stripped["envelope"], serde_json::Value::Null);
    assert!(!stripped.to_string().contains("words"), "{stripped}");
    queue.sweep(14 * DAY, 1);
    assert_eq!(queue.dead_letters(), []);
    assert_eq!(letter(&mut queue), Some(None));
}

#[test]
fn a_sweep_leaves_no_row_of_what_has_outlived_its_time_but_to_the_owner_of_the_rows() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    let outcome = evidence(1, Track::Stable, Class::Success);
    queue.complete(0, &lease, Some(&outcome));
    queue.sweep(200 * DAY, 1);
    let mut left = queue.take_changes();
    left.retain(|row| row.key.starts_with("01:"));
    left.retain(|row| row.value.as_ref().is_some_and(|value| !is_over(&row.key, value, 200 * DAY)));
    let left = left.iter().map(|row| row.key.as_str()).collect::<Vec<_>>();
    assert_eq!(left, ["01:meta", "01:vt:channel"]);
}

#[test]
fn a_row_that_makes_no_sense_is_refused_without_its_content() {
    let rows = [("05:dd:AC:SMsecret".to_owned(), b"never".to_vec())];
    let error = Queue::load(rows).err().unwrap().to_string();
    assert!(!error.contains("secret") && !error.contains("never"), "{error}");
}

#[test]
fn a_conversation_without_its_messages_is_refused() {
    let (mut queue, _) = claimed();
    let rows = queue.take_changes().into_iter().filter(|row| !row.key.contains(":msg:"));
    let rows = rows.filter_map(|row| Some((row.key, row.value?))).collect::<Vec<_>>();
    assert!(Queue::load(rows).is_err());
}

#[test]
fn a_machine_that_rewrites_every_row_changes_none() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    queue.admit(0, Admit { conversation: neighbour(7), ..message(0, "other") });
    let (_, other) = queue.take(0, 1, "b").unwrap();
    queue.end_attempt(0, &other, Some(&evidence(1, Track::Canary, Class::Http)), Some("c"));
    queue.park(0, &other, 900_000, 5_000);
    let mut written = BTreeMap::new();
    for row in queue.take_changes() {
        written.extend(row.value.map(|value| (row.key, value)));
    }
    written.retain(|name, _| !name.contains(":dd:"));
    assert_eq!(all_rows(&mut queue), written);
}
