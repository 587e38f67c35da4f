//! The admin port: is it alive, is it ready, what has it counted, what does the operator ask.
//!
//! Takes what the gateway knows of itself, gives the router of the admin port. Readiness names what
//! is missing. Never tells a secret, and never changes anything.

pub mod control;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;

use crate::ends;
use crate::events;
use crate::routes::RouteTable;
use crate::store::SharedStore;

/// What the admin port shows.
pub struct Admin {
    /// The routes in force.
    pub routes: Arc<RouteTable>,
    /// The store.
    pub store: SharedStore,
    /// The store's key, once it is known.
    pub key: Arc<OnceLock<[u8; 32]>>,
    /// Says true once the gateway is told to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// The router of the admin port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(ends::PATH, get(outcome))
        .route(control::PATH, get(control::state))
        .with_state(admin)
}

/// Longest that a question whether the store answers may take: probes wait a second by default.
const PING_DEADLINE: Duration = Duration::from_millis(800);

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.missing().await;
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
        .into_response()
}

async fn metrics() -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], events::render()).into_response()
}

async fn outcome(Path(sid): Path<String>) -> Response {
    match ends::of(&sid) {
        Some(outcome) => Json(outcome).into_response(),
        None => (StatusCode::NOT_FOUND, "not ended here lately\n").into_response(),
    }
}

impl Admin {
    async fn missing(&self) -> Vec<&'static str> {
        let answers = tokio::time::timeout(PING_DEADLINE, self.store.ping()).await;
        let told = [
            (*self.shutdown.borrow(), "it is stopping"),
            (!self.routes.ready(), "the routes are not loaded"),
            (!matches!(answers, Ok(Ok(()))), "the store does not answer"),
            (self.key.get().is_none(), "the store's key is not known"),
        ];
        told.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
    }
}
