//! What status and Events say, and when.

use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::operator::care::{
    NEW, OLD, annotate, command, count, revision, rolling, said, served, step_runs, told, with_port,
};

/// Every condition without its text, and the version of the object.
async fn written(bench: &Bench) -> (Vec<String>, String) {
    let channel = bench.until("care", |_| true).await.unwrap();
    let all = channel["status"]["conditions"].as_array().unwrap();
    let told = all.iter().map(|one| format!("{}={}/{}", one["type"], one["status"], one["reason"]));
    (told.collect(), channel["metadata"]["resourceVersion"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_again_writes_nothing_and_tells_nothing() {
    let mut bench = Bench::start().await.unwrap();
    served(&bench).await;
    let landed = |channel: &Value| {
        condition(channel, "RolledOut") == Some("True")
            && condition(channel, "Routed") == Some("True")
    };
    bench.until("care", landed).await.unwrap();
    bench.stop_operators().await.unwrap();
    let (before, events) = (written(&bench).await, bench.events("care").await.unwrap());
    // No gateway answers while the channels are looked at for the first time.
    bench.script(|script| script.silent = true);
    bench.start_operator().await.unwrap();
    let mut other = bench.manifest("other", OLD);
    other.account.sender = "whatsapp:+15550990011".to_owned();
    bench.apply(&other).await.unwrap();
    let routes =
        || async { bench.routes().list(&ListParams::default()).await.unwrap().items.len() };
    let with_other = routes().await + 1;
    while routes().await < with_other {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(written(&bench).await, before, "not asked yet is no news");
    bench.script(|script| script.silent = false);
    let ready = |channel: &Value| condition(channel, "Ready") == Some("True");
    bench.until("other", ready).await.unwrap();
    assert_eq!(written(&bench).await, before);
    assert_eq!(bench.events("care").await.unwrap(), events);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_revision_has_landed_when_a_gateway_obeys_it() {
    let bench = Bench::start().await.unwrap();
    bench.script(|script| script.obedient = false);
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForGateways");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("Unknown"));
    assert_eq!(condition(&channel, "Reconciling"), Some("True"));
    bench.script(|script| script.obedient = true);
    let landed = |channel: &Value| {
        condition(channel, "RolledOut") == Some("True")
            && condition(channel, "Reconciling") == Some("False")
    };
    let channel = bench.until("care", landed).await.unwrap();
    assert_eq!(reason(&channel, "RolledOut"), Some("FirstRevision"));
    assert_eq!(condition(&channel, "Ready"), Some("True"));
}

/// Scenario 58: in mode Manual a canary that fails is told, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_58_a_canary_that_fails_in_manual_mode_stays_and_is_told_once() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let mut manual = bench.manifest("care", NEW);
    manual.rollout["mode"] = json!("Manual");
    manual.rollout["weight"] = json!(30);
    bench.apply(&manual).await.unwrap();
    let (route, _) = bench.until_route(|route| route.weight.percent() == 30).await.unwrap();
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("AwaitingPromotion");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(condition(&channel, "Reconciling"), Some("True"), "it serves 30 % only");
    count(&bench, route.serving, (0, 20), 50);
    let fails = |channel: &Value| reason(channel, "RolledOut") == Some("CanaryFailing");
    bench.until("care", fails).await.unwrap();
    count(&bench, route.serving, (0, 40), 100);
    let more = |channel: &Value| channel["status"]["analysis"]["canaryFailures"] == 40;
    bench.until_counted("care", more).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 30);
    let events = bench.until_told("care", "CanaryFailing").await.unwrap();
    assert_eq!(events.iter().filter(|told| *told == "CanaryFailing").count(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_change_is_no_landed_one() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let mut paused = bench.manifest("care", NEW);
    paused.rollout["state"] = json!("Paused");
    bench.apply(&paused).await.unwrap();
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("Paused");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(condition(&channel, "Reconciling"), Some("True"));
    assert_eq!(condition(&channel, "Ready"), Some("True"));
}

/// Text of a condition.
fn message<'a>(channel: &'a Value, kind: &str) -> &'a str {
    let all = channel["status"]["conditions"].as_array().unwrap();
    all.iter().find(|one| one["type"] == kind).unwrap()["message"].as_str().unwrap()
}

/// Waits until RolledOut has this reason; gives the channel.
async fn until_rolled_out(bench: &Bench, wanted: &str) -> Value {
    bench.until("care", |channel| reason(channel, "RolledOut") == Some(wanted)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_over_the_limit_is_told_once_by_an_event_and_stands_in_the_column() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (98, 2), 900);
    bench.pass(3_700);
    let channel = until_rolled_out(&bench, "ErrorRateTooHigh").await;
    let waiting = channel["status"]["rollout"]["waiting"].as_str().unwrap();
    assert!(waiting.starts_with("100/") && waiting.contains(" messages, 2 failed, "), "{waiting}");
    count(&bench, serving, (99, 2), 910);
    let more = |channel: &Value| channel["status"]["analysis"]["canaryMessages"] == 101;
    bench.until_counted("care", more).await.unwrap();
    assert_eq!(told(&bench, "ErrorRateTooHigh").await, 1);
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_both_tracks_is_told_once_by_an_event_with_its_numbers() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let both = |canary: u64, stable: u64| {
        bench.script(|script| {
            let counts = vec![
                (Track::Canary, Class::Success, 70),
                (Track::Canary, Class::Http, canary),
                (Track::Stable, Class::Success, 630),
                (Track::Stable, Class::Http, stable),
            ];
            script.counts.insert(serving, counts);
        });
    };
    both(30, 270);
    let channel = until_rolled_out(&bench, "SharedDegradation").await;
    assert!(message(&channel, "RolledOut").contains("270 failed"), "{}", channel["status"]);
    both(31, 280);
    let more = |channel: &Value| channel["status"]["analysis"]["canaryFailures"] == 31;
    bench.until_counted("care", more).await.unwrap();
    assert_eq!(told(&bench, "SharedDegradation").await, 1);
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_overdue_rollout_waits_for_stands_in_the_column() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (4, 0), 36);
    bench.pass(90_000);
    until_rolled_out(&bench, "DeadlineExceeded").await;
    let waits = |channel: &Value| {
        channel["status"]["rollout"]["waiting"] == "WaitingForTraffic, 4/32 messages"
    };
    let channel = bench.until_counted("care", waits).await.unwrap();
    assert!(message(&channel, "RolledOut").contains("waiting for traffic"), "{channel:#}");
    assert_eq!(told(&bench, "DeadlineExceeded").await, 1);
}

/// Scenario 08: while a rollout keeps the policy that it began with, status says that the spec has another.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_08_a_policy_that_was_edited_meanwhile_is_told() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    let mut edited = bench.manifest("care", NEW);
    edited.rollout["analysis"]["maxErrorBasisPoints"] = json!(900);
    bench.apply(&edited).await.unwrap();
    let keeps = |channel: &Value| {
        message(channel, "RolledOut").ends_with("this rollout keeps those that it began with")
    };
    bench.until("care", keeps).await.unwrap();
    let policy = bench.route().await.unwrap().1.rollout.rolling().unwrap().policy.clone();
    assert_eq!(policy.max_error_basis_points, 100);
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    bench.until("care", |channel| !keeps(channel)).await.unwrap();
}

/// Scenario 54: whatever takes a revision back is one Event and one count, with its cause.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_54_each_cause_of_going_back_is_one_event_and_one_count() {
    let mut bench = Bench::without_operator().await.unwrap();
    let config = with_port(bench.config());
    let client = bench.operator_client().await.unwrap();
    bench.start_with(config.clone(), client);
    let serving = rolling(&bench).await;
    count(&bench, serving, (0, 8), 500);
    let channel = until_rolled_out(&bench, "RolledBack").await;
    let canary = channel["status"]["rejected"][0].as_str().unwrap().to_owned();
    let again = async |token: u8| {
        annotate(&bench, command(&format!("retry #{token}"))).await;
        bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
        step_runs(&bench).await;
    };
    again(1).await;
    annotate(&bench, command("abort")).await;
    until_rolled_out(&bench, "Aborted").await;
    again(2).await;
    annotate(&bench, command(&format!("promote-full {canary}"))).await;
    let promoted = until_rolled_out(&bench, "PromotedInFull").await;
    assert_eq!(revision(&promoted, "stable"), canary);
    annotate(&bench, command(&format!("undo {canary}"))).await;
    until_rolled_out(&bench, "Undone").await;
    let metrics = said(&config, "metrics").await;
    for (cause, says) in [
        ("RolledBack", "8 failed (8 http); "),
        ("Aborted", "aborted by command"),
        ("Undone", "undone by command"),
    ] {
        assert_eq!(told(&bench, cause).await, 1, "{cause}");
        let all = bench.transitions("care").await.unwrap();
        let of = all.into_iter().find(|one| one.reason.as_deref() == Some(cause)).unwrap();
        let note = of.note.unwrap_or_default();
        assert!(note.starts_with(&canary) && note.contains(says), "{cause}: {note}");
        let counted = format!("kanarie_operator_transitions_total{{reason=\"{cause}\"}} 1");
        assert!(metrics.lines().any(|line| line == counted), "{cause}:\n{metrics}");
    }
}
