//! The same random schedules through both stores give the same answers, step by step.
//!
//! A schedule mixes every verb with time that passes and sometimes steps back, over few enough
//! conversations, nonces, intents and SIDs that they meet. At its end both stores are drained and
//! must hand out the same heads: so the rows were the same too. The schedules are fixed;
//! `PROPTEST_CASES` asks for more of them.

use std::str::FromStr;

use kanarie_gateway::store::fleet::Heartbeat;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Extend, Isolate, KeepRun, Release, Retry};
use kanarie_queue::dead::{Bury, SumDead, SumLoads};
use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered};
use kanarie_queue::delivery::{Delivery, DeliveryStatus, SegmentReport};
use kanarie_queue::erase::{EraseConversation, EraseLetters};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::finish::Finish;
use kanarie_queue::intent::Intent;
use kanarie_queue::lease::{Lease, Park};
use kanarie_queue::letters::{DeadLetterFilter, ReadLetters};
use kanarie_queue::park::{ParkHead, WakeParked};
use kanarie_queue::replay::{MessageAgain, Replay};
use kanarie_queue::reserve::Reserve;
use kanarie_queue::send::{CommitReply, Complete, MarkSending, MarkSent, NoteMissed, Unmark};
use kanarie_queue::sweep::Sweep;
use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, InvalidId};
use proptest::prelude::prop_assert_eq;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::store::stage::{
    LEASE_MS, Stage, canary, conversation, id, intent, lease_of, message, new_lease, post,
};
use crate::store::steps::{DAY, Reported, SECOND, Step, steps};

/// Evidence is forgotten after 90 days, in Redis on the server's own clock: stay below.
const LONGEST: u64 = 80 * DAY;

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
    same_sums(&embedded, &redis).await?;
    drain(&embedded, &redis, elapsed).await?;
    same_sums(&embedded, &redis).await
}

/// What was counted, buried and waits is the same, however the schedule ended.
async fn same_sums(embedded: &Stage, redis: &Stage) -> Result<(), TestCaseError> {
    for step in [Step::Counts, Step::DeadLetters, Step::Loads, Step::Undelivered] {
        let (one, _) = take(embedded, &step, &[]).await;
        let (other, _) = take(redis, &step, &[]).await;
        prop_assert_eq!(one, other, "at the end: {:?}", step);
    }
    Ok(())
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
    let nobody =
        Lease { channel: id("channel-0"), conversation: conversation(0), nonce: id("nobody") };
    let of = |at: u8| match leases.len() {
        0 => nobody.clone(),
        // Counted from the newest: those are the ones that may still be good.
        known => leases[known - 1 - usize::from(at) % known].clone(),
    };
    let answer = match step.clone() {
        Step::Pass(_) | Step::Back(_) => String::new(),
        Step::Claim { .. } | Step::Admit { .. } | Step::Finish { .. } => {
            return take_claim(stage, step.clone(), of).await;
        }
        Step::Extend { lease } => {
            let lease = of(lease);
            let leases = vec![(lease.conversation, lease.nonce)];
            text(stage.run(Extend { leases, lease_ms: 2 * LEASE_MS }).await)
        }
        Step::KeepRun { lease, run } => {
            let run = run.map(|run| format!("run {run}"));
            text(stage.run(KeepRun { lease: of(lease), run }).await)
        }
        Step::Isolate { lease } => text(stage.run(Isolate { lease: of(lease) }).await),
        Step::EndAttempt { lease, evidence, failed_on } => {
            let failed_on = failed_on.map(|revision| named("revision", revision));
            text(stage.run(EndAttempt { lease: of(lease), evidence, failed_on }).await)
        }
        Step::Rescue { lease } => {
            let failed = stage.end(&of(lease), canary(11, Class::Http), Some("r")).await;
            text((failed, stage.rescue(&of(lease), 11).await))
        }
        Step::Complete { lease, outcome } => {
            text(stage.run(Complete { lease: of(lease), outcome }).await)
        }
        Step::Retry { lease, delay_ms, counted } => {
            text(stage.run(Retry { lease: of(lease), delay_ms, counted }).await)
        }
        Step::Release { lease } => text(stage.run(Release { lease: of(lease) }).await),
        Step::Park { lease, revision, until_ms, probe_ms } => {
            let (lease, revision) = (of(lease), named("revision", revision));
            text(stage.run(ParkHead { lease, revision, until_ms, probe_ms }).await)
        }
        Step::Bury { lease, class } => {
            text(stage.run(Bury { lease: of(lease), class: format!("class-{class}") }).await)
        }
        Step::Commit { lease, .. }
        | Step::Mark { lease, .. }
        | Step::Missed { lease, .. }
        | Step::Unmark { lease, .. } => take_reply(stage, step.clone(), of(lease)).await,
        other => take_free(stage, other).await,
    };
    (answer, None)
}

/// The verbs that may give a lease.
async fn take_claim(
    stage: &Stage,
    step: Step,
    of: impl Fn(u8) -> Lease,
) -> (String, Option<Lease>) {
    match step {
        Step::Claim { nonce } => {
            let claim = Claim { shard: 0, nonce: named("nonce", nonce), lease_ms: LEASE_MS };
            let claimed = stage.run(claim).await;
            let given = given(Some(&claimed));
            (text(claimed), given)
        }
        Step::Admit { .. } => {
            let admission = admit(stage, step).await;
            let given = match &admission {
                Admission::Leased(head) => Some(lease_of(head)),
                _ => None,
            };
            (text(admission), given)
        }
        Step::Finish { lease, intent, segment, sid, nonce } => {
            let (lease, intent) = (of(lease), named("intent", intent));
            let next = nonce.map(|nonce| new_lease(named("nonce", nonce)));
            let sid = named("SMout", sid);
            let finished = stage.run(Finish { lease, intent, segment, sid, next }).await;
            let given = given(finished.next.as_ref());
            (text(finished), given)
        }
        other => panic!("{other:?} gives no lease"),
    }
}

/// The lease that a claim gave.
fn given(claimed: Option<&Claimed>) -> Option<Lease> {
    match claimed? {
        Claimed::Head(head) => Some(lease_of(head)),
        Claimed::Nothing { .. } => None,
    }
}

async fn admit(stage: &Stage, step: Step) -> Admission {
    let Step::Admit { conversation, sid, channel, limit, nonce } = step else {
        panic!("{step:?} is no admission")
    };
    let message = Admit {
        channel: named("channel", channel),
        limit,
        dedup_ms: 300 * SECOND,
        lease: nonce.map(|nonce| new_lease(id(&format!("admission-{nonce}")))),
        ..message(conversation, &format!("SM{sid}"))
    };
    stage.run(message).await
}

/// The verbs of an owner that send a reply.
async fn take_reply(stage: &Stage, step: Step, lease: Lease) -> String {
    let of = |intent: u8, segment, attempt: u8| {
        post(&format!("intent-{intent}"), segment, &format!("attempt-{attempt}"))
    };
    match step {
        Step::Commit { intent: id, segments, outcome, memo, mark, .. } => {
            let intent = Intent { resent: true, ..intent(&format!("intent-{id}"), segments) };
            let mark = mark.map(|attempt| named("attempt", attempt));
            text(stage.run(CommitReply { lease, intent, outcome, memo, mark }).await)
        }
        Step::Mark { intent, segment, attempt, refuted, .. } => {
            let post = of(intent, segment, attempt);
            let refuted = refuted.map(|attempt| named("attempt", attempt));
            text(stage.run(MarkSending { lease, post, refuted }).await)
        }
        Step::Missed { intent, segment, attempt, .. } => {
            let post = of(intent, segment, attempt);
            text(stage.run(NoteMissed { lease, post }).await)
        }
        Step::Unmark { intent, segment, attempt, .. } => {
            let post = of(intent, segment, attempt);
            text(stage.run(Unmark { lease, post }).await)
        }
        other => panic!("{other:?} sends no reply"),
    }
}

/// The verbs that need no lease.
async fn take_free(stage: &Stage, step: Step) -> String {
    match step {
        Step::Sent { conversation: of, intent, segment, sid } => {
            let (conversation, intent) = (conversation(of), named("intent", intent));
            let sid = named("SMout", sid);
            text(stage.run(MarkSent { conversation, intent, segment, sid }).await)
        }
        Step::Wake { channel, revision } => {
            let (channel, revision) = (named("channel", channel), named("revision", revision));
            text(stage.run(WakeParked { park: Park { channel, revision } }).await)
        }
        Step::Reserve { sender, per_second, count } => {
            text(stage.run(Reserve { sender: named("sender", sender), per_second, count }).await)
        }
        Step::Sweep => {
            stage.run(Sweep { shard: 0 }).await;
            String::new()
        }
        Step::Counts => {
            let channels = (0..3).map(|channel| named("channel", channel)).collect();
            text(stage.run(ReadCounts { channels }).await.counts)
        }
        Step::DeadLetters => text(stage.run(SumDead).await),
        Step::Loads => text(stage.run(SumLoads).await),
        Step::Reported { reports } => {
            let reports = reports.into_iter().map(report).collect();
            text(stage.run(NoteDeliveries { reports }).await)
        }
        Step::Undelivered => text(stage.run(SumUndelivered).await),
        Step::Letters { .. }
        | Step::Replay { .. }
        | Step::EraseLetters { .. }
        | Step::EraseConversation { .. } => take_dead(stage, step).await,
        other => take_fleet(stage, other).await,
    }
}

fn report((of, channel, intent, segment, status, code): Reported) -> SegmentReport {
    let word = DeliveryStatus::ALL[status].as_str();
    SegmentReport {
        channel: named("channel", channel),
        conversation: conversation(of),
        intent: named("intent", intent),
        segment,
        delivery: Delivery::reported(word, code).unwrap(),
    }
}

/// What a person does with dead letters, and with a customer.
async fn take_dead(stage: &Stage, step: Step) -> String {
    match step {
        Step::Letters { after, until, channel, class, conversation: of, limit } => {
            let read = ReadLetters {
                shard: 0,
                after: u64::from(after),
                until: until.map(u64::from),
                wanted: DeadLetterFilter {
                    channel: channel.map(|channel| named("channel", channel)),
                    class: class.map(|class| format!("class-{class}")),
                    conversation: of.map(conversation),
                },
                limit: usize::from(limit),
                with_text: after % 2 == 0,
            };
            text(stage.run(read).await)
        }
        Step::Replay { nth, count, channel } => {
            let letters = stage.letters().await.into_iter();
            let some = letters.skip(usize::from(nth)).take(usize::from(count));
            let again = some.filter_map(|letter| {
                let (number, dedup_key) = (letter.id.number, letter.dedup_key?);
                let channel = named("channel", channel);
                Some(MessageAgain { number, dedup_key, channel, dedup_ms: 300 * SECOND })
            });
            text(stage.run(Replay { shard: 0, letters: again.collect() }).await)
        }
        Step::EraseLetters { numbers } => {
            let numbers = numbers.into_iter().map(u64::from).collect();
            text(stage.run(EraseLetters { shard: 0, numbers }).await)
        }
        Step::EraseConversation { conversation: of, channels } => {
            let channels = (0..3).filter(|channel| channels & (1 << channel) != 0);
            let channels = channels.map(|channel| named("channel", channel)).collect();
            let conversation = conversation(of);
            text(stage.run(EraseConversation { conversation, channels }).await)
        }
        other => panic!("{other:?} is not about the dead"),
    }
}

/// What replicas say of themselves.
async fn take_fleet(stage: &Stage, step: Step) -> String {
    let store = &stage.store;
    match step {
        Step::Heartbeat { replica, digest, obeyed, cut } => {
            let route = (u64::from(digest), id("hash"));
            let of = |bits: u8| (0..3).filter(move |channel| bits & (1 << channel) != 0);
            let of = |bits| of(bits).map(|channel| named::<ChannelUid>("channel", channel));
            let heartbeat = Heartbeat {
                replica: named("gateway", replica),
                key: store.key().await.unwrap(),
                digest: named("digest", digest),
                obeyed: of(obeyed).map(|channel| (channel, route.clone())).collect(),
                cut: of(cut).collect(),
            };
            text(store.heartbeat(heartbeat).await.unwrap())
        }
        Step::NoteAsked => {
            store.note_asked().await.unwrap();
            String::new()
        }
        Step::Goodbye { replica } => {
            store.goodbye(named("gateway", replica)).await.unwrap();
            String::new()
        }
        Step::Replicas => text(store.replicas().await.unwrap()),
        Step::Acknowledged { replica, channel } => {
            let channels = channel.map(|channel| vec![named::<ChannelUid>("channel", channel)]);
            text(store.acknowledged(named("gateway", replica), channels).await.unwrap())
        }
        other => panic!("{other:?} needs a lease"),
    }
}

/// The id of such a name with a number.
fn named<T: FromStr<Err = InvalidId>>(name: &str, number: u8) -> T {
    id(&format!("{name}-{number}"))
}

fn text(answer: impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}
