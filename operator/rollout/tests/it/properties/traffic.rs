//! Who gets traffic, how much, and what must come first.

use kanarie_rollout::analysis::Finding;
use kanarie_rollout::moment::Moment;
use kanarie_rollout::observation::{Mode, Observation};
use kanarie_rollout::state::{CommandResult, Phase, Stage, State};
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::properties::history::{Look, events, play, policies, revision};

/// The present moment on both clocks.
fn moment(seen: &Observation, operator: Timestamp) -> Moment {
    Moment { store: seen.store.as_ref().unwrap().at, operator }
}

/// Whether this very decision has executed a command with this verb.
fn is_executed_now(before: &State, next: &State, verb: &str) -> bool {
    let last = next.last_command.as_ref().filter(|_| next.last_command != before.last_command);
    last.is_some_and(|last| last.verb == verb && last.result == CommandResult::Executed)
}

proptest! {
    #[test]
    fn numbers_never_go_back_and_serving_grows_only_with_weight_or_revisions(
        policy in policies(), events in events()
    ) {
        for Look { before, decision, .. } in play(&policy, &events) {
            let anew = matches!(decision.why.reason().as_str(), "EvidenceLost" | "StepRestarted");
            let changed = before.split() != decision.next.split() || anew;
            prop_assert_eq!(decision.next.serving, before.serving + u64::from(changed));
            prop_assert!(decision.next.transition >= before.transition);
            prop_assert!(!changed || decision.next.transition > before.transition);
        }
    }

    #[test]
    fn a_failed_verdict_means_weight_0_or_the_first_step_in_that_very_decision(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let failed = decision.verdict.as_ref().is_some_and(|it| it.finding == Finding::Fail);
            let running = before.rolling();
            let rollback = running.is_some_and(|it| it.policy.on_failure == OnFailure::Rollback);
            if failed && rollback && seen.mode == Mode::Automatic {
                let running = running.unwrap();
                prop_assert_eq!(decision.next.split().stable, before.split().stable);
                if decision.why.reason().as_str() == "SteppedBack" {
                    let next = decision.next.rolling().unwrap();
                    prop_assert!(running.weight().percent() >= 75 && !running.stepped_back);
                    prop_assert!(next.stepped_back && next.step_index() == Some(0));
                    prop_assert!(next.weight() < Weight::FULL);
                } else {
                    prop_assert_eq!(decision.next.split().weight, Weight::ZERO);
                    let left = running.weight().percent() >= 75 && seen.desired.as_ref() != Some(&running.canary);
                    prop_assert!(left || decision.next.rejection(&running.canary).is_some());
                }
            }
        }
    }

    #[test]
    fn a_rejected_revision_gets_no_traffic_until_retry(policy in policies(), events in events()) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let next = decision.next;
            let split = next.split();
            for one in split.canary.into_iter().chain([split.stable]) {
                prop_assert!(next.rejection(one).is_none(), "{} has traffic", one);
            }
            let forgotten =
                before.rejected.iter().any(|it| next.rejection(&it.revision).is_none());
            if forgotten {
                let answer = next.last_command.as_ref().unwrap();
                prop_assert_eq!(&answer.verb, "retry");
                prop_assert_eq!(answer.result, CommandResult::Executed);
                prop_assert_eq!(&answer.id, &seen.command.as_ref().unwrap().id);
                prop_assert!(before.last_command.as_ref() != Some(answer));
            }
        }
    }

    /// Scenario 03: whatever happens, a step is left for the next one only, and not before its hold has run.
    #[test]
    fn scenario_03_no_step_is_skipped_upward_or_left_before_its_hold_has_run(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, now, decision, in_force_since } in play(&policy, &events) {
            let (Some(from), Some(to)) = (before.rolling(), decision.next.rolling()) else {
                continue;
            };
            prop_assert_eq!(&from.canary, &to.canary);
            let (Some(left), Some(reached)) = (from.step_index(), to.step_index()) else {
                continue;
            };
            prop_assert!(reached <= left + 1);
            if reached > left && is_executed_now(&before, &decision.next, "promote") {
                prop_assert!(!seen.paused);
            } else if reached > left {
                let held = moment(&seen, now).millis_since(in_force_since.unwrap());
                let hold = from.policy.steps.get(left).unwrap().hold_seconds;
                prop_assert!(held >= u64::from(hold) * 1000);
                prop_assert!(seen.store.unwrap().in_force(before.serving));
                prop_assert!(!seen.paused);
                prop_assert_eq!(decision.verdict.unwrap().finding, Finding::Pass);
            }
        }
    }

    #[test]
    fn promotion_follows_a_passed_bake_or_a_persons_word(
        policy in policies(), events in events()
    ) {
        let mut was_stable = Vec::new();
        for Look { before, seen, now, decision, in_force_since } in play(&policy, &events) {
            let (old, new) = (before.split(), decision.next.split());
            if old.stable == new.stable {
                continue;
            }
            was_stable.push(old.stable.clone());
            let manual = seen.mode == Mode::Manual(Weight::FULL);
            let said = decision.why.reason().as_str();
            if manual || said == "PromotedInFull" {
                continue;
            }
            if let "Undone" | "Reverted" = said {
                prop_assert!(was_stable.contains(new.stable));
                continue;
            }
            let from = before.rolling().unwrap();
            let bake = from.policy.steps.count() - 1;
            prop_assert_eq!(from.step_index(), Some(bake));
            prop_assert_eq!(decision.verdict.unwrap().finding, Finding::Pass);
            let held = moment(&seen, now).millis_since(in_force_since.unwrap());
            let hold = from.policy.steps.get(bake).unwrap().hold_seconds;
            prop_assert!(held >= u64::from(hold) * 1000);
            prop_assert_eq!(new.stable, &from.canary);
        }
    }

    /// Scenario 30: without evidence nothing goes forward, whatever else happens.
    #[test]
    fn scenario_30_without_an_answer_of_the_store_the_weight_never_rises_by_itself(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let started = before.rolling().is_none();
            let ordered = decision.why.reason().as_str() == "PromotedInFull"
                || is_executed_now(&before, &decision.next, "promote");
            if seen.store.is_none() && seen.mode == Mode::Automatic && !started && !ordered {
                let below_first = matches!(
                    before.rolling().unwrap().stage,
                    Stage::Manual { .. }
                );
                let (old, new) = (before.split(), decision.next.split());
                prop_assert!(new.weight <= old.weight || below_first);
                prop_assert_eq!(new.stable, old.stable);
            }
        }
    }

    /// Scenario 31: whatever happens, there are never two canaries.
    #[test]
    fn scenario_31_a_newer_revision_starts_only_after_weight_0_is_in_force(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            if matches!(before.phase, Phase::Clearing { .. })
                && before.split() != decision.next.split()
            {
                prop_assert!(seen.store.unwrap().in_force(before.serving));
            }
            if let (Some(old), Some(new)) =
                (before.split().canary, decision.next.split().canary)
            {
                prop_assert_eq!(old, new);
            }
        }
    }

    #[test]
    fn traffic_goes_only_to_revisions_that_were_asked_for(
        policy in policies(), events in events()
    ) {
        let mut known = vec![revision(1)];
        for Look { seen, decision, .. } in play(&policy, &events) {
            known.extend(seen.desired);
            let split = decision.next.split();
            for one in split.canary.into_iter().chain([split.stable]) {
                prop_assert!(known.contains(one));
            }
        }
    }
}
