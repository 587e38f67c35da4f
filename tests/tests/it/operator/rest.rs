//! What a channel costs while nothing happens to it: counted where it arrives, at the API server.

use std::time::Duration;

use kanarie_crds::ACTOR_ANNOTATION;
use kanarie_tests::audit::{AuditedRequests, RequestCounts};
use kanarie_tests::bench::Bench;
use kanarie_tests::world::condition;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::operator::care::{NEW, rolling, served};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until the operator asks for nothing any more, and gives what it has asked for until then.
async fn until_quiet(requests: &mut AuditedRequests) -> RequestCounts {
    let began = Instant::now();
    let mut all = requests.since().await.unwrap();
    loop {
        sleep(Duration::from_secs(2)).await;
        let since = requests.since().await.unwrap();
        if since.all() == 0 {
            return all;
        }
        all.add(since);
        assert!(began.elapsed() < PATIENCE, "it does not become quiet: {all}");
    }
}

fn requests_of(bench: &Bench) -> AuditedRequests {
    AuditedRequests::of(bench.plane, &bench.places.system, "kanarie-operator")
}

#[tokio::test]
async fn a_channel_at_rest_is_looked_at_without_a_request_also_by_the_next_operator() {
    let mut bench = Bench::start().await.unwrap();
    let mut requests = requests_of(&bench);
    served(&bench).await;
    bench.until("care", |care| condition(care, "RolledOut") == Some("True")).await.unwrap();
    until_quiet(&mut requests).await;

    // Whoever means to command something next: one of the annotations that wake the operator, with nothing to do.
    let note = json!({"metadata": {"annotations": {ACTOR_ANNOTATION: "anna"}}});
    let params = PatchParams::default();
    bench.channels().patch("care", &params, &Patch::Merge(note)).await.unwrap();
    let looked_at = until_quiet(&mut requests).await;
    assert_eq!(looked_at.all(), 0, "{looked_at}");

    bench.stop_operators().await.unwrap();
    requests.since().await.unwrap();
    bench.start_operator().await.unwrap();
    let started = until_quiet(&mut requests).await;
    // Three lists for three watches, the definition and the control token; its one Event is told again.
    assert!(started.reads() <= 5, "{started}");
    assert!(started.writes() <= 1, "{started}");

    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
}

#[tokio::test]
async fn a_change_of_a_secret_is_seen_of_a_channel_at_rest_also_while_no_operator_ran() {
    let mut bench = Bench::start().await.unwrap();
    served(&bench).await;
    bench.until("care", |care| condition(care, "RolledOut") == Some("True")).await.unwrap();
    let turn = async |bench: &Bench, token: &str| {
        let turned = json!({"stringData": {"authToken": token}});
        let params = PatchParams::default();
        bench.secrets().patch("care-twilio", &params, &Patch::Merge(turned)).await.unwrap();
    };
    let is = |token: &str| {
        let token = token.to_owned();
        move |route: &kanarie_crds::route::Route| format!("{:?}", json!(route)).contains(&token)
    };
    turn(&bench, "the-second-token").await;
    bench.until_route(is("the-second-token")).await.unwrap();
    bench.stop_operators().await.unwrap();
    turn(&bench, "the-third-token").await;
    bench.start_operator().await.unwrap();
    bench.until_route(is("the-third-token")).await.unwrap();
}

#[tokio::test]
async fn a_rollout_asks_for_its_route_once_and_writes_its_status_once_a_step() {
    let bench = Bench::start().await.unwrap();
    let mut requests = requests_of(&bench);
    rolling(&bench).await;
    requests.since().await.unwrap();
    sleep(Duration::from_secs(15)).await;
    let rolled = requests.since().await.unwrap();
    assert_eq!(rolled.reads(), 0, "{rolled}");
    assert!(rolled.writes() <= 1, "{rolled}");
}
