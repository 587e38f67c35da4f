//! A channel, its revisions and its Secrets become a route: pure.
//!
//! Takes what `validate` accepted and the Secrets that `secret_names` names, gives the route that
//! gateways obey, or why there is none. An error names the Secret and the key, never a value.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_words::ids::{AccountSid, InvalidId, RevisionName, SenderAddress};
use kanarie_words::weight::Weight;

use crate::channel::rollout::OnMessageFailure;
use crate::channel::{AgentSpec, RevisionContent, SecretRef, WhatsAppChannelSpec};
use crate::route::{
    AgentRoute, ApiKey, ChannelRef, Credentials, RevisionRoute, Route, RouteLimits, SecretText,
    SharedKey,
};
use crate::secrets::{
    AGENT_API_KEY, AGENT_TOKEN, API_KEY_SECRET, API_KEY_SID, AUTH_TOKEN, AUTH_TOKEN_SECONDARY,
    MAX_VALUE_BYTES, SIGNING_KEY,
};

/// Data of the Secrets of one namespace: name → key → value.
pub type Secrets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Why a channel has no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The Secret is not there.
    #[error(
        "Secret `{secret}` does not exist in the channel's namespace; create it with the key `{key}`"
    )]
    SecretNotFound {
        /// Name of the Secret.
        secret: String,
        /// The key that is needed.
        key: &'static str,
    },
    /// The Secret lacks a key, or its value is empty.
    #[error("Secret `{secret}` has no value under the key `{key}`; add it")]
    KeyMissing {
        /// Name of the Secret.
        secret: String,
        /// The key that is needed.
        key: &'static str,
    },
    /// The value is longer than a route may carry.
    #[error(
        "the value of `{key}` in Secret `{secret}` is longer than {MAX_VALUE_BYTES} bytes; shorten it"
    )]
    ValueTooLong {
        /// Name of the Secret.
        secret: String,
        /// The key of the value.
        key: &'static str,
    },
    /// The value is no text, or has control characters within.
    #[error("the value of `{key}` in Secret `{secret}` is not plain text; write it again")]
    NotText {
        /// Name of the Secret.
        secret: String,
        /// The key of the value.
        key: &'static str,
    },
    /// A revision's agent has no address. `validate` refuses such a channel.
    #[error(
        "revision `{revision}` names no agent; set exactly one of `langGraph` and `http`, with one of `url` and `serviceRef`"
    )]
    NoAgent {
        /// Name of the revision.
        revision: RevisionName,
    },
    /// The spec names what cannot be an id. `validate` refuses such a channel.
    #[error("the channel names what is {0}; correct the spec")]
    Id(InvalidId),
}

/// The Secrets that these revisions of a channel need.
pub fn secret_names(
    spec: &WhatsAppChannelSpec,
    revisions: &[&RevisionContent],
) -> BTreeSet<String> {
    let twilio = &spec.twilio;
    let of_channel = std::iter::once(&twilio.auth_token_secret_ref)
        .chain(&twilio.api_key_secret_ref)
        .chain(twilio.signing_keys.iter().map(|key| &key.secret_ref));
    let of_revisions = revisions.iter().flat_map(|content| {
        let graph = content.agent.lang_graph.as_ref();
        let http = content.agent.http.as_ref();
        graph
            .and_then(|graph| graph.api_key_secret_ref.as_ref())
            .into_iter()
            .chain(http.and_then(|http| http.token_secret_ref.as_ref()))
    });
    of_channel.chain(of_revisions).map(|reference| reference.name.clone()).collect()
}

/// Compiles one revision with the live values of its Secrets.
pub fn compile_revision(
    namespace: &str,
    name: &RevisionName,
    content: &RevisionContent,
    secrets: &Secrets,
) -> Result<RevisionRoute, CompileError> {
    let agent = agent(namespace, name, &content.agent, secrets)?;
    Ok(RevisionRoute {
        revision: name.clone(),
        agent,
        timeout_ms: u64::from(content.agent.timeout_seconds) * 1000,
        validity_seconds: content.reply.validity_seconds,
        failure_text: content.reply.failure_text.clone(),
        messaging_service_sid: content.messaging_service_sid.clone(),
    })
}

/// Compiles the live part of a channel around a stable revision: no canary, weight 0. Who rolls
/// out sets `serving`, `weight`, `canary` and the snapshotted policy afterwards.
pub fn compile_channel(
    channel: ChannelRef,
    spec: &WhatsAppChannelSpec,
    stable: RevisionRoute,
    secrets: &Secrets,
) -> Result<Route, CompileError> {
    let limits = &spec.limits;
    Ok(Route {
        channel,
        account_sid: AccountSid::parse(&spec.twilio.account_sid).map_err(CompileError::Id)?,
        sender: SenderAddress::parse(&spec.sender.address).map_err(CompileError::Id)?,
        serving: 1,
        weight: Weight::ZERO,
        stable,
        canary: None,
        retry_on_stable: spec.rollout.on_message_failure == OnMessageFailure::RetryOnStable,
        max_latency_ms: spec.rollout.analysis.max_latency_milliseconds.map(u64::from),
        webhook_urls: std::iter::once(&spec.webhook.url)
            .chain(&spec.webhook.previous_urls)
            .cloned()
            .collect(),
        credentials: credentials(spec, secrets)?,
        limits: RouteLimits {
            inbound_messages: limits.inbound_messages,
            inbound_window_ms: u64::from(limits.inbound_window_seconds) * 1000,
            outbound_per_second: limits.outbound_per_second,
            dedup_ms: u64::from(limits.dedup_seconds) * 1000,
            patience_ms: u64::from(limits.patience_seconds) * 1000,
        },
    })
}

fn agent(
    namespace: &str,
    revision: &RevisionName,
    agent: &AgentSpec,
    secrets: &Secrets,
) -> Result<AgentRoute, CompileError> {
    let no_agent = || CompileError::NoAgent { revision: revision.clone() };
    match (&agent.lang_graph, &agent.http) {
        (Some(graph), None) => Ok(AgentRoute::LangGraph {
            url: match (&graph.url, &graph.service_ref) {
                (Some(url), None) => url.clone(),
                (None, Some(service)) => service_url(&service.name, namespace, service.port, ""),
                _ => return Err(no_agent()),
            },
            service_ref: Some(graph.service_ref.is_some()),
            assistant_id: graph.assistant_id.clone(),
            api_key: optional(graph.api_key_secret_ref.as_ref(), AGENT_API_KEY, secrets)?,
        }),
        (None, Some(http)) => Ok(AgentRoute::Http {
            url: match (&http.url, &http.service_ref) {
                (Some(url), None) => url.clone(),
                (None, Some(service)) => {
                    service_url(&service.name, namespace, service.port, &service.path)
                }
                _ => return Err(no_agent()),
            },
            service_ref: Some(http.service_ref.is_some()),
            token: optional(http.token_secret_ref.as_ref(), AGENT_TOKEN, secrets)?,
        }),
        _ => Err(no_agent()),
    }
}

/// A Service's address within any cluster: without the cluster's domain, which may be another.
fn service_url(name: &str, namespace: &str, port: u16, path: &str) -> String {
    format!("http://{name}.{namespace}.svc:{port}{path}")
}

fn credentials(spec: &WhatsAppChannelSpec, secrets: &Secrets) -> Result<Credentials, CompileError> {
    let twilio = &spec.twilio;
    let auth = &twilio.auth_token_secret_ref;
    let auth_token = SecretText::new(value_of(auth, AUTH_TOKEN, secrets)?);
    let api_key = match &twilio.api_key_secret_ref {
        None => None,
        Some(reference) => Some(ApiKey {
            sid: value_of(reference, API_KEY_SID, secrets)?,
            secret: SecretText::new(value_of(reference, API_KEY_SECRET, secrets)?),
        }),
    };
    let signing_keys = twilio.signing_keys.iter().map(|key| {
        Ok(SharedKey {
            key_id: key.key_id.clone(),
            secret: SecretText::new(value_of(&key.secret_ref, SIGNING_KEY, secrets)?),
        })
    });
    let secondary = match value_of(auth, AUTH_TOKEN_SECONDARY, secrets) {
        Ok(value) => Some(SecretText::new(value)),
        Err(CompileError::KeyMissing { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Credentials {
        auth_token,
        auth_token_secondary: secondary,
        api_key,
        signing_keys: signing_keys.collect::<Result<_, _>>()?,
    })
}

fn optional(
    reference: Option<&SecretRef>,
    key: &'static str,
    secrets: &Secrets,
) -> Result<Option<SecretText>, CompileError> {
    reference.map(|reference| value_of(reference, key, secrets).map(SecretText::new)).transpose()
}

/// The value under a key of the Secret that is referred to, or why there is none to compile.
pub fn value_of(
    reference: &SecretRef,
    key: &'static str,
    secrets: &Secrets,
) -> Result<String, CompileError> {
    let secret = reference.name.clone();
    let Some(data) = secrets.get(&reference.name) else {
        return Err(CompileError::SecretNotFound { secret, key });
    };
    let Some(bytes) = data.get(key) else {
        return Err(CompileError::KeyMissing { secret, key });
    };
    match value(bytes) {
        Ok(value) => Ok(value.to_owned()),
        Err(Flaw::TooLong) => Err(CompileError::ValueTooLong { secret, key }),
        Err(Flaw::NotText) => Err(CompileError::NotText { secret, key }),
        Err(Flaw::Empty) => Err(CompileError::KeyMissing { secret, key }),
    }
}

/// Why a value cannot be used.
enum Flaw {
    TooLong,
    NotText,
    Empty,
}

/// What the bytes of a key say, without the line end that `echo` and editors leave behind them.
fn value(bytes: &[u8]) -> Result<&str, Flaw> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(Flaw::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::NotText)?;
    match text.trim_end_matches(['\r', '\n']) {
        value if value.contains(char::is_control) => Err(Flaw::NotText),
        "" => Err(Flaw::Empty),
        value => Ok(value),
    }
}
