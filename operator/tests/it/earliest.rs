//! What the earliest operators wrote beside a route, each kind of state, is read, and what becomes of it.
//!
//! Their rollouts kept sums by weight, which no judge reads any more.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it set up itself")]

use kanarie_operator::cluster::memory::Memory;
use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;
use serde_json::json;

/// A minute after the last of them was written.
const NOW: u64 = 1_795_679_050_000;

/// At the second step, whose counts the store had lost in between.
const STEP: &str = include_str!("../older/earliest/step.json");
const BAKE: &str = include_str!("../older/earliest/bake.json");
/// After that bake.
const STABLE: &str = include_str!("../older/earliest/stable.json");
/// One revision was rolled back, the next one aborted.
const REJECTED: &str = include_str!("../older/earliest/rejected.json");
/// A failed verdict, with `onFailure: Pause`.
const FAILED: &str = include_str!("../older/earliest/failed.json");
/// At the weight of a person.
const MANUAL: &str = include_str!("../older/earliest/manual.json");
/// At the first step, paused before any gateway obeyed it.
const PAUSED: &str = include_str!("../older/earliest/paused.json");

fn read(text: &str) -> State {
    let memory = Memory::decode(text.as_bytes()).unwrap();
    let again = serde_json::to_vec(&memory).unwrap();
    assert_eq!(Memory::decode(&again).unwrap(), memory, "what is written for it is read too");
    memory.rollout
}

/// A look of this operator that every gateway answers, none of them with counts; the spec asks for
/// `desired`.
fn look(state: &State, desired: &RevisionName) -> Observation {
    let replica = LiveReplica { name: "gateway-0".parse().unwrap(), serving: Some(state.serving) };
    Observation {
        generation: 0,
        desired: Some(desired.clone()),
        policy: policy(),
        mode: Mode::Automatic,
        paused: false,
        rollback_window_seconds: 86_400,
        command: None,
        store: Some(StoreAnswer {
            epoch: "third".parse().unwrap(),
            at: StoreTime(NOW),
            replicas: vec![replica],
            evidence: Vec::new(),
        }),
    }
}

fn policy() -> Policy {
    serde_json::from_value(json!({
        "steps": [{"weight": 20, "holdSeconds": 60}, {"weight": 100, "holdSeconds": 60}],
        "maxErrorBasisPoints": 100, "minMessages": 5, "timeoutSeconds": 20, "intervalSeconds": 5,
        "onFailure": "Rollback", "retryOnStable": true, "progressDeadlineSeconds": 600,
    }))
    .unwrap()
}

fn decided(state: &State, seen: &Observation) -> Decision {
    decide(state, seen, Timestamp(NOW))
}

/// Looks until nothing changes any more; gives the state and the words of the looks.
fn looks(state: State, seen_as: impl Fn(&State) -> Observation) -> (State, Vec<&'static str>) {
    let (mut state, mut words) = (state, Vec::new());
    loop {
        let decision = decided(&state, &seen_as(&state));
        words.push(decision.why.reason().as_str());
        if decision.next == state {
            return (state, words);
        }
        assert!(words.len() < 10, "{words:?}");
        state = decision.next;
    }
}

/// The same when the spec asks for the canary that rolls already.
fn goes_on(text: &str) -> (State, Vec<&'static str>) {
    let before = read(text);
    let canary = before.split().canary.unwrap().clone();
    looks(before, |state| look(state, &canary))
}

#[test]
fn a_step_and_a_bake_that_run_start_anew_once_at_their_weight_and_hold_from_zero() {
    for (text, index, weight, serving) in [(STEP, 1, 50, 3), (BAKE, 2, 100, 4)] {
        let before = read(text);
        assert_eq!((before.split().weight.percent(), before.serving), (weight, serving));
        let (after, words) = goes_on(text);
        assert_eq!(words, ["StepRestarted", "StepStarted", "Holding"]);
        assert_eq!((after.split().weight.percent(), after.serving), (weight, serving + 1));
        let rolling = after.rolling().unwrap();
        assert_eq!(rolling.step_index(), Some(index));
        assert_eq!(rolling.step_started_at(), Some(StoreTime(NOW)));
        assert_eq!(rolling.policy, before.rolling().unwrap().policy, "the one it began with");
    }
}

#[test]
fn a_paused_step_starts_anew_and_stays_paused() {
    let before = read(PAUSED);
    let canary = before.split().canary.unwrap().clone();
    let paused = |state: &State| Observation { paused: true, ..look(state, &canary) };
    let (after, words) = looks(before, paused);
    assert_eq!(words, ["StepRestarted", "Paused", "Paused"]);
    assert_eq!((after.split().weight.percent(), after.serving), (10, 3));
    let (_, words) = looks(after, |state| look(state, &canary));
    assert_eq!(words, ["Resumed", "Holding"]);
}

#[test]
fn the_weight_of_a_person_stays_and_counts_anew() {
    let before = read(MANUAL);
    let canary = before.split().canary.unwrap().clone();
    let weight = before.split().weight;
    let led = |state: &State| Observation { mode: Mode::Manual(weight), ..look(state, &canary) };
    let (after, words) = looks(before, led);
    assert_eq!(words, ["StepRestarted", "AwaitingPromotion"]);
    assert_eq!((after.split().weight.percent(), after.serving), (30, 3));
}

#[test]
fn a_failed_one_stays_where_it_is_until_retry() {
    let (after, words) = goes_on(FAILED);
    assert_eq!(words, ["PausedOnFailure"]);
    assert_eq!((after.split().weight.percent(), after.serving), (10, 2));
    let canary = after.split().canary.unwrap().clone();
    let command = Some(Command::read("retry", None));
    let told = |state: &State| Observation { command: command.clone(), ..look(state, &canary) };
    let (after, words) = looks(after, told);
    assert_eq!(words, ["Retried", "RolloutStarted", "StepStarted", "Holding"]);
    assert_eq!(after.rolling().unwrap().policy, policy(), "the one of now");
}

#[test]
fn a_promoted_one_serves_on_without_a_former_one_and_the_next_one_rolls() {
    let before = read(STABLE);
    let stable = before.split().stable.clone();
    let (after, words) = looks(before.clone(), |state| look(state, &stable));
    assert_eq!((&after, words), (&before, vec!["Completed"]));
    let command = Some(Command::read(&format!("undo {stable}"), None));
    let undone = decided(&before, &Observation { command, ..look(&before, &stable) });
    assert_eq!(undone.next.split(), before.split(), "the one before it is not known");
    let answer = undone.next.last_command.unwrap();
    assert_eq!(answer.result.as_str(), "Refused", "{}", answer.message);
    let next = "care-3333333333".parse().unwrap();
    let (_, words) = looks(before, |state| look(state, &next));
    assert_eq!(words, ["RolloutStarted", "StepStarted", "Holding"]);
}

#[test]
fn rejected_ones_stay_rejected_with_their_reasons_until_retry() {
    let before = read(REJECTED);
    let reasons: Vec<_> = before.rejected.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["RolledBack", "Aborted"]);
    for (rejected, word) in before.rejected.iter().zip(["RolledBack", "Aborted"]) {
        let (after, words) = looks(before.clone(), |state| look(state, &rejected.revision));
        assert_eq!((&after, words), (&before, vec![word]));
        let command = Some(Command::read("retry", None));
        let told = |state: &State| Observation {
            command: command.clone(),
            ..look(state, &rejected.revision)
        };
        let (_, words) = looks(before.clone(), told);
        assert_eq!(words, ["Retried", "RolloutStarted", "StepStarted", "Holding"]);
    }
    let same = Some(Command::of_former_pair("abort", "one", None));
    let seen = look(&before, before.split().stable);
    let again = decided(&before, &Observation { command: same, ..seen });
    assert_eq!(again.next, before, "a command that was answered is not obeyed again");
}
