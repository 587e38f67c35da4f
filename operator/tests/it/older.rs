//! What an older operator wrote beside a route is read, and an older operator reads what this one writes.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it set up itself")]

use kanarie_operator::cluster::memory::Memory;
use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::state::State;
use kanarie_rollout::tally::{ServingTally, Tally};
use kanarie_words::timestamp::Timestamp;
use serde_json::Value;

/// A rollout at its second step, whose hold runs.
const STATE: &str = include_str!("../older/state.json");

fn older() -> Memory {
    Memory::decode(STATE.as_bytes()).unwrap()
}

/// A look some minutes after it was written: every gateway obeys, and what was counted is still known.
fn look(state: &State) -> Decision {
    let rolling = state.rolling().unwrap();
    let replica = LiveReplica { name: "gateway-0".parse().unwrap(), serving: Some(state.serving) };
    let canary = Tally { success: 200, http: 1, ..Tally::default() };
    let seen = Observation {
        generation: 0,
        desired: Some(rolling.canary.clone()),
        policy: rolling.policy.clone(),
        mode: Mode::Automatic,
        paused: false,
        rollback_window_seconds: 86_400,
        command: None,
        store: Some(StoreAnswer {
            epoch: "e".parse().unwrap(),
            at: StoreTime(1_793_004_000_500),
            replicas: vec![replica],
            evidence: vec![ServingTally { serving: 3, canary, ..ServingTally::default() }],
        }),
    };
    decide(state, &seen, Timestamp(1_793_004_000_000))
}

#[test]
fn a_rollout_of_an_older_operator_starts_its_step_anew() {
    let before = older().rollout;
    assert_eq!((before.split().weight.percent(), before.serving), (50, 3));
    let restarted = look(&before);
    assert_eq!(restarted.why.reason().as_str(), "StepRestarted");
    assert_eq!((restarted.next.split().weight.percent(), restarted.next.serving), (50, 4));
    assert_eq!(restarted.next.rolling().unwrap().step_index(), Some(1));
    let started = look(&restarted.next);
    assert_eq!(started.why.reason().as_str(), "StepStarted");
    assert!(started.next.rolling().unwrap().step_started_at().is_some());
    let held = look(&started.next);
    assert_eq!(held.why.reason().as_str(), "Holding", "once is enough");
}

#[test]
fn an_older_operator_finds_every_field_that_it_wrote_but_those_that_it_can_miss() {
    let written: Value = serde_json::from_str(STATE).unwrap();
    let again = serde_json::to_value(older()).unwrap();
    let mut gone = Vec::new();
    missing("", &written, &again, &mut gone);
    // It takes no clock for a step that is not acknowledged yet, and no list for an empty one.
    let rolling = "/rollout/phase/rolling";
    assert_eq!(gone, [format!("{rolling}/finished"), format!("{rolling}/stage/step/clock")]);
}

/// Paths of what stands in `written` and not, or otherwise, in `again`.
fn missing(path: &str, written: &Value, again: &Value, gone: &mut Vec<String>) {
    match (written, again) {
        (Value::Object(written), Value::Object(again)) => {
            for (key, value) in written {
                let other = again.get(key).unwrap_or(&Value::Null);
                missing(&format!("{path}/{key}"), value, other, gone);
            }
        }
        _ if written == again => {}
        _ => gone.push(path.to_owned()),
    }
}
