//! The admin server: /livez, /readyz and /metrics.
//!
//! Takes a listener and what there is to tell; answers until it is dropped. Tells nothing about
//! any channel.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::process::metrics::Metrics;

/// How far the start has come.
#[derive(Default)]
pub struct Progress {
    stage: AtomicU8,
    missing: Mutex<Vec<String>>,
}

/// A stage of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStage {
    /// The cluster was not looked at yet.
    Starting = 0,
    /// Another replica leads; this one could take over.
    Standby = 1,
    /// The watches are not complete yet.
    Loading = 2,
    /// Channels are reconciled.
    Working = 3,
}

impl Progress {
    /// The start has come to this stage.
    pub fn reach(&self, stage: ProcessStage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// What cannot be seen of the cluster, each with the reason.
    pub fn miss(&self, missing: Vec<String>) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// Whether this replica is of use, and in which words.
    fn readiness(&self) -> (StatusCode, String) {
        let (status, mut words) = self.of_stage();
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        for one in missing.iter() {
            words.push_str(&format!("missing: {one}\n"));
        }
        (status, words)
    }

    fn of_stage(&self) -> (StatusCode, String) {
        let (status, words) = match self.stage.load(Ordering::Relaxed) {
            1 => (StatusCode::OK, "standby: another replica leads\n"),
            2 => {
                (StatusCode::SERVICE_UNAVAILABLE, "missing: the first complete list of channels\n")
            }
            3 => (StatusCode::OK, "ready\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "missing: the check of the CRD\n"),
        };
        (status, words.to_owned())
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, progress: Arc<Progress>, metrics: Arc<Metrics>) {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(|State((progress, _)): State<Shared>| async move { progress.readiness() }),
        )
        .route(
            "/metrics",
            get(|State((_, metrics)): State<Shared>| async move { render(&metrics) }),
        )
        .with_state((progress, metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "nobody listens at --admin-listen any more");
    }
}

type Shared = (Arc<Progress>, Arc<Metrics>);

fn render(metrics: &Metrics) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_when_it_works_or_could_take_over() {
        let progress = Progress::default();
        let ready = |stage| {
            progress.reach(stage);
            progress.readiness().0 == StatusCode::OK
        };
        assert!(!ready(ProcessStage::Starting));
        assert!(ready(ProcessStage::Standby));
        assert!(!ready(ProcessStage::Loading));
        assert!(ready(ProcessStage::Working));
    }
}
