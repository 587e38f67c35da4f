//! The limiter and its interplay with duplicates, capacity and clocks, row by row.

use kanarie_queue::admit::Admission::{Duplicate, Full, Limited, Queued};
use kanarie_queue::admit::{Admission, Admit, MAX_BYTES, MAX_WAITING};
use kanarie_queue::claim::Claimed;
use kanarie_queue::pace::Reserved;
use kanarie_queue::queue::Queue;
use kanarie_words::Millis;

use crate::words::{self, Words as _, lease_of, nonce};

/// A machine with the senders of these stories; SIDs are given out by `fresh`.
struct Story {
    queue: Queue,
    limit: u32,
    sids: u32,
}

impl Story {
    fn new() -> Self {
        Self { queue: Queue::load([]).unwrap(), limit: 50, sids: 0 }
    }

    fn offer(&mut self, now: Millis, sid: &str) -> Admission {
        self.queue.admit(now, self.message(1, sid, "text"))
    }

    fn message(&self, conversation: u8, sid: &str, envelope: &str) -> Admit {
        let envelope = envelope.to_owned();
        Admit { envelope, limit: self.limit, ..words::message(conversation, sid) }
    }

    /// Offers a message with a new SID; true when it is admitted. The queue is kept empty, so that
    /// only the limiter speaks.
    fn fresh(&mut self, now: Millis) -> bool {
        self.sids += 1;
        let sid = format!("fresh-{}", self.sids);
        let answer = self.offer(now, &sid);
        self.work_off(now);
        answer == Queued
    }

    fn work_off(&mut self, now: Millis) {
        while let Claimed::Head(head) = self.queue.claim(now, 1, nonce("n"), 1_000) {
            self.queue.complete(now, &lease_of(&head), None);
        }
    }

    /// How many of `count` messages at this moment are admitted.
    fn burst(&mut self, now: Millis, count: u32) -> u32 {
        (0..count).map(|_| u32::from(self.fresh(now))).sum()
    }

    /// Which of the messages at these moments are admitted.
    fn admitted(&mut self, moments: impl IntoIterator<Item = Millis>) -> Vec<Millis> {
        moments.into_iter().filter(|now| self.fresh(*now)).collect()
    }
}

#[test]
fn sixty_at_once_are_fifty_and_ten_refusals_for_a_minute() {
    let mut story = Story::new();
    assert_eq!(story.burst(0, 50), 50);
    for copy in 0..10 {
        let refused = Limited { retry_after_ms: 60_000 };
        assert_eq!(story.offer(0, &format!("late-{copy}")), refused);
    }
}

#[test]
fn a_used_up_minute_opens_again_at_exactly_sixty_seconds() {
    let mut story = Story::new();
    story.burst(0, 60);
    let admitted = story.admitted((1..=61).map(|second| second * 1_000));
    assert_eq!(admitted, [60_000, 61_000]);
}

#[test]
fn one_a_second_for_three_minutes_are_a_hundred_and_fifty() {
    let mut story = Story::new();
    let admitted = story.admitted((0..180).map(|second| second * 1_000));
    let expected = (0..50).chain(60..110).chain(120..170).map(|second| second * 1_000);
    assert_eq!(admitted, expected.collect::<Vec<_>>());
}

#[test]
fn one_every_1200_ms_is_never_refused() {
    let mut story = Story::new();
    assert_eq!(story.admitted((0..500).map(|nth| nth * 1_200)).len(), 500);
}

#[test]
fn one_every_1199_ms_is_refused_for_the_first_time_at_the_51st() {
    let mut story = Story::new();
    let admitted = story.admitted((0..500).map(|nth| nth * 1_199));
    assert_eq!(admitted.len(), 491);
    let refused = (0..500).map(|nth| nth * 1_199).find(|moment| !admitted.contains(moment));
    assert_eq!(refused, Some(59_950));
}

#[test]
fn a_border_between_minutes_lets_no_double_burst_through() {
    let mut story = Story::new();
    assert_eq!((story.burst(59_500, 50), story.burst(60_500, 50)), (50, 0));
}

#[test]
fn a_hundred_a_second_for_three_minutes_are_three_bursts_of_fifty() {
    let mut story = Story::new();
    let admitted = story.admitted((0..18_000).map(|nth| nth * 10));
    assert_eq!(admitted.len(), 150);
    assert!(admitted[50..100].iter().all(|moment| (60_000..61_000).contains(moment)));
}

#[test]
fn each_stamp_leaves_the_window_by_itself() {
    let mut story = Story::new();
    let bursts = [(0, 25), (30_000, 25), (60_000, 50), (60_001, 50), (90_001, 50)];
    let admitted = bursts.map(|(now, count)| story.burst(now, count));
    assert_eq!(admitted, [25, 25, 25, 0, 25]);
}

#[test]
fn d1_the_last_place_is_taken_once_however_often_its_message_comes() {
    let mut story = Story::new();
    story.burst(0, 49);
    let answers = ["a", "a", "a", "b"].map(|sid| story.offer(0, sid));
    assert_eq!(answers, [Queued, Duplicate, Duplicate, Limited { retry_after_ms: 60_000 }]);
}

#[test]
fn d2_a_refused_message_is_no_duplicate_later() {
    let mut story = Story::new();
    story.burst(0, 50);
    assert_eq!(story.offer(10_000, "x"), Limited { retry_after_ms: 50_000 });
    assert_eq!(story.offer(60_001, "x"), Queued);
}

#[test]
fn d3_a_duplicate_is_a_duplicate_while_the_limit_is_reached() {
    let mut story = Story::new();
    story.offer(0, "a");
    story.burst(0, 50);
    assert_eq!(story.offer(1, "a"), Duplicate);
}

#[test]
fn d4_a_clock_that_steps_back_expires_nothing_early() {
    let mut story = Story::new();
    story.burst(10_000, 50);
    assert_eq!(story.offer(5_000, "x"), Limited { retry_after_ms: 60_000 });
    assert_eq!(story.offer(69_999, "x"), Limited { retry_after_ms: 1 });
    assert_eq!(story.offer(70_000, "x"), Queued);
}

#[test]
fn d5_a_clock_that_steps_an_hour_ahead_and_back_empties_the_window_each_time() {
    let mut story = Story::new();
    story.burst(0, 50);
    assert_eq!(story.burst(3_600_000, 60), 50);
    assert_eq!(story.burst(1_000, 60), 50);
    assert_eq!(story.burst(60_999, 10), 0);
}

#[test]
fn d6_a_machine_read_back_two_seconds_behind_keeps_its_window() {
    let mut story = Story::new();
    story.burst(10_000, 50);
    let rows = story.queue.take_changes().into_iter();
    let rows = rows.filter_map(|row| Some((row.key, row.value?))).collect::<Vec<_>>();
    story.queue = Queue::load(rows).unwrap();
    assert_eq!(story.offer(8_000, "x"), Limited { retry_after_ms: 60_000 });
}

#[test]
fn d8_a_lowered_limit_counts_what_was_admitted_before() {
    let mut story = Story::new();
    story.burst(0, 10);
    story.burst(20_000, 10);
    story.limit = 15;
    assert_eq!(story.offer(30_000, "x"), Limited { retry_after_ms: 30_000 });
    story.limit = 10;
    assert_eq!(story.offer(60_000, "x"), Limited { retry_after_ms: 20_000 });
    story.limit = 11;
    assert_eq!(story.offer(60_000, "x"), Queued);
}

#[test]
fn d9_another_sender_has_a_budget_of_its_own() {
    let mut story = Story::new();
    story.burst(0, 50);
    let other = story.message(33, "x", "text");
    assert_eq!(story.queue.admit(0, other), Queued);
}

#[test]
fn a_limit_of_nothing_admits_nothing() {
    let mut story = Story::new();
    story.limit = 0;
    assert_eq!(story.offer(0, "x"), Limited { retry_after_ms: 60_000 });
}

#[test]
fn a_duplicate_is_forgotten_at_the_end_of_its_window() {
    let mut story = Story::new();
    story.offer(0, "a");
    assert_eq!(story.offer(86_399_999, "a"), Duplicate);
    assert_eq!(story.offer(86_400_000, "a"), Queued);
}

#[test]
fn the_201st_message_of_a_conversation_finds_it_full_and_is_welcome_later() {
    let mut story = Story::new();
    story.limit = 1_000;
    let last = MAX_WAITING.to_string();
    for sid in 0..MAX_WAITING {
        assert_eq!(story.offer(0, &sid.to_string()), Queued);
    }
    assert_eq!(story.offer(0, &last), Full);
    story.work_off(0);
    assert_eq!(story.offer(0, &last), Queued);
}

#[test]
fn a_shard_takes_64_mib_of_envelopes_and_not_one_byte_more() {
    let mut story = Story::new();
    let mebibyte = "x".repeat(1 << 20);
    for sid in 0..(MAX_BYTES >> 20) {
        let conversation = if sid < 32 { 1 } else { 33 };
        let admit = story.message(conversation, &sid.to_string(), &mebibyte);
        assert_eq!(story.queue.admit(0, admit), Queued);
    }
    let one_byte = story.message(1, "one", "x");
    assert_eq!(story.queue.admit(0, one_byte.clone()), Full);
    story.work_off(0);
    assert_eq!(story.queue.admit(0, one_byte), Queued);
}

/// How many of 1,000 sends that ask at once, and again whenever they are told to, leave in each of
/// the first seconds.
fn sends_by_second(rate: u32) -> Vec<u32> {
    let mut queue = Queue::load([]).unwrap();
    let mut seconds = vec![0; 20];
    let (mut now, mut left) = (0, 1_000);
    while left > 0 {
        match queue.reserve(now, "sender", rate) {
            Reserved::After(wait) => {
                seconds[usize::try_from((now + wait) / 1_000).unwrap()] += 1;
                left -= 1;
            }
            Reserved::Busy(wait) => now += wait,
        }
    }
    seconds
}

#[test]
fn no_second_gets_more_than_the_rate_and_a_burst() {
    let seconds = sends_by_second(80);
    assert!(seconds.iter().all(|sends| *sends <= 88), "{seconds:?}");
    assert!(seconds[..12].iter().all(|sends| *sends >= 79), "{seconds:?}");
}

#[test]
fn nothing_is_booked_further_than_two_seconds_ahead() {
    let mut queue = Queue::load([]).unwrap();
    let answers = (0..200).map(|_| queue.reserve(0, "sender", 80)).collect::<Vec<_>>();
    let booked = answers.iter().filter(|answer| matches!(answer, Reserved::After(_))).count();
    assert_eq!(booked, 168);
    assert!(answers.iter().all(|answer| match answer {
        Reserved::After(wait) => *wait <= 2_000,
        Reserved::Busy(wait) => *wait == 13,
    }));
}

#[test]
fn a_clock_that_steps_back_an_hour_does_not_block_a_sender_for_an_hour() {
    let mut queue = Queue::load([]).unwrap();
    queue.reserve(3_600_000, "sender", 80);
    let Reserved::Busy(wait) = queue.reserve(0, "sender", 80) else { return };
    assert!(wait <= 2_000, "{wait}");
}
