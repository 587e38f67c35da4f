//! What goes wrong around a rollout keeps it from advancing, and never from being judged.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::events::v1::Event;
use kanarie_crds::route::CHANNEL_UID_LABEL;
use kanarie_fakes::server::loopback;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::operator::care::{NEW, annotate, command, count, revision, rolling, served};

const NEWEST: &str = "https://newest.example.com/";

/// From now on nobody creates this kind of object in a namespace.
async fn refuse(bench: &Bench, namespace: &str, (group, resources): (&str, &str), message: &str) {
    let policy = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: none-in-{namespace}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {{apiGroups: [{group}], apiVersions: [v1], operations: [CREATE], resources: [{resources}]}}
  matchConditions:
  - {{name: here, expression: \"request.namespace == '{namespace}'\"}}
  validations:
  - {{expression: 'false', message: {message}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: none-in-{namespace}}}
spec: {{policyName: none-in-{namespace}, validationActions: [Deny]}}
"
    );
    bench.plane.apply_yaml(namespace, &policy).await.unwrap();
}

/// Waits until the policy refuses a probe that is valid otherwise.
async fn in_force<K>(api: Api<K>, probe: Value, message: &str)
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let probe: K = serde_json::from_value(probe).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut looks = 0;
    let refused = |error: &kube::Error| error.to_string().contains(message);
    while !api.create(&dry_run, &probe).await.is_err_and(|error| refused(&error)) {
        looks += 1;
        assert!(looks < 600, "the policy is never in force");
        sleep(Duration::from_millis(50)).await;
    }
}

/// From now on nobody makes a ControllerRevision in the channel's namespace.
async fn refuse_revisions(bench: &Bench) {
    let message = "no more revisions here";
    refuse(bench, &bench.places.channels, ("apps", "controllerrevisions"), message).await;
    let api: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    in_force(api, json!({"metadata": {"name": "probe"}, "revision": 1, "data": {}}), message).await;
}

/// From now on nobody makes an Event in the channel's namespace.
async fn refuse_events(bench: &Bench) {
    let message = "no more events here";
    refuse(bench, &bench.places.channels, ("events.k8s.io", "events"), message).await;
    let api: Api<Event> = Api::namespaced(bench.plane.client(), &bench.places.channels);
    in_force(api, probe(bench), message).await;
}

/// An Event that is valid.
fn probe(bench: &Bench) -> Value {
    json!({
        "metadata": {"name": "probe"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "action": "Probe", "reason": "Probe", "type": "Normal",
        "reportingController": "kanarie.dev/probe", "reportingInstance": "probe",
        "regarding": {"kind": "Secret", "name": "probe", "namespace": bench.places.channels},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_refused_keep_no_revision_from_being_marked() {
    let bench = Bench::start().await.unwrap();
    refuse_events(&bench).await;
    let channel = served(&bench).await;
    let revisions: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    let stable = revision(&channel, "stable");
    let mut looks = 0;
    let marks = loop {
        let found = revisions.get_opt(&stable).await.unwrap();
        if let Some(marks) = found.and_then(|found| found.metadata.annotations) {
            break marks;
        }
        looks += 1;
        assert!(looks < 200, "the stable revision is never marked");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(marks.contains_key("kanarie.dev/promoted-at"), "{marks:?}");
    assert_eq!(marks["kanarie.dev/promoted-transition"], "1");
    assert!(bench.events("care").await.unwrap().is_empty(), "they were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_is_told_when_events_are_taken_again() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    refuse_events(&bench).await;
    annotate(&bench, command("dance")).await;
    let answered = |channel: &Value| channel["status"]["lastCommand"]["result"] == "Refused";
    bench.until("care", answered).await.unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bench.plane.client());
    let name = format!("none-in-{}", bench.places.channels);
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    let mut touches = 0;
    while !bench.events("care").await.unwrap().contains(&"CommandRefused".to_owned()) {
        touches += 1;
        assert!(touches < 60, "it is never told");
        annotate(&bench, json!({"kanarie.dev/actor": touches.to_string()})).await;
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_refused_is_told_and_keeps_no_canary_from_being_taken_back() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    refuse_revisions(&bench).await;
    bench.apply(&bench.manifest("care", NEWEST)).await.unwrap();
    let refused = |channel: &Value| reason(channel, "RolledOut") == Some("RevisionRefused");
    let channel = bench.until("care", refused).await.unwrap();
    assert_eq!(condition(&channel, "Reconciling"), Some("True"));
    assert_eq!(condition(&channel, "Ready"), Some("True"), "customers are served");
    let told = channel["status"]["conditions"].to_string();
    assert!(told.contains("no more revisions here"), "{told}");
    bench.until_told("care", "RevisionRefused").await.unwrap();
    count(&bench, serving, (0, 8), 500);
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let (_, memory) = bench.route().await.unwrap();
    assert_eq!(memory.rollout.rejected.len(), 1, "it failed, whatever else is wrong");
}

/// Whoever may write into the namespace may write as much as the API server takes.
#[tokio::test(flavor = "multi_thread")]
async fn more_revisions_of_somebody_else_than_are_read_are_told_and_hold_up_nothing_but_the_spec() {
    let bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    let revisions: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    let (zeros, labels) =
        (vec![0; 600_000], json!({CHANNEL_UID_LABEL: channel["metadata"]["uid"]}));
    for number in 0..4 {
        let metadata = json!({"name": format!("zeros-{number}"), "labels": labels});
        let object = json!({"metadata": metadata, "data": {"zeros": zeros}, "revision": number});
        let object: ControllerRevision = serde_json::from_value(object).unwrap();
        revisions.create(&PostParams::default(), &object).await.unwrap();
    }
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    let refused = |channel: &Value| reason(channel, "RolledOut") == Some("RevisionRefused");
    let told = bench.until("care", refused).await.unwrap();
    assert!(told["status"]["conditions"].to_string().contains("bytes of them"), "{told}");
    assert_eq!(condition(&told, "Ready"), Some("True"));
    for number in 0..4 {
        let name = format!("zeros-{number}");
        revisions.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_revision_that_cannot_be_kept_is_told_once_and_does_not_busy_anybody() {
    let bench = Bench::start().await.unwrap();
    refuse_revisions(&bench).await;
    bench.apply(&bench.manifest("care", NEWEST)).await.unwrap();
    let refused = |channel: &Value| {
        reason(channel, "Reconciling") == Some("ReconcileFailed")
            && condition(channel, "Ready") == Some("True")
    };
    let told = bench.until("care", refused).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    let later = bench.until("care", refused).await.unwrap();
    assert_eq!(condition(&later, "RolledOut"), Some("True"), "it is in force all the same");
    let text = later["status"]["conditions"].to_string();
    assert!(text.contains("no more revisions here"), "{text}");
    let version = |channel: &Value| channel["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&told), version(&later), "it is tried again, and says the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_route_that_is_put_back_starts_nothing_and_executes_nothing() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    let kept = bench.routes().get(&bench.route_name()).await.unwrap();
    annotate(&bench, command("abort")).await;
    let aborted = |channel: &Value| reason(channel, "RolledOut") == Some("Aborted");
    let before = bench.until("care", aborted).await.unwrap();
    let (route, _) = bench.route().await.unwrap();
    let mut old = bench.routes().get(&bench.route_name()).await.unwrap();
    old.data = kept.data;
    bench.routes().replace(&bench.route_name(), &PostParams::default(), &old).await.unwrap();
    let (after, memory) = bench.until_route(|now| now.serving > route.serving).await.unwrap();
    assert_eq!(after.weight.percent(), 0);
    assert_eq!(after.stable.revision.as_str(), revision(&before, "stable"));
    assert_eq!(memory.rollout.rejected.len(), 1, "status remembers what the copy did not know");
    let again = |channel: &Value| {
        aborted(channel) && channel["status"]["history"][0]["reason"] == "Rebuilt"
    };
    bench.until("care", again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_refused_is_told_and_keeps_no_other_channel_from_being_judged() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let (routes, message) = (&bench.places.routes, "no more routes here");
    refuse(&bench, routes, ("\"\"", "secrets"), message).await;
    in_force(bench.routes(), json!({"metadata": {"name": "probe"}}), message).await;
    let mut other = bench.manifest("other", NEWEST);
    other.account.sender = "whatsapp:+15550990077".to_owned();
    bench.apply(&other).await.unwrap();
    let refused = |channel: &Value| reason(channel, "Reconciling") == Some("ReconcileFailed");
    let channel = bench.until("other", refused).await.unwrap();
    let told = channel["status"]["conditions"].to_string();
    assert!(told.contains(message), "{told}");
    let warned = || async { bench.events("other").await.unwrap() };
    while !warned().await.contains(&"ReconcileFailed".to_owned()) {
        sleep(Duration::from_millis(50)).await;
    }
    count(&bench, serving, (0, 8), 500);
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
}

/// Scenario 59: an API for Events that hangs keeps nobody from being judged.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_59_events_that_hang_keep_no_canary_from_being_taken_back() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let _silent = hang_events(&bench).await;
    let mut paused = bench.manifest("care", NEW);
    paused.rollout["state"] = json!("Paused");
    bench.apply(&paused).await.unwrap();
    let is_paused = |channel: &Value| reason(channel, "RolledOut") == Some("Paused");
    bench.until("care", is_paused).await.unwrap();
    // The Event about that hangs now, for ten seconds if one lets it.
    count(&bench, serving, (0, 8), 500);
    let counted = Instant::now();
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let took = counted.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    bench.until("care", back).await.unwrap();
}

/// From now on each Event of the channel's namespace waits for somebody who never says a word.
async fn hang_events(bench: &Bench) -> TcpListener {
    let silent = TcpListener::bind(loopback()).await.unwrap();
    let (namespace, url) = (&bench.places.channels, silent.local_addr().unwrap());
    let webhook = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: silent-in-{namespace}}}
webhooks:
- name: silent.kanarie.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 30
  clientConfig: {{url: \"https://{url}/\"}}
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  rules:
  - {{apiGroups: [events.k8s.io], apiVersions: [v1], operations: [CREATE], resources: [events]}}
"
    );
    bench.plane.apply_yaml(namespace, &webhook).await.unwrap();
    let api: Api<Event> = Api::namespaced(bench.plane.client(), namespace);
    let probe: Event = serde_json::from_value(probe(bench)).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let second = Duration::from_secs(1);
    while timeout(second, api.create(&dry_run, &probe)).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    silent
}
