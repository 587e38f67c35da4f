//! Every verb of the machine as a call of its script, a file a group.
//!
//! Takes nothing and gives nothing by itself: it lists the groups, and its tests hold every call to
//! the keys and arguments that its script declares. Never calls Redis.

mod admit;
mod claim;
mod dead;
mod deliveries;
mod evidence;
mod finish;
pub(super) mod fleet;
mod letters;
mod reserve;
mod send;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use kanarie_queue::admit::Admit;
    use kanarie_queue::claim::{Claim, Extend, Isolate, KeepRun, Release, Retry};
    use kanarie_queue::dead::{Bury, SumDead, SumLoads};
    use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered};
    use kanarie_queue::delivery::{Delivery, SegmentReport};
    use kanarie_queue::erase::{EraseConversation, EraseLetters};
    use kanarie_queue::evidence::{EndAttempt, ReadCounts};
    use kanarie_queue::expire::ExpireLeases;
    use kanarie_queue::finish::Finish;
    use kanarie_queue::intent::{Intent, Memo, Post};
    use kanarie_queue::lease::{Lease, Park};
    use kanarie_queue::letters::{DeadLetterFilter, ReadLetters};
    use kanarie_queue::park::{ParkHead, WakeParked};
    use kanarie_queue::replay::{MessageAgain, Replay};
    use kanarie_queue::reserve::Reserve;
    use kanarie_queue::send::{CommitReply, Complete, MarkSending, MarkSent, NoteMissed, Unmark};
    use kanarie_queue::sweep::Sweep;
    use kanarie_words::ids::{ConversationId, InvalidId, ReplicaName, StoreKey};

    use super::fleet;
    use crate::store::fleet::Heartbeat;
    use crate::store::redis::call::{Call, Scripted};

    /// The scripts' files and their names.
    fn scripts() -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let named = files.map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        });
        named.collect()
    }

    #[test]
    fn every_command_names_a_declared_key_and_nothing_else() {
        for (file, text) in scripts() {
            for call in text.split("redis.call(").skip(1) {
                let mut words = call.split([',', ')']);
                let command = words.next().unwrap_or_default().trim();
                let key = words.next().unwrap_or_default().trim();
                let declared =
                    key.chars().all(|c| c.is_ascii_uppercase()) && key.chars().count() > 1;
                assert!(declared || command == "\"TIME\"", "{file}: {command} {key}");
            }
        }
    }

    #[test]
    fn a_name_in_capitals_comes_from_the_keys() {
        for (file, text) in scripts() {
            for line in text.lines().filter(|line| line.trim_start().starts_with("local ")) {
                let Some((names, value)) = line.split_once('=') else { continue };
                let names = names.trim_start().trim_start_matches("local ");
                let is_key = names.chars().next().is_some_and(|c| c.is_ascii_uppercase());
                assert!(!is_key || value.contains("KEYS"), "{file}: {line}");
            }
        }
    }

    #[test]
    fn the_keys_of_every_call_lie_in_one_slot() {
        for shard in 0..32 {
            for call in every_call(shard) {
                let slots: BTreeSet<u16> = texts(&call).iter().map(|key| slot(key)).collect();
                assert_eq!(slots.len(), 1, "{:?}", texts(&call));
            }
        }
    }

    #[test]
    fn the_slot_is_that_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo"), 12_182);
    }

    #[test]
    fn a_verb_of_all_shards_makes_one_call_for_each() {
        let park = Park { channel: id("uid"), revision: id("r") };
        let calls = [
            WakeParked { park }.calls(),
            ExpireLeases { holder: None }.calls(),
            ReadCounts { channels: vec![id("uid")] }.calls(),
            SumDead.calls(),
            SumLoads.calls(),
        ];
        for calls in calls {
            let slots: BTreeSet<u16> = calls.iter().map(|call| slot(texts(call)[0])).collect();
            assert_eq!((calls.len(), slots.len()), (32, 32));
        }
    }

    /// A file that begins with its own name is a verb's; the others are shared.
    #[test]
    fn every_script_has_a_call_in_the_slot_test() {
        let verbs = scripts().into_iter();
        let verbs = verbs.filter(|(name, text)| text.starts_with(&format!("-- {name}: ")));
        let calls = every_call(0);
        let tested: BTreeSet<&str> = calls.iter().map(|call| call.script.get_hash()).collect();
        assert_eq!(tested.len(), verbs.count());
    }

    fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn every_call(shard: u8) -> Vec<Call> {
        let mut bytes = [7; 16];
        bytes[0] = shard;
        let conversation = ConversationId::from_bytes(bytes);
        let lease = || Lease {
            channel: id("6f1c2a9e-uid"),
            conversation: conversation.clone(),
            nonce: id("n"),
        };
        let post = || Post { intent: id("i"), segment: 0, attempt: id("a") };
        let park = || Park { channel: lease().channel, revision: id("r") };
        let channels = vec![lease().channel, id("other")];
        let mut calls = of_a_message(shard, &lease());
        calls.extend([
            KeepRun { lease: lease(), run: None }.calls(),
            Isolate { lease: lease() }.calls(),
            Retry { lease: lease(), delay_ms: 1, counted: true }.calls(),
            Release { lease: lease() }.calls(),
            ParkHead { lease: lease(), revision: id("r"), until_ms: 1, probe_ms: 1 }.calls(),
            WakeParked { park: park() }.calls(),
            ExpireLeases { holder: None }.calls(),
            EndAttempt { lease: lease(), evidence: None, failed_on: None }.calls(),
            MarkSending { lease: lease(), post: post(), refuted: None }.calls(),
            NoteMissed { lease: lease(), post: post() }.calls(),
            Unmark { lease: lease(), post: post() }.calls(),
            Bury { lease: lease(), class: "w".to_owned() }.calls(),
            Sweep { shard }.calls(),
            ReadCounts { channels }.calls(),
            SumDead.calls(),
            SumLoads.calls(),
            Reserve { sender: id("AC1|whatsapp:+31"), per_second: 80, count: 1 }.calls(),
            of_replies(&lease()),
            of_the_fleet(),
        ]);
        calls.extend(of_the_dead(shard, &lease()));
        calls.into_iter().flatten().collect()
    }

    fn of_the_dead(shard: u8, lease: &Lease) -> Vec<Vec<Call>> {
        let (dedup_key, channel) = (id("AC1}{:SM1"), lease.channel.clone());
        let letters =
            vec![MessageAgain { number: 1, dedup_key, channel: channel.clone(), dedup_ms: 1 }];
        let conversation = lease.conversation.clone();
        let read = ReadLetters {
            shard,
            after: 0,
            until: None,
            wanted: DeadLetterFilter::default(),
            limit: 1,
            with_text: false,
        };
        vec![
            read.calls(),
            Replay { shard, letters }.calls(),
            EraseLetters { shard, numbers: vec![1] }.calls(),
            EraseConversation { conversation, channels: vec![channel] }.calls(),
        ]
    }

    fn of_a_message(shard: u8, lease: &Lease) -> Vec<Vec<Call>> {
        let Lease { channel, conversation, nonce } = lease.clone();
        let message = Admit {
            channel,
            dedup_key: id("AC1}{:SM1"),
            conversation: conversation.clone(),
            envelope: "e".to_owned(),
            limit: 1,
            window_ms: 1,
            dedup_ms: 1,
            lease: None,
        };
        let reply = CommitReply {
            lease: lease.clone(),
            intent: Intent::fresh(id("i"), 1, String::new()),
            outcome: None,
            memo: Memo::default(),
            mark: None,
        };
        let leases = vec![(conversation.clone(), nonce.clone())];
        let (intent, sid) = (id("i"), id("S"));
        let finish = Finish { lease: lease.clone(), intent, segment: 0, sid, next: None };
        vec![
            message.calls(),
            Claim { shard, nonce, lease_ms: 1 }.calls(),
            Extend { leases, lease_ms: 1 }.calls(),
            reply.calls(),
            MarkSent { conversation, intent: id("i"), segment: 0, sid: id("S") }.calls(),
            Complete { lease: lease.clone(), outcome: None }.calls(),
            finish.calls(),
        ]
    }

    fn of_replies(lease: &Lease) -> Vec<Call> {
        let Lease { channel, conversation, .. } = lease.clone();
        let delivery = Delivery::reported("sent", None).unwrap();
        let report = SegmentReport { channel, conversation, intent: id("i"), segment: 0, delivery };
        let mut calls = NoteDeliveries { reports: vec![report] }.calls();
        calls.extend(SumUndelivered.calls());
        calls
    }

    fn of_the_fleet() -> Vec<Call> {
        let replica: ReplicaName = id("gateway-0");
        let beat = Heartbeat {
            replica: replica.clone(),
            key: StoreKey::from_bytes([7; 32]),
            digest: id("d"),
            obeyed: [(id("uid"), (1, id("h")))].into(),
            cut: BTreeSet::new(),
        };
        vec![
            fleet::heartbeat(&beat, None),
            fleet::note_asked(),
            fleet::goodbye(&replica),
            fleet::replicas(),
            fleet::acknowledged(&replica, Some(vec![id("uid")])),
        ]
    }

    fn texts(call: &Call) -> Vec<&String> {
        call.keys.rows.iter().chain(&call.keys.own).collect()
    }

    /// CRC16/XMODEM of the part in the first pair of braces, modulo 16384.
    fn slot(key: &str) -> u16 {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
        crc16(hashed.as_bytes()) % 16_384
    }

    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            })
        })
    }
}
