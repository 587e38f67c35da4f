//! Neighbours of another version: what a newer one adds is read over, in whichever order they are updated.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it set up itself")]

use kanarie_crds::channel::WhatsAppChannelSpec;
use kanarie_crds::control::ControlState;
use kanarie_crds::route::Route;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_fakes::customer::Account;
use kanarie_fakes::samples;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An answer of a gateway with everything in it.
fn answer() -> Value {
    json!({
        "observedAtMs": 5, "epoch": "e", "digest": "d", "unsynced": ["u"],
        "replicas": [{"id": "gateway-0", "ageMs": 9}],
        "deadLetters": [{"uid": "u", "count": 1, "oldestAtMs": 3, "class": "http"}],
        "undelivered": [{"uid": "u", "count": 1, "lastCode": 63016, "lastAtMs": 3}],
        "channels": [{
            "uid": "u",
            "acknowledged": [{"replica": "gateway-0", "serving": 3, "hash": "h", "cut": true}],
            "counts": [{"serving": 3, "track": "canary", "class": "success", "messages": 8}],
            "customers": [{
                "serving": 3, "track": "canary", "conversations": 8, "failed": 2, "rescued": 1,
            }],
        }],
    })
}

fn route() -> Value {
    let account = Account {
        sid: "AC0123456789abcdef0123456789abcdef".to_owned(),
        token: "token".to_owned(),
        sender: "whatsapp:+31201234567".to_owned(),
        webhook_url: "https://hooks.example.com/".to_owned(),
    };
    samples::route(&account)
}

#[test]
fn a_gateway_reads_over_what_a_newer_operator_adds_to_a_route() {
    reads_over::<Route>(&route());
}

#[test]
fn an_operator_reads_over_what_a_newer_gateway_adds_to_its_answer() {
    reads_over::<ControlState>(&answer());
}

#[test]
fn an_operator_reads_over_what_a_newer_one_adds_to_status_and_a_newer_definition_to_a_spec() {
    let (_, manifest) = samples::manifests("examples").unwrap().pop().unwrap();
    let channel: Value = serde_saphyr::from_str(&manifest).unwrap();
    reads_over::<WhatsAppChannelSpec>(&channel["spec"]);
    reads_over::<WhatsAppChannelStatus>(&json!({
        "observedGeneration": 1, "transition": 4,
        "stable": {"revision": "r", "agent": "http a/", "since": "2026-03-02T13:00:00Z"},
        "rollout": {"weight": 10, "step": "1/3", "waiting": "none"},
        "history": [{
            "transition": 4, "at": "2026-03-02T13:00:00Z", "reason": "StepAdvanced",
            "revision": "r", "weight": 10, "message": "",
        }],
    }));
}

/// With another field in every object it is the same value.
fn reads_over<T: Serialize + DeserializeOwned>(written: &Value) {
    let read = |value: &Value| {
        let read: T = serde_json::from_value(value.clone()).unwrap();
        serde_json::to_value(read).unwrap()
    };
    let mut newer = written.clone();
    let added = add(&mut newer);
    assert!(added > 2, "{added} objects");
    assert_eq!(read(&newer), read(written));
}

/// Adds it, and says to how many objects. The kind of an agent is the name of its only field.
fn add(value: &mut Value) -> usize {
    let below = |value: &mut Value| match value {
        Value::Object(fields) => fields.values_mut().map(add).sum(),
        Value::Array(items) => items.iter_mut().map(add).sum(),
        _ => 0,
    };
    let found = below(value);
    let Value::Object(fields) = value else { return found };
    if ["http", "langGraph"].iter().any(|kind| fields.contains_key(*kind)) {
        return found;
    }
    fields.insert("ofANewerVersion".to_owned(), json!({"is": ["unknown"]}));
    found + 1
}
