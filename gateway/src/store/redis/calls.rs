//! Every verb as a call of its script: the keys it declares and its arguments after the clock.
//!
//! Takes the verb's values; gives a [`Call`]. Does no I/O and reads no clock. All keys of a call
//! lie in one slot, which the tests here prove for each script.

use std::fmt::Write as _;
use std::sync::LazyLock;

use kanarie_queue::types::{Admit, ConversationId, Evidence, Intent, Lease, Nonce};
use redis::Script;

use crate::store::Heartbeat;
use crate::store::redis::scripts;

/// One call of a script.
pub(super) struct Call {
    /// What runs.
    pub(super) script: &'static LazyLock<Script>,
    /// KEYS, all of one slot.
    pub(super) keys: Vec<String>,
    /// ARGV after the clock.
    pub(super) arguments: Vec<String>,
}

/// The store's key, which is no script: one command sets and reads it.
pub(super) const KEY: &str = "{gw:sys}:key";

pub(super) fn admit(admit: Admit, epoch: String) -> Call {
    let shard = admit.conversation.shard();
    let own = [format!("dd:{}", admit.dedup_key), format!("rl:{}", admit.conversation.as_str())];
    let arguments = vec![
        text(&admit.conversation),
        admit.channel,
        admit.dedup_key,
        admit.envelope,
        admit.limit.to_string(),
        admit.window_ms.to_string(),
        admit.dedup_ms.to_string(),
        epoch,
    ];
    Call { script: &scripts::ADMIT, keys: keys(shard, &own), arguments }
}

pub(super) fn claim(shard: u8, nonce: &Nonce, lease_ms: u64) -> Call {
    let arguments = vec![nonce.0.clone(), lease_ms.to_string()];
    Call { script: &scripts::CLAIM, keys: keys(shard, &[]), arguments }
}

/// All leases must be of this shard.
pub(super) fn extend(shard: u8, leases: &[(ConversationId, Nonce)], lease_ms: u64) -> Call {
    let mut arguments = vec![lease_ms.to_string()];
    for (conversation, nonce) in leases {
        arguments.extend([text(conversation), nonce.0.clone()]);
    }
    Call { script: &scripts::EXTEND, keys: keys(shard, &[]), arguments }
}

pub(super) fn keep_run(lease: &Lease, run: Option<String>) -> Call {
    owner(&scripts::KEEP_RUN, lease, &[], [optional(run)])
}

pub(super) fn end_attempt(lease: &Lease, evidence: &Evidence, failed_on: Option<String>) -> Call {
    let rest = [evidence.field(), optional(failed_on)];
    owner(&scripts::END_ATTEMPT, lease, &[evidence_of(&lease.channel)], rest)
}

pub(super) fn commit_reply(lease: &Lease, intent: Intent, evidence: Option<&Evidence>) -> Call {
    let rest = [intent.id, intent.segments.to_string(), intent.body, field(evidence)];
    owner(&scripts::COMMIT_REPLY, lease, &[evidence_of(&lease.channel)], rest)
}

pub(super) fn mark_sending(
    lease: &Lease,
    intent: String,
    segment: u32,
    attempt: String,
    expected: Option<String>,
) -> Call {
    let rest = [intent, segment.to_string(), attempt, optional(expected)];
    owner(&scripts::MARK_SENDING, lease, &[attributed(&lease.conversation)], rest)
}

pub(super) fn unmark(lease: &Lease, intent: String, segment: u32, attempt: String) -> Call {
    let rest = [intent, segment.to_string(), attempt];
    owner(&scripts::UNMARK, lease, &[attributed(&lease.conversation)], rest)
}

pub(super) fn mark_sent(
    conversation: &ConversationId,
    intent: String,
    segment: u32,
    sid: String,
) -> Call {
    let keys = keys(conversation.shard(), &[attributed(conversation)]);
    let arguments = vec![text(conversation), intent, segment.to_string(), sid];
    Call { script: &scripts::MARK_SENT, keys, arguments }
}

pub(super) fn complete(lease: &Lease, evidence: Option<&Evidence>) -> Call {
    owner(&scripts::COMPLETE, lease, &[evidence_of(&lease.channel)], [field(evidence)])
}

pub(super) fn retry(lease: &Lease, delay_ms: u64, counted: bool) -> Call {
    let rest = [delay_ms.to_string(), u8::from(counted).to_string()];
    owner(&scripts::RETRY, lease, &[], rest)
}

pub(super) fn release(lease: &Lease) -> Call {
    owner(&scripts::RELEASE, lease, &[], [])
}

pub(super) fn bury(lease: &Lease, class: String) -> Call {
    owner(&scripts::BURY, lease, &dead(), [class])
}

pub(super) fn sweep(shard: u8) -> Call {
    Call { script: &scripts::SWEEP, keys: keys(shard, &dead()), arguments: Vec::new() }
}

pub(super) fn counts(shard: u8, channels: &[String], epoch: String) -> Call {
    let own: Vec<String> = channels.iter().map(|channel| evidence_of(channel)).collect();
    Call { script: &scripts::COUNTS, keys: keys(shard, &own), arguments: vec![epoch] }
}

pub(super) fn dead_letters(shard: u8) -> Call {
    Call { script: &scripts::DEAD_LETTERS, keys: keys(shard, &dead()), arguments: Vec::new() }
}

pub(super) fn reserve(sender: &str, per_second: u32) -> Call {
    let keys = vec![format!("{{snd:{sender}}}:tat")];
    Call { script: &scripts::RESERVE, keys, arguments: vec![per_second.max(1).to_string()] }
}

/// `last` is the digest of the account that this one continues; none makes it a complete one.
pub(super) fn heartbeat(heartbeat: &Heartbeat, last: Option<&str>) -> Call {
    let keys = vec![
        "{gw:sys}:rep".to_owned(),
        "{gw:sys}:dig".to_owned(),
        acknowledgements(&heartbeat.replica),
    ];
    let mut arguments = vec![
        heartbeat.replica.clone(),
        heartbeat.digest.clone(),
        last.unwrap_or_default().to_owned(),
        heartbeat.acknowledged.len().to_string(),
    ];
    for (channel, serving, hash) in &heartbeat.acknowledged {
        arguments.extend([channel.clone(), format!("{serving} {hash}")]);
    }
    arguments.extend(heartbeat.forgotten.iter().cloned());
    Call { script: &scripts::HEARTBEAT, keys, arguments }
}

pub(super) fn replicas() -> Call {
    let keys = vec!["{gw:sys}:rep".to_owned(), "{gw:sys}:dig".to_owned()];
    Call { script: &scripts::REPLICAS, keys, arguments: Vec::new() }
}

pub(super) fn acknowledged(replica: &str, channels: Option<Vec<String>>) -> Call {
    let keys = vec!["{gw:sys}:rep".to_owned(), acknowledgements(replica)];
    let scope = if channels.is_some() { "named" } else { "all" };
    let mut arguments = vec![replica.to_owned(), scope.to_owned()];
    arguments.extend(channels.into_iter().flatten());
    Call { script: &scripts::ACKNOWLEDGED, keys, arguments }
}

/// A verb of an owner: conversation and nonce, then its own arguments.
fn owner<const N: usize>(
    script: &'static LazyLock<Script>,
    lease: &Lease,
    own: &[String],
    rest: [String; N],
) -> Call {
    let mut arguments = vec![text(&lease.conversation), lease.nonce.0.clone()];
    arguments.extend(rest);
    Call { script, keys: keys(lease.conversation.shard(), own), arguments }
}

/// The nine keys that every verb of a shard declares, in the order of `shard.lua`, then its own.
fn keys(shard: u8, own: &[String]) -> Vec<String> {
    let rows = ["meta", "conv", "msg", "int", "bod", "rdy", "lse", "dly", "vt"];
    let names = rows.into_iter().chain(own.iter().map(String::as_str));
    names
        .map(|name| {
            let mut key = String::with_capacity(10 + name.len());
            let _ = write!(key, "{{gw:{shard:02}}}:{name}");
            key
        })
        .collect()
}

fn dead() -> [String; 3] {
    ["dl", "dlz", "dlc"].map(str::to_owned)
}

fn evidence_of(channel: &str) -> String {
    format!("ev:{channel}")
}

fn attributed(conversation: &ConversationId) -> String {
    format!("at:{}", conversation.as_str())
}

fn acknowledgements(replica: &str) -> String {
    format!("{{gw:sys}}:ack:{replica}")
}

fn text(conversation: &ConversationId) -> String {
    conversation.as_str().to_owned()
}

fn field(evidence: Option<&Evidence>) -> String {
    evidence.map(Evidence::field).unwrap_or_default()
}

/// "" is none, "=text" is text.
fn optional(value: Option<String>) -> String {
    value.map(|text| format!("={text}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kanarie_queue::types::{Class, SHARDS, Track};

    use super::*;

    #[test]
    fn the_keys_of_every_call_lie_in_one_slot() {
        for shard in 0..SHARDS {
            for call in every_call(shard) {
                let slots: Vec<u16> = call.keys.iter().map(|key| slot(key)).collect();
                assert!(slots.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", call.keys);
            }
        }
    }

    #[test]
    fn the_slot_is_that_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo"), 12182);
    }

    #[test]
    fn every_script_has_a_call_in_the_slot_test() {
        let mut tested: Vec<&str> = every_call(0).iter().map(|c| c.script.get_hash()).collect();
        tested.sort_unstable();
        tested.dedup();
        assert_eq!(tested.len(), scripts::ALL.len());
    }

    fn every_call(shard: u8) -> Vec<Call> {
        let mut bytes = [7; 16];
        bytes[0] = shard;
        let conversation = ConversationId::from_bytes(bytes);
        let channel = "6f1c2a9e-uid".to_owned();
        let nonce = Nonce("n".to_owned());
        let evidence = Evidence { serving: 3, track: Track::Canary, class: Class::Success };
        let lease = Lease {
            channel: channel.clone(),
            conversation: conversation.clone(),
            nonce: nonce.clone(),
        };
        let intent = Intent {
            id: "i".to_owned(),
            segments: 1,
            body: String::new(),
            sent: Vec::new(),
            sending: None,
            resent: false,
        };
        let message = Admit {
            channel: channel.clone(),
            dedup_key: "AC1}{:SM1".to_owned(),
            conversation: conversation.clone(),
            envelope: "e".to_owned(),
            limit: 1,
            window_ms: 1,
            dedup_ms: 1,
        };
        let beat = Heartbeat { replica: "gateway-0".to_owned(), ..Heartbeat::default() };
        let word = || "w".to_owned();
        vec![
            admit(message, word()),
            claim(shard, &nonce, 1),
            extend(shard, &[(conversation.clone(), nonce.clone())], 1),
            keep_run(&lease, None),
            end_attempt(&lease, &evidence, None),
            commit_reply(&lease, intent, Some(&evidence)),
            mark_sending(&lease, word(), 0, word(), None),
            unmark(&lease, word(), 0, word()),
            mark_sent(&conversation, word(), 0, word()),
            complete(&lease, None),
            retry(&lease, 1, true),
            release(&lease),
            bury(&lease, word()),
            sweep(shard),
            counts(shard, &[channel.clone(), "other".to_owned()], word()),
            dead_letters(shard),
            reserve("AC1|whatsapp:+31", 80),
            heartbeat(&beat, None),
            replicas(),
            acknowledged("gateway-0", Some(vec![channel])),
        ]
    }

    /// CRC16/XMODEM of the part in the first pair of braces, modulo 16384.
    fn slot(key: &str) -> u16 {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
        crc16(hashed.as_bytes()) % 16384
    }

    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            })
        })
    }
}
