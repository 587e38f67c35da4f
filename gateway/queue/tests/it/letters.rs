//! Dead letters read page by page, replayed at the tail, erased with their customer.

use kanarie_queue::admit::Admission;
use kanarie_queue::dead::Buried;
use kanarie_queue::intent::Memo;
use kanarie_queue::lease::Owned;
use kanarie_queue::letters::{DeadLetterFilter, DeadLetterId, LOOKED};
use kanarie_queue::queue::Queue;
use kanarie_queue::replay::Replayed;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::Millis;
use kanarie_words::class::Class;
use kanarie_words::track::Track;

use crate::words::{
    DAY, Words as _, all_rows, channel, conversation, evidence, intent, message, new_queue, post,
    read_back,
};

/// Admits a message of conversation 1 and buries it.
fn bury(queue: &mut Queue, now: Millis, sid: &str, class: &str) {
    queue.admit(now, message(1, sid));
    let (head, lease) = queue.take(now, 1, sid).unwrap();
    assert_eq!(head.envelope, sid);
    assert_eq!(queue.bury(now, &lease, class), Buried::Done);
}

fn texts(queue: &mut Queue) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((head, lease)) = queue.take(DAY, 1, &format!("n{}", texts.len())) {
        texts.push(head.envelope);
        queue.complete(DAY, &lease, None);
    }
    texts
}

#[test]
fn a_page_goes_on_where_the_last_one_ended_while_letters_come_and_go() {
    let mut queue = new_queue();
    (0..5).for_each(|at| bury(&mut queue, at, &format!("SM{at}"), "http"));
    let page = queue.read_letters(1, 0, DeadLetterFilter::default(), 2);
    assert_eq!((page.letters.len(), page.next, page.last), (2, Some(2), 5));
    queue.erase_letters(9, 1, &[1, 3]);
    bury(&mut queue, 9, "SM9", "http");
    let page = queue.read_letters(1, 2, DeadLetterFilter::default(), 9);
    let numbers: Vec<u64> = page.letters.iter().map(|letter| letter.id.number).collect();
    assert_eq!((numbers, page.next), (vec![4, 5, 6], None));
}

#[test]
fn a_page_of_one_class_or_channel_looks_at_so_many_letters_and_goes_on() {
    let mut queue = new_queue();
    (0..=LOOKED as u64).for_each(|at| bury(&mut queue, at * 2_000, &format!("SM{at}"), "http"));
    let wanted = |class: Option<&str>, of: Option<&str>| DeadLetterFilter {
        class: class.map(str::to_owned),
        channel: of.map(channel),
        conversation: None,
    };
    let page = queue.read_letters(1, 0, wanted(Some("timeout"), None), 9);
    assert_eq!((page.letters.len(), page.next), (0, Some(LOOKED as u64)));
    let page = queue.read_letters(1, 0, wanted(Some("http"), Some("other")), 9);
    assert_eq!((page.letters.len(), page.next), (0, None));
    let page = queue.read_letters(1, LOOKED as u64, wanted(Some("http"), Some("channel")), 9);
    assert_eq!((page.letters.len(), page.next), (1, None));
}

#[test]
fn a_letter_is_named_by_its_shard_and_its_number() {
    let id = DeadLetterId { shard: 7, number: 42 };
    assert_eq!((id.to_string().as_str(), DeadLetterId::parse("07-42")), ("07-42", Some(id)));
    let bad =
        ["", "7-42", "32-1", "07-0", "07-", "07-+1", "07-4 2", "07-1234567890123", "07 42", "ü-1"];
    for text in bad {
        assert_eq!(DeadLetterId::parse(text), None, "{text}");
    }
}

#[test]
fn a_replayed_letter_waits_behind_all_that_waits_and_is_a_letter_no_more() {
    let mut queue = new_queue();
    bury(&mut queue, 0, "SM1", "http");
    queue.admit(5, message(1, "SM2"));
    let letters = queue.letters(1);
    assert_eq!(queue.replay(DAY - 1, &letters, DAY), [Replayed::Done]);
    assert_eq!(queue.replay(DAY - 1, &letters, DAY), [Replayed::Gone]);
    assert_eq!((queue.letters(1), queue.dead_letters()), (vec![], vec![]));
    assert_eq!(texts(&mut read_back(&mut queue)), ["SM2", "SM1"]);
    assert_eq!(texts(&mut queue), ["SM2", "SM1"]);
}

#[test]
fn a_replayed_letter_has_its_patience_anew_and_is_recognised_on() {
    let mut queue = new_queue();
    bury(&mut queue, 0, "SM1", "http");
    let letters = queue.letters(1);
    queue.replay(DAY - 1, &letters, DAY);
    let (head, _) = queue.take(DAY + 5, 1, "n").unwrap();
    assert_eq!((head.admitted_at, head.tries, head.crashes), (DAY - 1, 1, 0));
    assert_eq!(head.channel, channel("channel-again"));
    assert_eq!(queue.admit(2 * DAY - 2, message(1, "SM1")), Admission::Duplicate);
}

#[test]
fn what_counted_before_it_was_buried_counts_no_more() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    let failed = evidence(3, Track::Canary, Class::Http);
    queue.end_attempt(0, &lease, Some(&failed), None);
    queue.bury(0, &lease, "http");
    queue.admit(1, message(1, "SM2"));
    let letters = queue.letters(1);
    queue.replay(2, &letters, DAY);
    let mut queue = read_back(&mut queue);
    for (nonce, counted) in [("b", false), ("c", true)] {
        let (head, lease) = queue.take(3, 1, nonce).unwrap();
        assert_eq!(head.counted, counted);
        queue.complete(3, &lease, Some(&evidence(3, Track::Canary, Class::Success)));
    }
    let counts = queue.counts("channel").messages;
    assert_eq!(counts.iter().map(|count| count.messages).sum::<u64>(), 2);
}

#[test]
fn a_letter_whose_message_was_admitted_again_is_not_doubled() {
    let mut queue = new_queue();
    bury(&mut queue, 0, "SM1", "http");
    assert_eq!(queue.admit(DAY, message(1, "SM1")), Admission::Queued);
    let letters = queue.letters(1);
    assert_eq!(queue.replay(DAY, &letters, DAY), [Replayed::Waits]);
    assert_eq!(queue.letters(1), []);
    assert_eq!(texts(&mut queue), ["SM1"]);
}

#[test]
fn a_letter_without_room_or_without_text_stays() {
    let mut queue = new_queue();
    bury(&mut queue, 0, "SM1", "http");
    let letters = queue.letters(1);
    for number in 0..200 {
        queue.admit(number * 2_000, message(1, &format!("SM{}", number + 2)));
    }
    assert_eq!(queue.replay(400_000, &letters, DAY), [Replayed::Full]);
    queue.sweep(DAY, 1);
    queue.erase(DAY, &conversation(1), &[]);
    assert_eq!(queue.replay(DAY, &letters, DAY), [Replayed::NoText]);
    assert_eq!(queue.letters(1).len(), 1);
}

#[test]
fn an_erased_conversation_leaves_counts_and_keys_and_nothing_else() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    queue.admit(0, message(1, "SM2"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    queue.end_attempt(0, &lease, Some(&evidence(3, Track::Canary, Class::Http)), None);
    let memo = Memo { question: Some("q".to_owned()), apologised: false };
    queue.commit_memo(0, &lease, intent("i", 2), &memo);
    queue.mark_sending(0, &lease, &post("i", 0, "x"), None);
    queue.mark_sent(0, &conversation(1), "i", 0, "SMout");
    let erased = queue.erase(1, &conversation(1), &["channel"]);
    assert_eq!(
        (erased.messages, erased.was_leased, erased.channel),
        (2, true, Some(channel("channel")))
    );
    let left = |queue: &mut Queue| -> Vec<String> {
        let named = conversation(1);
        let rows = all_rows(queue).into_iter();
        let of = rows.filter(|(key, value)| {
            key.contains(named.as_str()) || String::from_utf8_lossy(value).contains(named.as_str())
        });
        of.map(|(key, _)| key).collect()
    };
    assert_eq!(left(&mut queue), [] as [String; 0]);
    let again = queue.erase(1, &conversation(1), &["channel"]);
    assert_eq!((again.messages, again.was_leased, again.channel), (0, false, None));
    assert_eq!(queue.counts("channel").customers[0].conversations, 1);
    assert_eq!(queue.admit(2, message(1, "SM1")), Admission::Duplicate);
    assert_eq!(queue.loads(), []);
}

#[test]
fn whoever_worked_on_an_erased_conversation_does_nothing_more() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    queue.erase(1, &conversation(1), &[]);
    queue.admit(1, message(1, "SM2"));
    assert_eq!(queue.commit_reply(1, &lease, intent("i", 1), None), Committed::Stale);
    assert_eq!(queue.mark_sending(1, &lease, &post("i", 0, "x"), None), Marked::Stale);
    assert_eq!(queue.bury(1, &lease, "http"), Buried::Stale);
    assert_eq!(queue.complete(1, &lease, None), Owned::Stale);
    assert_eq!(texts(&mut queue), ["SM2"]);
}

#[test]
fn erased_letters_are_gone_with_their_texts() {
    let mut queue = new_queue();
    bury(&mut queue, 0, "SM1", "http");
    bury(&mut queue, 0, "SM2", "http");
    assert_eq!(queue.erase_letters(1, 1, &[1, 1, 9]), 1);
    assert_eq!(queue.erase_letters(1, 1, &[1]), 0);
    assert_eq!(queue.dead_letters()[0].count, 1);
    assert!(!all_rows(&mut queue).contains_key("01:dl:1"));
}
