//! What the schema and the CEL rules of `WhatsAppChannel` say, again in Rust: pure.
//!
//! Takes a channel as it was decoded, gives every problem at once, in the words of the rules. For
//! a gateway that reads manifests without an API server, and for the operator, whose API server
//! may hold an object that an older schema accepted. Bounds are read from the schema itself.
//! Rules about a change of an object are the API server's alone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use kube::ResourceExt as _;
use serde_json::Value;

use crate::channel::rollout::{AnalysisSpec, RolloutMode, RolloutSpec};
use crate::channel::{AgentSpec, RevisionContent, SecretRef, WhatsAppChannel, WhatsAppChannelSpec};
use crate::rules::{
    ACCOUNT_SID, ADDRESS, AGENT_URL, CERTIFY_OVER_LIMIT, CLASS_NAME, DEADLINE, IDENTIFIER,
    MESSAGING_SERVICE_SID, NAME, ONE_ADDRESS, ONE_AGENT, PATH, PREVIOUS_URLS, Rule, SECRET_NAME,
    SERVICE_NAME, STEPS_END, STEPS_INCREASE, WEBHOOK_FRAGMENT, WEBHOOK_URL, WEIGHT_IFF_MANUAL,
};
use crate::schema;

/// Everything that is wrong with a channel; empty when nothing is.
pub fn validate(channel: &WhatsAppChannel) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    problems.rule("metadata.name", NAME, channel.name_any().len() <= 52);
    problems.bounds("spec", &SPEC_SCHEMA, &serde_json::to_value(&channel.spec).unwrap_or_default());
    let class = &channel.spec.class_name;
    problems.rule("spec.className", CLASS_NAME, is_name(class, |byte| byte == b'-'));
    problems.twilio(&channel.spec);
    problems.webhook(&channel.spec);
    problems.agent(&channel.spec.agent);
    problems.rollout(&channel.spec.rollout);
    problems.0
}

/// Everything that is wrong with the content of a revision that was stored: it serves by the rules of a
/// spec, whoever has written it.
pub fn validate_content(content: &RevisionContent) -> Vec<Problem> {
    let RevisionContent { agent, reply, messaging_service_sid } = content;
    let mut problems = Problems(Vec::new());
    let values = [("agent", serde_json::to_value(agent)), ("reply", serde_json::to_value(reply))];
    for (field, value) in values {
        let schema = &SPEC_SCHEMA["properties"][field];
        problems.bounds(&format!("spec.{field}"), schema, &value.unwrap_or_default());
    }
    problems.agent(agent);
    problems.messaging_service(messaging_service_sid.as_deref());
    problems.0
}

/// One thing that is wrong with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as `spec.webhook.url`.
    pub path: String,
    /// What must be instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

static SPEC_SCHEMA: LazyLock<Value> = LazyLock::new(schema::spec);

struct Problems(Vec<Problem>);

impl Problems {
    fn rule(&mut self, path: &str, rule: Rule, holds: bool) {
        if !holds {
            self.say(path, rule.message.to_owned());
        }
    }

    fn say(&mut self, path: &str, message: String) {
        self.0.push(Problem { path: path.to_owned(), message });
    }

    /// The schema's bounds, over the value as it would be written.
    fn bounds(&mut self, path: &str, schema: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    self.bounds(&format!("{path}.{field}"), &schema["properties"][field], value);
                }
            }
            Value::Array(items) => {
                self.within(path, schema, ["minItems", "maxItems"], items.len() as u64, " items");
                for (index, item) in items.iter().enumerate() {
                    self.bounds(&format!("{path}[{index}]"), &schema["items"], item);
                }
                if let Some(key) = schema["x-kubernetes-list-map-keys"][0].as_str() {
                    let keys: BTreeSet<_> = items.iter().map(|item| item[key].as_str()).collect();
                    if keys.len() < items.len() {
                        self.say(path, format!("each `{key}` must be there once"));
                    }
                }
            }
            Value::String(text) => {
                let characters = text.chars().count() as u64;
                self.within(path, schema, ["minLength", "maxLength"], characters, " characters");
            }
            Value::Number(number) => {
                let number = number.as_u64().unwrap_or(u64::MAX);
                self.within(path, schema, ["minimum", "maximum"], number, "");
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn within(&mut self, path: &str, schema: &Value, keys: [&str; 2], found: u64, unit: &str) {
        let [min, max] = keys.map(|key| schema[key].as_u64());
        if min.is_some_and(|min| found < min) || max.is_some_and(|max| found > max) {
            let message = match (min, max) {
                (Some(min), Some(max)) => format!("must be between {min} and {max}{unit}"),
                (Some(min), None) => format!("must be at least {min}{unit}"),
                (None, max) => format!("must be at most {}{unit}", max.unwrap_or_default()),
            };
            self.say(path, message);
        }
    }

    fn twilio(&mut self, spec: &WhatsAppChannelSpec) {
        let twilio = &spec.twilio;
        let sid = &twilio.account_sid;
        self.rule("spec.twilio.accountSid", ACCOUNT_SID, is_sid(sid, "AC"));
        self.secret("spec.twilio.authTokenSecretRef", Some(&twilio.auth_token_secret_ref));
        self.secret("spec.twilio.apiKeySecretRef", twilio.api_key_secret_ref.as_ref());
        for (index, key) in twilio.signing_keys.iter().enumerate() {
            let path = format!("spec.twilio.signingKeys[{index}]");
            self.rule(&format!("{path}.keyId"), IDENTIFIER, is_identifier(&key.key_id));
            self.secret(&format!("{path}.secretRef"), Some(&key.secret_ref));
        }
        self.rule("spec.sender.address", ADDRESS, is_address(&spec.sender.address));
        self.messaging_service(spec.sender.messaging_service_sid.as_deref());
    }

    fn messaging_service(&mut self, sid: Option<&str>) {
        if let Some(sid) = sid {
            let path = "spec.sender.messagingServiceSid";
            self.rule(path, MESSAGING_SERVICE_SID, is_sid(sid, "MG"));
        }
    }

    fn webhook(&mut self, spec: &WhatsAppChannelSpec) {
        let webhook = &spec.webhook;
        let previous = webhook.previous_urls.iter().enumerate();
        let previous =
            previous.map(|(index, url)| (format!("spec.webhook.previousURLs[{index}]"), url));
        for (path, url) in
            std::iter::once(("spec.webhook.url".to_owned(), &webhook.url)).chain(previous)
        {
            self.rule(&path, WEBHOOK_URL, is_url(url, &["https"], false));
            self.rule(&path, WEBHOOK_FRAGMENT, !url.contains('#'));
        }
        let repeated = webhook.previous_urls.contains(&webhook.url);
        self.rule("spec.webhook", PREVIOUS_URLS, !repeated);
    }

    fn agent(&mut self, agent: &AgentSpec) {
        self.rule("spec.agent", ONE_AGENT, agent.lang_graph.is_some() != agent.http.is_some());
        if let Some(graph) = &agent.lang_graph {
            let path = "spec.agent.langGraph";
            let service = graph.service_ref.as_ref().map(|service| service.name.as_str());
            self.address(path, graph.url.as_deref(), service);
            let assistant = &graph.assistant_id;
            self.rule(&format!("{path}.assistantId"), IDENTIFIER, is_identifier(assistant));
            self.secret(&format!("{path}.apiKeySecretRef"), graph.api_key_secret_ref.as_ref());
        }
        if let Some(http) = &agent.http {
            let path = "spec.agent.http";
            let service = http.service_ref.as_ref().map(|service| service.name.as_str());
            self.address(path, http.url.as_deref(), service);
            if let Some(service) = &http.service_ref {
                self.rule(&format!("{path}.serviceRef.path"), PATH, is_path(&service.path));
            }
            self.secret(&format!("{path}.tokenSecretRef"), http.token_secret_ref.as_ref());
        }
    }

    fn address(&mut self, path: &str, url: Option<&str>, service: Option<&str>) {
        self.rule(path, ONE_ADDRESS, url.is_some() != service.is_some());
        if let Some(url) = url {
            let holds = is_url(url, &["http", "https"], true) && !url.contains('#');
            self.rule(&format!("{path}.url"), AGENT_URL, holds);
        }
        if let Some(name) = service {
            let holds = is_name(name, |byte| byte == b'-');
            self.rule(&format!("{path}.serviceRef.name"), SERVICE_NAME, holds);
        }
    }

    fn secret(&mut self, path: &str, reference: Option<&SecretRef>) {
        if let Some(SecretRef { name }) = reference {
            let holds = is_name(name, |byte| byte == b'-' || byte == b'.');
            self.rule(&format!("{path}.name"), SECRET_NAME, holds);
        }
    }

    fn rollout(&mut self, rollout: &RolloutSpec) {
        let path = "spec.rollout";
        let manual = rollout.mode == RolloutMode::Manual;
        self.rule(path, WEIGHT_IFF_MANUAL, manual == rollout.weight.is_some());
        let steps = &rollout.steps;
        let increase = steps.windows(2).all(|pair| pair[0].weight < pair[1].weight);
        self.rule(path, STEPS_INCREASE, increase);
        self.rule(path, STEPS_END, steps.last().is_none_or(|step| step.weight == 100));
        let deadline = rollout.progress_deadline_seconds;
        self.rule(path, DEADLINE, steps.iter().all(|step| step.hold_seconds < deadline));
        let AnalysisSpec { max_error_basis_points: limit, certify_basis_points, .. } =
            rollout.analysis;
        let is_over = certify_basis_points.is_none_or(|certify| certify > limit);
        self.rule(&format!("{path}.analysis"), CERTIFY_OVER_LIMIT, is_over);
    }
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_address(text: &str) -> bool {
    text.strip_prefix("whatsapp:+").is_some_and(|number| {
        (7..=15).contains(&number.len())
            && !number.starts_with('0')
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_name(text: &str, inner: impl Fn(u8) -> bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(plain)) && text.bytes().all(|b| plain(b) || inner(b))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && !text.contains("..")
}

/// An absolute URL: scheme, host, a port if there is one, then anything printable.
fn is_url(text: &str, schemes: &[&str], underscore: bool) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (Host::Address(address), None),
        Some((address, port)) => (Host::Address(address), Some(port)),
        None => match authority.find(':') {
            Some(at) => (Host::Name(&authority[..at]), Some(&authority[at..])),
            None => (Host::Name(authority), None),
        },
    };
    let port_holds = port.is_none_or(|port| {
        port.strip_prefix(':').is_some_and(|digits| {
            (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        })
    });
    schemes.contains(&scheme)
        && host.holds(underscore)
        && port_holds
        && tail.bytes().all(|byte| byte.is_ascii_graphic())
}

enum Host<'a> {
    Name(&'a str),
    Address(&'a str),
}

impl Host<'_> {
    fn holds(&self, underscore: bool) -> bool {
        let (text, allowed): (&str, &dyn Fn(u8) -> bool) = match self {
            Self::Name(text) => (text, &|byte| {
                byte.is_ascii_alphanumeric() || b".-".contains(&byte) || underscore && byte == b'_'
            }),
            Self::Address(text) => (text, &|b| b.is_ascii_hexdigit() || b".:".contains(&b)),
        };
        !text.is_empty() && text.bytes().all(allowed)
    }
}
