//! What the scripts answer, as values of the verbs.
//!
//! Takes the client's value; gives the verb's answer, or `Corrupt` for anything that no script of
//! this version says. Does no I/O; never repeats a value in an error.

use std::collections::BTreeMap;

use kanarie_queue::types::{
    Admission, Buried, Claim, Claimed, Committed, Count, DeadLetters, Evidence, Intent, Marked,
    Millis, Nonce, Owned, Reserved, Sending,
};
use redis::{FromRedisValue, Value, from_redis_value};
use serde::Deserialize;

use crate::store::{ReplicaState, StoreError};

/// What a script says, decoded.
pub(super) type Decoded<T> = Result<T, StoreError>;

/// The row of a conversation, as far as a claim tells it.
#[derive(Deserialize)]
struct ConversationRow {
    ch: String,
    tries: u32,
    crashes: u32,
    counted: bool,
    failed_on: Option<String>,
    run: Option<String>,
}

/// The row of an intent. `sent` is absent while it is empty.
#[derive(Deserialize)]
struct IntentRow {
    id: String,
    segments: u32,
    #[serde(default)]
    sent: Vec<String>,
    attempt: Option<String>,
    at: Option<Millis>,
    resent: bool,
}

pub(super) fn admission(value: Value) -> Decoded<Admission> {
    match plain::<i64>(value)? {
        0 => Ok(Admission::Queued),
        -1 => Ok(Admission::Duplicate),
        -2 => Ok(Admission::Full),
        wait => u64::try_from(wait)
            .map(|retry_after_ms| Admission::Limited { retry_after_ms })
            .map_err(|_| corrupt("an admission")),
    }
}

pub(super) fn claimed(value: Value, nonce: Nonce) -> Decoded<Claimed> {
    let parts: Vec<Option<String>> = plain(value)?;
    let mut parts = parts.into_iter();
    let now = number(parts.next().flatten().as_deref())?;
    let Some(second) = parts.next().flatten() else {
        return Ok(Claimed::Nothing { next_in_ms: None });
    };
    let Some(row) = parts.next().flatten() else {
        return Ok(Claimed::Nothing { next_in_ms: Some(number(Some(&second))?) });
    };
    let row: ConversationRow = json(&row)?;
    let message = parts.next().flatten().ok_or_else(|| corrupt("a head without a message"))?;
    let (admitted_at, envelope) = message_of(&message).ok_or_else(|| corrupt("a message"))?;
    let intent = match (parts.next().flatten(), parts.next().flatten()) {
        (Some(intent), Some(body)) => Some(intent_of(&intent, body)?),
        (None, None) => None,
        _ => return Err(corrupt("an intent without a body")),
    };
    let conversation = kanarie_queue::types::ConversationId::parse(&second)
        .ok_or_else(|| corrupt("a conversation"))?;
    Ok(Claimed::Head(Box::new(Claim {
        conversation,
        nonce,
        channel: row.ch,
        envelope: envelope.to_owned(),
        admitted_at,
        now,
        tries: row.tries,
        crashes: row.crashes,
        counted: row.counted,
        failed_on: row.failed_on,
        run: row.run,
        intent,
    })))
}

pub(super) fn owned(value: Value) -> Decoded<Owned> {
    Ok(if flag(value)? { Owned::Done } else { Owned::Stale })
}

pub(super) fn flag(value: Value) -> Decoded<bool> {
    match plain::<i64>(value)? {
        1 => Ok(true),
        0 => Ok(false),
        _ => Err(corrupt("a yes or no")),
    }
}

pub(super) fn committed(value: Value) -> Decoded<Committed> {
    let parts: Vec<String> = plain(value)?;
    match parts.as_slice() {
        [word] if word == "done" => Ok(Committed::Done),
        [word] if word == "stale" => Ok(Committed::Stale),
        [word, intent, body] if word == "exists" => {
            Ok(Committed::Exists(Box::new(intent_of(intent, body.clone())?)))
        }
        _ => Err(corrupt("a commit")),
    }
}

pub(super) fn marked(value: Value) -> Decoded<Marked> {
    let parts: Vec<String> = plain(value)?;
    match parts.as_slice() {
        [word] if word == "go" => Ok(Marked::Go),
        [word] if word == "sent" => Ok(Marked::Sent),
        [word] if word == "stale" => Ok(Marked::Stale),
        [word, now, attempt, at, attributed @ ..] if word == "ambiguous" => Ok(Marked::Ambiguous {
            sending: Sending { attempt: attempt.clone(), at: number(Some(at))? },
            attributed: attributed.to_vec(),
            now: number(Some(now))?,
        }),
        _ => Err(corrupt("a mark")),
    }
}

pub(super) fn buried(value: Value) -> Decoded<Buried> {
    match plain::<i64>(value)? {
        1 => Ok(Buried::Done),
        0 => Ok(Buried::Stale),
        -1 => Ok(Buried::Full),
        _ => Err(corrupt("a burial")),
    }
}

pub(super) fn reserved(value: Value) -> Decoded<Reserved> {
    let (word, wait): (String, u64) = plain(value)?;
    match word.as_str() {
        "after" => Ok(Reserved::After(wait)),
        "busy" => Ok(Reserved::Busy(wait)),
        _ => Err(corrupt("a reservation")),
    }
}

pub(super) fn replicas(value: Value) -> Decoded<(Millis, Vec<ReplicaState>)> {
    let parts: Vec<String> = plain(value)?;
    let (now, rest) = parts.split_first().ok_or_else(|| corrupt("the replicas"))?;
    let replicas = rest.chunks(3).map(|three| match three {
        [replica, seen_at, digest] => Ok(ReplicaState {
            replica: replica.clone(),
            seen_at: number(Some(seen_at))?,
            digest: digest.clone(),
        }),
        _ => Err(corrupt("a replica")),
    });
    let mut replicas = replicas.collect::<Decoded<Vec<_>>>()?;
    replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    Ok((number(Some(now))?, replicas))
}

pub(super) fn acknowledged(value: Value) -> Decoded<Vec<(String, u64, String)>> {
    let routes: BTreeMap<String, String> = plain(value)?;
    // The nameless one only keeps the account from being empty.
    let routes = routes.into_iter().filter(|(channel, _)| !channel.is_empty());
    routes
        .map(|(channel, route)| {
            let (serving, hash) =
                route.split_once(' ').ok_or_else(|| corrupt("an acknowledgement"))?;
            Ok((channel, number(Some(serving))?, hash.to_owned()))
        })
        .collect()
}

/// The epoch of one shard and, for each channel that was asked for, its counts there.
pub(super) fn counts(value: Value) -> Decoded<(String, Vec<Vec<Count>>)> {
    let Value::Array(parts) = value else { return Err(corrupt("the counts")) };
    let mut parts = parts.into_iter();
    let epoch = plain(parts.next().unwrap_or_default())?;
    let channels = parts.map(|fields| {
        let fields: BTreeMap<String, u64> = plain(fields)?;
        let counts = fields.into_iter().map(|(field, messages)| {
            let evidence = Evidence::parse(&field).ok_or_else(|| corrupt("a class of evidence"))?;
            Ok(Count { evidence, messages })
        });
        counts.collect()
    });
    Ok((epoch, channels.collect::<Decoded<_>>()?))
}

/// The dead letters of one shard, each with the time when the channel's newest one ended.
pub(super) fn dead_letters(value: Value) -> Decoded<Vec<(DeadLetters, Millis)>> {
    let parts: Vec<String> = plain(value)?;
    let letters = parts.chunks(5).map(|five| match five {
        [channel, count, oldest, newest, class] => {
            let letters = DeadLetters {
                channel: channel.clone(),
                count: number(Some(count))?,
                oldest_at: number(Some(oldest))?,
                class: class.clone(),
            };
            Ok((letters, number(Some(newest))?))
        }
        _ => Err(corrupt("the dead letters")),
    });
    letters.collect()
}

/// Plain values of the client's own conversions.
pub(super) fn plain<T: FromRedisValue>(value: Value) -> Decoded<T> {
    from_redis_value(value).map_err(|_| corrupt("the form of an answer"))
}

pub(super) fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} cannot be read"))
}

/// `<admitted_at>:<bytes of the dedup key>:<dedup key><envelope>`.
fn message_of(row: &str) -> Option<(Millis, &str)> {
    let (admitted_at, rest) = row.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    Some((admitted_at.parse().ok()?, rest.get(length.parse().ok()?..)?))
}

fn intent_of(row: &str, body: String) -> Decoded<Intent> {
    let IntentRow { id, segments, sent, attempt, at, resent } = json(row)?;
    let sending = attempt.zip(at).map(|(attempt, at)| Sending { attempt, at });
    Ok(Intent { id, segments, body, sent, sending, resent })
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Decoded<T> {
    serde_json::from_str(text).map_err(|_| corrupt("a row"))
}

fn number(text: Option<&str>) -> Decoded<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| corrupt("a number"))
}
