//! Whether a request that got no answer went out on a kept connection that was being closed.
//!
//! Takes a request, gives its response or an error with that one fact. A client opens a connection
//! when it has none that is idle, so a request for which none was opened took a kept one; when that
//! breaks at once and without a byte of an answer, the other end had closed it before it could read
//! the request. (One that the client sees closed in time is not used: it opens another.) Never
//! repeats a request.

use std::cell::Cell;
use std::time::Duration;

use reqwest::{ClientBuilder, RequestBuilder, Response};
use tokio::time::Instant;
use tower::util::MapRequestLayer;

/// A closed connection shows itself within a round trip; what breaks later was being worked on.
const AT_ONCE: Duration = Duration::from_secs(1);

tokio::task_local! {
    static OPENED: Cell<bool>;
}

/// A request without a response.
#[derive(Debug)]
pub(crate) struct Broke {
    /// Names the URL: not for anybody's eyes.
    pub(crate) error: reqwest::Error,
    /// Its connection was kept and had been closed: all but certainly nobody read it.
    pub(crate) was_closed: bool,
}

/// A client whose requests can be sent by [`send`].
pub(crate) fn watched(client: ClientBuilder) -> ClientBuilder {
    client.connector_layer(MapRequestLayer::new(opened))
}

/// Sends a request, once.
pub(crate) async fn send(request: RequestBuilder) -> Result<Response, Broke> {
    let began = Instant::now();
    let sent = OPENED.scope(Cell::new(false), async {
        let response = request.send().await;
        (response, OPENED.with(Cell::get))
    });
    let (response, opened) = sent.await;
    response.map_err(|error| {
        let broke = error.is_request() && !error.is_timeout() && !error.is_connect();
        let was_closed = broke && !opened && began.elapsed() < AT_ONCE;
        Broke { error, was_closed }
    })
}

/// Notes that the request which is being sent opens a connection.
fn opened<T>(target: T) -> T {
    // A client also opens connections for nobody: then there is nothing to note.
    let _ = OPENED.try_with(|opened| opened.set(true));
    target
}
