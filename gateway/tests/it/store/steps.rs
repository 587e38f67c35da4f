//! The steps of a random schedule: every verb, and time.
//!
//! Drawn so that conversations, nonces, intents and SIDs meet often.

use kanarie_queue::delivery::DeliveryStatus;
use kanarie_queue::intent::Memo;
use kanarie_queue::outcome::{Evidence, Outcome};
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::store::stage::LEASE_MS;

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const DAY: u64 = 86_400 * SECOND;

/// One verb, or time. A lease is picked among all that were ever given, so it is often stale.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Pass(u64),
    Back(u64),
    Admit {
        conversation: u8,
        sid: u8,
        channel: u8,
        limit: u32,
        nonce: Option<u16>,
    },
    Claim {
        nonce: u8,
    },
    Extend {
        lease: u8,
    },
    KeepRun {
        lease: u8,
        run: Option<u8>,
    },
    Isolate {
        lease: u8,
    },
    EndAttempt {
        lease: u8,
        evidence: Option<Evidence>,
        failed_on: Option<u8>,
    },
    Commit {
        lease: u8,
        intent: u8,
        segments: u32,
        outcome: Option<Outcome>,
        memo: Memo,
        mark: Option<u8>,
    },
    Mark {
        lease: u8,
        intent: u8,
        segment: u32,
        attempt: u8,
        refuted: Option<u8>,
    },
    Missed {
        lease: u8,
        intent: u8,
        segment: u32,
        attempt: u8,
    },
    Unmark {
        lease: u8,
        intent: u8,
        segment: u32,
        attempt: u8,
    },
    Sent {
        conversation: u8,
        intent: u8,
        segment: u32,
        sid: u8,
    },
    /// The canary fails, and stable wants no reply.
    Rescue {
        lease: u8,
    },
    Complete {
        lease: u8,
        outcome: Option<Outcome>,
    },
    Finish {
        lease: u8,
        intent: u8,
        segment: u32,
        sid: u8,
        nonce: Option<u8>,
    },
    Retry {
        lease: u8,
        delay_ms: u64,
        counted: bool,
    },
    Release {
        lease: u8,
    },
    Park {
        lease: u8,
        revision: u8,
        until_ms: u64,
        probe_ms: u64,
    },
    Wake {
        channel: u8,
        revision: u8,
    },
    Bury {
        lease: u8,
        class: u8,
    },
    Letters {
        after: u8,
        until: Option<u8>,
        channel: Option<u8>,
        class: Option<u8>,
        conversation: Option<u8>,
        limit: u8,
    },
    /// The letters of the shard from the nth on, so many.
    Replay {
        nth: u8,
        count: u8,
        channel: u8,
    },
    EraseLetters {
        numbers: Vec<u8>,
    },
    EraseConversation {
        conversation: u8,
        channels: u8,
    },
    Reserve {
        sender: u8,
        per_second: u32,
        count: u32,
    },
    Sweep,
    Heartbeat {
        replica: u8,
        digest: u8,
        obeyed: u8,
        cut: u8,
    },
    NoteAsked,
    Goodbye {
        replica: u8,
    },
    Replicas,
    Acknowledged {
        replica: u8,
        channel: Option<u8>,
    },
    Counts,
    DeadLetters,
    Loads,
    Reported {
        reports: Vec<Reported>,
    },
    Undelivered,
}

/// Conversation, channel, intent, segment, status and code of a report.
pub(crate) type Reported = (u8, u8, u8, u32, usize, Option<u32>);

pub(crate) fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => time(),
        8 => (0..4_u8, 0..24_u8, 0..3_u8, 1..8_u32, proptest::option::of(any::<u16>())).prop_map(
            |(conversation, sid, channel, limit, nonce)| {
                Step::Admit { conversation, sid, channel, limit, nonce }
            }
        ),
        8 => (0..6_u8).prop_map(|nonce| Step::Claim { nonce }),
        14 => of_an_owner(),
        12 => of_a_reply(),
        4 => of_the_dead(),
        6 => of_the_fleet(),
        5 => of_what_was_sent(),
    ]
}

fn of_what_was_sent() -> impl Strategy<Value = Step> {
    let code = proptest::option::of(prop_oneof![Just(63_016_u32), Just(0), Just(999_999)]);
    let report = (0..4_u8, 0..3_u8, 0..2_u8, 0..6_u32, 0..DeliveryStatus::ALL.len(), code);
    prop_oneof![
        4 => proptest::collection::vec(report, 0..9).prop_map(|reports| Step::Reported { reports }),
        1 => Just(Step::Undelivered),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    let spans = [1, 700, 5 * SECOND, LEASE_MS, 60 * SECOND, 600 * SECOND, DAY, 14 * DAY];
    prop_oneof![
        8 => (0..5_usize).prop_map(move |at| Step::Pass(spans[at])),
        2 => (5..8_usize).prop_map(move |at| Step::Pass(spans[at])),
        3 => (0..7_usize).prop_map(move |at| Step::Back(spans[at])),
    ]
}

fn of_an_owner() -> impl Strategy<Value = Step> {
    let lease = || 0..3_u8;
    let few = || proptest::option::of(0..3_u8);
    prop_oneof![
        1 => lease().prop_map(|lease| Step::Extend { lease }),
        1 => (lease(), few()).prop_map(|(lease, run)| Step::KeepRun { lease, run }),
        1 => lease().prop_map(|lease| Step::Isolate { lease }),
        1 => (lease(), proptest::option::weighted(0.8, evidence()), few()).prop_map(
            |(lease, evidence, failed_on)| Step::EndAttempt { lease, evidence, failed_on }
        ),
        6 => (0..2_u8).prop_map(|lease| Step::Rescue { lease }),
        1 => (lease(), proptest::option::of(outcome()))
            .prop_map(|(lease, outcome)| Step::Complete { lease, outcome }),
        1 => (lease(), 0..20 * SECOND, any::<bool>())
            .prop_map(|(lease, delay_ms, counted)| Step::Retry { lease, delay_ms, counted }),
        1 => lease().prop_map(|lease| Step::Release { lease }),
        1 => (lease(), 0..2_u8, 0..50 * SECOND, 0..20 * SECOND).prop_map(
            |(lease, revision, until_ms, probe_ms)| {
                Step::Park { lease, revision, until_ms, probe_ms }
            }
        ),
        2 => (lease(), 0..3_u8).prop_map(|(lease, class)| Step::Bury { lease, class }),
    ]
}

fn of_the_dead() -> impl Strategy<Value = Step> {
    let few = || proptest::option::weighted(0.3, 0..3_u8);
    prop_oneof![
        (0..4_u8, proptest::option::weighted(0.2, 0..9_u8), few(), few(), few(), 1..4_u8).prop_map(
            |(after, until, channel, class, conversation, limit)| {
                Step::Letters { after, until, channel, class, conversation, limit }
            }
        ),
        (0..3_u8, 1..4_u8, 0..3_u8).prop_map(|(nth, count, channel)| Step::Replay {
            nth,
            count,
            channel
        }),
        proptest::collection::vec(0..12_u8, 1..3)
            .prop_map(|numbers| Step::EraseLetters { numbers }),
        (0..4_u8, 0..8_u8).prop_map(|(conversation, channels)| {
            Step::EraseConversation { conversation, channels }
        }),
    ]
}

fn of_a_reply() -> impl Strategy<Value = Step> {
    let post = || (0..2_u8, 0..2_u8, 0..3_u32, 0..3_u8);
    let few = || proptest::option::of(0..3_u8);
    prop_oneof![
        (0..2_u8, 0..2_u8, 1..4_u32, proptest::option::of(outcome()), memo(), few()).prop_map(
            |(lease, intent, segments, outcome, memo, mark)| {
                Step::Commit { lease, intent, segments, outcome, memo, mark }
            }
        ),
        (0..3_u8, 0..2_u8, 0..3_u32, 0..9_u8, proptest::option::of(0..6_u8)).prop_map(
            |(lease, intent, segment, sid, nonce)| {
                Step::Finish { lease, intent, segment, sid, nonce }
            }
        ),
        (post(), proptest::option::of(0..3_u8)).prop_map(
            |((lease, intent, segment, attempt), refuted)| {
                Step::Mark { lease, intent, segment, attempt, refuted }
            }
        ),
        post().prop_map(|(lease, intent, segment, attempt)| {
            Step::Missed { lease, intent, segment, attempt }
        }),
        post().prop_map(|(lease, intent, segment, attempt)| {
            Step::Unmark { lease, intent, segment, attempt }
        }),
        (0..4_u8, 0..2_u8, 0..3_u32, 0..9_u8).prop_map(|(conversation, intent, segment, sid)| {
            Step::Sent { conversation, intent, segment, sid }
        }),
    ]
}

fn of_the_fleet() -> impl Strategy<Value = Step> {
    let few = || proptest::option::of(0..3_u8);
    prop_oneof![
        (0..2_u8, 2..90_u32, 0..10_u32).prop_map(|(sender, per_second, count)| {
            Step::Reserve { sender, per_second, count }
        }),
        Just(Step::Sweep),
        (0..2_u8, 0..3_u8, 0..8_u8, 0..8_u8).prop_map(|(replica, digest, obeyed, cut)| {
            Step::Heartbeat { replica, digest, obeyed, cut }
        }),
        Just(Step::NoteAsked),
        (0..2_u8).prop_map(|replica| Step::Goodbye { replica }),
        (0..3_u8, 0..2_u8).prop_map(|(channel, revision)| Step::Wake { channel, revision }),
        Just(Step::Replicas),
        (0..2_u8, few()).prop_map(|(replica, channel)| Step::Acknowledged { replica, channel }),
        Just(Step::Counts),
        Just(Step::DeadLetters),
        Just(Step::Loads),
    ]
}

fn memo() -> impl Strategy<Value = Memo> {
    (proptest::option::of(0..2_u8), any::<bool>()).prop_map(|(question, apologised)| Memo {
        question: question.map(|number| format!("question {number}")),
        apologised,
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (8..12_u64, any::<bool>(), 0..Class::ALL.len()).prop_map(|(serving, canary, class)| Evidence {
        serving,
        track: if canary { Track::Canary } else { Track::Stable },
        class: Class::ALL[class],
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        evidence().prop_map(Outcome::First),
        (8..12_u64).prop_map(|serving| Outcome::Rescued { serving }),
    ]
}
