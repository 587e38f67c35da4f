//! The rows of the machine: their names and their content.
//!
//! Takes records of a shard and gives key and value; `load.rs` is the way back. The table of rows
//! stands in `docs/decisions/0002-queue-rows.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shard::{Conversation, DeadLetter, Kept, Place, Shard};
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

#[derive(Serialize, Deserialize)]
pub(crate) struct MetaRow {
    pub(crate) now: Millis,
    pub(crate) epoch: String,
    pub(crate) dead: u64,
    pub(crate) clock: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ConversationRow {
    pub(crate) ch: String,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) score: u64,
    pub(crate) place: PlaceRow,
    pub(crate) tries: u32,
    pub(crate) crashes: u32,
    pub(crate) counted: bool,
    pub(crate) failed_on: Option<String>,
    pub(crate) run: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlaceRow {
    Rdy,
    Lse { nonce: Nonce, until: Millis, lease_ms: u64 },
    Dly { until: Millis },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IntentRow {
    pub(crate) id: String,
    pub(crate) segments: u32,
    pub(crate) sent: Vec<String>,
    pub(crate) sending: Option<Sending>,
    pub(crate) resent: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KeptRow<T> {
    pub(crate) until: Millis,
    pub(crate) kept: T,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeadRow {
    pub(crate) channel: String,
    pub(crate) key: String,
    pub(crate) class: String,
    pub(crate) at: Millis,
    pub(crate) envelope: Option<String>,
    pub(crate) counted: bool,
}

/// The row of the store's key.
pub(crate) fn key_row(key: [u8; 32]) -> Row {
    Row { key: KEY.to_owned(), value: Some(key.to_vec()) }
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
