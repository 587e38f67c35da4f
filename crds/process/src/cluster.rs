//! The way to the API server: connections that notice when nobody is at the other end any more.
//!
//! Takes what kube finds by itself (a pod's account or a kubeconfig); gives a client. A network that
//! forgets a connection says nothing, so the system asks after ten seconds of silence and ends what
//! stays without an answer. An API server, or what stands before it, that takes a request and says nothing is
//! not waited for either. Behind a proxy it is kube's own client.

use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{ClientBuilder, ConfigExt as _};
use kube::{Client, Config, Error};
use tower::retry::RetryLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{MapErrLayer, option_layer};
use tower::{BoxError, Layer as _};

/// Silence after which a connection is asked whether it still is one.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Between two such questions, and how many.
const AGAIN: (Duration, u32) = (Duration::from_secs(5), 3);
/// For how long what was sent may stay without the other end's receipt.
const UNRECEIPTED: Duration = Duration::from_secs(20);

/// For how long a request may stay without the beginning of an answer. A watch has that at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// A client of the API server that this process finds.
///
/// # Errors
/// There is none, or its configuration cannot be used.
pub async fn connect() -> Result<Client, Error> {
    client(Config::infer().await.map_err(Error::InferConfig)?)
}

/// A client of this API server.
///
/// # Errors
/// Its configuration cannot be used.
pub fn client(config: Config) -> Result<Client, Error> {
    answered_within(config, ANSWERED_WITHIN)
}

fn answered_within(config: Config, limit: Duration) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(AGAIN.0));
    connector.set_keepalive_retries(Some(AGAIN.1));
    connector.set_tcp_user_timeout(Some(UNRECEIPTED));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http = HttpClient::builder(TokioExecutor::new()).build(connector);
    let http = MapErrLayer::new(BoxError::from).layer(http);
    let http = TimeoutLayer::new(limit).layer(http);
    let named = config.extra_headers_layer()?.layer(http);
    let signed = option_layer(config.auth_layer()?).layer(named);
    let again = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = config.base_uri_layer().layer(option_layer(again).layer(signed));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Which timer the system runs for the connection from this address: 2 is the one that asks.
    fn timer(from: SocketAddr) -> Option<String> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let port = format!(":{:04X}", from.port());
        let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(1).is_some_and(|local| local.ends_with(&port)))?;
        row.get(5).map(|timer| (*timer).to_owned())
    }

    #[tokio::test]
    async fn one_that_takes_a_request_and_never_answers_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = Config::new(url.parse().unwrap());
        config.default_retry = false;
        let client = answered_within(config, Duration::from_millis(50)).unwrap();
        let holds = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                open.push(connection);
            }
        });
        let asked = tokio::time::timeout(Duration::from_secs(10), client.apiserver_version());
        let answer = asked.await.expect("it is not waited for");
        holds.abort();
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_is_silent_is_asked_whether_it_still_is_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(Config::new(url.parse().unwrap())).unwrap();
        let waits = tokio::spawn(async move { client.apiserver_version().await.map(drop) });
        let (_open, from) = listener.accept().await.unwrap();
        let mut told = timer(from);
        // Before that the timer is the one of what was just sent.
        while told.as_ref().is_some_and(|timer| timer.starts_with("01")) {
            tokio::task::yield_now().await;
            told = timer(from);
        }
        waits.abort();
        let told = told.unwrap_or_else(|| "no such connection".to_owned());
        assert!(told.starts_with("02:"), "{told}");
    }
}
