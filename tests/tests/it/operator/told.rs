//! What status and Events say, and when.

use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::operator::care::{NEW, OLD, count, served};

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
    bench.until("care", more).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 30);
    let events = bench.events("care").await.unwrap();
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
