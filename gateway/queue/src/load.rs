//! The way back from rows to the machine that wrote them.
//!
//! Takes the rows one by one, those of a shard together, of this layout or the one before; gives the
//! machine. Only the rows of one shard are held beside it. What has outlived its time is passed over, its
//! row left to its owner. A row that this version cannot read, or that lacks the rows it belongs to, is an
//! error and never skipped.

use std::collections::{BTreeMap, VecDeque};

use kanarie_words::Millis;
use kanarie_words::ids::{
    ChannelUid, ConversationId, DedupKey, Epoch, MessageSid, RevisionName, SHARDS, StoreKey,
};
use kanarie_words::track::Track;
use serde::Deserialize;

use crate::intent::{Intent, Memo};
use crate::lease::Park;
use crate::outcome::Counters;
use crate::queue::Queue;
use crate::rows::{self, ConversationRow, DeadRow, IntentRow, KeptRow, MetaRow, PlaceRow};
use crate::shard::{
    Conversation, DeadLetter, Kept, Key, Memory, Message, Place, Progress, Shard, Standing,
};
use crate::sids::{SidKey, Sids};

/// A machine that is being read.
pub struct Loading {
    queue: Queue,
    now: Millis,
    /// The shard that is being read, and what of it is not joined yet.
    shard: u8,
    table: Table,
}

impl Loading {
    /// Begins at the store's time; the machine may take so much memory, if that is bounded. Then SIDs are
    /// read best after all others: one whose message waits stays whatever its age.
    pub fn at(now: Millis, memory: Option<u64>) -> Self {
        let mut queue = Queue::empty();
        queue.budget.allow(memory);
        Self { queue, now, shard: 0, table: Table::default() }
    }

    /// Takes one row.
    ///
    /// # Errors
    /// When it makes no sense, alone or with those of the shard before.
    pub fn read(&mut self, name: &str, value: Vec<u8>) -> Result<(), LoadError> {
        if name == rows::KEY {
            let key = value.try_into().map_err(|_| LoadError::new(name))?;
            self.queue.set_key(StoreKey::from_bytes(key));
            return Ok(());
        }
        if let Some(field) = name.strip_prefix(rows::SHARDLESS) {
            let read = self.queue.deliveries.read(field, &value);
            return read.ok_or_else(|| LoadError::new(name));
        }
        if rows::is_over(name, &value, self.now) {
            return Ok(());
        }
        let known = split(name).filter(|(shard, _)| *shard < SHARDS);
        let (shard, field) = known.ok_or_else(|| LoadError::new(name))?;
        if let Some(key) = field.strip_prefix("dd:") {
            let read = self.read_sid(shard, key, &value);
            return read.ok_or_else(|| LoadError::new(name));
        }
        if shard != self.shard {
            self.join()?;
            self.shard = shard;
        }
        self.table.read(&mut self.queue.shards[usize::from(shard)], field, value)
    }

    /// The machine, once every row was read.
    ///
    /// # Errors
    /// When a row lacks those it belongs to.
    pub fn finish(mut self) -> Result<Queue, LoadError> {
        self.join()?;
        let Queue { shards, sids, budget, deliveries, .. } = &mut self.queue;
        sids.drop_early(self.now);
        budget.count(shards, sids, deliveries);
        Ok(self.queue)
    }

    fn read_sid(&mut self, shard: u8, key: &str, value: &[u8]) -> Option<()> {
        let (key, until) = (DedupKey::parse(key).ok()?, number(value)?);
        let Queue { sids, budget, .. } = &mut self.queue;
        sids.read(SidKey::of(shard, &key), until, self.now, budget.of_sids());
        Some(())
    }

    fn join(&mut self) -> Result<(), LoadError> {
        let Queue { shards, sids, .. } = &mut self.queue;
        let shard = &mut shards[usize::from(self.shard)];
        std::mem::take(&mut self.table).assemble(shard, self.shard, sids)
    }
}

impl Queue {
    /// The machine that wrote these rows; without any, a new one.
    ///
    /// # Errors
    /// As [`Loading::read`].
    pub fn load(rows: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, LoadError> {
        let mut loading = Loading::at(0, None);
        rows.into_iter().try_for_each(|(name, value)| loading.read(&name, value))?;
        loading.finish()
    }
}

/// Splits a name into shard and `<kind>:<field>`.
fn split(name: &str) -> Option<(u8, &str)> {
    let (shard, field) = name.split_once(':')?;
    Some((shard.parse().ok()?, field))
}

/// Rows of one shard that make sense only together.
#[derive(Default)]
struct Table {
    conversations: BTreeMap<ConversationId, ConversationRow>,
    messages: BTreeMap<ConversationId, BTreeMap<u64, Message>>,
    intents: BTreeMap<ConversationId, IntentRow>,
    bodies: BTreeMap<ConversationId, String>,
}

impl Table {
    /// Takes one row of the shard.
    fn read(&mut self, shard: &mut Shard, field: &str, value: Vec<u8>) -> Result<(), LoadError> {
        self.read_row(shard, field, value).ok_or_else(|| LoadError::new(&format!("..:{field}")))
    }

    fn read_row(&mut self, shard: &mut Shard, field: &str, value: Vec<u8>) -> Option<()> {
        let (kind, name) = field.split_once(':').unwrap_or((field, ""));
        match kind {
            "conv" => {
                let row = serde_json::from_slice(&value).ok()?;
                self.conversations.insert(ConversationId::parse(name)?, row);
            }
            "msg" => {
                let (id, sequence) = name.split_once(':')?;
                let messages = self.messages.entry(ConversationId::parse(id)?).or_default();
                messages.insert(sequence.parse().ok()?, parse_message(value)?);
            }
            "int" => {
                let row = serde_json::from_slice(&value).ok()?;
                self.intents.insert(ConversationId::parse(name)?, row);
            }
            "bod" => {
                self.bodies.insert(ConversationId::parse(name)?, String::from_utf8(value).ok()?);
            }
            "rl" | "at" | "me" | "ev" | "cu" => read_kept(shard, kind, name, &value)?,
            _ => read_own(shard, kind, name, &value)?,
        }
        Some(())
    }

    /// Joins conversations with their messages and intents once every row of the shard was read.
    fn assemble(mut self, shard: &mut Shard, number: u8, sids: &mut Sids) -> Result<(), LoadError> {
        for (id, row) in std::mem::take(&mut self.conversations) {
            let record = self.join(&id, row).ok_or_else(|| LoadError::new("..:conv:"))?;
            let messages = record.messages.len() as u64;
            let bytes = record.messages.iter().map(|message| message.envelope.len() as u64).sum();
            shard.add_waiting(&record.channel, messages, bytes);
            for message in &record.messages {
                sids.wait(SidKey::of(number, &message.dedup_key), message.admitted_at);
            }
            let intent = record.progress.intent.as_ref();
            shard.bodies += intent.map_or(0, |intent| intent.body.len() as u64);
            shard.conversations.insert(id.clone(), record);
            shard.list(&id);
        }
        shard.count_rest();
        let left = !(self.messages.is_empty() && self.intents.is_empty() && self.bodies.is_empty());
        if left { Err(LoadError::new("..:msg:")) } else { Ok(()) }
    }

    fn join(&mut self, id: &ConversationId, row: ConversationRow) -> Option<Conversation> {
        let messages = self.messages.remove(id)?;
        let whole = messages.keys().copied().eq(row.lo..row.hi) && row.lo < row.hi;
        if !whole {
            return None;
        }
        let messages = messages.into_iter().map(|(sequence, message)| Message {
            counted: row.again.contains(&sequence),
            ..message
        });
        let intent = match (self.intents.remove(id), self.bodies.remove(id)) {
            (Some(intent), Some(body)) => Some(Intent {
                id: intent.id,
                segments: intent.segments,
                body,
                sent: intent.sent,
                sending: intent.sending,
                resent: intent.resent,
            }),
            (None, None) => None,
            _ => return None,
        };
        let place = match row.place {
            PlaceRow::Rdy => Place::Ready,
            PlaceRow::Lse { nonce, until, lease_ms } => Place::Leased { nonce, until, lease_ms },
            PlaceRow::Dly { until, park } => {
                let park = park.map(|revision| Park { channel: row.ch.clone(), revision });
                Place::Delayed { until, park }
            }
        };
        Some(Conversation {
            channel: row.ch,
            first: row.lo,
            messages: messages.collect(),
            place,
            score: row.score,
            progress: Progress {
                tries: row.tries,
                crashes: row.crashes,
                alone: row.alone,
                crashed_alone: row.crashed_alone,
                counted: row.counted,
                failed_on: row.failed_on,
                run: row.run,
                intent,
            },
        })
    }
}

impl Shard {
    /// Marks every row as changed.
    pub(crate) fn rewrite(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.insert(Key::Meta);
        for (id, conversation) in &self.conversations {
            dirty.insert(Key::Conversation(id.clone()));
            let sequences = (conversation.first..).take(conversation.messages.len());
            dirty.extend(sequences.map(|sequence| Key::Message(id.clone(), sequence)));
            if conversation.progress.intent.is_some() {
                dirty.extend([Key::Intent(id.clone()), Key::Body(id.clone())]);
            }
        }
        dirty.extend(self.finish.keys().cloned().map(Key::Finish));
        dirty.extend(self.stamps.keys().cloned().map(Key::Stamps));
        dirty.extend(self.attributed.keys().cloned().map(Key::Attributed));
        dirty.extend(self.memos.keys().cloned().map(Key::Memo));
        dirty.extend(self.evidence.keys().cloned().map(Key::Evidence));
        for (channel, kept) in &self.customers {
            let customers = kept.value.keys().cloned();
            dirty.extend(customers.map(|customer| Key::Customer(channel.clone(), customer)));
        }
        dirty.extend(self.probes.keys().cloned().map(Key::Probe));
        dirty.extend(self.dead.keys().copied().map(Key::Dead));
        self.dirty = dirty;
    }
}

/// Rows that stand for themselves.
fn read_own(shard: &mut Shard, kind: &str, name: &str, value: &[u8]) -> Option<()> {
    match kind {
        "meta" => {
            let row: MetaRow = serde_json::from_slice(value).ok()?;
            (shard.now, shard.clock) = (row.now, row.clock);
            // The owner may write this row later than a letter's.
            shard.last_dead = shard.last_dead.max(row.dead);
            if !row.epoch.is_empty() {
                shard.epoch = Some(Epoch::parse(&row.epoch).ok()?);
            }
        }
        "vt" => drop(shard.finish.insert(ChannelUid::parse(name).ok()?, number(value)?)),
        "pr" => {
            let (channel, revision) = name.split_once(' ')?;
            let channel = ChannelUid::parse(channel).ok()?;
            let revision = RevisionName::parse(revision).ok()?;
            shard.probes.insert(Park { channel, revision }, number(value)?);
        }
        "dl" => read_dead(shard, name.parse().ok()?, value)?,
        _ => return None,
    }
    Some(())
}

/// Rows that are kept for a time.
fn read_kept(shard: &mut Shard, kind: &str, name: &str, value: &[u8]) -> Option<()> {
    match kind {
        "rl" => {
            let id = ConversationId::parse(name)?;
            let kept: Kept<VecDeque<Millis>> = parse_kept(value)?;
            shard.ends.insert((kept.until, Memory::Stamps(id.clone())));
            shard.stamps.insert(id, kept);
        }
        "at" => {
            let id = ConversationId::parse(name)?;
            let kept: Kept<VecDeque<(Millis, MessageSid)>> = parse_kept(value)?;
            shard.ends.insert((kept.until, Memory::Attributed(id.clone())));
            shard.attributed.insert(id, kept);
        }
        "me" => {
            let id = ConversationId::parse(name)?;
            let kept: Kept<Memo> = parse_kept(value)?;
            shard.ends.insert((kept.until, Memory::Memo(id.clone())));
            shard.memos.insert(id, kept);
        }
        "cu" => read_customer(shard, name, value)?,
        _ => read_evidence(shard, name, value)?,
    }
    Some(())
}

fn parse_message(value: Vec<u8>) -> Option<Message> {
    let text = String::from_utf8(value).ok()?;
    let (admitted_at, rest) = text.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    let (key, envelope) = rest.split_at_checked(length.parse().ok()?)?;
    Some(Message {
        admitted_at: admitted_at.parse().ok()?,
        dedup_key: DedupKey::parse(key).ok()?,
        envelope: envelope.to_owned(),
        counted: false,
    })
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn parse_kept<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Option<Kept<T>> {
    let row: KeptRow<T> = serde_json::from_slice(value).ok()?;
    Some(Kept { until: row.until, value: row.kept })
}

fn read_evidence(shard: &mut Shard, channel: &str, value: &[u8]) -> Option<()> {
    let kept: Kept<BTreeMap<String, u64>> = parse_kept(value)?;
    let counters = kept.value.into_iter();
    let counters = counters
        .map(|(field, count)| Some((Counters::parse(&field)?, count)))
        .collect::<Option<_>>()?;
    let channel = ChannelUid::parse(channel).ok()?;
    shard.ends.insert((kept.until, Memory::Evidence(channel.clone())));
    shard.evidence.insert(channel, Kept { until: kept.until, value: Counters(counters) });
    Some(())
}

fn read_customer(shard: &mut Shard, name: &str, value: &[u8]) -> Option<()> {
    let mut parts = name.splitn(4, ':');
    let serving = parts.next()?.parse().ok()?;
    let (track, id) = (Track::parse(parts.next()?)?, ConversationId::parse(parts.next()?)?);
    let channel = ChannelUid::parse(parts.next()?).ok()?;
    let (until, digit) = std::str::from_utf8(value).ok()?.split_once(':')?;
    let standing = match digit {
        "1" => Standing::Failed,
        "2" => Standing::Rescued,
        _ => Standing::Answered,
    };
    let until: Millis = until.parse().ok()?;
    let kept = shard.customers.entry(channel.clone()).or_default();
    kept.value.insert((serving, track, id), standing);
    if until > kept.until {
        let old = std::mem::replace(&mut kept.until, until);
        shard.keep_until(Memory::Customers(channel), Some(old), until);
    }
    Some(())
}

fn read_dead(shard: &mut Shard, id: u64, value: &[u8]) -> Option<()> {
    let row: DeadRow = serde_json::from_slice(value).ok()?;
    if row.envelope.is_some() {
        shard.dead_with_text.insert(id);
    }
    shard.dead_of.entry(row.channel.clone()).or_default().insert(id);
    let letter = DeadLetter {
        channel: row.channel,
        conversation: row.conversation,
        dedup_key: row.key,
        class: row.class.into(),
        at: row.at,
        admitted_at: row.admitted_at,
        envelope: row.envelope,
        counted: row.counted,
    };
    shard.dead.insert(id, letter);
    shard.last_dead = shard.last_dead.max(id);
    Some(())
}

/// Why rows are no machine.
#[derive(Debug, thiserror::Error)]
#[error("row {row} of the store cannot be read: it is damaged or of a newer version")]
pub struct LoadError {
    row: String,
}

impl LoadError {
    /// Names shard and kind only: the rest of a row's name may hold a SID.
    pub(crate) fn new(name: &str) -> Self {
        let end = name.match_indices(':').nth(1).map_or(name.len().min(16), |(at, _)| at);
        Self { row: name.get(..end).unwrap_or("?").to_owned() }
    }
}
