//! The rows of the machine: names, content, and the way back.
//!
//! Takes records of a shard and gives key and value; takes keys and values and gives the shard
//! back. A row that this version cannot read is an error, never skipped. See
//! `docs/decisions/0002-queue-rows.md`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shard::{Conversation, DeadLetter, Head, Kept, Memory, Message, Place, Shard};
use crate::types::{ConversationId, Evidence, Intent, Millis, Nonce, Sending};

/// Name of the row with the store's key.
pub(crate) const KEY: &str = "sys:key";

/// A row to write, or to delete when it has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `<shard>:<kind>:<field>`.
    pub key: String,
    /// Its content.
    pub value: Option<Vec<u8>>,
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

/// Names one row of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Meta,
    Conversation(ConversationId),
    Message(ConversationId, u64),
    Intent(ConversationId),
    Body(ConversationId),
    Finish(String),
    Seen(Arc<str>),
    Stamps(ConversationId),
    Attributed(ConversationId),
    Evidence(String),
    Dead(u64),
}

/// Rows of one shard that make sense only together.
#[derive(Default)]
pub(crate) struct Table {
    conversations: BTreeMap<ConversationId, ConversationRow>,
    messages: BTreeMap<ConversationId, BTreeMap<u64, Message>>,
    intents: BTreeMap<ConversationId, IntentRow>,
    bodies: BTreeMap<ConversationId, String>,
}

#[derive(Serialize, Deserialize)]
struct MetaRow {
    now: Millis,
    epoch: String,
    dead: u64,
    clock: u64,
}

#[derive(Serialize, Deserialize)]
struct ConversationRow {
    ch: String,
    lo: u64,
    hi: u64,
    score: u64,
    place: PlaceRow,
    tries: u32,
    crashes: u32,
    counted: bool,
    failed_on: Option<String>,
    run: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceRow {
    Rdy,
    Lse { nonce: Nonce, until: Millis, lease_ms: u64 },
    Dly { until: Millis },
}

#[derive(Serialize, Deserialize)]
struct IntentRow {
    id: String,
    segments: u32,
    sent: Vec<String>,
    sending: Option<Sending>,
    resent: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptRow<T> {
    until: Millis,
    kept: T,
}

#[derive(Serialize, Deserialize)]
struct DeadRow {
    channel: String,
    key: String,
    class: String,
    at: Millis,
    envelope: Option<String>,
    counted: bool,
}

/// The row of the store's key.
pub(crate) fn key_row(key: [u8; 32]) -> Row {
    Row { key: KEY.to_owned(), value: Some(key.to_vec()) }
}

/// Splits a name into shard and `<kind>:<field>`.
pub(crate) fn split(name: &str) -> Option<(u8, &str)> {
    let (shard, field) = name.split_once(':')?;
    Some((shard.parse().ok()?, field))
}

/// The present content of a row.
pub(crate) fn render(number: u8, shard: &Shard, key: &Key) -> Row {
    let (field, value) = match key {
        Key::Meta => ("meta".to_owned(), Some(meta(shard))),
        Key::Conversation(id) => {
            (format!("conv:{}", id.as_str()), shard.conversations.get(id).map(conversation))
        }
        Key::Message(id, sequence) => {
            (format!("msg:{}:{sequence}", id.as_str()), message(shard, id, *sequence))
        }
        Key::Intent(id) => (
            format!("int:{}", id.as_str()),
            intent_of(shard, id).map(|intent| json(&row_of(intent))),
        ),
        Key::Body(id) => (
            format!("bod:{}", id.as_str()),
            intent_of(shard, id).map(|intent| intent.body.clone().into_bytes()),
        ),
        Key::Finish(channel) => (
            format!("vt:{channel}"),
            shard.finish.get(channel).map(|finish| finish.to_string().into_bytes()),
        ),
        Key::Seen(dedup_key) => (
            format!("dd:{dedup_key}"),
            shard.seen.get(dedup_key).map(|until| until.to_string().into_bytes()),
        ),
        Key::Stamps(id) => (
            format!("rl:{}", id.as_str()),
            shard
                .stamps
                .get(id)
                .map(|kept| json(&KeptRow { until: kept.until, kept: &kept.value })),
        ),
        Key::Attributed(id) => (
            format!("at:{}", id.as_str()),
            shard
                .attributed
                .get(id)
                .map(|kept| json(&KeptRow { until: kept.until, kept: &kept.value })),
        ),
        Key::Evidence(channel) => {
            (format!("ev:{channel}"), shard.evidence.get(channel).map(evidence))
        }
        Key::Dead(id) => (format!("dl:{id}"), shard.dead.get(id).map(dead_letter)),
    };
    Row { key: format!("{number:02}:{field}"), value }
}

fn meta(shard: &Shard) -> Vec<u8> {
    json(&MetaRow {
        now: shard.now,
        epoch: shard.epoch.clone(),
        dead: shard.last_dead,
        clock: shard.clock,
    })
}

fn conversation(record: &Conversation) -> Vec<u8> {
    let place = match &record.place {
        Place::Ready => PlaceRow::Rdy,
        Place::Leased { nonce, until, lease_ms } => {
            PlaceRow::Lse { nonce: nonce.clone(), until: *until, lease_ms: *lease_ms }
        }
        Place::Delayed { until } => PlaceRow::Dly { until: *until },
    };
    json(&ConversationRow {
        ch: record.channel.clone(),
        lo: record.first,
        hi: record.first.saturating_add(record.messages.len() as u64),
        score: record.score,
        place,
        tries: record.head.tries,
        crashes: record.head.crashes,
        counted: record.head.counted,
        failed_on: record.head.failed_on.clone(),
        run: record.head.run.clone(),
    })
}

fn message(shard: &Shard, id: &ConversationId, sequence: u64) -> Option<Vec<u8>> {
    let conversation = shard.conversations.get(id)?;
    let index = usize::try_from(sequence.checked_sub(conversation.first)?).ok()?;
    let message = conversation.messages.get(index)?;
    let key = &message.dedup_key;
    Some(format!("{}:{}:{key}{}", message.admitted_at, key.len(), message.envelope).into_bytes())
}

fn intent_of<'a>(shard: &'a Shard, id: &ConversationId) -> Option<&'a Intent> {
    shard.conversations.get(id)?.head.intent.as_ref()
}

fn row_of(intent: &Intent) -> IntentRow {
    IntentRow {
        id: intent.id.clone(),
        segments: intent.segments,
        sent: intent.sent.clone(),
        sending: intent.sending.clone(),
        resent: intent.resent,
    }
}

fn evidence(kept: &Kept<BTreeMap<Evidence, u64>>) -> Vec<u8> {
    let counts: BTreeMap<String, u64> =
        kept.value.iter().map(|(evidence, messages)| (evidence.field(), *messages)).collect();
    json(&KeptRow { until: kept.until, kept: counts })
}

fn dead_letter(letter: &DeadLetter) -> Vec<u8> {
    json(&DeadRow {
        channel: letter.channel.clone(),
        key: letter.dedup_key.to_string(),
        class: letter.class.clone(),
        at: letter.at,
        envelope: letter.envelope.clone(),
        counted: letter.counted,
    })
}

fn json<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys and no failing serializer")
}

impl Table {
    /// Takes one row of the shard.
    pub(crate) fn read(
        &mut self,
        shard: &mut Shard,
        field: &str,
        value: Vec<u8>,
    ) -> Result<(), LoadError> {
        self.read_row(shard, field, value).ok_or_else(|| LoadError::new(&format!("..:{field}")))
    }

    fn read_row(&mut self, shard: &mut Shard, field: &str, value: Vec<u8>) -> Option<()> {
        let (kind, name) = field.split_once(':').unwrap_or((field, ""));
        match kind {
            "meta" => {
                let row: MetaRow = serde_json::from_slice(&value).ok()?;
                (shard.now, shard.epoch) = (row.now, row.epoch);
                (shard.last_dead, shard.clock) = (row.dead, row.clock);
            }
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
            "vt" => drop(shard.finish.insert(name.to_owned(), number(&value)?)),
            "dd" => {
                let (key, until) = (Arc::<str>::from(name), number(&value)?);
                shard.ends.insert((until, Memory::Seen(Arc::clone(&key))));
                shard.seen.insert(key, until);
            }
            "rl" => {
                let id = ConversationId::parse(name)?;
                let kept: Kept<VecDeque<Millis>> = parse_kept(&value)?;
                shard.ends.insert((kept.until, Memory::Stamps(id.clone())));
                shard.stamps.insert(id, kept);
            }
            "at" => {
                let id = ConversationId::parse(name)?;
                let kept: Kept<VecDeque<(Millis, String)>> = parse_kept(&value)?;
                shard.ends.insert((kept.until, Memory::Attributed(id.clone())));
                shard.attributed.insert(id, kept);
            }
            "ev" => read_evidence(shard, name, &value)?,
            "dl" => read_dead(shard, name.parse().ok()?, &value)?,
            _ => return None,
        }
        Some(())
    }

    /// Joins conversations with their messages and intents once every row was read.
    pub(crate) fn assemble(mut self, shard: &mut Shard) -> Result<(), LoadError> {
        for (id, row) in std::mem::take(&mut self.conversations) {
            let record = self.join(&id, row).ok_or_else(|| LoadError::new("..:conv:"))?;
            shard.bytes +=
                record.messages.iter().map(|message| message.envelope.len() as u64).sum::<u64>();
            shard.conversations.insert(id.clone(), record);
            shard.list(&id);
        }
        let left = !(self.messages.is_empty() && self.intents.is_empty() && self.bodies.is_empty());
        if left { Err(LoadError::new("..:msg:")) } else { Ok(()) }
    }

    fn join(&mut self, id: &ConversationId, row: ConversationRow) -> Option<Conversation> {
        let messages = self.messages.remove(id)?;
        let whole = messages.keys().copied().eq(row.lo..row.hi) && row.lo < row.hi;
        if !whole {
            return None;
        }
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
            PlaceRow::Dly { until } => Place::Delayed { until },
        };
        let (tries, crashes, counted) = (row.tries, row.crashes, row.counted);
        Some(Conversation {
            channel: row.ch,
            first: row.lo,
            messages: messages.into_values().collect(),
            place,
            score: row.score,
            head: Head { tries, crashes, counted, failed_on: row.failed_on, run: row.run, intent },
        })
    }
}

fn parse_message(value: Vec<u8>) -> Option<Message> {
    let text = String::from_utf8(value).ok()?;
    let (admitted_at, rest) = text.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    let (key, envelope) = rest.split_at_checked(length.parse().ok()?)?;
    Some(Message {
        admitted_at: admitted_at.parse().ok()?,
        dedup_key: key.into(),
        envelope: envelope.to_owned(),
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
    let counts = kept
        .value
        .into_iter()
        .map(|(field, messages)| Some((Evidence::parse(&field)?, messages)))
        .collect::<Option<_>>()?;
    shard.ends.insert((kept.until, Memory::Evidence(channel.to_owned())));
    shard.evidence.insert(channel.to_owned(), Kept { until: kept.until, value: counts });
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
        dedup_key: row.key.into(),
        class: row.class,
        at: row.at,
        envelope: row.envelope,
        counted: row.counted,
    };
    shard.dead.insert(id, letter);
    Some(())
}
