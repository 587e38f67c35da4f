//! Rows as the scripts write them, read back.
//!
//! Takes the text of a row, gives the value that the machine knows. What cannot be read is
//! `Corrupt`, or none. Never writes a row: the scripts do. Never puts a row's text into an error.

use kanarie_queue::intent::{Intent, Memo, Sending};
use kanarie_words::Millis;
use kanarie_words::ids::{AttemptId, IntentId, MessageSid};
use serde::Deserialize;

use crate::store::redis::call::{Decoded, corrupt};

/// The row of an intent. `sent` is absent while it is empty.
#[derive(Deserialize)]
struct IntentRow {
    id: IntentId,
    segments: u32,
    #[serde(default)]
    sent: Vec<MessageSid>,
    attempt: Option<AttemptId>,
    at: Option<Millis>,
    missed: Option<Millis>,
    resent: bool,
}

/// `<admitted_at>:<bytes of the dedup key>:<dedup key><envelope>`.
pub(super) fn message(row: &str) -> Option<(Millis, &str)> {
    let (admitted_at, rest) = row.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    Some((admitted_at.parse().ok()?, rest.get(length.parse().ok()?..)?))
}

pub(super) fn intent(row: &str, body: String) -> Decoded<Intent> {
    let IntentRow { id, segments, sent, attempt, at, missed, resent } = json(row)?;
    let sending = attempt.zip(at);
    let sending = sending.map(|(attempt, at)| Sending { attempt, at, missed_at: missed });
    Ok(Intent { id, segments, body, sent, sending, resent })
}

/// What a conversation remembers; what cannot be read keeps no message from its answer.
pub(super) fn memo(row: Option<&str>) -> Memo {
    row.and_then(|row| json(row).ok()).unwrap_or_default()
}

/// Stands for an intent that cannot be read. It has no body, which no reply is without, so whoever
/// owns the head gives it up.
pub(super) fn lost_intent() -> Intent {
    Intent::fresh(IntentId::from_bytes([0; 16]), 0, String::new())
}

pub(super) fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Decoded<T> {
    serde_json::from_str(text).map_err(|_| corrupt("a row"))
}
