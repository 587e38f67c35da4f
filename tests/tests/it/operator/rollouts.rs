//! A change on its way up, and what stops it.

use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kanarie_fakes::golden;
use kanarie_tests::bench::Bench;
use kanarie_tests::manifest::http_agent;
use kanarie_tests::world::{condition, reason};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::operator::care::{NEW, annotate, command, count, held, rolling, served, step_runs};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_up_by_the_stores_clock_and_ends_as_stable() {
    let bench = Bench::start().await.unwrap();
    let mut serving = rolling(&bench).await;
    for (hold, stable, next) in [(3600, 540, 50), (7200, 60, 100), (3600, 0, 0)] {
        count(&bench, serving, (60, 0), stable);
        held(&bench, hold).await;
        let (route, _) = bench.until_route(|route| route.weight.percent() == next).await.unwrap();
        assert!(route.serving > serving, "a new weight has a new serving");
        serving = route.serving;
        if next > 0 {
            step_runs(&bench).await;
        }
    }
    let done = |channel: &Value| reason(channel, "RolledOut") == Some("Completed");
    let channel = bench.until("care", done).await.unwrap();
    assert_eq!(channel["status"]["stable"]["agent"], "http new.example.com/");
    assert!(channel["status"]["canary"].is_null() && channel["status"]["rollout"].is_null());
    let events = bench.until_told("care", "Completed").await.unwrap();
    let steps = ["FirstRevision", "RolloutStarted", "StepAdvanced", "StepAdvanced", "Completed"];
    let told: Vec<&String> = events.iter().filter(|one| steps.contains(&one.as_str())).collect();
    assert_eq!(told, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_advances_before_the_hold_has_run_or_without_messages() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (4, 0), 36);
    bench.pass(3599);
    let holding = |channel: &Value| {
        channel["status"]["analysis"]["canaryMessages"] == 4
            && reason(channel, "RolledOut") == Some("Holding")
    };
    let channel = bench.until("care", holding).await.unwrap();
    let waiting = channel["status"]["rollout"]["waiting"].as_str().unwrap();
    let expected = "4/32 messages, 0 failed, evidence 0/100; ";
    assert!(waiting.starts_with(expected), "{waiting}");
    let analysis = &channel["status"]["analysis"];
    let said = |field: &str| analysis[field].as_u64().unwrap_or(u64::MAX);
    assert_eq!((said("canaryCustomers"), said("stableCustomers")), (4, 36));
    assert_eq!((said("missingMessages"), said("certifyBasisPoints")), (28, 1000));
    assert_eq!((said("evidence"), said("effectiveLimitBasisPoints")), (0, 100));
    bench.pass(10);
    let starved = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForTraffic");
    bench.until("care", starved).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
}

/// Scenario 33: it is blocked with its reason, and `retry` is the way out.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_33_a_failing_canary_is_taken_back_and_stays_rejected_until_retry() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let state = bench.route().await.unwrap().1.rollout;
    let (good, bad) = (state.split().stable.to_string(), state.split().canary.unwrap().to_string());
    count(&bench, serving, (0, 8), 500);
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    let channel = bench.until("care", back).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("False"));
    assert_eq!(condition(&channel, "Stalled"), Some("True"));
    assert_eq!(channel["status"]["rejected"], json!([bad]));
    assert_eq!(channel["status"]["lastRollback"]["revision"], json!(bad));
    let mut told = String::new();
    for event in bench.transitions("care").await.unwrap() {
        let [kind, reason, note] = [event.type_, event.reason, event.note].map(Option::unwrap);
        let note = note.replace(&good, "care-of-stable").replace(&bad, "care-of-the-canary");
        writeln!(told, "{kind} {reason}\n    {note}").unwrap();
    }
    golden::compare("tests/goldens/events-of-a-rollback.txt", &told);

    // Policy does not bring it back; only `retry` does.
    let mut patient = bench.manifest("care", NEW);
    patient.rollout["analysis"]["maxErrorBasisPoints"] = json!(900);
    bench.apply(&patient).await.unwrap();
    let generation = channel["metadata"]["generation"].as_i64().unwrap();
    let seen =
        |channel: &Value| channel["status"]["observedGeneration"].as_i64() > Some(generation);
    let channel = bench.until("care", seen).await.unwrap();
    assert_eq!(reason(&channel, "RolledOut"), Some("RolledBack"));
    annotate(&bench, command("retry #1")).await;
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    assert!(route.serving > serving);
    let answered = |channel: &Value| channel["status"]["lastCommand"]["id"] == "retry #1";
    let channel = bench.until("care", answered).await.unwrap();
    assert_eq!(channel["status"]["lastCommand"]["result"], "Executed");
}

/// Scenario 52: a paused rollout keeps its weight, and is taken back when it fails.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_52_a_paused_rollout_holds_its_weight_and_still_rolls_back() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let mut paused = bench.manifest("care", NEW);
    paused.rollout["state"] = json!("Paused");
    bench.apply(&paused).await.unwrap();
    count(&bench, serving, (60, 0), 540);
    bench.pass(10_000);
    let is_paused = |channel: &Value| {
        reason(channel, "RolledOut") == Some("Paused")
            && channel["status"]["analysis"]["canaryMessages"] == 60
    };
    bench.until_counted("care", is_paused).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
    count(&bench, serving, (60, 40), 500);
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_abort_and_promote_full_are_obeyed_once() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    annotate(&bench, command("abort")).await;
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let aborted = |channel: &Value| reason(channel, "RolledOut") == Some("Aborted");
    bench.until("care", aborted).await.unwrap();
    annotate(&bench, command("retry #2")).await;
    let (_, memory) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    let order = format!("promote-full {}", memory.rollout.split().canary.unwrap());
    annotate(&bench, command(&order)).await;
    let promoted = |channel: &Value| reason(channel, "RolledOut") == Some("PromotedInFull");
    let channel = bench.until("care", promoted).await.unwrap();
    assert_eq!(channel["status"]["lastCommand"]["id"], order);
    assert_eq!(channel["status"]["lastCommand"]["actor"], "anna");
    assert_eq!(channel["status"]["stable"]["agent"], "http new.example.com/");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_manual_mode_the_weight_is_obeyed_as_written() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    for weight in [30, 5, 70] {
        let mut manual = bench.manifest("care", NEW);
        manual.rollout["mode"] = json!("Manual");
        manual.rollout["weight"] = json!(weight);
        bench.apply(&manual).await.unwrap();
        bench.until_route(|route| route.weight.percent() == weight).await.unwrap();
    }
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("AwaitingPromotion");
    bench.until("care", waits).await.unwrap();
}

/// Scenario 31: r3 in place of r2: off, then on.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_31_a_newer_revision_goes_through_weight_0_and_starts_at_the_first_step() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let mut newer = bench.manifest("care", NEW);
    newer.agent = http_agent("https://newer.example.com/");
    bench.apply(&newer).await.unwrap();
    let is_newer = |channel: &Value| {
        channel["status"]["canary"]["agent"] == "http newer.example.com/"
            && channel["status"]["rollout"]["weight"] == 10
    };
    bench.until("care", is_newer).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.serving, serving + 2, "off, then on");
}

/// Scenario 36: of ten edits in a second the last one starts, once.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_36_ten_edits_in_a_second_start_one_rollout() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    for number in 1..=10 {
        let agent = format!("https://edit-{number}.example.com/");
        bench.apply(&bench.manifest("care", &agent)).await.unwrap();
    }
    let rolls = |channel: &Value| {
        channel["status"]["canary"]["agent"] == "http edit-10.example.com/"
            && channel["status"]["canary"]["weight"] != 0
    };
    let channel = bench.until("care", rolls).await.unwrap();
    let starts = channel["status"]["history"].as_array().unwrap().iter();
    let reasons: Vec<_> = starts.map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["RolloutStarted", "FirstRevision"]);
    let api: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    let made = api.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(made, 2, "one for stable and one for the last edit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_answered_in_status_and_by_an_event() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    annotate(&bench, json!({"kanarie.dev/command": "abort", "kanarie.dev/command-id": "1"})).await;
    for (text, sentence) in [
        (None, "in one annotation"),
        (Some("dance"), "there is no such command"),
        (Some("promote-full care-0"), "names care-0"),
        (Some("promote-full"), "needs the revision"),
    ] {
        if let Some(text) = text {
            annotate(&bench, json!({"kanarie.dev/command": text, "kanarie.dev/command-id": null}))
                .await;
        }
        let answered = |channel: &Value| {
            let message = channel["status"]["lastCommand"]["message"].as_str();
            message.is_some_and(|message| message.contains(sentence))
        };
        let channel = bench.until("care", answered).await.unwrap();
        assert_eq!(channel["status"]["lastCommand"]["result"], "Refused");
    }
    while !bench.events("care").await.unwrap().iter().any(|told| told == "CommandRefused") {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10, "nothing was executed");
}
