//! What comes to the public port and is no webhook: probes, and what nobody answers.
//!
//! Takes the routes of webhooks, gives them beside an empty 200 for a balancer that looks whether
//! anybody is there, and 404 or 405 for everything else. Whoever mistyped a webhook URL must find out,
//! and strangers look for holes all day: each such request is counted, and a minute has at most one
//! line for those that carry a signature and one for the others. A line shows the shape of the last
//! path only: never a query, a number, or anything as long as a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use kanarie_metrics::label::Label as _;
use tokio::time::Instant;

use crate::events::{Event, Unanswered, emit};
use crate::labels::Caller;

/// Adds probes, and the answers where there is no route.
pub fn beside<S: Clone + Send + Sync + 'static>(webhooks: Router<S>) -> Router<S> {
    let lines = Arc::new(Lines::default());
    let refuse = move |status: StatusCode| {
        let lines = Arc::clone(&lines);
        move |request: Request| {
            lines.count(&request, Instant::now());
            async move { status }
        }
    };
    webhooks
        .route("/", get(async || StatusCode::OK))
        .route("/healthz", get(async || StatusCode::OK))
        .fallback(refuse(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(refuse(StatusCode::METHOD_NOT_ALLOWED))
}

/// Time between two lines about callers of one kind.
const BETWEEN_LINES: Duration = Duration::from_secs(60);
/// Most characters of a path that are shown.
const SHOWN: usize = 80;
/// Most characters of a part of a path that are shown: our own paths have shorter ones, tokens longer.
const SHOWN_PART: usize = 16;

/// The last line about callers of each kind.
#[derive(Default)]
struct Lines([Mutex<Line>; 2]);

#[derive(Default)]
struct Line {
    next: Option<Instant>,
    since_last: u64,
}

impl Lines {
    fn count(&self, request: &Request, now: Instant) {
        let signed = request.headers().contains_key("x-twilio-signature");
        let caller = if signed { Caller::Signed } else { Caller::Unsigned };
        let requests = self.due(caller, now);
        let line = requests.map(|requests| Unanswered {
            method: method(request.method()),
            path: shape(request.uri().path()),
            requests,
        });
        emit(Event::Unanswered { caller, line });
    }

    /// How many requests a line speaks for, if one is due.
    fn due(&self, caller: Caller, now: Instant) -> Option<u64> {
        let mut line = self.0[caller.index()].lock().unwrap_or_else(PoisonError::into_inner);
        line.since_last += 1;
        if line.next.is_some_and(|next| now < next) {
            return None;
        }
        line.next = Some(now + BETWEEN_LINES);
        Some(std::mem::take(&mut line.since_last))
    }
}

/// A method by its word; one that somebody made up is not repeated.
fn method(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
    match known.iter().position(|one| one == method) {
        Some(at) => ["GET", "HEAD", "POST", "PUT", "DELETE"][at],
        None => "another method",
    }
}

/// A path as far as a log may show it: short words of letters as they are, digits as `#`, everything
/// else as `?`, and `…` for what is longer than a word.
fn shape(path: &str) -> String {
    let part = |part: &str| {
        if part.chars().count() > SHOWN_PART {
            return "…".to_owned();
        }
        let shown = part.chars().map(|character| match character {
            'a'..='z' | 'A'..='Z' | '-' | '.' | '_' => character,
            '0'..='9' => '#',
            _ => '?',
        });
        shown.collect()
    };
    let parts: Vec<String> = path.split('/').map(part).collect();
    parts.join("/").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::{BETWEEN_LINES, Lines, shape};
    use crate::labels::Caller;

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_one_line_for_each_kind_of_caller() {
        let lines = Lines::default();
        assert_eq!(lines.due(Caller::Unsigned, Instant::now()), Some(1));
        for _ in 0..1_000 {
            assert_eq!(lines.due(Caller::Unsigned, Instant::now()), None);
        }
        assert_eq!(lines.due(Caller::Signed, Instant::now()), Some(1), "strangers hide nobody");
        advance(BETWEEN_LINES).await;
        assert_eq!(lines.due(Caller::Unsigned, Instant::now()), Some(1_001));
    }

    #[test]
    fn a_mistyped_path_is_shown_and_nothing_private() {
        for (path, shown) in [
            ("/webhooks/twilio/whatsapp/", "/webhooks/twilio/whatsapp/"),
            ("/twilio", "/twilio"),
            ("/to/+31612345678", "/to/?###########"),
            ("/t/0a1b2c3d4e5f60718293a4b5c6d7e8f9/x", "/t/…/x"),
            ("/Jan%20Jansen", "/Jan?##Jansen"),
            ("", ""),
        ] {
            assert_eq!(shape(path), shown);
        }
        assert_eq!(shape(&"/abc".repeat(1_000)).len(), 80);
    }
}
