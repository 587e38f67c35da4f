//! The manifests that tests apply: a channel and the Secret of its account.
//!
//! Takes what a test varies and fills in the rest; gives text for `kubectl apply`, for the API
//! server and for a folder of manifests alike. Pure.

use kanarie_crds::channel::CHANNEL_CLASS;
use kanarie_fakes::customer::Account;
use serde_json::{Value, json};

/// A channel, as a user would write it.
#[derive(Clone, Debug)]
pub struct ChannelManifest {
    /// Its name; the Secret has the same with `-twilio`.
    pub name: String,
    /// Its account and sender.
    pub account: Account,
    /// `spec.className`.
    pub class: String,
    /// `spec.agent`.
    pub agent: Value,
    /// `spec.rollout`.
    pub rollout: Value,
    /// `spec.limits`.
    pub limits: Value,
    /// `spec.reply`.
    pub reply: Value,
}

impl ChannelManifest {
    /// A channel with an HTTP agent and a rollout that takes seconds: 10, 50 and 100 percent, each with 32
    /// messages without a failure.
    pub fn new(name: &str, account: &Account, agent_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            account: account.clone(),
            class: CHANNEL_CLASS.to_owned(),
            agent: http_agent(agent_url),
            rollout: json!({
                "steps": steps(&[(10, 2), (50, 2), (100, 2)]),
                "analysis": {"minMessages": 5, "certifyBasisPoints": 1000, "intervalSeconds": 1},
            }),
            limits: json!({"inboundMessages": 1000}),
            reply: json!({}),
        }
    }

    /// The Secret with the account's auth token.
    pub fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("{}-twilio", self.name)},
            "stringData": {"authToken": self.account.token},
        })
    }

    /// The channel itself.
    pub fn channel(&self) -> Value {
        json!({
            "apiVersion": "kanarie.dev/v1alpha1", "kind": "WhatsAppChannel",
            "metadata": {"name": self.name},
            "spec": {
                "className": self.class,
                "twilio": {
                    "accountSid": self.account.sid,
                    "authTokenSecretRef": {"name": format!("{}-twilio", self.name)},
                },
                "sender": {"address": self.account.sender},
                "webhook": {"url": self.account.webhook_url},
                "agent": self.agent, "rollout": self.rollout,
                "limits": self.limits, "reply": self.reply,
            },
        })
    }

    /// Both, as one text.
    pub fn text(&self) -> String {
        format!("{:#}\n---\n{:#}\n", self.secret(), self.channel())
    }
}

/// `spec.agent` for an HTTP agent that has five seconds.
pub fn http_agent(url: &str) -> Value {
    json!({"http": {"url": url}, "timeoutSeconds": 5})
}

/// `spec.agent` for a LangGraph assistant.
pub fn lang_graph_agent(url: &str, assistant: &str, timeout_seconds: u32) -> Value {
    json!({
        "langGraph": {"url": url, "assistantId": assistant}, "timeoutSeconds": timeout_seconds,
    })
}

/// `spec.rollout.steps`: weights and the seconds of their holds.
pub fn steps(steps: &[(u8, u32)]) -> Value {
    steps.iter().map(|(weight, hold)| json!({"weight": weight, "holdSeconds": hold})).collect()
}
