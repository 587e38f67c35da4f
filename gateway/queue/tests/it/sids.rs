//! SIDs and other memories with an end: what is read of them at the start, what goes and what stays.

use kanarie_queue::admit::Admission::{Duplicate, Queued};
use kanarie_queue::load::Loading;
use kanarie_queue::queue::Queue;
use kanarie_queue::rows::is_over;

use crate::words::{DAY, Words as _, claimed, message, new_queue};

/// The rows that a machine has written, as it would write them now.
fn rows(queue: &mut Queue) -> Vec<(String, Vec<u8>)> {
    let rows = queue.take_changes().into_iter();
    rows.filter_map(|row| Some((row.key, row.value?))).collect()
}

/// The machine of these rows, read at a time; it may take so many bytes.
fn read_at(rows: Vec<(String, Vec<u8>)>, now: u64, memory: Option<u64>) -> Queue {
    let mut loading = Loading::at(now, memory);
    rows.into_iter().for_each(|(name, value)| loading.read(&name, value).unwrap());
    loading.finish().unwrap()
}

/// Admits message `sid` and completes it.
fn ends(queue: &mut Queue, now: u64, sid: &str) {
    assert_eq!(queue.admit(now, message(1, sid)), Queued);
    let (_, lease) = queue.take(now, 1, sid).unwrap();
    queue.complete(now, &lease, None);
}

#[test]
fn a_sid_is_remembered_to_the_millisecond_by_a_machine_that_was_read() {
    let mut queue = new_queue();
    ends(&mut queue, 7, "SM1");
    let rows = rows(&mut queue);
    for (at, answer) in [(DAY + 6, Duplicate), (DAY + 7, Queued)] {
        assert_eq!(read_at(rows.clone(), at, None).admit(at, message(1, "SM1")), answer);
    }
}

#[test]
fn what_has_outlived_its_time_is_not_read_although_its_row_is_there() {
    let mut queue = new_queue();
    ends(&mut queue, 0, "SM1");
    let rows = rows(&mut queue);
    let over = rows.iter().filter(|(name, value)| is_over(name, value, DAY)).count();
    assert_eq!(over, 2, "a SID and the stamps");
    let mut late = read_at(rows.clone(), DAY, None);
    // A clock that stepped back meets nothing that could have been read.
    assert_eq!(late.admit(1, message(1, "SM1")), Queued);
    let mut early = read_at(rows, DAY - 1, None);
    assert_eq!(early.admit(1, message(1, "SM1")), Duplicate);
}

#[test]
fn a_row_is_over_at_the_millisecond_and_no_row_of_a_message_ever_is() {
    let (mut queue, _) = claimed();
    for (name, value) in rows(&mut queue) {
        let ages = name.contains(":dd:") || name.contains(":rl:");
        assert_eq!(is_over(&name, &value, u64::MAX), ages, "{name}");
    }
    assert!(is_over("01:dd:AC:SM1", b"5", 5) && !is_over("01:dd:AC:SM1", b"5", 4));
    assert!(!is_over("01:dd:AC:SM1", b"five", 9), "whoever reads it is told");
}

#[test]
fn of_more_sids_than_fit_the_newest_are_read_and_those_that_wait() {
    let mut queue = new_queue();
    queue.admit(0, message(2, "SMwaits"));
    for nth in 0..2_000 {
        ends(&mut queue, nth * 60_000 / 4, &format!("SM{nth}"));
    }
    let now = 2_000 * 60_000 / 4;
    // Those of SIDs come last, as the embedded store reads them.
    let (sids, mut all): (Vec<_>, Vec<_>) =
        rows(&mut queue).into_iter().partition(|(name, _)| name.contains(":dd:"));
    all.extend(sids);
    let mut queue = read_at(all, now, Some(2 * 1_000 * 32));
    assert!((900..=1_001).contains(&(2_001 - queue.take_forgotten())));
    assert_eq!(queue.admit(now, message(2, "SMwaits")), Duplicate);
    assert_eq!(queue.admit(now, message(1, "SM1500")), Duplicate);
    assert_eq!(queue.admit(now, message(1, "SM10")), Queued);
}
