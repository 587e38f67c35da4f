//! The admin port: is it alive, is it ready, what has it counted, what does the operator ask.
//!
//! Takes what the gateway knows of itself, gives the router of the admin port. Readiness names what
//! is missing. Never tells a secret; tells of customers, and changes something, only to whoever shows the
//! control token.

mod caller;
pub mod control;
pub mod erase;
pub mod letters;
mod query;
mod replay;
pub mod shared;
pub mod state;
pub mod told;
pub mod unsynced;
mod waiting;
mod walk;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::admin::shared::Admin;
use crate::ends;
use crate::events;

/// The router of the admin port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(ends::PATH, get(outcome))
        .route(control::PATH, get(control::state))
        .route(letters::PATH, get(letters::list).delete(letters::erase_many))
        .route(letters::REPLAY_PATH, post(letters::replay_many))
        .route(letters::ONE_PATH, get(letters::show).delete(letters::erase_one))
        .route(letters::REPLAY_ONE_PATH, post(letters::replay_one))
        .route(erase::PATH, post(erase::erase))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.missing().await;
    if missing.is_empty() {
        return match admin.store.lacks() {
            Some(lacks) => format!("ready\n{lacks}\n").into_response(),
            None => "ready\n".into_response(),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
        .into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let page = events::render(&admin.standing(), &admin.routes.names());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

async fn outcome(Path(sid): Path<String>) -> Response {
    match ends::of(&sid) {
        Some(outcome) => Json(outcome).into_response(),
        None => (StatusCode::NOT_FOUND, "not ended here lately\n").into_response(),
    }
}
