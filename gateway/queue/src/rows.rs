//! The rows of the machine: their names and their content.
//!
//! Takes records of a shard and gives key and value; `load.rs` is the way back. (Rows of no shard:
//! `queue.rs`, `deliveries.rs`.) The table of rows
//! stands in `docs/queue.md`.

use kanarie_words::Millis;
use kanarie_words::ids::{
    ChannelUid, ConversationId, DedupKey, IntentId, MessageSid, Nonce, RevisionName, StoreKey,
};
use serde::{Deserialize, Serialize};

use crate::intent::{Intent, Sending};
use crate::lease::Park;
use crate::outcome::Counters;
use crate::shard::{Conversation, Customer, DeadLetter, Kept, Key, Place, Shard, Standing};

/// Where the names of rows begin that belong to no shard.
pub(crate) const SHARDLESS: &str = "sys:";

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

#[derive(Serialize, Deserialize)]
pub(crate) struct MetaRow {
    pub(crate) now: Millis,
    /// Empty when there is none yet.
    pub(crate) epoch: String,
    pub(crate) dead: u64,
    pub(crate) clock: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ConversationRow {
    pub(crate) ch: ChannelUid,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) score: u64,
    pub(crate) place: PlaceRow,
    pub(crate) tries: u32,
    pub(crate) crashes: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) alone: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) crashed_alone: bool,
    pub(crate) counted: bool,
    pub(crate) failed_on: Option<RevisionName>,
    pub(crate) run: Option<String>,
    /// Sequences behind the head whose first attempt has ended: they were dead letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) again: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlaceRow {
    Rdy,
    Lse {
        nonce: Nonce,
        until: Millis,
        lease_ms: u64,
    },
    Dly {
        until: Millis,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        park: Option<RevisionName>,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IntentRow {
    pub(crate) id: IntentId,
    pub(crate) segments: u32,
    pub(crate) sent: Vec<MessageSid>,
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
    pub(crate) channel: ChannelUid,
    #[serde(default)]
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) key: DedupKey,
    pub(crate) class: String,
    pub(crate) at: Millis,
    #[serde(default)]
    pub(crate) admitted_at: Option<Millis>,
    pub(crate) envelope: Option<String>,
    pub(crate) counted: bool,
}

/// The row of the store's key.
pub(crate) fn key_row(key: StoreKey) -> Row {
    Row { key: KEY.to_owned(), value: Some(key.as_bytes().to_vec()) }
}

/// The present content of a row.
pub(crate) fn render(number: u8, shard: &Shard, key: &Key) -> Row {
    Row { key: format!("{number:02}:{}", field(key)), value: content(shard, key) }
}

/// Whether a row has outlived its time: one of a SID, of a limit or of a reply. No verb deletes these, so
/// whoever owns the rows may, whenever he likes; until then they are passed over when rows are read.
pub fn is_over(name: &str, value: &[u8], now: Millis) -> bool {
    let kind = name.split(':').nth(1).filter(|kind| AGEING.contains(kind));
    kind.and_then(|kind| end_of(kind, value)).is_some_and(|until| until <= now)
}

/// The kinds of rows that end by their time alone.
pub const AGEING: [&str; 4] = ["at", "dd", "me", "rl"];

fn end_of(kind: &str, value: &[u8]) -> Option<Millis> {
    #[derive(Deserialize)]
    struct End {
        until: Millis,
    }
    match kind {
        "dd" => std::str::from_utf8(value).ok()?.parse().ok(),
        _ => serde_json::from_slice::<End>(value).ok().map(|end| end.until),
    }
}

/// `<kind>:<field>`.
fn field(key: &Key) -> String {
    match key {
        Key::Meta => "meta".to_owned(),
        Key::Conversation(id) => format!("conv:{id}"),
        Key::Message(id, sequence) => format!("msg:{id}:{sequence}"),
        Key::Intent(id) => format!("int:{id}"),
        Key::Body(id) => format!("bod:{id}"),
        Key::Finish(channel) => format!("vt:{channel}"),
        Key::Seen(dedup_key, _) => format!("dd:{dedup_key}"),
        Key::Stamps(id) => format!("rl:{id}"),
        Key::Attributed(id) => format!("at:{id}"),
        Key::Memo(id) => format!("me:{id}"),
        Key::Evidence(channel) => format!("ev:{channel}"),
        Key::Customer(channel, (serving, track, id)) => {
            format!("cu:{serving}:{}:{id}:{channel}", track.as_str())
        }
        Key::Probe(park) => format!("pr:{} {}", park.channel, park.revision),
        Key::Dead(id) => format!("dl:{id}"),
    }
}

fn content(shard: &Shard, key: &Key) -> Option<Vec<u8>> {
    match key {
        Key::Meta => Some(meta(shard)),
        Key::Conversation(id) => shard.conversations.get(id).map(conversation),
        Key::Message(id, sequence) => message(shard, id, *sequence),
        Key::Intent(id) => intent_of(shard, id).map(|intent| json(&row_of(intent))),
        Key::Body(id) => intent_of(shard, id).map(|intent| intent.body.clone().into_bytes()),
        Key::Finish(channel) => shard.finish.get(channel).map(number),
        Key::Seen(_, until) => Some(number(until)),
        Key::Stamps(id) => shard.stamps.get(id).map(kept),
        Key::Attributed(id) => shard.attributed.get(id).map(kept),
        Key::Memo(id) => shard.memos.get(id).map(kept),
        Key::Evidence(channel) => shard.evidence.get(channel).map(evidence),
        Key::Customer(channel, customer) => customer_of(shard, channel, customer),
        Key::Probe(park) => probe(shard, park),
        Key::Dead(id) => shard.dead.get(id).map(dead_letter),
    }
}

fn meta(shard: &Shard) -> Vec<u8> {
    let epoch = shard.epoch.as_ref().map(|epoch| epoch.as_str().to_owned());
    json(&MetaRow {
        now: shard.now,
        epoch: epoch.unwrap_or_default(),
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
        Place::Delayed { until, park } => {
            let park = park.as_ref().map(|park| park.revision.clone());
            PlaceRow::Dly { until: *until, park }
        }
    };
    let progress = &record.progress;
    let sequences = (record.first..).zip(&record.messages).skip(1);
    json(&ConversationRow {
        ch: record.channel.clone(),
        lo: record.first,
        hi: record.first.saturating_add(record.messages.len() as u64),
        score: record.score,
        place,
        tries: progress.tries,
        crashes: progress.crashes,
        alone: progress.alone,
        crashed_alone: progress.crashed_alone,
        counted: progress.counted,
        failed_on: progress.failed_on.clone(),
        run: progress.run.clone(),
        again: sequences.filter(|(_, message)| message.counted).map(|(at, _)| at).collect(),
    })
}

/// `<admitted_at>:<bytes of the dedup key>:<dedup key><envelope>`.
fn message(shard: &Shard, id: &ConversationId, sequence: u64) -> Option<Vec<u8>> {
    let conversation = shard.conversations.get(id)?;
    let index = usize::try_from(sequence.checked_sub(conversation.first)?).ok()?;
    let message = conversation.messages.get(index)?;
    let key = message.dedup_key.as_str();
    Some(format!("{}:{}:{key}{}", message.admitted_at, key.len(), message.envelope).into_bytes())
}

fn intent_of<'a>(shard: &'a Shard, id: &ConversationId) -> Option<&'a Intent> {
    shard.conversations.get(id)?.progress.intent.as_ref()
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

fn evidence(kept: &Kept<Counters>) -> Vec<u8> {
    let counters = kept.value.0.iter();
    let counters: std::collections::BTreeMap<String, u64> =
        counters.map(|(counter, count)| (Counters::field(counter), *count)).collect();
    json(&KeptRow { until: kept.until, kept: counters })
}

/// `<until>:<0, 1 once he was failed, 2 once he was rescued as well>`: each customer carries the end of
/// the channel's memory as it was when he was counted; the latest of them is the channel's.
fn customer_of(shard: &Shard, channel: &ChannelUid, customer: &Customer) -> Option<Vec<u8>> {
    let kept = shard.customers.get(channel)?;
    let digit = match kept.value.get(customer)? {
        Standing::Answered => '0',
        Standing::Failed => '1',
        Standing::Rescued => '2',
    };
    Some(format!("{}:{digit}", kept.until).into_bytes())
}

fn probe(shard: &Shard, park: &Park) -> Option<Vec<u8>> {
    shard.probes.get(park).map(number)
}

fn dead_letter(letter: &DeadLetter) -> Vec<u8> {
    json(&DeadRow {
        channel: letter.channel.clone(),
        conversation: letter.conversation.clone(),
        key: letter.dedup_key.clone(),
        class: letter.class.as_ref().to_owned(),
        at: letter.at,
        admitted_at: letter.admitted_at,
        envelope: letter.envelope.clone(),
        counted: letter.counted,
    })
}

fn kept<T: Serialize>(kept: &Kept<T>) -> Vec<u8> {
    json(&KeptRow { until: kept.until, kept: &kept.value })
}

fn number(number: &u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

pub(crate) fn json<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys and no failing serializer")
}
