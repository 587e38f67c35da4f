//! The route: what the operator writes and the gateways obey, one object per channel.
//!
//! A route is the value of the key `route` in a Secret of the routes namespace; the key `state`
//! beside it is the operator's memory and no gateway decodes it. Pure: no client, no clock.

use std::fmt;

use kanarie_words::ids::{AccountSid, ChannelUid, RevisionName, RouteHash, SenderAddress};
use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Key of the route in its Secret.
pub const ROUTE_KEY: &str = "route";
/// Key of the operator's memory in the same Secret.
pub const STATE_KEY: &str = "state";
/// Label of every route Secret, with the value `route`.
pub const COMPONENT_LABEL: &str = "kanarie.dev/component";
/// That value.
pub const COMPONENT_ROUTE: &str = "route";
/// Label with the UID of the channel.
pub const CHANNEL_UID_LABEL: &str = "kanarie.dev/channel-uid";
/// Name of the Secret with the control token, in the routes namespace.
pub const CONTROL_SECRET: &str = "kanarie-control";
/// Key of the token in that Secret.
pub const CONTROL_TOKEN_KEY: &str = "token";
/// Most bytes of a route Secret's data.
pub const MAX_OBJECT_BYTES: usize = 64 * 1024;

/// What the gateways obey for one channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The channel this route belongs to.
    pub channel: ChannelRef,
    /// Twilio account, `AC…`.
    pub account_sid: AccountSid,
    /// WhatsApp sender, `whatsapp:+…`.
    pub sender: SenderAddress,
    /// Grows only when weight or revisions change.
    pub serving: u64,
    /// Percent of the conversations on the canary; 0 without one.
    pub weight: Weight,
    /// The revision that serves everybody else.
    pub stable: RevisionRoute,
    /// The revision that is rolled out; evidence is counted while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<RevisionRoute>,
    /// Whether stable is asked when the canary's agent fails; snapshotted.
    pub retry_on_stable: bool,
    /// Answers that take longer are counted as slow; snapshotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u64>,
    /// URL that Twilio signs, then the former ones.
    pub webhook_urls: Vec<String>,
    /// Every secret of the channel itself.
    pub credentials: Credentials,
    /// Live limits.
    pub limits: RouteLimits,
}

/// The channel a route belongs to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ChannelRef {
    /// Namespace of the channel.
    pub namespace: String,
    /// Name of the channel.
    pub name: String,
    /// UID of the channel.
    pub uid: ChannelUid,
}

/// As people, logs and metrics name it: `namespace/name`.
impl fmt::Display for ChannelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One revision with the live values of its secrets.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRoute {
    /// Name of the revision.
    pub revision: RevisionName,
    /// Who answers.
    pub agent: AgentRoute,
    /// Time that the agent has for an answer.
    pub timeout_ms: u64,
    /// Seconds after which Twilio may no longer deliver a reply.
    pub validity_seconds: u32,
    /// Sent when the agent has finally failed; empty sends nothing.
    pub failure_text: String,
    /// Messaging Service that sends the replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging_service_sid: Option<String>,
}

/// Who answers, with service references resolved to URLs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AgentRoute {
    /// A LangGraph server.
    LangGraph {
        /// Base URL.
        url: String,
        /// Whether the URL is that of a Service which the channel refers to by name; a free URL may
        /// be kept away from private addresses. An older operator does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_ref: Option<bool>,
        /// Assistant.
        assistant_id: String,
        /// Sent as `x-api-key`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key: Option<SecretText>,
    },
    /// An HTTP service.
    Http {
        /// URL that messages are posted to.
        url: String,
        /// Whether the URL is that of a Service which the channel refers to by name; a free URL may
        /// be kept away from private addresses. An older operator does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_ref: Option<bool>,
        /// Sent as a bearer token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<SecretText>,
    },
}

/// Every secret of the channel itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// `authToken`.
    pub auth_token: SecretText,
    /// `authTokenSecondary`, while a rotation lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_token_secondary: Option<SecretText>,
    /// API key for calls to Twilio; without it the auth token is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// Shared keys for HMAC-SHA256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<SharedKey>,
}

/// An API key for calls to Twilio.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// `SK…`.
    pub sid: String,
    /// Its secret.
    pub secret: SecretText,
}

/// A shared key of Twilio's webhook configuration.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SharedKey {
    /// Its id, as Twilio names it in the request.
    pub key_id: String,
    /// Its secret, used as the literal string.
    pub secret: SecretText,
}

impl SharedKey {
    /// Id of a key that is tried whatever id a request names, since nobody said which one is its
    /// own. No channel can have a key of this id.
    pub const ANY_ID: &str = "*";
}

/// Live limits of a channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteLimits {
    /// Messages per customer and window.
    pub inbound_messages: u32,
    /// The window.
    pub inbound_window_ms: u64,
    /// Replies per second of this account and sender.
    pub outbound_per_second: u32,
    /// Memory of message SIDs.
    pub dedup_ms: u64,
    /// How long a message is asked again while its agent fails.
    #[serde(default = "patience")]
    pub patience_ms: u64,
}

/// What an operator one version older leaves out.
fn patience() -> u64 {
    900_000
}

/// A secret value: serialised as it is, shown as `[secret]`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Name of the Secret that holds the route of an account's sender: the same for every channel
/// that claims the sender, so the API server itself lets only one exist.
pub fn route_name(account_sid: &AccountSid, sender: &SenderAddress) -> String {
    format!("route-{}", route_hash(format!("{account_sid}|{sender}").as_bytes()))
}

/// Hash of a route's bytes, as replicas acknowledge them.
pub fn route_hash(bytes: &[u8]) -> RouteHash {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    RouteHash::from_bytes(half)
}
