//! `GET /control/v1/state`: what the operator asks of any one gateway about all of them.
//!
//! Takes the bearer token and, optionally, `channels=UID,UID` and `wait=SECONDS&known=DIGEST`; gives a
//! `ControlState`, at once or when it says something urgent that the operator does not know. Never
//! tells anything without the token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kanarie_crds::control::{MAX_CHANNELS_PER_REQUEST, MAX_WAIT_SECONDS};
use kanarie_words::ids::{ChannelUid, UrgentDigest};

use crate::admin::caller::authorize;
use crate::admin::shared::Admin;
use crate::admin::waiting::{self, Waiting};

/// Path of the endpoint.
pub const PATH: &str = "/control/v1/state";

/// Answers the operator.
pub async fn state(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(refusal) = authorize(&admin, &headers) {
        return refusal.into_response();
    }
    let query = query.as_deref().unwrap_or_default();
    let named = named(query);
    if named.len() > MAX_CHANNELS_PER_REQUEST {
        let text = format!("at most {MAX_CHANNELS_PER_REQUEST} channels a request\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let answer = match waiting(query) {
        Some(wanted) => waiting::later(&admin, &named, &wanted).await,
        None => waiting::now(&admin, &named).await,
    };
    let mut response = match answer {
        Ok(state) => Json(state).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    if *admin.shutdown.borrow() {
        // Whoever keeps the connection would go on asking a gateway that is about to end.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn named(query: &str) -> Vec<ChannelUid> {
    let named: BTreeSet<ChannelUid> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "channels")
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|uid| ChannelUid::parse(&uid).ok())
        .collect();
    named.into_iter().collect()
}

/// How the answer may wait. A digest that cannot be read is one that nobody gave.
fn waiting(query: &str) -> Option<Waiting> {
    let values: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
    let seconds: u64 = values.get("wait")?.parse().ok()?;
    let known = values.get("known").and_then(|known| UrgentDigest::parse(known).ok());
    Some(Waiting { wait: Duration::from_secs(seconds.min(MAX_WAIT_SECONDS)), known })
}
