//! Leases and waiting, as calls.
//!
//! Takes the verbs of `claim.rs` and `park.rs` of the queue, gives their calls; reads a claim's
//! answer into a head, with its message, its intent and its memo. Never leases anything by itself.
//! A head that cannot be read is `Corrupt`; a reply that cannot is no reply, for its owner to give
//! up, and a memo that cannot is none.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kanarie_queue::claim::{Claim, Claimed, Extend, Head, Isolate, KeepRun, Release, Retry};
use kanarie_queue::expire::ExpireLeases;
use kanarie_queue::lease::Owned;
use kanarie_queue::park::{ParkHead, WakeParked};
use kanarie_words::ids::{ChannelUid, ConversationId, Nonce, RevisionName, SHARDS};
use redis::{Script, Value};
use serde::Deserialize;

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, keys, number, only, optional, owned, owner, plain, script,
};
use crate::store::redis::rows::{intent, json, lost_intent, memo, message};

static CLAIM: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "next.lua", "claim.lua");
static EXTEND: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "extend.lua");
static KEEP_RUN: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "keep_run.lua");
static ISOLATE: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "isolate.lua");
static RETRY: LazyLock<Script> = script!(" flags=allow-oom", "shard.lua", "clock.lua", "retry.lua");
static RELEASE: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "release.lua");
static PARK_HEAD: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "park_head.lua");
static EXPIRE_LEASES: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "expire_leases.lua");
static WAKE_PARKED: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "wake_parked.lua");

/// The row of a conversation, as far as a claim tells it.
#[derive(Deserialize)]
struct HeadRow {
    ch: ChannelUid,
    tries: u32,
    crashes: u32,
    #[serde(default)]
    crashed_alone: bool,
    counted: bool,
    failed_on: Option<RevisionName>,
    run: Option<String>,
}

impl Scripted for Claim {
    fn calls(&self) -> Vec<Call> {
        let arguments = vec![self.nonce.to_string(), self.lease_ms.to_string()];
        vec![Call { script: &CLAIM, keys: keys(self.shard, &["me"]), arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Claimed> {
        claimed(only(values), self.nonce)
    }
}

/// What a claim with this nonce found.
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
    let row: HeadRow = json(&row)?;
    let text = parts.next().flatten().ok_or_else(|| corrupt("a head without a message"))?;
    let (admitted_at, envelope) = message(&text).ok_or_else(|| corrupt("a message"))?;
    let intent = match (parts.next().flatten(), parts.next().flatten()) {
        (Some(row), Some(body)) => Some(intent(&row, body).unwrap_or_else(|_| lost_intent())),
        (None, None) => None,
        _ => return Err(corrupt("an intent without a body")),
    };
    let memo = memo(parts.next().flatten().as_deref());
    Ok(Claimed::Head(Box::new(Head {
        conversation: conversation(&second)?,
        nonce,
        channel: row.ch,
        envelope: envelope.to_owned(),
        admitted_at,
        now,
        tries: row.tries,
        crashes: row.crashes,
        crashed_alone: row.crashed_alone,
        counted: row.counted,
        failed_on: row.failed_on,
        run: row.run,
        intent,
        memo,
    })))
}

impl Scripted for Extend {
    /// Shard by shard: a script knows one shard only.
    fn calls(&self) -> Vec<Call> {
        let mut by_shard: BTreeMap<u8, Vec<&(ConversationId, Nonce)>> = BTreeMap::new();
        for lease in &self.leases {
            by_shard.entry(lease.0.shard()).or_default().push(lease);
        }
        let calls = by_shard.into_iter().map(|(shard, leases)| {
            let mut arguments = vec![self.lease_ms.to_string()];
            for (conversation, nonce) in leases {
                arguments.extend([conversation.to_string(), nonce.to_string()]);
            }
            Call { script: &EXTEND, keys: keys(shard, &[]), arguments }
        });
        calls.collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<ConversationId>> {
        let mut lost = Vec::new();
        for value in values {
            for text in plain::<Vec<String>>(value)? {
                lost.push(conversation(&text)?);
            }
        }
        Ok(lost)
    }
}

impl Scripted for KeepRun {
    fn calls(&self) -> Vec<Call> {
        owner(&KEEP_RUN, &self.lease, &[], [optional(self.run.as_deref())])
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for Isolate {
    fn calls(&self) -> Vec<Call> {
        owner(&ISOLATE, &self.lease, &[], [])
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for Retry {
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let rest = [self.delay_ms.to_string(), u8::from(self.counted).to_string()];
        owner(&RETRY, &self.lease, &[], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for Release {
    fn calls(&self) -> Vec<Call> {
        owner(&RELEASE, &self.lease, &[], [])
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for ParkHead {
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let rest =
            [self.revision.to_string(), self.until_ms.to_string(), self.probe_ms.to_string()];
        owner(&PARK_HEAD, &self.lease, &[], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for WakeParked {
    fn calls(&self) -> Vec<Call> {
        let park = || vec![self.park.channel.to_string(), self.park.revision.to_string()];
        let call = |shard| Call { script: &WAKE_PARKED, keys: keys(shard, &[]), arguments: park() };
        (0..SHARDS).map(call).collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<u64> {
        values.into_iter().map(plain::<u64>).sum()
    }
}

impl Scripted for ExpireLeases {
    fn calls(&self) -> Vec<Call> {
        let holder = || vec![self.holder.as_ref().map(ToString::to_string).unwrap_or_default()];
        let call =
            |shard| Call { script: &EXPIRE_LEASES, keys: keys(shard, &[]), arguments: holder() };
        (0..SHARDS).map(call).collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<u64> {
        values.into_iter().map(plain::<u64>).sum()
    }
}

fn conversation(text: &str) -> Decoded<ConversationId> {
    ConversationId::parse(text).ok_or_else(|| corrupt("a conversation"))
}
