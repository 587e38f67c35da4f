//! One call of an agent: what an error of the client means, and the body of an answer.
//!
//! Takes a response and a deadline, gives the bytes or why there are none. Never reads more than
//! 8 MiB, and never lets the URL of an error out.

use std::time::Duration;

use reqwest::Response;
use tokio::time::Instant;

use crate::outbound::agent::address::AddressRefused;
use crate::outbound::agent::answer::Failure;

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The body up to 8 MiB, waiting at most `idle` for the next part of it.
pub(crate) async fn read(
    response: &mut Response,
    idle: Duration,
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        let until = deadline.min(Instant::now() + idle);
        let chunk = match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(error)) => return Err(failure(&error)),
            Err(_) if Instant::now() >= deadline => return Err(Failure::Deadline),
            Err(_) => return Err(Failure::Broken),
        };
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
}

/// What an error of the client means. The error itself names the URL, so it goes no further.
pub(crate) fn failure(error: &reqwest::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<AddressRefused>() {
            return Failure::Address;
        }
        source = cause.source();
    }
    if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        Failure::Deadline
    } else {
        Failure::Broken
    }
}
