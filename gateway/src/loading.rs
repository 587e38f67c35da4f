//! What the ports answer while the store is opened: that is not done in a moment when it is large.
//!
//! Takes the ports, how far the opening is, and the opening itself; gives what was opened, or nothing when
//! it is told to stop. A webhook is refused with 503 and counted; whoever probes hears that the process is
//! alive and what it waits for. Connections of these answers end with them; new ones wait at the port.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::callback::{MESSAGE_PATH, STATUS_PATH};
use crate::events::{self, Event, emit};
use crate::inbound::response::Response;
use crate::inbound::unanswered;
use crate::labels::Endpoint;
use crate::levels::Standing;
use crate::server;
use crate::server::limits::ClientLimits;
use crate::stop::stopped;
use crate::store::embedded::opening::Opening;

/// Answers at both ports until the opening is over or `stop` says true.
///
/// # Errors
/// When the system gives no second handle of a port.
pub async fn beside<T>(
    [public, admin]: [&TcpListener; 2],
    opening: &Arc<Opening>,
    opened: impl Future<Output = T>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<Option<T>> {
    let (end, ending) = watch::channel(false);
    let limits = ClientLimits { drain: DRAIN, ..ClientLimits::default() };
    let webhooks = server::run(twin(public)?, refusals(), limits, ending.clone());
    let probes = server::run(twin(admin)?, probes(Arc::clone(opening)), limits, ending);
    let opened = async {
        let opened = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            opened = opened => Some(opened),
        };
        end.send_replace(true);
        opened
    };
    let ((), (), opened) = tokio::join!(webhooks, probes, opened);
    Ok(opened)
}

/// For answers that are being sent when the store is open: nobody waits long for a slow client.
const DRAIN: Duration = Duration::from_secs(1);

/// A second handle of the same port: closing it leaves the port open.
fn twin(listener: &TcpListener) -> std::io::Result<TcpListener> {
    use std::os::fd::AsFd as _;
    TcpListener::from_std(listener.as_fd().try_clone_to_owned()?.into())
}

fn refusals() -> Router {
    let refuse = |endpoint| {
        async move || {
            let outcome = Response::NotReady.outcome();
            emit(Event::Webhook { endpoint, outcome, took: Duration::ZERO });
            Response::NotReady.into_response()
        }
    };
    let webhooks = Router::new()
        .route(MESSAGE_PATH, post(refuse(Endpoint::Message)))
        .route(STATUS_PATH, post(refuse(Endpoint::Status)));
    unanswered::beside(webhooks)
}

fn probes(opening: Arc<Opening>) -> Router {
    let waits = move || -> HttpResponse {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {opening}\n")).into_response()
    };
    let fallback = waits.clone();
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(async move || waits()))
        .route("/metrics", get(metrics))
        .fallback(async move || fallback())
}

async fn metrics() -> HttpResponse {
    // Nothing stands yet, of no channel.
    let page = events::render(&Standing::default(), &HashSet::new());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{oneshot, watch};

    use super::beside;
    use crate::store::embedded::opening::Opening;

    async fn asked(port: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(port).await.unwrap();
        let request =
            format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ports() -> [TcpListener; 2] {
        [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ]
    }

    #[tokio::test]
    async fn while_the_store_is_opened_webhooks_are_refused_and_probes_hear_how_far_it_is() {
        let [public, admin] = ports().await;
        let [webhooks, probes] = [&public, &admin].map(|port| port.local_addr().unwrap());
        let (opening, stop) = (Arc::new(Opening::default()), watch::Sender::new(false));
        let (open, opened) = oneshot::channel();
        let asks = async {
            let refused = asked(webhooks, "POST /webhooks/twilio/whatsapp").await;
            assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
            assert!(asked(webhooks, "GET /healthz").await.starts_with("HTTP/1.1 200"));
            assert!(asked(probes, "GET /livez").await.starts_with("HTTP/1.1 200"));
            let ready = asked(probes, "GET /readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
            assert!(ready.ends_with("not ready: the store is being opened\n"), "{ready}");
            assert!(asked(probes, "GET /metrics").await.contains("kanarie_webhooks_total"));
            assert!(asked(probes, "GET /control/v1/state").await.starts_with("HTTP/1.1 503"));
            open.send("open").unwrap();
        };
        let told = beside([&public, &admin], &opening, opened, stop.subscribe());
        let (told, ()) = tokio::join!(told, asks);
        assert_eq!(told.unwrap(), Some(Ok("open")));
        // Whoever comes now finds the port open, and waits for the gateway.
        let (_, accepted) = tokio::join!(TcpStream::connect(webhooks), public.accept());
        accepted.unwrap();
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_for_the_store() {
        let [public, admin] = ports().await;
        let stop = watch::Sender::new(true);
        let (ports, opening) = ([&public, &admin], Arc::default());
        let opened = beside(ports, &opening, pending::<()>(), stop.subscribe());
        assert_eq!(opened.await.unwrap(), None);
        let stop = watch::Sender::new(false);
        let opened = beside(ports, &opening, ready(1), stop.subscribe());
        assert_eq!(opened.await.unwrap(), Some(1));
    }
}
