//! Operators that start, end, die, and run beside each other.

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::{CONTROL_SECRET, CONTROL_TOKEN_KEY};
use kanarie_operator::process::lease::Candidate;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::condition;
use serde_json::Value;

use crate::operator::care::{count, held, rolling, served};

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

/// Scenario 39: what a killed operator had begun goes on where the route is.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_39_an_operator_that_is_killed_goes_on_where_the_route_is() {
    let mut bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let started = bench.route().await.unwrap().1.rollout;
    bench.kill_operators();
    bench.pass(1800);
    count(&bench, serving, (60, 0), 540);
    bench.start_operator().await.unwrap();
    let seen = |channel: &Value| channel["status"]["analysis"]["canaryMessages"] == 60;
    bench.until("care", seen).await.unwrap();
    let now = bench.route().await.unwrap().1.rollout;
    assert_eq!((now.serving, now.transition), (serving, started.transition), "half a hold is none");
    held(&bench, 1800).await;
    bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
    let events = bench.events("care").await.unwrap();
    let starts = events.iter().filter(|reason| *reason == "RolloutStarted").count();
    assert_eq!(starts, 1, "told once, by two processes: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_ends_the_operator_with_its_name() {
    let bench = Bench::without_operator().await.unwrap();
    let client = bench.operator_client().await.unwrap();
    let clumsy = async { "what a panic says".parse::<u8>().map(drop).unwrap() };
    let clock = Arc::new(kanarie_operator::process::clock::now);
    let ended = kanarie_operator::run_by(clock, bench.config(), client, clumsy).await;
    let told = ended.unwrap_err().to_string();
    assert_eq!(told, "the process cannot go on: its task \"shutdown\" panicked");
}

/// Scenario 43: of two operators that write at once each transition is made once.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_43_two_operators_at_once_make_each_transition_once() {
    let mut bench = Bench::start().await.unwrap();
    bench.start_operator().await.unwrap();
    let serving = rolling(&bench).await;
    count(&bench, serving, (60, 0), 540);
    held(&bench, 3600).await;
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
    assert_eq!(route.serving, serving + 1);
    let reasons: Vec<&str> = memory.rollout.history.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["StepAdvanced", "RolloutStarted", "FirstRevision"]);
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
