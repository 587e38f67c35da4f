//! A rollout that an older operator began, in the hands of this one.

use kanarie_crds::route::{ROUTE_KEY, STATE_KEY};
use kanarie_tests::bench::Bench;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::operator::care::{count, held, rolling, step_runs};

/// At its second step, of the same two agents, as one of the earliest operators wrote it.
const STEP: &str = include_str!("../../../../operator/tests/older/earliest/step.json");
const REVISIONS: [&str; 2] = ["care-9889c577a8", "care-adad53e035"];

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_an_older_operator_began_starts_its_step_anew_and_goes_on() {
    let mut bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    bench.stop_operators().await.unwrap();
    let (route, memory) = bench.route().await.unwrap();
    let split = memory.rollout.split();
    let ours = [split.stable.as_str(), split.canary.unwrap().as_str()];
    let renamed = |state: String, (theirs, ours): (&str, &str)| state.replace(theirs, ours);
    let state = REVISIONS.into_iter().zip(ours).fold(STEP.to_owned(), renamed);
    let mut route = serde_json::to_value(&route).unwrap();
    (route["serving"], route["weight"]) = (3.into(), 50.into());
    let written = json!({"stringData": {ROUTE_KEY: route.to_string(), STATE_KEY: state}});
    let (name, params) = (bench.route_name(), PatchParams::default());
    bench.routes().patch(&name, &params, &Patch::Merge(written)).await.unwrap();

    bench.start_operator().await.unwrap();
    let (route, memory) = bench.until_route(|route| route.serving > 3).await.unwrap();
    assert_eq!((route.serving, route.weight.percent()), (4, 50));
    assert_eq!(memory.rollout.history[0].reason, "StepRestarted");
    assert!(memory.rollout.rejected.is_empty());
    step_runs(&bench).await;
    count(&bench, route.serving, (80, 0), 80);
    held(&bench, 7200).await;
    bench.until_route(|route| route.weight.percent() == 100).await.unwrap();
    let told = bench.until_told("care", "StepAdvanced").await.unwrap();
    let of_steps: Vec<_> = told.iter().filter(|one| one.starts_with("Step")).collect();
    assert_eq!(of_steps, ["StepRestarted", "StepAdvanced"], "{told:?}");
}
