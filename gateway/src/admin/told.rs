//! What the endpoints of dead letters tell, as JSON: written by the admin port, read by the commands.
//!
//! Takes letters of the queue, gives them as people read them. A conversation is told by the first
//! digits of its hash, and what a customer wrote only where it was asked for by name.

use std::collections::BTreeMap;

use kanarie_queue::letters::DeadLetterRead;
use kanarie_queue::replay::Replayed;
use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::routes::table::RouteTable;
use crate::subject::short;

/// A page of dead letters.
#[derive(Serialize, Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct LettersPage {
    /// By shard, in each the oldest first.
    pub dead_letters: Vec<ToldLetter>,
    /// `after` of the next page; absent after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dead letter.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ToldLetter {
    /// Its name for ever.
    pub id: String,
    /// `namespace/name` of its channel, if that has a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// UID of its channel.
    pub channel_uid: ChannelUid,
    /// Why it ended.
    pub class: String,
    /// SID of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_sid: Option<String>,
    /// First digits of the conversation's hash, as the log has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// All of them, by which the customer can be erased; where a single letter is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// When it was admitted, Unix milliseconds of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at_ms: Option<Millis>,
    /// When it ended.
    pub ended_at_ms: Millis,
    /// Whether its text is kept: without, it cannot be replayed.
    pub text_kept: bool,
    /// Bytes of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What was kept of the message, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Value>,
}

/// What became of letters that were to be replayed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// They wait again, each behind all that waited.
    pub replayed: u64,
    /// Their message waited already; the letters are gone.
    pub already_waiting: u64,
    /// They stay, and why: `full`, `no-text`, `no-channel` or `maybe-sent`.
    pub left: BTreeMap<String, u64>,
    /// `after` of the next request; absent when all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What became of letters that were to be erased.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EraseReport {
    /// So many are gone.
    pub erased: u64,
    /// `after` of the next request; absent when all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whom to erase: a customer of a channel, or a conversation by its hash.
#[derive(Serialize, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EraseRequest {
    /// `namespace/name` or UID of the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The customer as Twilio names him, with or without `whatsapp:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The 32 digits of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
}

/// What there was of a customer.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CustomerErased {
    /// First digits of the conversation's hash.
    pub conversation: String,
    /// Messages that waited.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Whether one of the messages was being worked on: what was posted to Twilio before may arrive.
    pub in_progress: bool,
}

/// Why a letter stays: its text is gone.
pub(super) const NO_TEXT: &str = "no-text";
/// Why a letter stays: nobody would serve it.
pub(super) const NO_CHANNEL: &str = "no-channel";
/// Why a letter stays: its reply may have arrived, and its class was not named.
pub(super) const MAYBE_SENT: &str = "maybe-sent";
/// Why a letter stays: what it would wait in is full.
pub(super) const FULL: &str = "full";

impl ToldLetter {
    /// As people read it.
    pub(super) fn of(letter: DeadLetterRead, routes: &RouteTable) -> Self {
        let key = letter.dedup_key.as_ref();
        let sid = key.and_then(|key| key.as_str().split_once(':')).map(|(_, sid)| sid.to_owned());
        let text =
            letter.text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        Self {
            id: letter.id.to_string(),
            channel: channel_name(&letter.channel, routes),
            channel_uid: letter.channel,
            class: letter.class,
            message_sid: sid,
            conversation: letter.conversation.as_ref().map(|id| short(id).to_owned()),
            conversation_id: None,
            admitted_at_ms: letter.admitted_at,
            ended_at_ms: letter.at,
            text_kept: letter.bytes.is_some(),
            bytes: letter.bytes,
            message: text,
        }
    }
}

impl ReplayReport {
    /// Notes what became of one letter.
    pub(super) fn note(&mut self, replayed: Replayed) {
        match replayed {
            Replayed::Done => self.replayed += 1,
            Replayed::Waits => self.already_waiting += 1,
            Replayed::Full => self.leave(FULL),
            Replayed::NoText => self.leave(NO_TEXT),
            // Somebody else was quicker.
            Replayed::Gone => {}
        }
    }

    /// Notes that one stays.
    pub(super) fn leave(&mut self, why: &str) {
        *self.left.entry(why.to_owned()).or_default() += 1;
    }
}

/// `namespace/name` of a channel that has a route.
pub(super) fn channel_name(channel: &ChannelUid, routes: &RouteTable) -> Option<String> {
    let entry = routes.find_channel(channel.as_str())?;
    Some(entry.route.channel.to_string())
}
