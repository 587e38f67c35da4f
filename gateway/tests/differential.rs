//! The same random schedules through both stores give the same answers, step by step.
//!
//! A schedule mixes every verb with time that passes and sometimes steps back, over few enough
//! conversations, nonces, intents and SIDs that they meet. At its end both stores are drained and
//! must hand out the same heads: so the rows were the same too. The schedules are fixed;
//! `PROPTEST_CASES` asks for more of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use kanarie_gateway::store::Heartbeat;
use kanarie_queue::types::{Admit, Claimed, Class, Evidence, Intent, Lease, Nonce, Track};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use stage::{LEASE_MS, Stage, conversation, intent, lease_of, message};

#[expect(dead_code, reason = "only tests of the connection stop and start the server")]
#[path = "common/redis_server.rs"]
mod redis_server;
#[expect(dead_code, reason = "a schedule speaks to the stores without the short words")]
#[path = "common/stage.rs"]
mod stage;

const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;

/// Evidence is forgotten after 90 days, in Redis on the server's own clock: stay below.
const LONGEST: u64 = 80 * DAY;

/// One verb, or time. A lease is picked among all that were ever given, so it is often stale.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Back(u64),
    Admit { conversation: u8, sid: u8, channel: u8, limit: u32 },
    Claim { nonce: u8 },
    Extend { lease: u8 },
    KeepRun { lease: u8, run: Option<u8> },
    EndAttempt { lease: u8, evidence: Evidence, failed_on: Option<u8> },
    Commit { lease: u8, intent: u8, segments: u32, evidence: Option<Evidence> },
    Mark { lease: u8, intent: u8, segment: u32, attempt: u8, expected: Option<u8> },
    Unmark { lease: u8, intent: u8, segment: u32, attempt: u8 },
    Sent { conversation: u8, intent: u8, segment: u32, sid: u8 },
    Complete { lease: u8, evidence: Option<Evidence> },
    Retry { lease: u8, delay_ms: u64, counted: bool },
    Release { lease: u8 },
    Bury { lease: u8, class: u8 },
    Reserve { sender: u8, per_second: u32 },
    Sweep,
    Heartbeat { replica: u8, digest: u8, acknowledged: Option<u8>, forgotten: Option<u8> },
    Replicas,
    Acknowledged { replica: u8, channel: Option<u8> },
    Counts,
    DeadLetters,
}

#[test]
fn both_stores_give_the_same_answers_to_the_same_schedules() {
    let config = Config { failure_persistence: None, ..Config::with_cases(cases()) };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let schedules = proptest::collection::vec(steps(), 1..120);
    let result = TestRunner::new_with_rng(config, seed)
        .run(&schedules, |schedule| runtime.block_on(compare(schedule)));
    if let Err(difference) = result {
        panic!("{difference}");
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

async fn compare(schedule: Vec<Step>) -> Result<(), TestCaseError> {
    let (embedded, redis) = (Stage::embedded(), Stage::redis().await);
    let mut leases = Vec::new();
    let mut elapsed = 0;
    for step in schedule {
        match step {
            Step::Pass(ms) => elapsed = LONGEST.min(elapsed + ms),
            Step::Back(ms) => elapsed = elapsed.saturating_sub(ms),
            _ => {}
        }
        embedded.at(elapsed);
        redis.at(elapsed);
        let (one, given) = take(&embedded, &step, &leases).await;
        let (other, _) = take(&redis, &step, &leases).await;
        prop_assert_eq!(one, other, "at {} ms: {:?}", elapsed, step);
        leases.extend(given);
    }
    drain(&embedded, &redis, elapsed).await
}

/// Takes every head there is, whatever it waits for.
async fn drain(embedded: &Stage, redis: &Stage, mut elapsed: u64) -> Result<(), TestCaseError> {
    for turn in 0..300 {
        elapsed += 60 * SECOND;
        embedded.at(elapsed);
        redis.at(elapsed);
        let step = Step::Claim { nonce: 100 };
        let (one, given) = take(embedded, &step, &[]).await;
        let (other, _) = take(redis, &step, &[]).await;
        prop_assert_eq!(one, other, "draining, turn {}", turn);
        let Some(lease) = given else { return Ok(()) };
        embedded.complete(&lease).await;
        redis.complete(&lease).await;
    }
    panic!("a schedule leaves fewer messages than this");
}

/// Takes one step; gives the answer as text, and the lease if it gave one.
async fn take(stage: &Stage, step: &Step, leases: &[Lease]) -> (String, Option<Lease>) {
    let store = &stage.store;
    let nobody = Lease {
        channel: "channel-0".to_owned(),
        conversation: conversation(0),
        nonce: Nonce("nobody".to_owned()),
    };
    let of = |at: u8| match leases.len() {
        0 => nobody.clone(),
        // Counted from the newest: those are the ones that may still be good.
        known => leases[known - 1 - usize::from(at) % known].clone(),
    };
    let answer = match step.clone() {
        Step::Pass(_) | Step::Back(_) => String::new(),
        Step::Claim { nonce } => {
            let nonce = Nonce(format!("nonce {nonce}"));
            let claimed = store.claim(0, nonce, LEASE_MS).await.unwrap();
            let given = match &claimed {
                Claimed::Head(head) => Some(lease_of(head)),
                Claimed::Nothing { .. } => None,
            };
            return (format!("{claimed:?}"), given);
        }
        Step::Extend { lease } => {
            let lease = of(lease);
            text(store.extend(vec![(lease.conversation, lease.nonce)], 2 * LEASE_MS).await)
        }
        Step::KeepRun { lease, run } => {
            text(store.keep_run(of(lease), run.map(|run| format!("run {run}"))).await)
        }
        Step::EndAttempt { lease, evidence, failed_on } => {
            let failed_on = failed_on.map(|revision| format!("revision {revision}"));
            text(store.end_attempt(of(lease), evidence, failed_on).await)
        }
        Step::Commit { lease, intent: id, segments, evidence } => {
            let reply = Intent { resent: true, ..intent(&format!("intent {id}"), segments) };
            text(store.commit_reply(of(lease), reply, evidence).await)
        }
        Step::Mark { lease, intent, segment, attempt, expected } => {
            let (id, attempt) = (format!("intent {intent}"), format!("attempt {attempt}"));
            let expected = expected.map(|attempt| format!("attempt {attempt}"));
            text(store.mark_sending(of(lease), id, segment, attempt, expected).await)
        }
        Step::Unmark { lease, intent, segment, attempt } => {
            let (id, attempt) = (format!("intent {intent}"), format!("attempt {attempt}"));
            text(store.unmark(of(lease), id, segment, attempt).await)
        }
        Step::Complete { lease, evidence } => text(store.complete(of(lease), evidence).await),
        Step::Retry { lease, delay_ms, counted } => {
            text(store.retry(of(lease), delay_ms, counted).await)
        }
        Step::Release { lease } => text(store.release(of(lease)).await),
        Step::Bury { lease, class } => text(store.bury(of(lease), format!("class {class}")).await),
        other => take_free(stage, other).await,
    };
    (answer, None)
}

/// The verbs that need no lease.
async fn take_free(stage: &Stage, step: Step) -> String {
    let store = &stage.store;
    match step {
        Step::Admit { conversation, sid, channel, limit } => {
            let message = Admit {
                channel: format!("channel-{channel}"),
                limit,
                dedup_ms: 300 * SECOND,
                ..message(conversation, &format!("SM{sid}"))
            };
            text(store.admit(message).await)
        }
        Step::Sent { conversation: of, intent, segment, sid } => {
            let (id, sid) = (format!("intent {intent}"), format!("SMout{sid}"));
            text(store.mark_sent(conversation(of), id, segment, sid).await)
        }
        Step::Reserve { sender, per_second } => {
            text(store.reserve(format!("sender {sender}"), per_second).await)
        }
        Step::Sweep => text(store.sweep(0).await),
        Step::Heartbeat { replica, digest, acknowledged, forgotten } => {
            let route = |of: u8| (format!("channel-{of}"), u64::from(digest), "hash".to_owned());
            let heartbeat = Heartbeat {
                replica: format!("gateway-{replica}"),
                digest: format!("digest {digest}"),
                acknowledged: acknowledged.into_iter().map(route).collect(),
                forgotten: forgotten.into_iter().map(|of| format!("channel-{of}")).collect(),
            };
            text(store.heartbeat(heartbeat).await)
        }
        Step::Replicas => text(store.replicas().await),
        Step::Acknowledged { replica, channel } => {
            let channels = channel.map(|channel| vec![format!("channel-{channel}")]);
            text(store.acknowledged(format!("gateway-{replica}"), channels).await)
        }
        Step::Counts => {
            let channels = (0..3).map(|channel| format!("channel-{channel}")).collect();
            text(store.counts(channels).await.map(|(_, counts)| counts))
        }
        Step::DeadLetters => text(store.dead_letters().await),
        other => panic!("{other:?} needs a lease"),
    }
}

fn text<T: std::fmt::Debug, E: std::fmt::Debug>(answer: Result<T, E>) -> String {
    format!("{:?}", answer.unwrap())
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => time(),
        8 => (0..4_u8, 0..24_u8, 0..3_u8, 1..8_u32).prop_map(
            |(conversation, sid, channel, limit)| Step::Admit { conversation, sid, channel, limit }
        ),
        8 => (0..6_u8).prop_map(|nonce| Step::Claim { nonce }),
        14 => of_an_owner(),
        12 => of_a_reply(),
        6 => of_the_fleet(),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    let spans = [1, 700, 5 * SECOND, LEASE_MS, 60 * SECOND, 600 * SECOND, DAY, 14 * DAY];
    prop_oneof![
        8 => (0..5_usize).prop_map(move |at| Step::Pass(spans[at])),
        2 => (5..8_usize).prop_map(move |at| Step::Pass(spans[at])),
        2 => (0..6_usize).prop_map(move |at| Step::Back(spans[at])),
    ]
}

fn of_an_owner() -> impl Strategy<Value = Step> {
    let lease = || 0..3_u8;
    let few = || proptest::option::of(0..3_u8);
    prop_oneof![
        lease().prop_map(|lease| Step::Extend { lease }),
        (lease(), few()).prop_map(|(lease, run)| Step::KeepRun { lease, run }),
        (lease(), evidence(), few()).prop_map(|(lease, evidence, failed_on)| {
            Step::EndAttempt { lease, evidence, failed_on }
        }),
        (lease(), proptest::option::of(evidence()))
            .prop_map(|(lease, evidence)| Step::Complete { lease, evidence }),
        (lease(), 0..20 * SECOND, any::<bool>())
            .prop_map(|(lease, delay_ms, counted)| Step::Retry { lease, delay_ms, counted }),
        lease().prop_map(|lease| Step::Release { lease }),
        (lease(), 0..3_u8).prop_map(|(lease, class)| Step::Bury { lease, class }),
    ]
}

fn of_a_reply() -> impl Strategy<Value = Step> {
    let post = || (0..2_u8, 0..2_u8, 0..3_u32, 0..3_u8);
    prop_oneof![
        (0..2_u8, 0..2_u8, 1..4_u32, proptest::option::of(evidence())).prop_map(
            |(lease, intent, segments, evidence)| {
                Step::Commit { lease, intent, segments, evidence }
            }
        ),
        (post(), proptest::option::of(0..3_u8)).prop_map(
            |((lease, intent, segment, attempt), expected)| {
                Step::Mark { lease, intent, segment, attempt, expected }
            }
        ),
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
        (0..2_u8, 2..90_u32)
            .prop_map(|(sender, per_second)| { Step::Reserve { sender, per_second } }),
        Just(Step::Sweep),
        (0..2_u8, 0..3_u8, few(), few()).prop_map(|(replica, digest, acknowledged, forgotten)| {
            Step::Heartbeat { replica, digest, acknowledged, forgotten }
        }),
        Just(Step::Replicas),
        (0..2_u8, few()).prop_map(|(replica, channel)| Step::Acknowledged { replica, channel }),
        Just(Step::Counts),
        Just(Step::DeadLetters),
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (8..12_u64, any::<bool>(), 0..Class::ALL.len()).prop_map(|(serving, canary, class)| Evidence {
        serving,
        track: if canary { Track::Canary } else { Track::Stable },
        class: Class::ALL[class],
    })
}
