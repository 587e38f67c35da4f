//! The verbs that take two steps at once, and what is left when somebody dies between two of them.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claimed, Head};
use kanarie_queue::finish::{Finish, Finished};
use kanarie_queue::intent::{Memo, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::Outcome;
use kanarie_queue::send::{CommitReply, Committed, Marked};
use kanarie_words::class::Class;

use crate::store::stage::{
    LEASE_MS, START, Stage, canary, conversation, id, intent, lease_of, message, new_lease,
};

on_both_stores!(
    a_message_that_comes_alone_is_leased_to_whoever_brings_it,
    a_leased_message_is_told_with_what_its_conversation_remembers,
    a_message_whose_lease_nobody_wants_is_queued,
    a_message_behind_another_one_of_its_conversation_is_queued,
    a_message_is_queued_while_another_conversation_is_ready,
    a_refused_message_is_leased_to_nobody,
    a_repeated_admission_is_a_duplicate_and_leases_nothing,
    a_message_whose_bringer_dies_is_taken_over_when_its_lease_ends,
    a_lease_that_nobody_heard_of_is_given_back_by_its_nonce,
    a_message_that_was_leased_waits_for_its_turn_like_any_other_afterwards,
    a_channel_that_leases_at_once_gets_no_turn_of_another_ones,
    a_commit_marks_the_first_segment_for_its_attempt,
    a_mark_of_a_commit_survives_its_worker_and_is_ambiguous,
    a_commit_that_comes_second_marks_nothing,
    a_former_owner_commits_and_marks_nothing,
    a_marking_commit_counts_and_remembers_like_any_other,
    a_finish_records_the_sid_ends_the_head_and_claims_the_next,
    a_finish_claims_the_next_message_of_its_own_conversation,
    a_finish_that_finds_nothing_tells_the_first_end,
    a_finish_claims_nothing_unless_it_is_asked_to,
    a_finish_takes_expired_leases_back_as_a_claim_does,
    a_finish_of_a_former_owner_is_evidence_and_no_more,
    a_finish_of_a_former_owner_wakes_whoever_waited_to_learn_it,
    a_finish_of_a_reply_that_is_not_all_sent_ends_nothing,
    a_finish_after_the_report_of_its_segment_ends_the_head,
    a_repeated_finish_gives_the_same_head,
    a_worker_that_dies_before_its_finish_leaves_a_mark_and_no_second_reply,
    several_sends_are_booked_at_once_and_wait_for_the_last_of_them,
);

/// A message whose bringer wants its lease.
fn wanted(number: u8, sid: &str, nonce: &str) -> Admit {
    Admit { lease: Some(new_lease(id(nonce))), ..message(number, sid) }
}

/// Admits, and expects the lease.
async fn leased(stage: &Stage, number: u8, sid: &str, nonce: &str) -> (Head, Lease) {
    match stage.run(wanted(number, sid, nonce)).await {
        Admission::Leased(head) => {
            let lease = lease_of(&head);
            (*head, lease)
        }
        other => panic!("{other:?} is no lease"),
    }
}

/// Commits a reply and marks its first segment.
async fn commit(stage: &Stage, lease: &Lease, name: &str, segments: u32) -> Committed {
    let (lease, mark) = (lease.clone(), Some(id("attempt")));
    let (intent, memo) = (intent(name, segments), Memo::default());
    stage.run(CommitReply { lease, intent, outcome: None, memo, mark }).await
}

async fn finish(stage: &Stage, lease: &Lease, segment: u32, next: Option<&str>) -> Finished {
    let next = next.map(|nonce| new_lease(id(nonce)));
    let (lease, intent) = (lease.clone(), id("i"));
    stage.run(Finish { lease, intent, segment, sid: id("SMout"), next }).await
}

/// The head that a finish claimed.
fn next(finished: Finished) -> (Head, Lease) {
    match finished.next {
        Some(Claimed::Head(head)) => {
            let lease = lease_of(&head);
            (*head, lease)
        }
        other => panic!("{other:?} is no head"),
    }
}

/// A message whose reply of so many segments is committed and marked.
async fn sending(stage: &Stage, number: u8, segments: u32) -> Lease {
    let (_, lease) = leased(stage, number, &format!("SM{number}"), &format!("n{number}")).await;
    assert_eq!(commit(stage, &lease, "i", segments).await, Committed::Done);
    lease
}

async fn a_message_that_comes_alone_is_leased_to_whoever_brings_it(stage: &Stage) {
    let (head, lease) = leased(stage, 1, "SM1", "a").await;
    assert_eq!((head.conversation.clone(), head.envelope.as_str()), (conversation(1), "SM1"));
    assert_eq!((head.channel.as_str(), head.admitted_at, head.now), ("shop", START, START));
    assert_eq!((head.tries, head.crashes, head.counted), (1, 0, false));
    let found = stage.claimed("b").await;
    assert_eq!(found, Claimed::Nothing { next_in_ms: Some(LEASE_MS) });
    assert_eq!(stage.claim("a").await.0, head, "a claim by its nonce gives the same head");
    assert_eq!(stage.complete(&lease).await, Owned::Done);
    assert_eq!(stage.loads().await, Vec::<String>::new());
}

async fn a_leased_message_is_told_with_what_its_conversation_remembers(stage: &Stage) {
    let memo = Memo { question: Some("which table?".to_owned()), apologised: true };
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit_memo(&lease, "i", &memo).await;
    stage.complete(&lease).await;
    let (head, lease) = leased(stage, 1, "SM2", "b").await;
    assert_eq!(head.memo, memo);
    stage.complete(&lease).await;
    stage.pass(86_400_000);
    assert_eq!(leased(stage, 1, "SM3", "c").await.0.memo, Memo::default());
}

async fn a_message_whose_lease_nobody_wants_is_queued(stage: &Stage) {
    stage.queue(1, "SM1").await;
    assert_eq!(stage.claim("a").await.0.tries, 1);
}

async fn a_message_behind_another_one_of_its_conversation_is_queued(stage: &Stage) {
    let (_, lease) = leased(stage, 1, "SM1", "a").await;
    assert_eq!(stage.run(wanted(1, "SM2", "b")).await, Admission::Queued);
    stage.retry(&lease, 1_000, true).await;
    assert_eq!(stage.run(wanted(1, "SM3", "c")).await, Admission::Queued);
    stage.pass(1_000);
    assert_eq!(stage.claim("d").await.0.envelope, "SM1");
}

async fn a_message_is_queued_while_another_conversation_is_ready(stage: &Stage) {
    stage.queue(1, "SM1").await;
    assert_eq!(stage.run(wanted(2, "SM2", "a")).await, Admission::Queued);
    assert_eq!(stage.ready().await, ["SM1", "SM2"]);
    leased(stage, 3, "SM3", "b").await;
}

async fn a_refused_message_is_leased_to_nobody(stage: &Stage) {
    let limited = Admit { limit: 0, ..wanted(1, "SM1", "a") };
    assert!(matches!(stage.run(limited).await, Admission::Limited { .. }));
    assert_eq!(stage.claimed("a").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_repeated_admission_is_a_duplicate_and_leases_nothing(stage: &Stage) {
    leased(stage, 1, "SM1", "a").await;
    for nonce in ["a", "b"] {
        assert_eq!(stage.run(wanted(1, "SM1", nonce)).await, Admission::Duplicate);
    }
    let found = stage.claimed("b").await;
    assert_eq!(found, Claimed::Nothing { next_in_ms: Some(LEASE_MS) });
}

async fn a_message_whose_bringer_dies_is_taken_over_when_its_lease_ends(stage: &Stage) {
    let (_, dead) = leased(stage, 1, "SM1", "a").await;
    stage.pass(LEASE_MS - 1);
    assert!(matches!(stage.claimed("b").await, Claimed::Nothing { .. }));
    stage.pass(1);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 2, 1));
    assert_eq!(stage.complete(&dead).await, Owned::Stale);
}

async fn a_lease_that_nobody_heard_of_is_given_back_by_its_nonce(stage: &Stage) {
    let (_, unheard) = leased(stage, 1, "SM1", "a").await;
    assert_eq!(stage.release(&unheard).await, Owned::Done);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 1, 0));
}

async fn a_message_that_was_leased_waits_for_its_turn_like_any_other_afterwards(stage: &Stage) {
    let (_, lease) = leased(stage, 1, "SM1", "a").await;
    stage.queue(2, "SM2").await;
    stage.queue(1, "SM3").await;
    stage.release(&lease).await;
    assert_eq!(stage.ready().await, ["SM1", "SM2"], "its old place was the first");
}

async fn a_channel_that_leases_at_once_gets_no_turn_of_another_ones(stage: &Stage) {
    for number in 1..=3 {
        leased(stage, number, &format!("busy-{number}"), &format!("n{number}")).await;
    }
    // Three turns were taken: whoever comes now does not wait for as many of others.
    stage.queue(4, "busy-4").await;
    stage.run(Admit { channel: id("quiet"), ..message(5, "quiet") }).await;
    stage.queue(6, "busy-6").await;
    let order = stage.ready().await;
    assert!(order[..2].contains(&"quiet".to_owned()), "{order:?}");
}

async fn a_commit_marks_the_first_segment_for_its_attempt(stage: &Stage) {
    let lease = sending(stage, 1, 2).await;
    assert_eq!(stage.mark(&lease, "i", 0, "attempt").await, Marked::Go);
    assert!(stage.sent(&lease, "i", 0, "SMout").await);
    assert_eq!(stage.mark(&lease, "i", 1, "other").await, Marked::Go);
}

async fn a_mark_of_a_commit_survives_its_worker_and_is_ambiguous(stage: &Stage) {
    stage.pass(5);
    sending(stage, 1, 1).await;
    stage.pass(LEASE_MS);
    let (head, present) = stage.claim("b").await;
    let sending = Sending { attempt: id("attempt"), at: START + 5, missed_at: None };
    assert_eq!(head.intent.and_then(|intent| intent.sending), Some(sending.clone()));
    let marked = stage.mark(&present, "i", 0, "other").await;
    let (attributed, now) = (Vec::new(), START + 5 + LEASE_MS);
    assert_eq!(marked, Marked::Ambiguous { sending, attributed, now });
    assert_eq!(stage.mark_again(&present, "i", 0, "other", Some("attempt")).await, Marked::Go);
}

async fn a_commit_that_comes_second_marks_nothing(stage: &Stage) {
    let (_, lease) = leased(stage, 1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    let standing = Box::new(intent("i", 1));
    assert_eq!(commit(stage, &lease, "late", 1).await, Committed::Exists(standing));
    assert_eq!(stage.mark(&lease, "i", 0, "other").await, Marked::Go);
}

async fn a_former_owner_commits_and_marks_nothing(stage: &Stage) {
    let (_, former) = leased(stage, 1, "SM1", "a").await;
    stage.pass(LEASE_MS);
    stage.claim("b").await;
    assert_eq!(commit(stage, &former, "i", 1).await, Committed::Stale);
    assert_eq!(stage.claim("b").await.0.intent, None);
}

async fn a_marking_commit_counts_and_remembers_like_any_other(stage: &Stage) {
    let (_, lease) = leased(stage, 1, "SM1", "a").await;
    let memo = Memo { question: None, apologised: true };
    let verb = CommitReply {
        lease: lease.clone(),
        intent: intent("i", 1),
        outcome: Some(Outcome::First(canary(1, Class::Success))),
        memo: memo.clone(),
        mark: Some(id("attempt")),
    };
    assert_eq!(stage.run(verb.clone()).await, Committed::Done);
    assert_eq!(stage.run(verb).await, Committed::Done);
    assert_eq!(stage.counted("shop").await, ["1:canary:success=1"]);
    let finished = finish(stage, &lease, 0, None).await;
    assert_eq!(finished, Finished { completed: Owned::Done, next: None });
    assert_eq!(leased(stage, 1, "SM2", "b").await.0.memo, memo);
}

async fn a_finish_records_the_sid_ends_the_head_and_claims_the_next(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    stage.queue(2, "SM2").await;
    let finished = finish(stage, &lease, 0, Some("b")).await;
    assert_eq!(finished.completed, Owned::Done);
    let (head, present) = next(finished);
    assert_eq!((head.conversation, head.envelope.as_str()), (conversation(2), "SM2"));
    assert_eq!((head.tries, head.crashes), (1, 0));
    // The SID belongs to the first conversation, whatever comes there next.
    let (_, again) = leased(stage, 1, "SM3", "c").await;
    commit(stage, &again, "j", 1).await;
    let marked = stage.mark(&again, "j", 0, "other").await;
    let Marked::Ambiguous { attributed, .. } = marked else { panic!("{marked:?}") };
    assert_eq!(attributed, ["SMout"]);
    assert_eq!(stage.complete(&present).await, Owned::Done);
}

async fn a_finish_claims_the_next_message_of_its_own_conversation(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    stage.queue(1, "SM2").await;
    let (head, _) = next(finish(stage, &lease, 0, Some("b")).await);
    assert_eq!((head.envelope.as_str(), head.tries, head.intent), ("SM2", 1, None));
}

async fn a_finish_that_finds_nothing_tells_the_first_end(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    stage.pass(1_000);
    let other = sending(stage, 2, 1).await;
    let nothing = |next_in_ms| Some(Claimed::Nothing { next_in_ms });
    assert_eq!(finish(stage, &lease, 0, Some("b")).await.next, nothing(Some(LEASE_MS)));
    assert_eq!(finish(stage, &other, 0, Some("c")).await.next, nothing(None));
}

async fn a_finish_claims_nothing_unless_it_is_asked_to(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    stage.queue(2, "SM2").await;
    let finished = finish(stage, &lease, 0, None).await;
    assert_eq!(finished, Finished { completed: Owned::Done, next: None });
    assert_eq!(stage.claim("b").await.0.tries, 1);
}

async fn a_finish_takes_expired_leases_back_as_a_claim_does(stage: &Stage) {
    leased(stage, 1, "SM1", "dies").await;
    stage.pass(LEASE_MS);
    let lease = sending(stage, 2, 1).await;
    let (head, _) = next(finish(stage, &lease, 0, Some("b")).await);
    assert_eq!((head.envelope.as_str(), head.crashes), ("SM1", 1));
}

async fn a_finish_of_a_former_owner_is_evidence_and_no_more(stage: &Stage) {
    let former = sending(stage, 1, 1).await;
    stage.pass(LEASE_MS);
    let (_, present) = stage.claim("b").await;
    let finished = finish(stage, &former, 0, None).await;
    assert_eq!(finished, Finished { completed: Owned::Stale, next: None });
    assert_eq!(stage.mark(&present, "i", 0, "other").await, Marked::Sent);
    assert_eq!(stage.complete(&present).await, Owned::Done);
}

async fn a_finish_of_a_former_owner_wakes_whoever_waited_to_learn_it(stage: &Stage) {
    let former = sending(stage, 1, 1).await;
    stage.pass(LEASE_MS);
    let (_, present) = stage.claim("b").await;
    stage.retry(&present, 20_000, false).await;
    let finished = finish(stage, &former, 0, Some("c")).await;
    assert_eq!(finished.completed, Owned::Stale);
    let (head, lease) = next(finished);
    assert_eq!(head.intent.map(|intent| intent.sent.len()), Some(1));
    assert_eq!(stage.complete(&lease).await, Owned::Done);
}

async fn a_finish_of_a_reply_that_is_not_all_sent_ends_nothing(stage: &Stage) {
    let lease = sending(stage, 1, 2).await;
    assert_eq!(finish(stage, &lease, 0, None).await.completed, Owned::Stale);
    assert_eq!(finish(stage, &lease, 0, None).await.completed, Owned::Stale);
    assert_eq!(finish(stage, &lease, 1, None).await.completed, Owned::Done);
}

async fn a_finish_after_the_report_of_its_segment_ends_the_head(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    assert!(stage.sent(&lease, "i", 0, "SMout").await);
    assert_eq!(finish(stage, &lease, 0, None).await.completed, Owned::Done);
}

async fn a_repeated_finish_gives_the_same_head(stage: &Stage) {
    let lease = sending(stage, 1, 1).await;
    stage.queue(2, "SM2").await;
    stage.queue(3, "SM3").await;
    let (first, _) = next(finish(stage, &lease, 0, Some("b")).await);
    let again = finish(stage, &lease, 0, Some("b")).await;
    assert_eq!(again.completed, Owned::Stale);
    assert_eq!(next(again).0, first);
    assert_eq!(stage.ready().await, ["SM3"]);
}

async fn a_worker_that_dies_before_its_finish_leaves_a_mark_and_no_second_reply(stage: &Stage) {
    sending(stage, 1, 1).await;
    stage.pass(LEASE_MS);
    let (head, present) = stage.claim("b").await;
    assert!(head.intent.is_some_and(|intent| intent.sending.is_some()));
    assert!(matches!(stage.mark(&present, "i", 0, "q").await, Marked::Ambiguous { .. }));
    // A listing finds it.
    assert!(stage.sent(&present, "i", 0, "SMout").await);
    assert_eq!(stage.complete(&present).await, Owned::Done);
}

async fn several_sends_are_booked_at_once_and_wait_for_the_last_of_them(stage: &Stage) {
    use kanarie_queue::pace::Reserved;
    use kanarie_queue::reserve::Reserve;
    let reserve = |count| Reserve { sender: id("AC1|whatsapp:many"), per_second: 10, count };
    assert_eq!(stage.run(reserve(4)).await, Reserved::After(0));
    assert_eq!(stage.run(reserve(4)).await, Reserved::After(0));
    assert_eq!(stage.run(reserve(2)).await, Reserved::After(200));
    assert_eq!(stage.run(reserve(8)).await, Reserved::After(1_000));
    assert_eq!(stage.run(reserve(100)).await, Reserved::After(1_800), "eight at most");
}
