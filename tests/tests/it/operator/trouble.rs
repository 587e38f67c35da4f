//! What goes wrong around one channel stays with that channel, and nothing is kept of one that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::operator::care::{OLD, count, rolling, said, served, with_port};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_a_channel_that_goes_without_ever_having_had_a_route() {
    let mut bench = Bench::without_operator().await.unwrap();
    let config = with_port(bench.config());
    bench.start_with(config.clone(), bench.operator_client().await.unwrap());
    let channel = bench.manifest("care", OLD).channel().to_string();
    bench.plane.apply_yaml(&bench.places.channels, &channel).await.unwrap();
    let blocked = |channel: &Value| reason(channel, "Ready") == Some("CredentialsNotReady");
    bench.until("care", blocked).await.unwrap();
    let shown = async || said(&config, "metrics").await.contains("channel=\"care\"");
    assert!(shown().await);
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    let forgotten = async {
        while shown().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(20), forgotten).await.expect("its numbers go with it");
}

/// A time that the schema takes and no clock has.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_read_is_written_anew_and_its_canary_is_judged() {
    let bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    let nonsense = json!({"status": {"stable": {"since": "2026-01-01T00:00:00+99:00"}}});
    let params = PatchParams::default();
    let written = bench.channels().patch_status("care", &params, &Patch::Merge(nonsense)).await;
    let is_there = matches!(written, Err(kube::Error::SerdeError(_)));
    assert!(is_there, "the API server takes it, and nobody can read it: {written:?}");
    count(&bench, serving, (0, 8), 500);
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let back = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
    bench.until("care", back).await.unwrap();
}

/// The clock of the operator panics once, in the first reconcile.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_that_panics_is_told_on_its_channel_and_ends_nothing_else() {
    let mut bench = Bench::without_operator().await.unwrap();
    let looks = Arc::new(AtomicU32::new(0));
    let clock = Arc::new(move || {
        assert!(looks.fetch_add(1, Ordering::Relaxed) > 0, "what a panic says");
        kanarie_operator::process::clock::now()
    });
    bench.start_by(clock, bench.config(), bench.operator_client().await.unwrap());
    served(&bench).await;
    bench.until_told("care", "ReconcileFailed").await.unwrap();
    let channel = bench.until("care", |_| true).await.unwrap();
    assert_eq!(condition(&channel, "Stalled"), Some("False"));
}
