//! Routes that somebody else changed, lost or wrote in a newer form.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_operator::process::startup::CRD_NAME;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::reason;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::operator::care::{NEW, annotate, command, count, revision, rolling, served};

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
async fn what_others_add_to_a_route_stays_and_its_own_label_is_put_back() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    let routes = bench.routes();
    let name = bench.route_name();
    let change = Patch::Merge(json!({"metadata": {
        "annotations": {"backup.example.com/at": "today"},
        "labels": {"kanarie.dev/channel-uid": null},
    }}));
    routes.patch(&name, &PatchParams::default(), &change).await.unwrap();
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    let rolling = routes.get(&name).await.unwrap();
    assert_eq!(rolling.metadata.annotations.unwrap()["backup.example.com/at"], "today");
    assert!(rolling.metadata.labels.unwrap().contains_key("kanarie.dev/channel-uid"));
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

/// Scenario 07: a spec that this operator cannot read leaves traffic and memory alone, says so, and is read
/// again when it has changed.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_07_a_spec_of_a_newer_definition_leaves_all_as_it_is_until_it_changes() {
    let bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    let route = bench.route().await.unwrap().0;
    let raw = ask_for_what_is_newer(&bench).await;
    let after = stalled(&raw, "InvalidSpec").await;
    for field in ["transition", "stable", "history"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    assert_eq!(bench.route().await.unwrap().0, route);
    bench.until_told("care", "InvalidSpec").await.unwrap();
    mend(&raw).await;
    let healed = |channel: &Value| {
        reason(channel, "Stalled") == Some("Healthy") && reason(channel, "Ready").is_some()
    };
    bench.until("care", healed).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0, route);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_under_a_spec_that_nobody_can_read_is_taken_back() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let raw = ask_for_what_is_newer(&bench).await;
    stalled(&raw, "InvalidSpec").await;
    count(&bench, serving, (0, 8), 500);
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    assert_eq!((route.canary.is_none(), memory.rollout.rejected.len()), (true, 1));
    bench.until_told("care", "RolledBack").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_route_that_is_put_back_under_a_spec_that_nobody_can_read_is_told_and_has_no_canary()
 {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    let kept = bench.routes().get(&bench.route_name()).await.unwrap();
    annotate(&bench, command("abort")).await;
    let aborted = |channel: &Value| reason(channel, "RolledOut") == Some("Aborted");
    bench.until("care", aborted).await.unwrap();
    let raw = ask_for_what_is_newer(&bench).await;
    stalled(&raw, "InvalidSpec").await;
    let mut old = bench.routes().get(&bench.route_name()).await.unwrap();
    old.data = kept.data;
    bench.routes().replace(&bench.route_name(), &PostParams::default(), &old).await.unwrap();
    let told = stalled(&raw, "RouteUnreadable").await;
    assert!(told["status"]["canary"].is_null() && told["status"]["rejected"][0].is_string());
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 0, "nobody is on its canary");
    bench.until_told("care", "RouteUnreadable").await.unwrap();
    mend(&raw).await;
    let again = |channel: &Value| {
        aborted(channel) && channel["status"]["history"][0]["reason"] == "Rebuilt"
    };
    bench.until("care", again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_without_a_promotion_mark_are_never_taken_for_the_first() {
    let mut bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    bench.stop_operators().await.unwrap();
    let stable = revision(&channel, "stable");
    let unmark = json!({"metadata": {"annotations": {
        "kanarie.dev/promoted-at": null, "kanarie.dev/promoted-transition": null,
    }}});
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

/// From now on the spec of `care` has a word that only a newer operator can read.
async fn ask_for_what_is_newer(bench: &Bench) -> kube::Api<DynamicObject> {
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
    raw
}

async fn mend(raw: &kube::Api<DynamicObject>) {
    let console = Patch::Merge(json!({"spec": {"webhook": {"registration": null}}}));
    raw.patch("care", &PatchParams::default(), &console).await.unwrap();
}

/// Waits until `care`, which cannot be decoded here either, is stalled for this reason.
async fn stalled(raw: &kube::Api<DynamicObject>, why: &str) -> Value {
    let stalled = async {
        loop {
            let after = serde_json::to_value(raw.get("care").await.unwrap()).unwrap();
            if reason(&after, "Stalled") == Some(why) {
                break after;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stalled).await.unwrap()
}
