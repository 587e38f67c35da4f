//! Operators that start, end, die, and run beside each other.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kanarie_crds::route::{CONTROL_SECRET, CONTROL_TOKEN_KEY};
use kanarie_fakes::chaos::{Proxy, Way};
use kanarie_operator::process::config::Config;
use kanarie_operator::process::lease::{Candidate, LEASE_NAME};
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::operator::care::{count, held, rolling, said, served, told, with_port};

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
    let events = bench.until_told("care", "StepAdvanced").await.unwrap();
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

/// Scenario 41: the leader dies in the middle of a step: another one takes over when the Lease has ended, and
/// goes on with the same evidence and the same hold.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_41_a_leader_that_dies_in_a_step_is_followed_by_one_that_goes_on_with_it() {
    let mut bench = Bench::without_operator().await.unwrap();
    let config = Config { leader_elect: true, ..bench.config() };
    let first = bench.operator_client().await.unwrap();
    bench.start_with(config.clone(), first);
    let serving = rolling(&bench).await;
    let second = bench.operator_client().await.unwrap();
    bench.start_with(config, second);
    count(&bench, serving, (30, 0), 270);
    bench.pass(1800);
    let counted = |messages: u64| {
        move |channel: &Value| channel["status"]["analysis"]["canaryMessages"] == messages
    };
    let before = bench.until("care", counted(30)).await.unwrap();
    let led = lease(&bench).await;
    bench.kill_operator(0);
    count(&bench, serving, (60, 0), 540);
    let after = bench.until("care", counted(60)).await.unwrap();
    for field in ["transition", "rollout/stepStartedAt", "rollout/weight"] {
        let field = format!("/status/{field}");
        assert_eq!(after.pointer(&field), before.pointer(&field), "{field}");
    }
    let now = lease(&bench).await;
    assert_ne!(now.holder_identity, led.holder_identity);
    assert_eq!((led.lease_transitions, now.lease_transitions), (Some(0), Some(1)));
    held(&bench, 1800).await;
    let (route, _) = bench.until_route(|route| route.weight.percent() == 50).await.unwrap();
    assert_eq!(route.serving, serving + 1, "half of the hold was the first one's");
}

async fn lease(bench: &Bench) -> LeaseSpec {
    let api: Api<Lease> = Api::namespaced(bench.plane.client(), &bench.places.system);
    api.get(LEASE_NAME).await.unwrap().spec.unwrap()
}

/// Scenario 42: the API server is away while a canary turns bad: nothing can be written, and when it is back
/// the canary is taken back, once.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_42_a_canary_that_turns_bad_while_the_api_server_is_away_goes_when_it_is_back() {
    let mut bench = Bench::without_operator().await.unwrap();
    let (way, client) = through_a_proxy(&bench).await;
    bench.start_with(bench.config(), client);
    let serving = rolling(&bench).await;
    way.set(Way::Refused);
    count(&bench, serving, (0, 8), 500);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.route().await.unwrap().0.serving, serving);
    way.set(Way::Open);
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    assert_eq!((route.serving, memory.rollout.rejected.len()), (serving + 1, 1));
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    bench.until("care", back).await.unwrap();
    assert_eq!(told(&bench, "RolledBack").await, 1);
}

/// A client with the operator's rights whose way to the API server can be broken.
async fn through_a_proxy(bench: &Bench) -> (Proxy, Client) {
    let system = &bench.places.system;
    let file = bench.plane.kubeconfig_for_service_account(system, "kanarie-operator");
    let mut config = Kubeconfig::read_from(file.await.unwrap()).unwrap();
    let cluster = config.clusters[0].cluster.as_mut().unwrap();
    let server: reqwest::Url = cluster.server.as_ref().unwrap().parse().unwrap();
    let way = Proxy::start(server.socket_addrs(|| None).unwrap()[0]).await.unwrap();
    cluster.server = Some(format!("https://{}", way.address()));
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    (way, Client::try_from(config).unwrap())
}

/// Scenario 43: while others write the channel and its route without a pause, each transition is made and
/// told once.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_43_writes_of_others_repeat_no_transition_and_no_event() {
    let mut bench = Bench::without_operator().await.unwrap();
    let config = with_port(bench.config());
    let client = bench.operator_client().await.unwrap();
    bench.start_with(config.clone(), client);
    let serving = rolling(&bench).await;
    let (channels, routes, name) = (bench.channels(), bench.routes(), bench.route_name());
    let rival = tokio::spawn(async move {
        for number in 0_u64.. {
            let touch =
                json!({"metadata": {"annotations": {"example.com/at": number.to_string()}}});
            let (params, touch) = (PatchParams::default(), Patch::Merge(touch));
            // One that comes too late is no concern of this test.
            let _ = tokio::join!(
                channels.patch("care", &params, &touch),
                routes.patch(&name, &params, &touch)
            );
            sleep(Duration::from_millis(5)).await;
        }
    });
    for (good, bad, weight) in [(60, 0, 50), (60, 20, 0)] {
        let serving = bench.route().await.unwrap().0.serving;
        count(&bench, serving, (good, bad), 60);
        if weight > 0 {
            count(&bench, serving, (good, bad), 540);
            held(&bench, 3600).await;
        }
        bench.until_route(|route| route.weight.percent() == weight).await.unwrap();
    }
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    bench.until("care", back).await.unwrap();
    bench.until_told("care", "RolledBack").await.unwrap();
    rival.abort();
    let (route, memory) = bench.route().await.unwrap();
    assert_eq!(route.serving, serving + 2);
    let reasons: Vec<&str> = memory.rollout.history.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["RolledBack", "StepAdvanced", "RolloutStarted", "FirstRevision"]);
    let metrics = said(&config, "metrics").await;
    for reason in ["StepAdvanced", "RolledBack"] {
        assert_eq!(told(&bench, reason).await, 1, "{reason}");
        let counted = format!("kanarie_operator_transitions_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.lines().any(|line| line == counted), "{reason}:\n{metrics}");
    }
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
