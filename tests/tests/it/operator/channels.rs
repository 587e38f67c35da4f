//! Channels and their Secrets: when they are served, and what they say when they are not.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kanarie_crds::route::{AgentRoute, RevisionRoute, Route};
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::operator::care::{NEW, OLD, annotate, command, count, revision, rolling, served};

/// Scenario 01: the first revision has all of the traffic at once, and is marked as promoted.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_01_a_first_channel_serves_at_once_and_says_so() {
    let bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    let (route, memory) = bench.route().await.unwrap();
    assert_eq!((route.serving, route.weight.percent(), route.canary.is_none()), (1, 0, true));
    assert_eq!(reason(&channel, "Routed"), Some("InForce"));
    assert_eq!(reason(&channel, "RolledOut"), Some("FirstRevision"));
    assert_eq!(condition(&channel, "RolledOut"), Some("True"));
    assert_eq!(condition(&channel, "Stalled"), Some("False"));
    assert_eq!(channel["status"]["observedGeneration"], channel["metadata"]["generation"]);
    let stable = revision(&channel, "stable");
    assert_eq!(stable, memory.rollout.split().stable.as_str());
    let api: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    let marks = api.get(&stable).await.unwrap().metadata.annotations.unwrap_or_default();
    assert!(marks.contains_key("kanarie.dev/promoted-at"), "{marks:?}");
}

/// Scenario 02: a new revision is shown at 10 %, and stable with the rest, before any gateway obeys.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_02_a_new_revision_is_shown_at_10_percent_before_anything_is_waited_for() {
    let bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    bench.script(|script| script.obedient = false);
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    let shown = |channel: &Value| !channel["status"]["canary"].is_null();
    let channel = bench.until("care", shown).await.unwrap();
    assert_eq!(channel["status"]["rollout"]["weight"], 10);
    assert_eq!(channel["status"]["canary"]["agent"], "http new.example.com/");
    assert_eq!(revision(&channel, "stable"), revision(&before, "stable"));
    let history = channel["status"]["history"].as_array().unwrap().iter();
    let reasons: Vec<_> = history.map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["RolloutStarted", "FirstRevision"], "it was the first thing to happen");
    let (route, _) = bench.route().await.unwrap();
    assert_eq!(route.weight.percent(), 10);
}

/// Scenario 05: labels, annotations and defaults that are spelled out start no rollout.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_05_what_stands_beside_the_content_starts_no_rollout() {
    let bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    let beside = json!({"metadata": {
        "labels": {"team": "care"}, "annotations": {"example.com/note": "a comment"},
    }});
    let (params, patch) = (PatchParams::default(), Patch::Merge(beside));
    bench.channels().patch("care", &params, &patch).await.unwrap();
    let mut spelled = bench.manifest("care", OLD);
    spelled.reply = json!({"validitySeconds": 600});
    // A live field says when all of it was seen.
    spelled.limits = json!({"inboundMessages": 7});
    bench.apply(&spelled).await.unwrap();
    let seen = |route: &Route| route.limits.inbound_messages == 7;
    let (route, memory) = bench.until_route(seen).await.unwrap();
    assert_eq!((route.serving, memory.rollout.transition, route.canary.is_none()), (1, 1, true));
    assert_eq!(route.stable.revision.as_str(), revision(&before, "stable"));
}

/// Scenario 09: a channel that is being deleted in a rollout goes no step further, its canary is taken back
/// when it fails, without another Event, and its route goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_09_a_channel_that_is_deleted_in_a_rollout_is_judged_until_it_is_gone() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let finalizers = |names: Value| Patch::Merge(json!({"metadata": {"finalizers": names}}));
    let params = PatchParams::default();
    let keep = finalizers(json!(["example.com/keep"]));
    bench.channels().patch("care", &params, &keep).await.unwrap();
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    let deleted = |channel: &Value| channel["metadata"]["deletionTimestamp"].is_string();
    bench.until("care", deleted).await.unwrap();
    let before = bench.events("care").await.unwrap();
    count(&bench, serving, (60, 0), 540);
    bench.pass(10_000);
    let waits = |channel: &Value| {
        channel["status"]["analysis"]["canaryMessages"] == 60
            && reason(channel, "RolledOut") == Some("Pending")
    };
    bench.until_counted("care", waits).await.unwrap();
    let (route, _) = bench.route().await.unwrap();
    assert_eq!((route.serving, route.weight.percent()), (serving, 10), "it goes no further");
    count(&bench, serving, (60, 20), 540);
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    assert_eq!((route.canary.is_none(), memory.rollout.rejected.len()), (true, 1));
    let told = |channel: &Value| channel["status"]["history"][0]["reason"] == "RolledBack";
    bench.until("care", told).await.unwrap();
    assert_eq!(bench.events("care").await.unwrap(), before);
    bench.channels().patch("care", &params, &finalizers(json!(null))).await.unwrap();
    bench.until_gone(&bench.route_name()).await.unwrap();
}

/// Scenario 56: two channels with one Secret and one content: what one of them promotes is its own, and a
/// rotation is in force in both, on both tracks.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_56_what_two_channels_share_is_promoted_in_one_and_rotated_in_both() {
    let bench = Bench::start().await.unwrap();
    let shared = |token: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"},
            "stringData": {"token": token},
        })
        .to_string()
    };
    let places = &bench.places;
    bench.plane.apply_yaml(&places.channels, &shared("first")).await.unwrap();
    let manifest = |name: &str, url: &str| {
        let mut manifest = bench.manifest(name, url);
        manifest.agent["http"]["tokenSecretRef"] = json!({"name": "shared"});
        manifest
    };
    let mut other = manifest("other", OLD);
    other.account.sender = "whatsapp:+15550990056".to_owned();
    let sid = other.account.sid.parse().unwrap();
    let name = kanarie_crds::route::route_name(&sid, &other.account.sender.parse().unwrap());
    for one in [&manifest("care", OLD), &other] {
        bench.apply(one).await.unwrap();
        let ready = |channel: &Value| condition(channel, "Ready") == Some("True");
        bench.until(&one.name, ready).await.unwrap();
    }
    let others = || async { bench.routes().get(&name).await.unwrap().data.unwrap() };
    let before = others().await;

    bench.apply(&manifest("care", NEW)).await.unwrap();
    let (_, memory) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    bench.plane.apply_yaml(&places.channels, &shared("second")).await.unwrap();
    let token = |revision: &RevisionRoute| match &revision.agent {
        AgentRoute::Http { token, .. } => token.as_ref().map(|it| it.expose().to_owned()),
        AgentRoute::LangGraph { .. } => None,
    };
    let rotated = |route: &Route| {
        let both = [Some(&route.stable), route.canary.as_ref()];
        both.into_iter().all(|one| one.and_then(token).as_deref() == Some("second"))
    };
    let (route, _) = bench.until_route(rotated).await.unwrap();
    assert_eq!(route.serving, 2, "a rotation is no rollout");
    let promote = format!("promote-full {}", memory.rollout.split().canary.unwrap());
    annotate(&bench, command(&promote)).await;
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let changed = async {
        while others().await == before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), changed).await.unwrap();
    let mut after: Route = serde_json::from_slice(&others().await["route"].0).unwrap();
    let was: Route = serde_json::from_slice(&before["route"].0).unwrap();
    assert_eq!(token(&after.stable).as_deref(), Some("second"));
    after.stable.agent = was.stable.agent.clone();
    assert_eq!(after, was, "nothing else of the other channel has changed");
}

/// Scenario 55: a Secret that is rotated is in force without a rollout.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_55_live_fields_and_secrets_are_in_force_without_a_rollout() {
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
    assert_eq!(condition(&channel, "Reconciling"), Some("True"), "the change is withheld");
    assert_eq!(bench.route().await.unwrap().0.serving, 1);
    let later = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "later"}, "stringData": {"token": "t"},
    });
    bench.plane.apply_yaml(&bench.places.channels, &later.to_string()).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
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

/// The new name is applied first and the old one pruned after it, as deployment tools do.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_gets_another_name_is_served_all_the_time() {
    let bench = Bench::start().await.unwrap();
    let first = served(&bench).await;
    let uid = bench.routes().get(&bench.route_name()).await.unwrap().metadata.uid;
    bench.apply(&bench.manifest("renamed", OLD)).await.unwrap();
    let waits = |channel: &Value| reason(channel, "Ready") == Some("SenderConflict");
    bench.until("renamed", waits).await.unwrap();
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    let owner = || async {
        // It is there whenever one looks.
        bench.route().await.expect("the route is never absent").0.channel.uid.to_string()
    };
    while json!(owner().await) == first["metadata"]["uid"] {
        sleep(Duration::from_millis(20)).await;
    }
    let ready = |channel: &Value| condition(channel, "Ready") == Some("True");
    let second = bench.until("renamed", ready).await.unwrap();
    assert_eq!(second["metadata"]["uid"], json!(owner().await));
    let now = bench.routes().get(&bench.route_name()).await.unwrap().metadata.uid;
    assert_eq!(now, uid, "it was replaced, and never deleted");
    let told = second["status"]["history"][0]["message"].as_str().unwrap();
    assert!(told.contains("at once, without steps"), "{told}");
    bench.until_told("renamed", "FirstRevision").await.unwrap();
    let events = bench.transitions("renamed").await.unwrap();
    let note = events[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("at once, without steps"), "{note}");
}
