//! What the gateways say, and what their silence means.

use std::time::Duration;

use kanarie_crds::control::ChannelUndelivered;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kanarie_words::ids::ChannelUid;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::operator::care::{NEW, count, held, rolling, served, step_runs};

/// Scenario 48: a gateway that does not obey holds the step up.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_48_a_step_waits_for_every_live_gateway() {
    let bench = Bench::start().await.unwrap();
    served(&bench).await;
    bench.script(|script| script.obedient = false);
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    bench.pass(10_000);
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForGateways");
    let channel = bench.until("care", waits).await.unwrap();
    assert_eq!(reason(&channel, "Routed"), Some("NotAcknowledged"));
    assert_eq!(condition(&channel, "Ready"), Some("True"), "the former route still serves");
    assert_eq!(channel["status"]["gateway"]["summary"], "0/1");
    bench.script(|script| script.obedient = true);
    step_runs(&bench).await;
}

/// Scenario 26: without counts a rollout holds and says so; once they are back it goes on from them.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_26_silence_of_the_gateways_is_no_evidence() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (60, 0), 540);
    bench.script(|script| script.silent = true);
    bench.pass(10_000);
    let unknown = |channel: &Value| reason(channel, "Routed") == Some("GatewayUnreachable");
    let channel = bench.until("care", unknown).await.unwrap();
    assert_eq!(condition(&channel, "Ready"), Some("Unknown"));
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
    bench.script(|script| script.silent = false);
    held(&bench, 0).await;
    bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
}

/// Scenario 10: what proves a canary dead is told at once, however long the interval.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_10_a_dead_canary_goes_at_once_however_long_the_interval() {
    let bench = Bench::start().await.unwrap();
    bench.script(|script| script.waits = true);
    served(&bench).await;
    let mut manifest = bench.manifest("care", NEW);
    manifest.rollout["analysis"]["intervalSeconds"] = 60.into();
    bench.apply(&manifest).await.unwrap();
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    step_runs(&bench).await;
    // A route that was just written is asked about every second.
    sleep(Duration::from_secs(3)).await;
    count(&bench, route.serving, (0, 8), 500);
    let counted = Instant::now();
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let took = counted.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: the next look is a minute away");
}

/// Scenario 27: when one of two gateways is gone the counts are those of both, and status says who is left;
/// when both are, a rollout holds.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_27_what_a_gateway_counted_is_evidence_when_it_is_gone() {
    let bench = Bench::start().await.unwrap();
    let two = ["gateway-0", "gateway-1"].map(|name| name.parse().unwrap());
    bench.script(|script| script.replicas = two.to_vec());
    let serving = rolling(&bench).await;
    let left = |summary: &'static str| {
        move |channel: &Value| channel["status"]["gateway"]["summary"] == summary
    };
    bench.until("care", left("2/2")).await.unwrap();
    count(&bench, serving, (60, 0), 540);
    bench.script(|script| script.replicas.clear());
    bench.pass(10_000);
    let nobody = |channel: &Value| reason(channel, "Routed") == Some("NoGateway");
    bench.until("care", nobody).await.unwrap();
    assert_eq!(bench.route().await.unwrap().0.weight.percent(), 10);
    bench.script(|script| script.replicas = two[..1].to_vec());
    let counted = |channel: &Value| {
        left("1/1")(channel) && channel["status"]["analysis"]["canaryMessages"] == 60
    };
    bench.until("care", counted).await.unwrap();
    held(&bench, 0).await;
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
    let told = bench.until_told("care", "DeadLettersWaiting").await.unwrap();
    assert_eq!(told.iter().filter(|reason| *reason == "DeadLettersWaiting").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_were_not_delivered_stand_in_status_with_the_last_code() {
    let bench = Bench::start().await.unwrap();
    let channel = served(&bench).await;
    let uid: ChannelUid = channel["metadata"]["uid"].as_str().unwrap().parse().unwrap();
    assert_eq!(channel["status"]["undelivered"], Value::Null);
    bench.script(|script| {
        let (count, last_code) = (3, Some(63_016));
        script.undelivered = vec![ChannelUndelivered { uid, count, last_code, last_at_ms: 5_000 }];
    });
    let told = |channel: &Value| channel["status"]["undelivered"]["count"] == 3;
    let channel = bench.until("care", told).await.unwrap();
    let undelivered = &channel["status"]["undelivered"];
    assert_eq!(undelivered["lastCode"], 63_016);
    assert_eq!(undelivered["lastAt"], "1970-01-01T00:00:05Z");
    bench.script(|script| script.undelivered.clear());
    let none = |channel: &Value| channel["status"]["undelivered"] == Value::Null;
    bench.until("care", none).await.unwrap();
}
