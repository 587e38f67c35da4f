//! The gateways' control endpoint: its token and its answers.
//!
//! Takes a client of the cluster and the base URL of the gateways' admin Service; gives one
//! `ControlState`. Makes the token if there is none. Never judges: whoever cannot be asked has
//! said nothing.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::control::ControlState;
use kanarie_crds::route::{CONTROL_SECRET, CONTROL_TOKEN_KEY};
use kanarie_words::ids::{ChannelUid, UrgentDigest};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use reqwest::StatusCode;
use thiserror::Error;
use tokio::sync::Mutex;

/// Time that one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a new token.
const TOKEN_BYTES: usize = 32;

/// Asks the gateways.
pub struct Control {
    http: reqwest::Client,
    url: String,
    secrets: Api<Secret>,
    token: Mutex<Option<String>>,
}

/// Why there is no answer. It says nothing about any channel.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The token cannot be read or made.
    #[error("the Secret {CONTROL_SECRET} in the routes namespace cannot be read or created")]
    Token(#[source] Box<kube::Error>),
    /// The Secret is there, without a usable token.
    #[error(
        "the Secret {CONTROL_SECRET} has no text under `{CONTROL_TOKEN_KEY}`; delete it and it is made again"
    )]
    NoToken,
    /// No randomness for a new token.
    #[error("the system gives no randomness for the control token")]
    Random(#[source] getrandom::Error),
    /// No gateway answered.
    #[error("no gateway answers at --gateway-url")]
    Unreachable(#[source] reqwest::Error),
    /// A gateway answered with something else.
    #[error("a gateway answered {0} to the question for the control state")]
    Status(StatusCode),
}

impl Control {
    /// Asks at `gateway_url`, with the token of `routes_namespace`.
    pub fn new(
        client: &Client,
        routes_namespace: &str,
        gateway_url: &str,
    ) -> Result<Self, reqwest::Error> {
        let http = http()?;
        let secrets = Api::namespaced(client.clone(), routes_namespace);
        let url = format!("{gateway_url}/control/v1/state");
        Ok(Self { http, url, secrets, token: Mutex::new(None) })
    }

    /// The summary and, for the given uids, the details.
    pub async fn state(&self, uids: &[ChannelUid]) -> Result<ControlState, ControlError> {
        let named = (!uids.is_empty()).then(|| ("channels", list(uids)));
        self.ask(named.into_iter().collect(), REQUEST_TIMEOUT).await
    }

    /// The same as soon as it is urgent and another one than `known`, or after `wait`; at once from a gateway
    /// that does not know how to wait.
    pub async fn urgent(
        &self,
        uids: &[ChannelUid],
        wait: Duration,
        known: Option<&UrgentDigest>,
    ) -> Result<ControlState, ControlError> {
        let mut query = vec![("channels", list(uids)), ("wait", wait.as_secs().to_string())];
        query.extend(known.map(|known| ("known", known.to_string())));
        self.ask(query, wait + REQUEST_TIMEOUT).await
    }

    async fn ask(
        &self,
        query: Vec<(&str, String)>,
        limit: Duration,
    ) -> Result<ControlState, ControlError> {
        let token = self.token().await?;
        let request = self.http.get(&self.url).query(&query).timeout(limit).bearer_auth(token);
        let unreachable = |error: reqwest::Error| ControlError::Unreachable(error.without_url());
        let response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            // The token may have been replaced: read it anew next time.
            *self.token.lock().await = None;
            return Err(ControlError::Status(response.status()));
        }
        response.json().await.map_err(unreachable)
    }

    /// The token, made if there is none.
    pub async fn token(&self) -> Result<String, ControlError> {
        let mut known = self.token.lock().await;
        if let Some(token) = known.as_ref() {
            return Ok(token.clone());
        }
        let failed = |error| ControlError::Token(Box::new(error));
        let token = match self.secrets.get_opt(CONTROL_SECRET).await.map_err(failed)? {
            Some(secret) => token_of(&secret)?,
            None => match self.secrets.create(&PostParams::default(), &new_secret()?).await {
                Ok(secret) => token_of(&secret)?,
                // Another replica was quicker; its token counts.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    token_of(&self.secrets.get(CONTROL_SECRET).await.map_err(failed)?)?
                }
                Err(error) => return Err(failed(error)),
            },
        };
        *known = Some(token.clone());
        Ok(token)
    }
}

/// The gateways are in the same cluster: no proxy of the environment stands between.
fn http() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

fn list(uids: &[ChannelUid]) -> String {
    uids.iter().map(ChannelUid::as_str).collect::<Vec<_>>().join(",")
}

fn new_secret() -> Result<Secret, ControlError> {
    use base64::Engine as _;
    let mut bytes = [0u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(ControlError::Random)?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let data = [(CONTROL_TOKEN_KEY.to_owned(), ByteString(token.into_bytes()))].into();
    Ok(Secret {
        metadata: ObjectMeta { name: Some(CONTROL_SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(data),
        ..Secret::default()
    })
}

fn token_of(secret: &Secret) -> Result<String, ControlError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(CONTROL_TOKEN_KEY));
    let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default();
    match text.trim() {
        "" => Err(ControlError::NoToken),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_new_tokens_differ_and_are_long_enough() {
        let tokens =
            [new_secret().unwrap(), new_secret().unwrap()].map(|secret| token_of(&secret).unwrap());
        assert_ne!(tokens[0], tokens[1]);
        assert!(tokens[0].len() >= 43);
    }

    #[tokio::test]
    async fn gateways_are_asked_without_the_proxy_of_the_environment() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        const GATEWAY: &str = "TEST_GATEWAY";
        if let Ok(url) = std::env::var(GATEWAY) {
            let _ = rustls::crypto::ring::default_provider().install_default();
            assert_eq!(http().unwrap().get(url).send().await.unwrap().status(), 200);
            return;
        }
        let gateway = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The environment of a process is read once, so another one asks.
        let mut asks = tokio::process::Command::new(std::env::current_exe().unwrap());
        asks.args(["gateways_are_asked_without_the_proxy"]).env("HTTP_PROXY", "http://127.0.0.1:1");
        asks.env(GATEWAY, format!("http://{}", gateway.local_addr().unwrap()));
        let mut asks = asks.kill_on_drop(true).spawn().unwrap();
        tokio::select! {
            ended = asks.wait() => assert!(ended.unwrap().success(), "it asked the proxy"),
            () = async {
                let (mut stream, _) = gateway.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                std::future::pending().await
            } => {}
        }
    }

    #[test]
    fn a_secret_without_text_is_no_token() {
        assert!(matches!(token_of(&Secret::default()), Err(ControlError::NoToken)));
    }
}
