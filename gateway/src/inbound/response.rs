//! What Twilio is told: the last hop of the inbound line.
//!
//! Takes how a webhook ended, gives the HTTP response. Pure. Never tells an unverified sender why,
//! and never a value of the request.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use kanarie_queue::admit::Admission;

use crate::inbound::message::Malformed;
use crate::labels::WebhookOutcome;

/// How a webhook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The store has decided about a message.
    Admitted(Admission),
    /// The channel holds as much of the queue as it may.
    ChannelFull,
    /// A kind of message that no agent is asked about.
    Ignored,
    /// A status callback.
    StatusCallback,
    /// The store does not answer.
    StoreDown,
    /// Routes are not loaded, the channel's route has just gone or cannot be read, or the store has
    /// another key than this process.
    NotReady,
    /// Not signed by the channel it claims to be for.
    Forbidden,
    /// Verified, and still no message.
    Malformed(Malformed),
    /// The body is over the cap, or has more parameters than any webhook.
    TooLarge,
    /// All bodies together are as large as they may be.
    NoRoom,
    /// The body did not come in time or broke off.
    TooSlow,
}

/// The acknowledgement that Twilio takes for "no answer now": replies are sent by its API.
const EMPTY_TWIML: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;

impl Response {
    /// The word for it in metrics.
    pub fn outcome(&self) -> WebhookOutcome {
        match self {
            Self::Admitted(Admission::Queued | Admission::Leased(_)) => WebhookOutcome::Queued,
            Self::Admitted(Admission::Duplicate) => WebhookOutcome::Duplicate,
            Self::Admitted(Admission::Limited { .. }) => WebhookOutcome::Limited,
            Self::Admitted(Admission::Full) => WebhookOutcome::Full,
            Self::ChannelFull => WebhookOutcome::ChannelFull,
            Self::Ignored => WebhookOutcome::Ignored,
            Self::StatusCallback => WebhookOutcome::StatusCallback,
            Self::StoreDown => WebhookOutcome::StoreDown,
            Self::NotReady => WebhookOutcome::NotReady,
            Self::Forbidden => WebhookOutcome::Forbidden,
            Self::Malformed(_) => WebhookOutcome::Malformed,
            Self::TooLarge => WebhookOutcome::TooLarge,
            Self::NoRoom => WebhookOutcome::NoRoom,
            Self::TooSlow => WebhookOutcome::TooSlow,
        }
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> axum::response::Response {
        match self {
            Self::Admitted(Admission::Queued | Admission::Leased(_) | Admission::Duplicate)
            | Self::Ignored => {
                let twiml = HeaderValue::from_static("text/xml; charset=utf-8");
                (StatusCode::OK, [(CONTENT_TYPE, twiml)], EMPTY_TWIML).into_response()
            }
            Self::StatusCallback => StatusCode::OK.into_response(),
            Self::Admitted(Admission::Limited { retry_after_ms }) => {
                // Rounded up, so that whoever waits so long is admitted.
                let seconds = retry_after_ms.div_ceil(1000).max(1);
                let text = "Too many requests, please slow down";
                let wait = [(RETRY_AFTER, HeaderValue::from(seconds))];
                (StatusCode::TOO_MANY_REQUESTS, wait, text).into_response()
            }
            Self::Admitted(Admission::Full)
            | Self::ChannelFull
            | Self::StoreDown
            | Self::NotReady
            | Self::NoRoom => {
                let text = "Not accepted, please send it again";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "Forbidden").into_response(),
            Self::Malformed(reason) => {
                (StatusCode::BAD_REQUEST, reason.to_string()).into_response()
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Body too large").into_response(),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "Body too slow").into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Response;
    use crate::inbound::message::Malformed;
    use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
    use axum::response::IntoResponse as _;
    use http_body_util::BodyExt as _;
    use kanarie_queue::admit::Admission;

    async fn told(answer: Response) -> (u16, String) {
        let response = answer.into_response();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_accepted_is_acknowledged_with_an_empty_twiml() {
        for admission in [Admission::Queued, Admission::Duplicate] {
            let answer = Response::Admitted(admission);
            assert_eq!(
                answer.clone().into_response().headers()[CONTENT_TYPE],
                "text/xml; charset=utf-8"
            );
            let (status, body) = told(answer).await;
            assert_eq!(status, 200);
            assert!(body.ends_with("<Response></Response>"), "{body}");
        }
    }

    #[tokio::test]
    async fn too_many_messages_are_told_when_to_come_back_in_whole_seconds() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            let answer = Response::Admitted(Admission::Limited { retry_after_ms: ms });
            assert_eq!(answer.clone().into_response().headers()[RETRY_AFTER], seconds);
            let text = "Too many requests, please slow down";
            assert_eq!(told(answer).await, (429, text.to_owned()));
        }
    }

    #[tokio::test]
    async fn what_may_be_sent_again_is_a_503() {
        for answer in [
            Response::Admitted(Admission::Full),
            Response::StoreDown,
            Response::NotReady,
            Response::NoRoom,
        ] {
            assert_eq!(told(answer).await.0, 503);
        }
    }

    #[tokio::test]
    async fn the_other_answers_have_their_codes() {
        let malformed = Response::Malformed(Malformed::Sid);
        for (answer, status) in [
            (Response::Ignored, 200),
            (Response::StatusCallback, 200),
            (malformed, 400),
            (Response::Forbidden, 403),
            (Response::TooSlow, 408),
            (Response::TooLarge, 413),
        ] {
            assert_eq!(told(answer.clone()).await.0, status, "{answer:?}");
        }
    }
}
