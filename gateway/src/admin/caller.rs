//! Who asks a control endpoint, and how he is refused.
//!
//! Takes a request's header; lets pass whoever shows the control token. Nothing else is looked at before
//! that, so that a stranger learns nothing, not even what is asked wrongly.

use axum::Json;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::admin::shared::Admin;
use crate::server::peer::Peer;
use crate::store::error::StoreError;

/// Lets the bearer of the control token pass.
pub(super) fn authorize(admin: &Admin, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = admin.routes.control_token() else {
        return Err(Refusal::Unavailable(NO_TOKEN.to_owned()));
    };
    if is_bearer(headers, token.expose()) { Ok(()) } else { Err(Refusal::Stranger) }
}

/// The address that a request came from, if it came over the network.
pub(super) fn peer(parts: &Parts) -> Option<String> {
    parts.extensions.get::<Peer>().map(|Peer(address)| address.to_string())
}

/// What an endpoint answers.
pub(super) type Answered<T> = Result<Json<T>, Refusal>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The token is missing or wrong.
    Stranger,
    /// The request makes no sense: how it would.
    Wrong(String),
    /// The request was not complete in time.
    Late,
    /// What is asked for is not there.
    Unknown(String),
    /// It is there, and cannot be done now.
    Conflict(String),
    /// Nobody can answer at present.
    Unavailable(String),
}

/// With an operator it is there once the Secret is read.
const NO_TOKEN: &str = "there is no control token yet: the operator makes it, and a gateway without \
                        operator takes --control-token-file (KANARIE_CONTROL_TOKEN_FILE)";

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Stranger => (StatusCode::UNAUTHORIZED, "the control token is needed".to_owned()),
            Self::Wrong(text) => (StatusCode::BAD_REQUEST, text),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned()),
            Self::Unknown(text) => (StatusCode::NOT_FOUND, text),
            Self::Conflict(text) => (StatusCode::CONFLICT, text),
            Self::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        };
        (status, format!("{text}\n")).into_response()
    }
}

/// Compares hashes, so that neither the token nor its length shows in the time it takes.
fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let same = Sha256::digest(presented).ct_eq(&Sha256::digest(token));
    !token.is_empty() && bool::from(same)
}
