//! One shard: its conversations, the three orders they wait in, and what it remembers for a time.
//!
//! Takes places and values from the verbs; keeps every index equal to the records and notes which
//! rows changed. Decides nothing: the rules stand in the file of each verb.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kanarie_words::Millis;
use kanarie_words::ids::{
    ChannelUid, ConversationId, DedupKey, Epoch, MessageSid, Nonce, RevisionName,
};
use kanarie_words::track::Track;

use crate::intent::{Intent, Memo};
use crate::lease::{Lease, Park};
use crate::outcome::Counters;

/// Everything of one shard.
#[derive(Default)]
pub(crate) struct Shard {
    /// Last time seen by a change.
    pub(crate) now: Millis,
    /// Random, set once: another epoch means that evidence was lost.
    pub(crate) epoch: Option<Epoch>,
    /// Id of the last dead letter.
    pub(crate) last_dead: u64,
    /// Virtual start time of the last claim.
    pub(crate) clock: u64,
    /// Virtual finish time by channel.
    pub(crate) finish: BTreeMap<ChannelUid, u64>,
    /// All messages.
    pub(crate) messages: u64,
    /// Bytes of their envelopes.
    pub(crate) bytes: u64,
    /// Bytes of the replies that are committed.
    pub(crate) bodies: u64,
    /// Bytes of the texts of dead letters, and customers of all channels: counted at each sweep, and what
    /// is buried since.
    pub(crate) dead_bytes: u64,
    pub(crate) customers_known: u64,
    /// Messages and bytes by channel; derived from the conversations, no row.
    pub(crate) waiting: BTreeMap<ChannelUid, Waiting>,
    /// Conversations with at least one message.
    pub(crate) conversations: BTreeMap<ConversationId, Conversation>,
    /// The ready ones by start.
    pub(crate) ready: BTreeSet<(u64, ConversationId)>,
    /// The leased ones by the end of their lease.
    pub(crate) leased: BTreeSet<(Millis, ConversationId)>,
    /// The delayed ones by the end of their delay.
    pub(crate) delayed: BTreeSet<(Millis, ConversationId)>,
    /// The delayed ones that wait for one agent, by the end of their delay.
    pub(crate) parked: BTreeSet<(Park, Millis, ConversationId)>,
    /// When one of those is let try again.
    pub(crate) probes: BTreeMap<Park, Millis>,
    /// The leased ones by nonce.
    pub(crate) nonces: BTreeMap<Nonce, ConversationId>,
    /// Stamps of admitted messages.
    pub(crate) stamps: BTreeMap<ConversationId, Kept<VecDeque<Millis>>>,
    /// SIDs given to the last segments, each with its own end; they are kept until the last one's.
    pub(crate) attributed: BTreeMap<ConversationId, Kept<VecDeque<(Millis, MessageSid)>>>,
    /// What each conversation remembers of its last reply.
    pub(crate) memos: BTreeMap<ConversationId, Kept<Memo>>,
    /// Counters by channel.
    pub(crate) evidence: BTreeMap<ChannelUid, Kept<Counters>>,
    /// Customers by channel.
    pub(crate) customers: BTreeMap<ChannelUid, Kept<BTreeMap<Customer, Standing>>>,
    /// All of these five by their end.
    pub(crate) ends: BTreeSet<(Millis, Memory)>,
    /// Dead letters; ids grow with time.
    pub(crate) dead: BTreeMap<u64, DeadLetter>,
    /// Those that still have their text.
    pub(crate) dead_with_text: BTreeSet<u64>,
    /// Their ids by channel.
    pub(crate) dead_of: BTreeMap<ChannelUid, BTreeSet<u64>>,
    /// Rows that differ from what was last taken.
    pub(crate) dirty: BTreeSet<Key>,
}

/// A customer that a serving met on a track.
pub(crate) type Customer = (u64, Track, ConversationId);

/// The worst that a serving has done to a customer, and whether stable has made up for it since. It only
/// ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Answered,
    Failed,
    Rescued,
}

/// Names one row of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Meta,
    Conversation(ConversationId),
    Message(ConversationId, u64),
    Intent(ConversationId),
    Body(ConversationId),
    Finish(ChannelUid),
    /// With the end of its memory: what was admitted is only ever forgotten by its time.
    Seen(DedupKey, Millis),
    Stamps(ConversationId),
    Attributed(ConversationId),
    Memo(ConversationId),
    Evidence(ChannelUid),
    Customer(ChannelUid, Customer),
    Probe(Park),
    Dead(u64),
}

/// A conversation with messages.
pub(crate) struct Conversation {
    /// The channel of its newest message.
    pub(crate) channel: ChannelUid,
    /// Sequence of the head.
    pub(crate) first: u64,
    /// Head first.
    pub(crate) messages: VecDeque<Message>,
    /// Where it waits, exactly one place (I2).
    pub(crate) place: Place,
    /// Virtual start of its present turn.
    pub(crate) score: u64,
    /// What is known of the head beyond its text.
    pub(crate) progress: Progress,
}

/// Work done on a head; starts empty with each new head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Counted claims.
    pub(crate) tries: u32,
    /// Expired leases.
    pub(crate) crashes: u32,
    /// Whether its owner runs nothing else that is suspected.
    pub(crate) alone: bool,
    /// Whether the last lease that expired was such a one's.
    pub(crate) crashed_alone: bool,
    /// Whether its first attempt has ended.
    pub(crate) counted: bool,
    /// Canary revision that failed on it.
    pub(crate) failed_on: Option<RevisionName>,
    /// The agent's run.
    pub(crate) run: Option<String>,
    /// The reply.
    pub(crate) intent: Option<Intent>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// When it was admitted.
    pub(crate) admitted_at: Millis,
    /// What a repetition is recognised by.
    pub(crate) dedup_key: DedupKey,
    /// Its opaque content.
    pub(crate) envelope: String,
    /// Whether its first attempt has ended already: it was a dead letter.
    pub(crate) counted: bool,
}

/// Where a conversation waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// For a worker, by its score.
    Ready,
    /// With a worker.
    Leased {
        /// The proof.
        nonce: Nonce,
        /// When anybody may take over.
        until: Millis,
        /// Length that was granted last.
        lease_ms: u64,
    },
    /// For a time, or until the agent that it waits for is well again.
    Delayed {
        /// When it becomes ready.
        until: Millis,
        /// The agent, if it waits for one.
        park: Option<Park>,
    },
}

/// What a channel has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A value with the end of its time.
#[derive(Default)]
pub(crate) struct Kept<T> {
    /// When it is forgotten.
    pub(crate) until: Millis,
    /// What is kept.
    pub(crate) value: T,
}

/// Names one value that is kept for a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Memory {
    /// Stamps of a conversation.
    Stamps(ConversationId),
    /// Attributed SIDs of a conversation.
    Attributed(ConversationId),
    /// Memo of a conversation.
    Memo(ConversationId),
    /// Evidence of a channel.
    Evidence(ChannelUid),
    /// Customers of a channel.
    Customers(ChannelUid),
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// UID of the channel.
    pub(crate) channel: ChannelUid,
    /// The conversation; none for a letter of layout 1.
    pub(crate) conversation: Option<ConversationId>,
    /// What a repetition is recognised by.
    pub(crate) dedup_key: DedupKey,
    /// Why.
    pub(crate) class: Arc<str>,
    /// When it ended.
    pub(crate) at: Millis,
    /// When it was admitted; none for a letter of layout 1.
    pub(crate) admitted_at: Option<Millis>,
    /// Its content, until it is forgotten.
    pub(crate) envelope: Option<String>,
    /// Whether it counted as evidence.
    pub(crate) counted: bool,
}

impl Shard {
    /// Counts anew what is too much to count at every change.
    pub(crate) fn count_rest(&mut self) {
        let texts = self.dead_with_text.iter().filter_map(|id| self.dead.get(id));
        let texts = texts.filter_map(|letter| letter.envelope.as_ref());
        self.dead_bytes = texts.map(|text| text.len() as u64).sum();
        self.customers_known = self.customers.values().map(|kept| kept.value.len() as u64).sum();
    }

    /// The conversation, if the lease is the present one, expired or not.
    pub(crate) fn owned(&mut self, lease: &Lease) -> Option<&mut Conversation> {
        let conversation = self.conversations.get_mut(&lease.conversation)?;
        match &conversation.place {
            Place::Leased { nonce, .. } if *nonce == lease.nonce => Some(conversation),
            _ => None,
        }
    }

    /// Moves a conversation to another place; the old one, its nonce included, is forgotten.
    pub(crate) fn put(&mut self, id: &ConversationId, place: Place) {
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let old = std::mem::replace(&mut conversation.place, place);
        self.unlist(id, &old);
        self.list(id);
        self.dirty.insert(Key::Conversation(id.clone()));
    }

    /// Makes a conversation ready at the end of its channel's turn: start-time fair queueing.
    pub(crate) fn wake(&mut self, id: &ConversationId) {
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let finish = self.finish.entry(conversation.channel.clone()).or_default();
        let start = self.clock.max(*finish);
        *finish = start.saturating_add(1);
        self.dirty.insert(Key::Finish(conversation.channel.clone()));
        let old_score = std::mem::replace(&mut conversation.score, start);
        self.ready.remove(&(old_score, id.clone()));
        self.put(id, Place::Ready);
    }

    /// Takes the head off: the next message becomes ready, or the conversation ends.
    pub(crate) fn pop(&mut self, id: &ConversationId) -> Option<(ChannelUid, Message, Progress)> {
        let conversation = self.conversations.get_mut(id)?;
        let message = conversation.messages.pop_front()?;
        let channel = conversation.channel.clone();
        let counted = conversation.messages.front().is_some_and(|next| next.counted);
        let fresh = Progress { counted, ..Progress::default() };
        let progress = std::mem::replace(&mut conversation.progress, fresh);
        let sequence = conversation.first;
        conversation.first = sequence.saturating_add(1);
        let ended = conversation.messages.is_empty();
        self.remove_waiting(&channel, 1, message.envelope.len() as u64);
        self.dirty.insert(Key::Message(id.clone(), sequence));
        if let Some(intent) = &progress.intent {
            self.bodies = self.bodies.saturating_sub(intent.body.len() as u64);
            self.dirty.insert(Key::Intent(id.clone()));
            self.dirty.insert(Key::Body(id.clone()));
        }
        if ended {
            if let Some(conversation) = self.conversations.remove(id) {
                self.ready.remove(&(conversation.score, id.clone()));
                self.unlist(id, &conversation.place);
            }
            self.dirty.insert(Key::Conversation(id.clone()));
        } else {
            self.wake(id);
        }
        Some((channel, message, progress))
    }

    /// Takes a conversation away with all that waits in it.
    pub(crate) fn remove_conversation(&mut self, id: &ConversationId) -> Option<Conversation> {
        let conversation = self.conversations.remove(id)?;
        self.ready.remove(&(conversation.score, id.clone()));
        self.unlist(id, &conversation.place);
        let bytes = conversation.messages.iter().map(|message| message.envelope.len() as u64).sum();
        let messages = conversation.messages.len();
        self.remove_waiting(&conversation.channel, messages as u64, bytes);
        let sequences = (conversation.first..).take(messages);
        self.dirty.extend(sequences.map(|sequence| Key::Message(id.clone(), sequence)));
        if let Some(intent) = &conversation.progress.intent {
            self.bodies = self.bodies.saturating_sub(intent.body.len() as u64);
            self.dirty.extend([Key::Intent(id.clone()), Key::Body(id.clone())]);
        }
        self.dirty.insert(Key::Conversation(id.clone()));
        Some(conversation)
    }

    /// Takes a dead letter away.
    pub(crate) fn remove_letter(&mut self, number: u64) -> Option<DeadLetter> {
        let letter = self.dead.remove(&number)?;
        self.dead_with_text.remove(&number);
        if let Some(numbers) = self.dead_of.get_mut(&letter.channel) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.dead_of.remove(&letter.channel);
            }
        }
        self.dirty.insert(Key::Dead(number));
        Some(letter)
    }

    /// Counts messages that wait for a channel.
    pub(crate) fn add_waiting(&mut self, channel: &ChannelUid, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_add(messages);
        self.bytes = self.bytes.saturating_add(bytes);
        let waiting = self.waiting.entry(channel.clone()).or_default();
        waiting.messages = waiting.messages.saturating_add(messages);
        waiting.bytes = waiting.bytes.saturating_add(bytes);
    }

    /// Takes them off again.
    pub(crate) fn remove_waiting(&mut self, channel: &ChannelUid, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        let Some(waiting) = self.waiting.get_mut(channel) else { return };
        waiting.messages = waiting.messages.saturating_sub(messages);
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        if waiting.messages == 0 {
            self.waiting.remove(channel);
        }
    }

    /// Replaces the end of something kept; `old` is its former end, if it had one.
    pub(crate) fn keep_until(&mut self, memory: Memory, old: Option<Millis>, until: Millis) {
        if let Some(old) = old {
            self.ends.remove(&(old, memory.clone()));
        }
        self.ends.insert((until, memory));
    }

    /// Enters a conversation into the index of its place.
    pub(crate) fn list(&mut self, id: &ConversationId) {
        let Some(conversation) = self.conversations.get(id) else { return };
        match &conversation.place {
            Place::Ready => drop(self.ready.insert((conversation.score, id.clone()))),
            Place::Leased { nonce, until, .. } => {
                self.nonces.insert(nonce.clone(), id.clone());
                self.leased.insert((*until, id.clone()));
            }
            Place::Delayed { until, park } => {
                self.delayed.insert((*until, id.clone()));
                if let Some(park) = park {
                    self.parked.insert((park.clone(), *until, id.clone()));
                }
            }
        }
    }

    fn unlist(&mut self, id: &ConversationId, place: &Place) {
        match place {
            Place::Ready => {
                if let Some(conversation) = self.conversations.get(id) {
                    self.ready.remove(&(conversation.score, id.clone()));
                }
            }
            Place::Leased { nonce, until, .. } => {
                self.nonces.remove(nonce);
                self.leased.remove(&(*until, id.clone()));
            }
            Place::Delayed { until, park } => {
                self.delayed.remove(&(*until, id.clone()));
                if let Some(park) = park {
                    self.parked.remove(&(park.clone(), *until, id.clone()));
                }
            }
        }
    }
}
