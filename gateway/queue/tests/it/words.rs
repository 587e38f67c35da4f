//! Short words for the machine's verbs, ids from plain text, and the machines that stories begin with.

use std::collections::BTreeMap;

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Extend, Head, Isolate, KeepRun, Release, Retry};
use kanarie_queue::dead::{Buried, Bury, DeadSum, Load, SumDead, SumLoads};
use kanarie_queue::erase::{EraseConversation, EraseLetters, Erased};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::finish::{Finish, Finished};
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::{Lease, NewLease, Owned, Park};
use kanarie_queue::letters::{DeadLetterFilter, DeadLetterRead, LettersRead, ReadLetters};
use kanarie_queue::outcome::{Counts, Evidence, Outcome};
use kanarie_queue::pace::Reserved;
use kanarie_queue::park::{ParkHead, WakeParked};
use kanarie_queue::queue::Queue;
use kanarie_queue::replay::{MessageAgain, Replay, Replayed};
use kanarie_queue::reserve::Reserve;
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_queue::sweep::Sweep;
use kanarie_words::Millis;
use kanarie_words::class::Class;
use kanarie_words::ids::{
    AttemptId, ChannelUid, ConversationId, DedupKey, Epoch, IntentId, MessageSid, Nonce,
    RevisionName, RouteHash, StoreKey,
};
use kanarie_words::track::Track;

pub(crate) const LEASE_MS: u64 = 15_000;
pub(crate) const DAY: Millis = 86_400_000;

/// An id from a word of a test.
macro_rules! words {
    ($($word:ident => $id:ident),+ $(,)?) => {
        $(pub(crate) fn $word(text: &str) -> $id {
            $id::parse(text).expect("a word of a test is an id")
        })+
    };
}

words!(
    attempt_id => AttemptId,
    channel => ChannelUid,
    dedup_key => DedupKey,
    epoch => Epoch,
    intent_id => IntentId,
    nonce => Nonce,
    revision => RevisionName,
    sender => RouteHash,
    sid => MessageSid,
);

/// Conversation `number` lives in shard `number % 32`.
pub(crate) fn conversation(number: u8) -> ConversationId {
    ConversationId::from_bytes([number; 16])
}

/// A conversation of its own in shard 1.
pub(crate) fn neighbour(number: u16) -> ConversationId {
    let [high, low] = number.to_be_bytes();
    ConversationId::from_bytes([1, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// A message whose envelope is its SID.
pub(crate) fn message(number: u8, sid: &str) -> Admit {
    Admit {
        channel: channel("channel"),
        dedup_key: dedup_key(&format!("AC:{sid}")),
        conversation: conversation(number),
        envelope: sid.to_owned(),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: DAY,
        lease: None,
    }
}

/// The proof that a claim gives.
pub(crate) fn lease_of(head: &Head) -> Lease {
    Lease {
        channel: head.channel.clone(),
        conversation: head.conversation.clone(),
        nonce: head.nonce.clone(),
    }
}

/// A lease that is wanted, by its nonce.
pub(crate) fn new_lease(word: &str) -> NewLease {
    NewLease { nonce: nonce(word), lease_ms: LEASE_MS }
}

/// A reply of which nothing was sent.
pub(crate) fn intent(id: &str, segments: u32) -> Intent {
    Intent::fresh(intent_id(id), segments, "body".to_owned())
}

/// One attempt at one segment.
pub(crate) fn post(intent: &str, segment: u32, attempt: &str) -> Post {
    Post { intent: intent_id(intent), segment, attempt: attempt_id(attempt) }
}

pub(crate) fn evidence(serving: u64, track: Track, class: Class) -> Evidence {
    Evidence { serving, track, class }
}

pub(crate) fn new_queue() -> Queue {
    let mut queue = Queue::load([]).unwrap();
    let epochs = (0..32).map(|shard| epoch(&format!("epoch-{shard}")));
    queue.start(StoreKey::from_bytes([7; 32]), epochs);
    queue
}

/// A machine with one message, claimed at 0.
pub(crate) fn claimed() -> (Queue, Lease) {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    (queue, lease)
}

/// The same with a committed reply.
pub(crate) fn committed(segments: u32) -> (Queue, Lease) {
    let (mut queue, lease) = claimed();
    assert_eq!(queue.commit_reply(0, &lease, intent("i", segments), None), Committed::Done);
    (queue, lease)
}

/// Every row of the machine as it is now, but for those of SIDs: they are written once. What had changed
/// before counts as taken.
pub(crate) fn all_rows(queue: &mut Queue) -> BTreeMap<String, Vec<u8>> {
    queue.rewrite();
    let rows = queue.take_changes().into_iter().filter(|row| !row.key.contains(":dd:"));
    rows.filter_map(|row| Some((row.key, row.value?))).collect()
}

/// The machine that its rows make.
pub(crate) fn read_back(queue: &mut Queue) -> Queue {
    Queue::load(all_rows(queue)).expect("its own rows are good")
}

/// The verbs that tests use most.
pub(crate) trait Words {
    fn machine(&mut self) -> &mut Queue;

    fn admit(&mut self, now: Millis, admit: Admit) -> Admission {
        self.machine().run(now, admit)
    }

    fn claim(&mut self, now: Millis, shard: u8, nonce: Nonce, lease_ms: u64) -> Claimed {
        self.machine().run(now, Claim { shard, nonce, lease_ms })
    }

    /// A claim with the usual lease: the head with its proof, if there is one.
    fn take(&mut self, now: Millis, shard: u8, word: &str) -> Option<(Head, Lease)> {
        match self.claim(now, shard, nonce(word), LEASE_MS) {
            Claimed::Head(head) => {
                let lease = lease_of(&head);
                Some((*head, lease))
            }
            Claimed::Nothing { .. } => None,
        }
    }

    fn extend(
        &mut self,
        now: Millis,
        leases: &[(ConversationId, Nonce)],
        lease_ms: u64,
    ) -> Vec<ConversationId> {
        self.machine().run(now, Extend { leases: leases.to_vec(), lease_ms })
    }

    fn keep_run(&mut self, now: Millis, lease: &Lease, run: &str) -> Owned {
        let (lease, run) = (lease.clone(), Some(run.to_owned()));
        self.machine().run(now, KeepRun { lease, run })
    }

    fn isolate(&mut self, now: Millis, lease: &Lease) -> Owned {
        self.machine().run(now, Isolate { lease: lease.clone() })
    }

    fn retry(&mut self, now: Millis, lease: &Lease, delay_ms: u64, counted: bool) -> Owned {
        self.machine().run(now, Retry { lease: lease.clone(), delay_ms, counted })
    }

    fn release(&mut self, now: Millis, lease: &Lease) -> Owned {
        self.machine().run(now, Release { lease: lease.clone() })
    }

    /// Parks the head for the revision `r`.
    fn park(&mut self, now: Millis, lease: &Lease, until_ms: u64, probe_ms: u64) -> Owned {
        let (lease, revision) = (lease.clone(), revision("r"));
        self.machine().run(now, ParkHead { lease, revision, until_ms, probe_ms })
    }

    /// Wakes what waits for the revision `r` of a channel.
    fn wake(&mut self, now: Millis, of: &str) -> u64 {
        let park = Park { channel: channel(of), revision: revision("r") };
        self.machine().run(now, WakeParked { park })
    }

    fn end_attempt(
        &mut self,
        now: Millis,
        lease: &Lease,
        evidence: Option<&Evidence>,
        failed_on: Option<&str>,
    ) -> Owned {
        let (lease, evidence) = (lease.clone(), evidence.cloned());
        self.machine().run(now, EndAttempt { lease, evidence, failed_on: failed_on.map(revision) })
    }

    fn counts(&mut self, of: &str) -> Counts {
        self.machine().run(0, ReadCounts { channels: vec![channel(of)] }).counts.remove(0)
    }

    fn commit_reply(
        &mut self,
        now: Millis,
        lease: &Lease,
        intent: Intent,
        evidence: Option<&Evidence>,
    ) -> Committed {
        let (lease, outcome) = (lease.clone(), evidence.cloned().map(Outcome::First));
        self.machine()
            .run(now, CommitReply { lease, intent, outcome, memo: Memo::default(), mark: None })
    }

    /// A reply by stable, after the canary of a serving had failed.
    fn rescue(&mut self, now: Millis, lease: &Lease, intent: Intent, serving: u64) -> Committed {
        let (lease, outcome) = (lease.clone(), Some(Outcome::Rescued { serving }));
        self.machine()
            .run(now, CommitReply { lease, intent, outcome, memo: Memo::default(), mark: None })
    }

    /// The same by a deliberate silence.
    fn rescue_silently(&mut self, now: Millis, lease: &Lease, serving: u64) -> Owned {
        let (lease, outcome) = (lease.clone(), Some(Outcome::Rescued { serving }));
        self.machine().run(now, Complete { lease, outcome })
    }

    fn commit_memo(&mut self, now: Millis, lease: &Lease, intent: Intent, memo: &Memo) {
        let (lease, memo) = (lease.clone(), memo.clone());
        let verb = CommitReply { lease, intent, outcome: None, memo, mark: None };
        assert_eq!(self.machine().run(now, verb), Committed::Done);
    }

    /// A commit that marks the first segment.
    fn commit_marked(
        &mut self,
        now: Millis,
        lease: &Lease,
        intent: Intent,
        mark: &str,
    ) -> Committed {
        let (lease, mark) = (lease.clone(), Some(attempt_id(mark)));
        let verb = CommitReply { lease, intent, outcome: None, memo: Memo::default(), mark };
        self.machine().run(now, verb)
    }

    /// The end of a reply and a claim by the nonce `next`, if one is given.
    fn finish(
        &mut self,
        now: Millis,
        lease: &Lease,
        intent: &str,
        segment: u32,
        next: Option<&str>,
    ) -> Finished {
        let (lease, intent, sid) = (lease.clone(), intent_id(intent), sid("S"));
        let next = next.map(new_lease);
        self.machine().run(now, Finish { lease, intent, segment, sid, next })
    }

    fn mark_sending(
        &mut self,
        now: Millis,
        lease: &Lease,
        post: &Post,
        refuted: Option<&str>,
    ) -> Marked {
        let (lease, post) = (lease.clone(), post.clone());
        self.machine().run(now, MarkSending { lease, post, refuted: refuted.map(attempt_id) })
    }

    fn note_missed(&mut self, now: Millis, lease: &Lease, post: &Post) -> Owned {
        self.machine().run(now, NoteMissed { lease: lease.clone(), post: post.clone() })
    }

    fn unmark(&mut self, now: Millis, lease: &Lease, post: &Post) -> Owned {
        self.machine().run(now, Unmark { lease: lease.clone(), post: post.clone() })
    }

    fn mark_sent(
        &mut self,
        now: Millis,
        conversation: &ConversationId,
        intent: &str,
        segment: u32,
        of: &str,
    ) -> bool {
        let (conversation, intent, sid) = (conversation.clone(), intent_id(intent), sid(of));
        self.machine().run(now, MarkSent { conversation, intent, segment, sid })
    }

    fn complete(&mut self, now: Millis, lease: &Lease, evidence: Option<&Evidence>) -> Owned {
        let (lease, outcome) = (lease.clone(), evidence.cloned().map(Outcome::First));
        self.machine().run(now, Complete { lease, outcome })
    }

    fn bury(&mut self, now: Millis, lease: &Lease, class: &str) -> Buried {
        self.machine().run(now, Bury { lease: lease.clone(), class: class.to_owned() })
    }

    /// All dead letters of a shard, with their texts.
    fn letters(&mut self, shard: u8) -> Vec<DeadLetterRead> {
        self.read_letters(shard, 0, DeadLetterFilter::default(), 500).letters
    }

    fn read_letters(
        &mut self,
        shard: u8,
        after: u64,
        wanted: DeadLetterFilter,
        limit: usize,
    ) -> LettersRead {
        let verb = ReadLetters { shard, after, until: None, wanted, limit, with_text: true };
        self.machine().run(0, verb)
    }

    /// Replays letters for `channel-again`.
    fn replay(&mut self, now: Millis, letters: &[DeadLetterRead], dedup_ms: u64) -> Vec<Replayed> {
        let shard = letters.first().map_or(0, |letter| letter.id.shard);
        let again = letters.iter().filter_map(|letter| {
            let (number, channel) = (letter.id.number, channel("channel-again"));
            Some(MessageAgain { number, dedup_key: letter.dedup_key.clone()?, channel, dedup_ms })
        });
        let letters = again.collect();
        self.machine().run(now, Replay { shard, letters })
    }

    fn erase_letters(&mut self, now: Millis, shard: u8, numbers: &[u64]) -> u64 {
        self.machine().run(now, EraseLetters { shard, numbers: numbers.to_vec() })
    }

    /// Erases a conversation that was counted for these channels.
    fn erase(&mut self, now: Millis, id: &ConversationId, channels: &[&str]) -> Erased {
        let channels = channels.iter().map(|of| channel(of)).collect();
        self.machine().run(now, EraseConversation { conversation: id.clone(), channels })
    }

    fn dead_letters(&mut self) -> Vec<DeadSum> {
        self.machine().run(0, SumDead)
    }

    fn loads(&mut self) -> Vec<Load> {
        self.machine().run(0, SumLoads)
    }

    fn reserve(&mut self, now: Millis, of: &str, per_second: u32) -> Reserved {
        self.machine().run(now, Reserve { sender: sender(of), per_second, count: 1 })
    }

    fn sweep(&mut self, now: Millis, shard: u8) {
        self.machine().run(now, Sweep { shard });
    }
}

impl Words for Queue {
    fn machine(&mut self) -> &mut Queue {
        self
    }
}
