//! How a worker of the account turns a head into a reply that leaves once: as careful as the
//! contract asks. It posts within 5 s of a mark, and refutes a mark by two listings, the first 20 s
//! after it at the earliest, the second a minute after the first, and later by those 20 s when the age of
//! the mark is unknown.

use kanarie_queue::intent::{Intent, Post, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::Millis;
use kanarie_words::ids::IntentId;

use crate::account::{Held, Posted, World};
use crate::schedule::{Luck, RELIST_MS, SETTLE_MS};
use crate::words::{Words as _, attempt_id, intent_id, sid};

const SEND_DEADLINE_MS: u64 = 5_000;

/// The worst listing that two of them stand: a POST that left last is listed when the second asks.
const LISTING_LAG_MS: u64 = SETTLE_MS + RELIST_MS - SEND_DEADLINE_MS;

impl World {
    pub(crate) fn work(&mut self, worker: usize, luck: Luck, hurry: bool) {
        let Some(mut held) = self.workers[worker].take() else { return };
        let goes_on = match &held.intent {
            None => self.commit(&mut held, hurry),
            Some(intent) if (intent.sent.len() as u32) < intent.segments => {
                match held.marked.take() {
                    Some((post, at)) if self.post(&held, &post, at, luck) => {
                        if hurry && post.segment + 1 == intent.segments {
                            return self.finish(worker, &held, &post);
                        }
                        self.note_sent(&mut held, &post)
                    }
                    Some((post, at)) => self.unposted(&held, &post, at, luck),
                    None => self.mark(&mut held),
                }
            }
            Some(_) => {
                let lease = held.lease.clone();
                let (done, again) = self.twice(|queue, now| queue.complete(now, &lease, None));
                assert_eq!(again, Owned::Stale);
                self.end_head(&held, done == Owned::Done);
                false
            }
        };
        if goes_on {
            self.workers[worker] = Some(held);
        }
    }

    /// A worker that has no reply yet ends its message without one.
    pub(crate) fn rescue_silently(&mut self, worker: usize, serving: u64) {
        let Some(held) = self.workers[worker].take_if(|held| held.intent.is_none()) else { return };
        let lease = &held.lease;
        let (done, again) = self.twice(|queue, now| queue.rescue_silently(now, lease, serving));
        assert_eq!(again, Owned::Stale);
        if done == Owned::Done {
            self.tally.rescue(lease, serving);
        }
        self.end_head(&held, done == Owned::Done);
    }

    fn commit(&mut self, held: &mut Held, hurry: bool) -> bool {
        let id = self.fresh("intent");
        let segments = if id.ends_with(['0', '2', '4', '6', '8']) { 2 } else { 1 };
        let intent = Intent::fresh(intent_id(&id), segments, id);
        let (lease, attempt) = (held.lease.clone(), self.fresh("attempt"));
        let (first, _) = self.twice(|queue, now| match hurry {
            true => queue.commit_marked(now, &lease, intent.clone(), &attempt),
            false => queue.commit_reply(now, &lease, intent.clone(), None),
        });
        match first {
            Committed::Done => {
                self.renew(&lease);
                let owed = self.head(&lease);
                assert_eq!(owed.sid, held.sid, "I3: committed out of order");
                assert_eq!(owed.intent.replace(intent.id.clone()), None, "I9");
                let attempt = attempt_id(&attempt);
                let post = Post { intent: intent.id.clone(), segment: 0, attempt };
                held.marked = hurry.then_some((post, self.now));
                held.intent = Some(intent);
                true
            }
            Committed::Exists(_) => unreachable!("I9: the claim said that there is none"),
            Committed::Stale => false,
        }
    }

    fn mark(&mut self, held: &mut Held) -> bool {
        let intent = held.intent.clone().expect("marked after a commit");
        let segment = intent.sent.len() as u32;
        let attempt = attempt_id(&self.fresh("attempt"));
        let post = Post { intent: intent.id, segment, attempt };
        let lease = held.lease.clone();
        let (first, _) = self.twice(|queue, now| queue.mark_sending(now, &lease, &post, None));
        match first {
            Marked::Go => held.marked = Some((post, self.now)),
            Marked::Sent => held.intent.iter_mut().for_each(|intent| intent.sent.push(sid("S"))),
            Marked::Stale => return false,
            Marked::Ambiguous { sending, .. } => return self.settle(held, post, &sending),
        }
        self.assert_owner(&lease);
        true
    }

    /// Another attempt's mark stands: its POST is looked for, twice before it is posted again.
    fn settle(&mut self, held: &mut Held, post: Post, sending: &Sending) -> bool {
        assert_ne!(sending.attempt, post.attempt, "I11");
        let lease = held.lease.clone();
        self.assert_owner(&lease);
        let waits = |at: Millis, ms: u64, now: Millis| (at + ms).saturating_sub(now);
        if waits(sending.at, SETTLE_MS, self.now) > 0 {
            return self.wait(&lease, SETTLE_MS);
        }
        let posted = posted(&lease, &post.intent, post.segment);
        if self.posts.get(&posted).is_some_and(|listed_at| *listed_at <= self.now) {
            let verb = |queue: &mut Queue, now| {
                queue.mark_sent(now, &lease.conversation, post.intent.as_str(), post.segment, "L")
            };
            self.twice(verb);
            return true;
        }
        let Some(missed_at) = sending.missed_at else {
            let missed = Post { attempt: sending.attempt.clone(), ..post };
            let noted = self.twice(|queue, now| queue.note_missed(now, &lease, &missed));
            assert_eq!(noted, (Owned::Done, Owned::Done));
            return self.wait(&lease, RELIST_MS);
        };
        let young_ms = if sending.is_ageless(self.now) { SETTLE_MS } else { 0 };
        let left = waits(missed_at, young_ms + RELIST_MS, self.now);
        if left > 0 {
            return self.wait(&lease, left);
        }
        let refuted = Some(sending.attempt.as_str());
        let (go, _) = self.twice(|queue, now| queue.mark_sending(now, &lease, &post, refuted));
        assert_eq!(go, Marked::Go, "a refuted mark is replaced");
        held.marked = Some((post, self.now));
        true
    }

    fn wait(&mut self, lease: &Lease, delay_ms: u64) -> bool {
        self.put_back(lease, false, |queue, now, lease| queue.retry(now, lease, delay_ms, false));
        false
    }

    /// Posts, if that is still allowed; true when Twilio's answer comes.
    fn post(&mut self, held: &Held, post: &Post, at: Millis, luck: Luck) -> bool {
        if self.is_unposted(at, luck) {
            return false;
        }
        let sent = posted(&held.lease, &post.intent, post.segment);
        let before = Posted { segment: post.segment.wrapping_sub(1), ..sent.clone() };
        let in_order = post.segment == 0 || self.posts.contains_key(&before);
        assert!(in_order, "I12: posted out of order");
        let twice = self.posts.insert(sent, self.now + LISTING_LAG_MS);
        assert_eq!(twice, None, "a segment was posted twice");
        matches!(luck, Luck::Answered)
    }

    fn is_unposted(&self, at: Millis, luck: Luck) -> bool {
        self.now > at + SEND_DEADLINE_MS || matches!(luck, Luck::NeverLeft)
    }

    /// What becomes of a head whose POST never left, or left without an answer.
    fn unposted(&mut self, held: &Held, post: &Post, at: Millis, luck: Luck) -> bool {
        let lease = held.lease.clone();
        if self.is_unposted(at, luck) {
            let (answer, _) = self.twice(|queue, now| queue.unmark(now, &lease, post));
            return answer == Owned::Done;
        }
        matches!(luck, Luck::AnswerLost) && self.wait(&lease, SETTLE_MS)
    }

    fn note_sent(&mut self, held: &mut Held, post: &Post) -> bool {
        let (id, intent) = (held.lease.conversation.clone(), post.intent.as_str());
        let verb = |queue: &mut Queue, now| queue.mark_sent(now, &id, intent, post.segment, "S");
        let (_, again) = self.twice(verb);
        assert!(!again, "a segment has one SID");
        held.intent.iter_mut().for_each(|intent| intent.sent.push(sid("S")));
        true
    }

    /// The last segment was sent: the head ends and the worker gets the next one, in one step.
    fn finish(&mut self, worker: usize, held: &Held, post: &Post) {
        let (lease, next, intent) = (&held.lease, self.fresh("nonce"), post.intent.as_str());
        let verb =
            |queue: &mut Queue, now| queue.finish(now, lease, intent, post.segment, Some(&next));
        let (first, again) = self.twice(verb);
        assert_eq!(again.completed, Owned::Stale);
        assert_eq!(again.next, first.next, "I20: a repeated claim gives the same head");
        self.end_head(held, first.completed == Owned::Done);
        if let Some(found) = first.next {
            self.note_found(worker, lease.conversation.shard(), found);
        }
    }

    /// A late report of a POST: it may come for a reply that is long gone.
    pub(crate) fn callback(&mut self, nth: usize) {
        let count = self.posts.len();
        let Some(posted) = self.posts.keys().nth(nth % count.max(1)).cloned() else { return };
        let Posted { conversation, intent, segment } = posted;
        let verb = |queue: &mut Queue, now| {
            queue.mark_sent(now, &conversation, intent.as_str(), segment, "C")
        };
        self.twice(verb);
    }
}

fn posted(lease: &Lease, intent: &IntentId, segment: u32) -> Posted {
    Posted { conversation: lease.conversation.clone(), intent: intent.clone(), segment }
}
