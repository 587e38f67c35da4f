//! What the state remembers, and what it refuses to read.

use kanarie_rollout::bounds::{MAX_HISTORY, MAX_MESSAGE_BYTES, MAX_REJECTED, MAX_REJECTION_BYTES};
use kanarie_rollout::state::{RejectedRevision, State};
use kanarie_rollout::tally::{CustomerTally, Tally};
use kanarie_words::timestamp::Timestamp;

use crate::stories::world::{World, manual, named};

/// Scenario 60: history says what was done, when and why.
#[test]
fn scenario_60_history_tells_who_when_why_and_keeps_ten() {
    let mut world = World::asking_for("r2");
    for weight in 0..30 {
        world.seen.mode = manual(weight);
        world.decide();
    }
    assert_eq!(world.state.history.len(), MAX_HISTORY);
    let last = &world.state.history[0];
    assert_eq!((last.reason.as_str(), last.revision.as_str()), ("WeightSet", "r2"));
    assert_eq!((last.number, last.at), (world.state.transition, world.now));
}

#[test]
fn a_rollback_is_kept_with_its_numbers() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    assert!(
        world.state.history[0].message.contains("4 messages of 4 customers, 4 failed (4 http)")
    );
    assert_eq!(world.state.history[0].message, world.state.rejected[0].message);
}

/// A great deal of everything that is counted, of so many customers.
fn a_great_deal(asked: u64, failed: u64) -> Tally {
    let many = 9_999_999;
    let customers = CustomerTally { asked, failed, rescued: 0 };
    Tally {
        success: many,
        timeout: many,
        http: many,
        invalid: many,
        no_answer: many,
        slow: many,
        unavailable: many,
        customers,
    }
}

#[test]
fn the_numbers_of_a_busy_channel_are_kept_whole_and_a_rejection_ends_with_one_of_its_clauses() {
    let mut world = World::rolling();
    world.count(a_great_deal(9_000_000, 9_000), a_great_deal(1_000_000, 999_999));
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "RolledBack");
    let whole = decision.why.to_string();
    assert!(whole.len() > MAX_REJECTION_BYTES, "{whole}");
    assert_eq!(world.state.history[0].message, whole);
    let kept = &world.state.rejected[0].message;
    let rest = whole.strip_prefix(kept.as_str()).unwrap();
    assert!(rest.starts_with("; ") && !kept.is_empty(), "{kept}");
}

#[test]
fn the_last_step_is_told_with_its_numbers() {
    let mut world = World::baking();
    world.canary(200, 0);
    world.pass(3600);
    world.decide();
    world.pass(1);
    assert_eq!(world.reason(), "Completed");
    let told = world.state.history[0].message.clone();
    assert!(told.starts_with("the revision serves everybody: canary 200 messages"), "{told}");
    // What holds afterwards is no news and has no numbers of its own.
    assert_eq!(world.decide().why.to_string(), "the revision serves everybody");
}

#[test]
fn words_of_a_newer_operator_are_read_and_its_rejections_hold() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    let text = serde_json::to_string(&world.state).unwrap();
    world.state = serde_json::from_str(&text.replace("RolledBack", "TakenHome")).unwrap();
    assert_eq!(world.state.history[0].reason, "TakenHome");
    assert_eq!(world.reason(), "RolledBack", "it is not started again");
}

#[test]
fn a_step_that_the_policy_does_not_have_is_unreadable() {
    let mut world = World::rolling();
    world.decide();
    let text = serde_json::to_string(&world.state).unwrap();
    let broken = text.replace("\"index\":0", "\"index\":3");
    assert_ne!(text, broken);
    assert!(serde_json::from_str::<State>(&broken).is_err());
}

#[test]
fn the_largest_state_leaves_room_for_two_revisions_and_their_secrets() {
    let name = |number: usize| named(&format!("{number:0>63}"));
    let mut world = World::asking_for("r2");
    world.seen.desired = Some(name(1));
    world.seen.mode = manual(1);
    world.decide();
    for weight in (0..100).rev() {
        let most = Tally { success: u64::MAX / 2, http: u64::MAX / 2, ..Tally::default() };
        world.count(most, most);
        world.seen.mode = manual(weight);
        world.decide();
    }
    let sentence = "x".repeat(MAX_REJECTION_BYTES);
    world.state.rejected = (0..MAX_REJECTED)
        .map(|number| RejectedRevision {
            revision: name(number + 2),
            reason: "RolledBack".to_owned(),
            message: sentence.clone(),
            at: Timestamp(u64::MAX),
        })
        .collect();
    for transition in &mut world.state.history {
        transition.message = "x".repeat(MAX_MESSAGE_BYTES);
    }
    let bytes = serde_json::to_string(&world.state).unwrap().len();
    assert!(bytes < 36 * 1024, "the state takes {bytes} bytes");
}
