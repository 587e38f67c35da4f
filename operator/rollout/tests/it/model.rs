//! A model check of rollouts under everything that goes wrong: two operators that read late, write
//! late, lose writes and crash; replicas that obey late; counts, edits and commands at any moment;
//! specs that are seen late; the loss of the route with its rebuild, and the return of an older one. Every order of these within the bounds is tried.
//!
//! The real `decide` and the real `rebuild` run inside. Invariants are checked on every
//! write that takes effect, against what really happened and not against what the state believes.
//! Seven broken operators show that the invariants can fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod rollouts;
mod world;

use stateright::{Checker as _, Model as _};

use crate::model::rollouts::{Operator, Rollouts};

/// Little of everything; the tests below add what they are about.
fn calm(operator: Operator) -> Rollouts {
    Rollouts {
        operator,
        replicas: 1,
        edits: 0,
        ticks: 3,
        crashes: 0,
        losses: 0,
        restores: 0,
        lags: false,
        pauses: 0,
        command: None,
    }
}

fn holds(model: Rollouts) {
    let whole = model.ticks >= 3;
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_no_discovery("nothing is broken");
    checker.assert_any_discovery("a canary is rolled back");
    if whole {
        checker.assert_any_discovery("a canary is promoted");
    }
}

fn breaks(model: Rollouts) -> &'static str {
    let checker = model.checker().threads(2).spawn_bfs().join();
    let path = checker.assert_any_discovery("nothing is broken");
    let actions = path.clone().into_actions();
    println!("{} states; {} actions: {actions:?}", checker.unique_state_count(), actions.len());
    path.into_states().pop().unwrap().broken.unwrap()
}

/// Scenario 39: killed before or after any write, an operator goes on without skipping or shortening a step.
#[test]
fn scenario_39_it_holds_under_late_lost_and_competing_writes() {
    holds(Rollouts { crashes: 1, replicas: 2, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_the_spec_changes_at_any_moment() {
    holds(Rollouts { edits: 1, crashes: 1, ..calm(Operator::Right) });
    holds(Rollouts { edits: 2, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_the_route_is_lost() {
    holds(Rollouts { losses: 1, ..calm(Operator::Right) });
    holds(Rollouts { losses: 1, edits: 1, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_an_operator_sees_the_spec_late() {
    holds(Rollouts { edits: 1, lags: true, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_an_older_route_comes_back() {
    holds(Rollouts { restores: 1, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn an_older_spec_that_decides_breaks_it() {
    let model = Rollouts { edits: 1, lags: true, ticks: 1, ..calm(Operator::BelievesAnOlderSpec) };
    assert_eq!(breaks(model), "an older spec decided something");
}

#[test]
fn an_older_route_that_is_believed_breaks_it() {
    breaks(Rollouts { restores: 1, ticks: 1, ..calm(Operator::BelievesARestoredRoute) });
}

#[test]
fn it_holds_when_paused_and_resumed() {
    holds(Rollouts { pauses: 2, ..calm(Operator::Right) });
}

/// Scenario 37: in every order of commands, looks and writes the invariants hold.
#[test]
fn scenario_37_it_holds_under_every_command() {
    for verb in ["retry", "abort", "promote r2", "promote-full r2", "undo r2"] {
        holds(Rollouts { command: Some(verb), ..calm(Operator::Right) });
    }
}

#[test]
fn a_standing_command_is_not_executed_again_after_a_loss() {
    holds(Rollouts { command: Some("retry"), losses: 1, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn an_unconditional_write_breaks_it() {
    breaks(calm(Operator::WritesUnconditionally));
}

#[test]
fn a_clock_that_starts_before_the_acknowledgement_breaks_it() {
    let fault = breaks(calm(Operator::StartsClockBeforeAcknowledgement));
    assert!(fault.contains("cut short") || fault.contains("without a passed bake"), "{fault}");
}

#[test]
fn a_rebuild_that_forgets_rejections_breaks_it() {
    let model = Rollouts { losses: 1, ..calm(Operator::ForgetsRejectionsInRebuild) };
    assert_eq!(breaks(model), "a rejected revision got traffic");
}

#[test]
fn an_operator_that_forgets_that_it_stepped_back_breaks_it() {
    let model = Rollouts { ticks: 5, ..calm(Operator::ForgetsThatItSteppedBack) };
    assert_eq!(breaks(model), "a rollout was taken back to its first step twice");
}

#[test]
fn a_cut_at_what_was_counted_breaks_it() {
    let model = Rollouts { ..calm(Operator::CutsAtItsTrigger) };
    assert_eq!(breaks(model), "a start was chosen by what was counted");
}
