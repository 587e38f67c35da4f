//! The operator alone, on a real API server and on a clock that the tests move.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::route::{CONTROL_SECRET, CONTROL_TOKEN_KEY};
use kanarie_operator::lease::Candidate;
use kanarie_operator::startup::CRD_NAME;
use kanarie_tests::bench::Bench;
use kanarie_tests::manifest::http_agent;
use kanarie_tests::world::{condition, reason};
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

const OLD: &str = "https://old.example.com/";
const NEW: &str = "https://new.example.com/";

/// A channel that is served, with nothing under way.
async fn served(bench: &Bench) -> Value {
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    bench.until("care", |channel| condition(channel, "Ready") == Some("True")).await.unwrap()
}

/// The channel asks for another agent; gives the serving of its first step.
async fn rolling(bench: &Bench) -> u64 {
    served(bench).await;
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    step_runs(bench).await;
    route.serving
}

/// Waits until the clock of the present step runs.
async fn step_runs(bench: &Bench) {
    let started = |channel: &Value| channel["status"]["rollout"]["stepStartedAt"].is_string();
    bench.until("care", started).await.unwrap();
}

/// Counts for both tracks of a serving.
fn count(bench: &Bench, serving: u64, canary: (u64, u64), stable: u64) {
    let (good, bad) = canary;
    bench.script(|script| {
        let counts = vec![
            (Track::Canary, Class::Success, good),
            (Track::Canary, Class::Http, bad),
            (Track::Stable, Class::Success, stable),
        ];
        script.counts.insert(serving, counts);
    });
}

async fn annotate(bench: &Bench, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    bench.channels().patch("care", &PatchParams::default(), &patch).await.unwrap();
}

fn command(verb: &str, id: &str) -> Value {
    json!({"kanarie.dev/command": verb, "kanarie.dev/command-id": id})
}

fn revision(channel: &Value, track: &str) -> String {
    channel["status"][track]["revision"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_channel_serves_at_once_and_says_so() {
    let bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    let (route, memory) = bench.route().await.unwrap();
    assert_eq!((route.serving, route.weight.percent(), route.canary.is_none()), (1, 0, true));
    assert_eq!(reason(&channel, "Routed"), Some("InForce"));
    assert_eq!(reason(&channel, "RolledOut"), Some("FirstRevision"));
    assert_eq!(condition(&channel, "RolledOut"), Some("True"));
    assert_eq!(condition(&channel, "Stalled"), Some("False"));
    assert_eq!(channel["status"]["observedGeneration"], channel["metadata"]["generation"]);
    assert_eq!(revision(&channel, "stable"), memory.rollout.split().stable.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_token_is_made_once_with_32_random_bytes() {
    let mut bench = Bench::start().await.unwrap();
    served(&bench).await;
    let secret = bench.routes().get(CONTROL_SECRET).await.unwrap();
    let first = secret.data.unwrap()[CONTROL_TOKEN_KEY].0.clone();
    assert_eq!(first.len(), 43, "32 bytes in base64 without padding");
    bench.stop_operators().await.unwrap();
    bench.start_operator().await.unwrap();
    bench.pass(1);
    assert!(
        bench.until("care", |channel| condition(channel, "Routed") == Some("True")).await.is_ok()
    );
    let secret = bench.routes().get(CONTROL_SECRET).await.unwrap();
    assert_eq!(secret.data.unwrap()[CONTROL_TOKEN_KEY].0, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_up_by_the_stores_clock_and_ends_as_stable() {
    let bench = Bench::start().await.unwrap();
    let mut serving = rolling(&bench).await;
    for (hold, next) in [(3600, 50), (7200, 100), (3600, 0)] {
        count(&bench, serving, (60, 0), 500);
        bench.pass(hold);
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
    let events = bench.events("care").await.unwrap();
    let steps = ["FirstRevision", "RolloutStarted", "StepAdvanced", "StepAdvanced", "Completed"];
    let told: Vec<&String> = events.iter().filter(|one| steps.contains(&one.as_str())).collect();
    assert_eq!(told, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_advances_before_the_hold_has_run_or_without_messages() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (60, 0), 500);
    bench.pass(3599);
    let holding = |channel: &Value| {
        channel["status"]["analysis"]["canaryMessages"] == 60
            && reason(channel, "RolledOut") == Some("Holding")
    };
    let channel = bench.until("care", holding).await.unwrap();
    let waiting = channel["status"]["rollout"]["waiting"].as_str().unwrap();
    assert!(waiting.starts_with("60/5 messages, 0 failed; next step not before"), "{waiting}");
    count(&bench, serving, (4, 0), 500);
    bench.pass(10);
    let starved = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForTraffic");
    bench.until("care", starved).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_canary_is_taken_back_and_stays_rejected_until_retry() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let bad = bench.route().await.unwrap().1.rollout.split().canary.unwrap().to_string();
    count(&bench, serving, (0, 8), 500);
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    let channel = bench.until("care", back).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("False"));
    assert_eq!(condition(&channel, "Stalled"), Some("True"));
    assert_eq!(channel["status"]["rejected"], json!([bad]));
    assert_eq!(channel["status"]["lastRollback"]["revision"], json!(bad));
    assert!(bench.events("care").await.unwrap().contains(&"RolledBack".to_owned()));

    // Policy does not bring it back; only `retry` does.
    let mut patient = bench.manifest("care", NEW);
    patient.rollout["analysis"]["maxErrorBasisPoints"] = json!(900);
    bench.apply(&patient).await.unwrap();
    let generation = channel["metadata"]["generation"].as_i64().unwrap();
    let seen =
        |channel: &Value| channel["status"]["observedGeneration"].as_i64() > Some(generation);
    let channel = bench.until("care", seen).await.unwrap();
    assert_eq!(reason(&channel, "RolledOut"), Some("RolledBack"));
    annotate(&bench, command("retry", "1")).await;
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    assert!(route.serving > serving);
    let answered = |channel: &Value| channel["status"]["lastCommand"]["id"] == "1";
    let channel = bench.until("care", answered).await.unwrap();
    assert_eq!(channel["status"]["lastCommand"]["result"], "Executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_fields_and_secrets_are_in_force_without_a_rollout() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let mut live = bench.manifest("care", OLD);
    live.limits = json!({"inboundMessages": 7});
    live.account.token = "the-next-token".to_owned();
    bench.apply(&live).await.unwrap();
    let fresh = |route: &kanarie_crds::route::Route| {
        route.limits.inbound_messages == 7
            && route.credentials.auth_token.expose() == "the-next-token"
    };
    let (route, memory) = bench.until_route(fresh).await.unwrap();
    assert_eq!((route.serving, memory.rollout.transition), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_secret_leaves_its_last_value_in_force() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let before = bench.route().await.unwrap().0;
    bench.secrets().delete("care-twilio", &DeleteParams::default()).await.unwrap();
    let missing = |channel: &Value| reason(channel, "CredentialsReady") == Some("SecretNotFound");
    let channel = bench.until("care", missing).await.unwrap();
    assert_eq!(condition(&channel, "Ready"), Some("True"), "customers are still served");
    assert_eq!(bench.route().await.unwrap().0, before);
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    let found = |channel: &Value| condition(channel, "CredentialsReady") == Some("True");
    bench.until("care", found).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_without_its_secret_is_served_as_soon_as_that_comes() {
    let bench = Bench::start().await.unwrap();
    let manifest = bench.manifest("care", OLD);
    let channel = manifest.channel().to_string();
    bench.plane.apply_yaml(&bench.places.channels, &channel).await.unwrap();
    let blocked = |channel: &Value| reason(channel, "Ready") == Some("CredentialsNotReady");
    bench.until("care", blocked).await.unwrap();
    assert!(bench.route().await.is_err(), "nothing can be served");
    served(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_whose_secret_is_missing_waits_and_stable_serves_on() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let mut manifest = bench.manifest("care", NEW);
    manifest.agent = json!({"http": {"url": NEW, "tokenSecretRef": {"name": "later"}}});
    bench.apply(&manifest).await.unwrap();
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("CredentialsNotReady");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(condition(&channel, "Ready"), Some("True"));
    assert_eq!(bench.route().await.unwrap().0.serving, 1);
    let later = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "later"}, "stringData": {"token": "t"},
    });
    bench.plane.apply_yaml(&bench.places.channels, &later.to_string()).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_changed_by_somebody_else_is_put_back() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let before = bench.routes().get(&bench.route_name()).await.unwrap();
    let mut vandalised = before.clone();
    vandalised.data.as_mut().unwrap().get_mut("route").unwrap().0 = b"{}".to_vec();
    bench.routes().replace(&bench.route_name(), &Default::default(), &vandalised).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let after = bench.routes().get(&bench.route_name()).await.unwrap();
    assert_eq!(after.data, before.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_route_is_made_again_and_the_rejection_is_remembered() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (0, 8), 500);
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    let before = bench.until("care", back).await.unwrap();
    bench.routes().delete(&bench.route_name(), &DeleteParams::default()).await.unwrap();
    let (route, memory) = bench.until_route(|_| true).await.unwrap();
    assert_eq!(route.stable.revision.as_str(), revision(&before, "stable"));
    assert!(route.canary.is_none() && route.serving > serving);
    assert_eq!(memory.rollout.rejected.len(), 1);
    let again = |channel: &Value| {
        reason(channel, "RolledOut") == Some("RolledBack")
            && channel["status"]["transition"].as_u64() > before["status"]["transition"].as_u64()
    };
    bench.until("care", again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_a_newer_operator_is_never_written_over() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let mut newer = bench.routes().get(&bench.route_name()).await.unwrap();
    let state = br#"{"schema": 99, "rollout": "in a form of its own"}"#.to_vec();
    newer.data.as_mut().unwrap().get_mut("state").unwrap().0 = state;
    let newer =
        bench.routes().replace(&bench.route_name(), &Default::default(), &newer).await.unwrap();
    let stalled = |channel: &Value| reason(channel, "Stalled") == Some("RouteUnreadable");
    bench.until("care", stalled).await.unwrap();
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    let seen = |channel: &Value| {
        channel["status"]["observedGeneration"] == channel["metadata"]["generation"]
    };
    bench.until("care", seen).await.unwrap();
    let after = bench.routes().get(&bench.route_name()).await.unwrap();
    assert_eq!(after.metadata.resource_version, newer.metadata.resource_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_of_a_newer_definition_leaves_what_status_remembers() {
    let bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    // Reinstalled by the neighbours of this test at any time, so both steps are tried together.
    let newer = json!([{
        "op": "add", "value": "Managed",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/webhook\
                 /properties/registration/enum/-",
    }]);
    let newer = Patch::Json::<()>(serde_json::from_value(newer).unwrap());
    let definitions = kube::Api::<CustomResourceDefinition>::all(bench.plane.client());
    let managed = Patch::Merge(json!({"spec": {"webhook": {"registration": "Managed"}}}));
    let kind = ApiResource::erase::<WhatsAppChannel>(&());
    let raw: kube::Api<DynamicObject> =
        kube::Api::namespaced_with(bench.plane.client(), &bench.places.channels, &kind);
    while raw.patch("care", &PatchParams::default(), &managed).await.is_err() {
        definitions.patch(CRD_NAME, &PatchParams::default(), &newer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stalled = async {
        loop {
            let after = serde_json::to_value(raw.get("care").await.unwrap()).unwrap();
            if reason(&after, "Stalled") == Some("InvalidSpec") {
                break after;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let after = tokio::time::timeout(Duration::from_secs(30), stalled).await.unwrap();
    for field in ["transition", "stable", "history"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_without_a_promotion_mark_are_never_taken_for_the_first() {
    let mut bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    bench.stop_operators().await.unwrap();
    let stable = revision(&channel, "stable");
    let unmark = json!({"metadata": {"annotations": {"kanarie.dev/promoted-at": null}}});
    let revisions: kube::Api<k8s_openapi::api::apps::v1::ControllerRevision> =
        kube::Api::namespaced(bench.plane.client(), &bench.places.channels);
    revisions.patch(&stable, &PatchParams::default(), &Patch::Merge(unmark)).await.unwrap();
    let forget = Patch::Merge(json!({"status": {"stable": null}}));
    bench.channels().patch_status("care", &PatchParams::default(), &forget).await.unwrap();
    bench.routes().delete(&bench.route_name(), &DeleteParams::default()).await.unwrap();
    bench.start_operator().await.unwrap();
    let lost = |channel: &Value| reason(channel, "Stalled") == Some("RouteLost");
    bench.until("care", lost).await.unwrap();
    assert!(bench.route().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_goes_with_its_channel_and_a_new_one_of_the_name_starts_afresh() {
    let bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    bench.until_gone(&bench.route_name()).await.unwrap();
    let after = served(&bench).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(reason(&after, "RolledOut"), Some("FirstRevision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_channels_of_one_sender_the_first_serves_and_the_second_says_why_not() {
    let bench = Bench::start().await.unwrap();
    let first = served(&bench).await;
    bench.apply(&bench.manifest("copy", OLD)).await.unwrap();
    let refused = |channel: &Value| reason(channel, "Ready") == Some("SenderConflict");
    let second = bench.until("copy", refused).await.unwrap();
    assert_eq!(condition(&second, "Stalled"), Some("True"));
    let (route, _) = bench.route().await.unwrap();
    assert_eq!(first["metadata"]["uid"], json!(route.channel.uid));
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    let served = |channel: &Value| condition(channel, "Ready") == Some("True");
    bench.until("copy", served).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_namespace_that_is_not_watched_is_left_alone() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "route-of-another",
            "labels": {"kanarie.dev/component": "route", "kanarie.dev/channel-uid": "nobody"},
            "annotations": {"kanarie.dev/channel": "elsewhere/care"},
        },
    });
    let mut orphan = foreign.clone();
    orphan["metadata"]["name"] = json!("route-of-nobody");
    orphan["metadata"]["annotations"]["kanarie.dev/channel"] =
        json!(format!("{}/nobody", bench.places.channels));
    let both = format!("{foreign}\n---\n{orphan}");
    bench.plane.apply_yaml(&bench.places.routes, &both).await.unwrap();
    bench.until_gone("route-of-nobody").await.unwrap();
    assert!(bench.routes().get_opt("route-of-another").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_holds_its_weight_and_still_rolls_back() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let mut paused = bench.manifest("care", NEW);
    paused.rollout["state"] = json!("Paused");
    bench.apply(&paused).await.unwrap();
    count(&bench, serving, (60, 0), 500);
    bench.pass(10_000);
    let is_paused = |channel: &Value| {
        reason(channel, "RolledOut") == Some("Paused")
            && channel["status"]["analysis"]["canaryMessages"] == 60
    };
    bench.until("care", is_paused).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
    count(&bench, serving, (60, 40), 500);
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_abort_and_promote_full_are_obeyed_once() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    annotate(&bench, command("abort", "a")).await;
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let aborted = |channel: &Value| reason(channel, "RolledOut") == Some("Aborted");
    bench.until("care", aborted).await.unwrap();
    annotate(&bench, command("retry", "b")).await;
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    annotate(&bench, command("promote-full", "c")).await;
    let promoted = |channel: &Value| reason(channel, "RolledOut") == Some("PromotedInFull");
    let channel = bench.until("care", promoted).await.unwrap();
    assert_eq!(channel["status"]["lastCommand"]["id"], "c");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_every_live_gateway() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    bench.script(|script| script.obedient = false);
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    bench.pass(100_000);
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForGateways");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(reason(&channel, "Routed"), Some("NotAcknowledged"));
    assert_eq!(condition(&channel, "Ready"), Some("True"), "the former route still serves");
    assert_eq!(channel["status"]["gateway"]["summary"], "0/1");
    bench.script(|script| script.obedient = true);
    step_runs(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_the_gateways_is_no_evidence() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (60, 0), 500);
    bench.script(|script| script.silent = true);
    bench.pass(100_000);
    let unknown = |channel: &Value| reason(channel, "Routed") == Some("GatewayUnreachable");
    let channel = bench.until("care", unknown).await.unwrap();
    assert_eq!(condition(&channel, "Ready"), Some("Unknown"));
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
    bench.script(|script| script.silent = false);
    bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_live_gateway_a_channel_is_not_ready() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    bench.script(|script| script.replicas.clear());
    let none = |channel: &Value| reason(channel, "Ready") == Some("NoGateway");
    bench.until("care", none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_goes_on_where_the_route_is() {
    let mut bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let started = bench.route().await.unwrap().1.rollout;
    bench.kill_operators();
    bench.pass(1800);
    count(&bench, serving, (60, 0), 500);
    bench.start_operator().await.unwrap();
    let seen = |channel: &Value| channel["status"]["analysis"]["canaryMessages"] == 60;
    bench.until("care", seen).await.unwrap();
    assert_eq!(bench.route().await.unwrap().1.rollout, started, "half a hold is no hold");
    bench.pass(1800);
    bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
    let events = bench.events("care").await.unwrap();
    let starts = events.iter().filter(|reason| *reason == "RolloutStarted").count();
    assert_eq!(starts, 1, "told once, by two processes: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_make_each_transition_once() {
    let mut bench = Bench::start().await.unwrap();
    bench.start_operator().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (60, 0), 500);
    bench.pass(3600);
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
    assert_eq!(route.serving, serving + 1);
    let reasons: Vec<&str> = memory.rollout.history.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["StepAdvanced", "RolloutStarted", "FirstRevision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_revision_goes_through_weight_0_and_starts_at_the_first_step() {
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

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_counted_in_status_and_told_once() {
    let bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    let uid = channel["metadata"]["uid"].as_str().unwrap().parse().unwrap();
    bench.script(|script| {
        script.dead_letters = vec![kanarie_crds::control::ChannelDeadLetters {
            uid,
            count: 3,
            oldest_at_ms: 5_000,
            class: "agent-failed".to_owned(),
        }];
    });
    let counted = |channel: &Value| channel["status"]["deadLetters"]["count"] == 3;
    bench.until("care", counted).await.unwrap();
    let told = bench.events("care").await.unwrap();
    assert_eq!(told.iter().filter(|reason| *reason == "DeadLettersWaiting").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_gives_the_lease_to_the_next() {
    let bench = Bench::without_operator().await.unwrap();
    let system = &bench.places.system;
    let client = bench.plane.client_for_service_account(system, "kanarie-operator").await.unwrap();
    let mut first = Candidate::new(&client, system, "first".to_owned());
    let mut second = Candidate::new(&client, system, "second".to_owned());
    first.acquire().await;
    let waiting = tokio::time::timeout(Duration::from_millis(500), second.acquire()).await;
    assert!(waiting.is_err(), "the first one leads");
    first.release().await;
    let taken = tokio::time::timeout(Duration::from_secs(10), second.acquire()).await;
    assert!(taken.is_ok(), "sooner than the Lease would have ended");
}
