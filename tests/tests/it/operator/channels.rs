//! Channels and their Secrets: when they are served, and what they say when they are not.

use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::operator::care::{NEW, OLD, revision, served};

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
    assert_eq!(revision(&channel, "stable"), memory.rollout.split().stable.as_str());
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
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let ready = |channel: &Value| condition(channel, "Ready") == Some("True");
    let second = bench.until("renamed", ready).await.unwrap();
    assert_eq!(second["metadata"]["uid"], json!(owner().await));
    let now = bench.routes().get(&bench.route_name()).await.unwrap().metadata.uid;
    assert_eq!(now, uid, "it was replaced, and never deleted");
    let told = second["status"]["history"][0]["message"].as_str().unwrap();
    assert!(told.contains("at once, without steps"), "{told}");
}
