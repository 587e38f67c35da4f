//! The route of a single channel from the environment: pure.
//!
//! Takes a look-up of variables, gives one route by the same way as a manifest: the channel and
//! its Secrets are made up from the variables, validated and compiled. Problems name variables,
//! never a value. Never reads the environment itself.

use std::collections::BTreeMap;

use kanarie_crds::compile::Secrets;
use kanarie_crds::route::{Route, SharedKey};
use kanarie_crds::secrets::{AUTH_TOKEN, SIGNING_KEY};
use serde_json::{Value, json};

use crate::callback::MESSAGE_PATH;
use crate::routes::directory;
use crate::routes::manifest;

const ACCOUNT: &str = "TWILIO_ACCOUNT_SID";
const TOKEN: &str = "TWILIO_AUTH_TOKEN";
const NUMBER: &str = "TWILIO_WHATSAPP_NUMBER";
const URL: &str = "TWILIO_WEBHOOK_URL";
const SHARED_KEY: &str = "TWILIO_WEBHOOK_SECRET";
const SHARED_KEY_ID: &str = "TWILIO_WEBHOOK_KEY_ID";
const GRAPH: &str = "LANGGRAPH_URL";
const ASSISTANT: &str = "LANGGRAPH_ASSISTANT_ID";
const AGENT: &str = "AGENT_URL";

/// Every variable that belongs to this source: one that is set means that the source is meant.
pub const VARIABLES: [&str; 9] =
    [ACCOUNT, TOKEN, NUMBER, URL, SHARED_KEY, SHARED_KEY_ID, GRAPH, ASSISTANT, AGENT];

/// Name of the made-up Secrets: no Secret of that name exists anywhere.
const TOKEN_SECRET: &str = "environment-token";
const KEY_SECRET: &str = "environment-key";

/// The route, or every problem with the variables.
pub fn route(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Route, Vec<String>> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let problems = missing(&get);
    if !problems.is_empty() {
        return Err(problems);
    }
    let value = |name: &str| get(name).unwrap_or_default();
    let mut secrets = Secrets::new();
    let mut keep = |secret: &str, key: &str, text: String| {
        let data = BTreeMap::from([(key.to_owned(), text.into_bytes())]);
        secrets.insert(secret.to_owned(), data);
    };
    keep(TOKEN_SECRET, AUTH_TOKEN, value(TOKEN));
    let mut signing_keys = Vec::new();
    if let Some(key) = get(SHARED_KEY) {
        keep(KEY_SECRET, SIGNING_KEY, key);
        let id = get(SHARED_KEY_ID).unwrap_or_else(|| "environment".to_owned());
        signing_keys.push(json!({"keyId": id, "secretRef": {"name": KEY_SECRET}}));
    }
    let number = value(NUMBER);
    let address =
        if number.starts_with("whatsapp:") { number } else { format!("whatsapp:{number}") };
    let channel = serde_json::from_value(json!({
        "apiVersion": "kanarie.dev/v1alpha1",
        "kind": "WhatsAppChannel",
        "metadata": {"name": "environment", "namespace": manifest::DEFAULT_NAMESPACE},
        "spec": {
            "twilio": {
                "accountSid": value(ACCOUNT),
                "authTokenSecretRef": {"name": TOKEN_SECRET},
                "signingKeys": signing_keys,
            },
            "sender": {"address": address},
            "webhook": {"url": value(URL)},
            "agent": agent(&get),
        },
    }))
    .map_err(|error| vec![error.to_string()])?;
    let secrets = BTreeMap::from([(manifest::DEFAULT_NAMESPACE.to_owned(), secrets)]);
    let mut route = match (directory::route(&channel, &secrets), unanswered(&value(URL))) {
        (Ok(route), None) => route,
        (found, unanswered) => {
            let problems = found.err().unwrap_or_default();
            let problems = problems.iter().map(|problem| in_variables(problem));
            return Err(problems.chain(unanswered).collect());
        }
    };
    if get(SHARED_KEY_ID).is_none() {
        // Every request names the id of its key: one that was not told must fit them all.
        for key in &mut route.credentials.signing_keys {
            key.key_id = SharedKey::ANY_ID.to_owned();
        }
    }
    Ok(route)
}

fn missing(get: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems: Vec<String> = [ACCOUNT, TOKEN, NUMBER, URL]
        .iter()
        .filter(|name| get(name).is_none())
        .map(|name| format!("{name} must be set"))
        .collect();
    match (get(GRAPH).is_some(), get(ASSISTANT).is_some(), get(AGENT).is_some()) {
        (true, true, false) | (false, false, true) => {}
        (true, false, false) => problems.push(format!("{ASSISTANT} must be set with {GRAPH}")),
        (false, true, false) => problems.push(format!("{GRAPH} must be set with {ASSISTANT}")),
        (false, false, false) => {
            problems.push(format!("the agent must be set: {GRAPH} and {ASSISTANT}, or {AGENT}"))
        }
        _ => {
            problems.push(format!("only one agent may be set: {GRAPH} and {ASSISTANT}, or {AGENT}"))
        }
    }
    if get(SHARED_KEY_ID).is_some() && get(SHARED_KEY).is_none() {
        problems.push(format!("{SHARED_KEY} must be set with {SHARED_KEY_ID}"));
    }
    problems
}

/// What is wrong with a webhook URL whose path this gateway does not answer; a proxy may take away
/// what stands before it. A mistyped one would be found out by the customers.
fn unanswered(url: &str) -> Option<String> {
    let answered = url.split(['?', '#']).next().is_some_and(|url| url.ends_with(MESSAGE_PATH));
    (!answered).then(|| {
        format!("the path of {URL} must end with {MESSAGE_PATH}: the gateway answers no other")
    })
}

fn agent(get: &dyn Fn(&str) -> Option<String>) -> Value {
    match (get(GRAPH), get(AGENT)) {
        (Some(url), _) => {
            json!({"langGraph": {"url": url, "assistantId": get(ASSISTANT).unwrap_or_default()}})
        }
        (None, url) => json!({"http": {"url": url}}),
    }
}

/// Says a problem of the made-up channel in the words of the variables.
fn in_variables(problem: &str) -> String {
    [
        ("spec.twilio.accountSid", ACCOUNT),
        ("spec.sender.address", NUMBER),
        ("spec.webhook.url", URL),
        ("spec.twilio.signingKeys[0].keyId", SHARED_KEY_ID),
        ("spec.agent.langGraph.url", GRAPH),
        ("spec.agent.langGraph.assistantId", ASSISTANT),
        ("spec.agent.http.url", AGENT),
        (KEY_SECRET, SHARED_KEY),
        (TOKEN_SECRET, TOKEN),
    ]
    .iter()
    .fold(problem.to_owned(), |text, (field, variable)| text.replace(field, variable))
}
