//! The way back from rows to the machine that wrote them.
//!
//! Takes the rows of a shard one by one, in any order; gives the shard. A row that this version
//! cannot read, or that lacks the rows it belongs to, is an error and never skipped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Deserialize;

use crate::rows::{ConversationRow, DeadRow, IntentRow, KeptRow, MetaRow, PlaceRow};
use crate::shard::{Conversation, DeadLetter, Head, Kept, Memory, Message, Place, Shard};
use crate::types::{ConversationId, Evidence, Intent, Millis};

/// Splits a name into shard and `<kind>:<field>`.
pub(crate) fn split(name: &str) -> Option<(u8, &str)> {
    let (shard, field) = name.split_once(':')?;
    Some((shard.parse().ok()?, field))
}

/// Rows of one shard that make sense only together.
#[derive(Default)]
pub(crate) struct Table {
    conversations: BTreeMap<ConversationId, ConversationRow>,
    messages: BTreeMap<ConversationId, BTreeMap<u64, Message>>,
    intents: BTreeMap<ConversationId, IntentRow>,
    bodies: BTreeMap<ConversationId, String>,
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
