//! What a request to a fake Twilio says: who asks, and for the messages of which days.
//!
//! Takes headers and parameters; gives plain values. Knows no account and no message.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// User and secret of Basic authentication; empty where there is none.
pub(crate) fn basic_auth(headers: &HeaderMap) -> (String, String) {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = given.and_then(|value| value.strip_prefix("Basic "));
    let decoded = basic.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let decoded = String::from_utf8(decoded).unwrap_or_default();
    let (user, secret) = decoded.split_once(':').unwrap_or_default();
    (user.to_owned(), secret.to_owned())
}

/// `DateSent>`, `DateSent<` and `DateSent` with a day or a time, as the query names them.
pub(crate) fn date_matches(name: &str, value: &str, at: Timestamp) -> bool {
    let day = at.to_string()[..10].to_owned();
    let precise = value.len() > 10;
    let time = if precise { value.to_owned() } else { format!("{value}T00:00:00Z") };
    let Ok(bound) = time.parse() else { return true };
    match name {
        "DateSent>" if precise => at >= bound,
        "DateSent<" if precise => at <= bound,
        "DateSent>" => day.as_str() >= value,
        "DateSent<" => day.as_str() <= value,
        "DateSent" => day == value[..10],
        _ => true,
    }
}
