//! The CRD against a real API server: every rule is enforced, in its own words.
//!
//! The manifests are those of `crds/examples` and `crds/tests/bad`; the same ones are given to the
//! Rust rules by `crds/tests/it/validation.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::time::Duration;

use kanarie_crds::channel::WhatsAppChannel;
use kanarie_fakes::samples::manifests;
use kanarie_fakes::{fields, golden};
use kanarie_tests::control_plane::ControlPlane;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Scenario 07: admission refuses an invalid spec.
#[tokio::test]
async fn scenario_07_every_bad_manifest_is_refused_with_its_sentence() {
    let (plane, namespace) = with_namespace("bad").await;
    let raw = raw(plane, &namespace);
    // Created, not applied: the server's own merge would stop some before any rule is asked.
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for (name, text) in manifests("tests/bad").unwrap() {
        let comment = |key: &str| {
            let prefix = format!("# {key}: ");
            text.lines().find_map(|line| line.strip_prefix(&prefix)).map(ToOwned::to_owned)
        };
        // Bounds of the schema are told in the server's own words.
        let wanted = comment("server").or_else(|| comment("message")).unwrap();
        let channel = serde_saphyr::from_str(&text).unwrap();
        let refused = raw.create(&dry_run, &channel).await.err();
        let said = refused.map_or("accepted".to_owned(), |error| error.to_string());
        assert!(said.contains(&wanted), "{name}: wanted `{wanted}`, the server said: {said}");
    }
}

#[tokio::test]
async fn every_field_refuses_what_is_beyond_its_bounds() {
    let (plane, namespace) = with_namespace("beyond").await;
    let raw = raw(plane, &namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let crd = serde_json::to_value(kanarie_crds::schema::definition()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut beyond = Vec::new();
    fields::each_field("spec", schema, &mut |path, field, _| {
        let is_leaf = field["type"] != "object" && field["type"] != "boolean";
        let value = fields::beyond(field).map(|(value, _)| value);
        assert!(value.is_some() || !is_leaf, "{path} has no bounds");
        beyond.extend(value.map(|value| (path.replace("[]", "[0]"), value)));
    });
    assert!(beyond.len() > 40, "{} fields", beyond.len());
    for (path, value) in beyond {
        let mut channel = minimal();
        fields::put(&mut channel, &path, value);
        let refused = raw.create(&dry_run, &dynamic(&channel)).await.err();
        let said = refused.map_or("accepted".to_owned(), |error| error.to_string());
        assert!(said.contains(&path), "{path}: {said}");
    }
}

#[tokio::test]
async fn every_example_is_accepted_and_gets_the_defaults_of_the_types() {
    let (plane, namespace) = with_namespace("examples").await;
    for (name, text) in manifests("examples").unwrap() {
        let written: WhatsAppChannel = serde_saphyr::from_str(&text).unwrap();
        let stored = plane.apply_yaml(&namespace, &text).await.unwrap().remove(0);
        let wanted = serde_json::to_value(written.spec).unwrap();
        assert_eq!(stored.data["spec"], wanted, "{name}");
    }
}

#[tokio::test]
async fn a_part_of_a_block_that_is_written_leaves_the_rest_at_its_defaults() {
    let (plane, namespace) = with_namespace("partial").await;
    let raw = raw(plane, &namespace);
    let mut channel = minimal();
    channel["spec"]["rollout"] = json!({"analysis": {"minMessages": 7}});
    let stored = raw.create(&PostParams::default(), &dynamic(&channel)).await.unwrap();
    let rollout = &stored.data["spec"]["rollout"];
    assert_eq!(
        rollout["analysis"],
        json!({"minMessages": 7, "maxErrorBasisPoints": 100, "intervalSeconds": 5})
    );
    assert_eq!(rollout["steps"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn class_account_and_sender_of_a_channel_stay_as_they_are() {
    let (plane, namespace) = with_namespace("immutable").await;
    let raw = raw(plane, &namespace);
    raw.create(&PostParams::default(), &dynamic(&minimal())).await.unwrap();
    for (patch, wanted) in [
        (
            json!({"twilio": {"accountSid": "ACffffffffffffffffffffffffffffffff"}}),
            "`twilio.accountSid` must stay as it is",
        ),
        (
            json!({"sender": {"address": "whatsapp:+31209999999"}}),
            "`sender.address` must stay as it is",
        ),
        (json!({"className": "another"}), "`className` must stay as it is"),
    ] {
        let patch = Patch::Merge(json!({"spec": patch}));
        let refused = raw.patch("shop", &PatchParams::default(), &patch).await.unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
}

/// As after an upgrade, with the definition first.
#[tokio::test]
async fn a_channel_that_was_stored_before_there_were_classes_is_of_the_first_one() {
    let plane = ControlPlane::start().await.unwrap();
    let mut older = serde_json::to_value(kanarie_crds::schema::definition()).unwrap();
    let version = &mut older["spec"]["versions"][0];
    version["selectableFields"].take();
    let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object_mut().unwrap().remove("className").unwrap();
    spec["x-kubernetes-validations"].take();
    plane.apply_yaml("default", &older.to_string()).await.unwrap();
    let api = raw(&plane, "default");
    while api.create(&PostParams::default(), &dynamic(&minimal())).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(api.get("shop").await.unwrap().data["spec"].get("className").is_none());
    plane.install_crd().await.unwrap();
    let of = async |class: &str| {
        let selected = ListParams::default().fields(&format!("spec.className={class}"));
        api.list(&selected).await.map(|found| found.items.len())
    };
    while of("kanarie").await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((of("kanarie").await.unwrap(), of("shop").await.unwrap()), (1, 0));
}

#[tokio::test]
async fn an_object_that_no_operator_has_seen_is_never_current() {
    let (plane, namespace) = with_namespace("unseen").await;
    let raw = raw(plane, &namespace);
    let stored = raw.create(&PostParams::default(), &dynamic(&minimal())).await.unwrap();
    assert_eq!(stored.data["status"]["observedGeneration"], -1);
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused_under_strict_validation() {
    let (plane, namespace) = with_namespace("strict").await;
    let mut channel = minimal();
    channel["spec"]["webhook"]["signatureCheck"] = json!("None");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), channel.to_string()).unwrap();
    let output = plane
        .kubectl()
        .unwrap()
        .args(["apply", "-n", &namespace, "-f"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("unknown field \"spec.webhook.signatureCheck\""), "{said}");
}

#[tokio::test]
async fn kubectl_finds_a_channel_by_its_sender_and_shows_why_it_waits() {
    let (plane, namespace) = with_namespace("columns").await;
    let api = raw(plane, &namespace);
    api.create(&PostParams::default(), &dynamic(&minimal())).await.unwrap();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-03-02T13:00:00Z",
        })
    };
    let waiting = "31/73 messages, 0 failed, evidence 0/100; 14:20Z";
    let explanation = "held for 1200 s more: canary 31 messages of 24 customers, 0 failed; stable 280 \
                       messages of 211 customers, 1 failed (1 timeout); evidence 0 of 100; excludes \
                       10.28 %; 42 messages missing to exclude 5 %, in about 3250 s";
    let status = json!({"status": {
        "rollout": {"weight": 10, "step": "1/3", "waiting": waiting},
        "conditions": [
            condition("Ready", "True", "StableServing", "stable serves"),
            condition("RolledOut", "Unknown", "Holding", explanation),
        ],
        "stable": {"revision": "shop-0b7c64d51f", "agent": "http a/", "since": "2026-03-02T13:00:00Z"},
        "canary": {"revision": "shop-9e21f0a4c3", "agent": "http b/", "since": "2026-03-02T13:00:00Z"},
        "gateway": {"replicas": 2, "synced": 2, "summary": "2/2"},
    }});
    api.patch_status("shop", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let selector = "spec.sender.address=whatsapp:+31201234567";
    let mut shown = String::new();
    for form in ["", "--output=wide"] {
        let mut kubectl = plane.kubectl().unwrap();
        kubectl.args(["get", "wach", "-n", &namespace, "--field-selector", selector]);
        let output = kubectl.args((!form.is_empty()).then_some(form)).output().unwrap();
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let width = table.lines().map(str::len).max().unwrap_or_default();
        assert!(!form.is_empty() || width <= 100, "{width} characters are no table any more");
        let (names, cells) = table.trim_end().split_once('\n').unwrap();
        // The age of the object is the machine's business.
        let age = names.find(" AGE").unwrap() + 1;
        let (before, after) = cells.split_at(age);
        let after = after.split_once(' ').map_or("", |(_, after)| after.trim_start());
        let (known, wide) = names.split_at(age);
        let wide = wide.trim_start_matches("AGE").trim_start();
        let (names, cells) = (format!("{known}AGE {wide}"), format!("{before}... {after}"));
        writeln!(shown, "{}\n{}", names.trim_end(), cells.trim_end()).unwrap();
    }
    golden::compare("tests/goldens/columns.txt", &shown);
}

/// A control plane with the CRD, and a namespace of the test's own.
async fn with_namespace(prefix: &str) -> (&'static ControlPlane, String) {
    let plane = ControlPlane::shared().await;
    plane.install_crd().await.unwrap();
    let namespace = plane.namespace(prefix).await.unwrap();
    (plane, namespace)
}

/// Channels as they are written and stored, without the types' own defaults.
fn raw(plane: &ControlPlane, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<WhatsAppChannel>(&());
    Api::namespaced_with(plane.client(), namespace, &resource)
}

fn minimal() -> Value {
    let (_, text) =
        manifests("examples").unwrap().into_iter().find(|(n, _)| n == "minimal.yaml").unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn dynamic(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}
