//! The route is lost and the state is rebuilt.

use kanarie_rollout::rebuild::{Mark, Promotion, RebuildError, Remains, rebuild};
use kanarie_rollout::state::{CommandAnswer, CommandResult, Phase, RejectedRevision, State};
use kanarie_words::timestamp::Timestamp;

use crate::stories::world::{World, named};

fn mark(name: &str, promoted_at: Option<u64>, rejected_at: Option<u64>) -> Mark {
    Mark {
        revision: named(name),
        promoted: promoted_at.map(|at| Promotion { at: Timestamp(at), transition: None }),
        rejected_at: rejected_at.map(Timestamp),
    }
}

/// Promoted at a time of a leader's own clock, with the number of the transition.
fn numbered(name: &str, at: u64, transition: u64) -> Mark {
    let promoted = Some(Promotion { at: Timestamp(at), transition: Some(transition) });
    Mark { promoted, ..mark(name, None, None) }
}

fn rebuilt(remains: Remains) -> State {
    rebuild(remains, Timestamp(1_000_000)).unwrap()
}

#[test]
fn revisions_without_a_mark_of_promotion_are_never_taken_for_the_first() {
    let remains = Remains { revisions: vec![mark("r1", None, None)], ..Remains::default() };
    let lost = rebuild(remains, Timestamp(0));
    assert_eq!(lost, Err(RebuildError::NoPromotion));
}

#[test]
fn the_newest_mark_names_stable_unless_status_is_ahead_of_it() {
    let revisions =
        vec![mark("r1", Some(10), None), mark("r2", Some(20), None), mark("r3", None, None)];
    for (status, stable) in [(None, "r2"), (Some("r1"), "r2"), (Some("r3"), "r3")] {
        let stable_in_status = status.map(named);
        let state = rebuilt(Remains {
            revisions: revisions.clone(),
            stable: stable_in_status,
            ..Remains::default()
        });
        assert_eq!(state.split().stable.as_str(), stable, "status says {status:?}");
    }
}

#[test]
fn a_mark_made_by_hand_replaces_a_stable_revision_that_is_lost() {
    for (by_hand, stable) in [(20_000, "r2"), (5_000, "r1")] {
        let state = rebuilt(Remains {
            revisions: vec![mark("r2", Some(by_hand), None)],
            stable: Some(named("r1")),
            stable_since: Some(Timestamp(10_000)),
            ..Remains::default()
        });
        assert_eq!(state.split().stable.as_str(), stable, "marked at {by_hand}");
    }
}

#[test]
fn a_revision_that_came_back_after_the_newest_mark_is_stable() {
    let revisions = vec![mark("r1", Some(10_300), None), mark("r2", Some(20_700), None)];
    for (since, stable) in [(None, "r2"), (Some(10_000), "r2"), (Some(20_000), "r1")] {
        let state = rebuilt(Remains {
            revisions: revisions.clone(),
            stable: Some(named("r1")),
            stable_since: since.map(Timestamp),
            ..Remains::default()
        });
        assert_eq!(state.split().stable.as_str(), stable, "status says since {since:?}");
    }
}

#[test]
fn the_number_of_a_mark_counts_and_not_the_clock_of_whoever_led() {
    let revisions = vec![numbered("r1", 50_000, 3), numbered("r2", 20_000, 9)];
    let state = rebuilt(Remains { revisions: revisions.clone(), ..Remains::default() });
    assert_eq!(state.split().stable.as_str(), "r2", "r1 was promoted under a clock that is ahead");
    for (transition, stable) in [(3, "r2"), (8, "r2"), (12, "r1")] {
        let state = rebuilt(Remains {
            revisions: revisions.clone(),
            stable: Some(named("r1")),
            stable_since: Some(Timestamp(10_000)),
            transition,
            ..Remains::default()
        });
        assert_eq!(state.split().stable.as_str(), stable, "status is at transition {transition}");
    }
}

#[test]
fn a_mark_without_a_number_is_compared_by_its_time() {
    for (by_hand, stable) in [(10, "r1"), (60, "r2")] {
        let revisions = vec![numbered("r1", 50, 3), mark("r2", Some(by_hand), None)];
        let state = rebuilt(Remains { revisions, ..Remains::default() });
        assert_eq!(state.split().stable.as_str(), stable, "marked by hand at {by_hand}");
    }
}

#[test]
fn transitions_go_on_above_every_mark() {
    let revisions = vec![numbered("r1", 50, 70)];
    let state = rebuilt(Remains { revisions, transition: 4, ..Remains::default() });
    assert_eq!(state.transition, 71);
}

#[test]
fn what_was_undone_is_not_stable_again_by_its_own_mark() {
    let revisions = vec![mark("r1", Some(10), None), mark("r2", Some(20), Some(30))];
    let state = rebuilt(Remains { revisions, ..Remains::default() });
    assert_eq!(state.split().stable.as_str(), "r1");
    assert!(state.rejection(&named("r2")).is_some());
}

#[test]
fn rejections_survive_from_status_and_from_marks() {
    let state = rebuilt(Remains {
        revisions: vec![mark("r1", Some(10), None), mark("r2", None, Some(30))],
        rejected: vec![RejectedRevision {
            revision: named("r3"),
            reason: "Aborted".to_owned(),
            message: String::new(),
            at: Timestamp(40),
        }],
        ..Remains::default()
    });
    assert!(state.rejection(&named("r2")).is_some());
    assert!(state.rejection(&named("r3")).is_some());
}

#[test]
fn numbers_start_above_the_time_in_seconds_and_above_the_last_transition() {
    let state =
        rebuilt(Remains { stable: Some(named("r1")), transition: 70, ..Remains::default() });
    assert_eq!((state.serving, state.transition), (1_001, 71));
}

#[test]
fn a_standing_command_is_taken_as_executed() {
    let mut world = World::asking_for("r2");
    world.command("promote-full r2 #c1");
    world.state = rebuilt(Remains {
        stable: Some(named("r1")),
        standing: world.seen.command.clone(),
        ..Remains::default()
    });
    world.acknowledge();
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.weight(), 10);
}

#[test]
fn a_rollout_that_ran_starts_again_once_stable_is_in_force_everywhere() {
    let mut world = World::rolling();
    world.obedient = false;
    let remains = Remains { stable: Some(named("r1")), ..Remains::default() };
    world.state = rebuild(remains, world.now).unwrap();
    assert!(matches!(world.state.phase, Phase::Clearing { .. }));
    assert_eq!(world.reason(), "WaitingForGateways");
    world.acknowledge();
    assert_eq!(world.reason(), "RolloutStarted");
}

/// Whoever may write status may write what no operator would.
#[test]
fn texts_of_status_are_as_short_in_the_state_as_its_own() {
    let long = "\u{1}\"".repeat(10_000);
    let at = Timestamp(5);
    let rejected =
        RejectedRevision { revision: named("r2"), reason: long.clone(), message: long.clone(), at };
    let answer = CommandAnswer {
        id: long.clone(),
        verb: long.clone(),
        actor: Some(long.clone()),
        result: CommandResult::Refused,
        message: long,
        at,
    };
    let state = rebuilt(Remains {
        stable: Some(named("r1")),
        rejected: vec![rejected],
        last_command: Some(answer),
        ..Remains::default()
    });
    let bytes = serde_json::to_string(&state).unwrap().len();
    assert!(bytes < 2_500, "{bytes} bytes");
}
