//! The bake, in which everybody is on the canary: what fails there, and what stable cannot rescue.

use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use serde_json::{Value, json};

use crate::operator::care::{count, held, rolling, step_runs};

/// The bake begins; gives its serving.
async fn baking(bench: &Bench) -> u64 {
    let mut serving = rolling(bench).await;
    for (hold, stable, next) in [(3600, 540, 50), (7200, 60, 100)] {
        count(bench, serving, (60, 0), stable);
        held(bench, hold).await;
        let at_next = |route: &kanarie_crds::route::Route| route.weight.percent() == next;
        serving = bench.until_route(at_next).await.unwrap().0.serving;
        step_runs(bench).await;
    }
    serving
}

/// Scenario 57: errors in the bake lead back to the former revision.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_57_a_canary_that_fails_in_the_bake_goes_back_to_the_first_step_and_is_rejected_there()
 {
    let bench = Bench::start().await.unwrap();
    let serving = baking(&bench).await;
    count(&bench, serving, (20, 8), 0);
    let (route, memory) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    assert_eq!(route.serving, serving + 1, "one write");
    assert!(memory.rollout.rejected.is_empty());
    step_runs(&bench).await;
    let goes_on = |channel: &Value| reason(channel, "RolledOut") == Some("Holding");
    let channel = bench.until("care", goes_on).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("Unknown"));
    assert_eq!(channel["status"]["rejected"], json!([]));
    let told = bench.transitions("care").await.unwrap().pop().unwrap();
    assert_eq!(
        (told.type_.as_deref(), told.reason.as_deref()),
        (Some("Warning"), Some("SteppedBack"))
    );
    count(&bench, route.serving, (0, 8), 72);
    bench.until_route(|route| route.canary.is_none()).await.unwrap();
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    let channel = bench.until("care", back).await.unwrap();
    assert_eq!(channel["status"]["rejected"].as_array().map(Vec::len), Some(1));
}

/// Scenario 14: an outage of both in the bake rejects nobody.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_14_an_outage_of_both_in_the_bake_rejects_nobody_and_the_bake_starts_anew_after_it()
 {
    let bench = Bench::start().await.unwrap();
    let serving = baking(&bench).await;
    bench.script(|script| script.rescues = false);
    count(&bench, serving, (20, 40), 0);
    let both = |channel: &Value| reason(channel, "RolledOut") == Some("SharedDegradation");
    let channel = bench.until("care", both).await.unwrap();
    assert_eq!(channel["status"]["rollout"]["weight"], 100);
    let analysis = &channel["status"]["analysis"];
    assert_eq!(analysis["canaryFailedCustomers"], 40);
    assert_eq!(analysis["canaryRescuedCustomers"], 0);
    // Long after it only answers come in.
    bench.pass(600);
    count(&bench, serving, (2_000, 40), 0);
    let (route, memory) = bench.until_route(|route| route.serving > serving).await.unwrap();
    assert_eq!(route.weight.percent(), 100);
    assert_eq!(memory.rollout.history[0].reason, "StepRestarted");
    assert!(memory.rollout.rejected.is_empty());
}
