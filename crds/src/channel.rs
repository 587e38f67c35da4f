//! `WhatsAppChannel`: one WhatsApp sender, its agent and the way its changes are rolled out.
//!
//! Takes nothing, gives the types, defaults, bounds and CEL rules of the CRD. Never decides
//! anything: what a value means for traffic stands in `rollout` and in the gateway.

pub mod rollout;

use kanarie_words::ids::RevisionName;
use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::channel::rollout::RolloutSpec;
use crate::route::route_hash;
use crate::rules::{
    ACCOUNT_SID, ACCOUNT_SID_IMMUTABLE, ADDRESS, ADDRESS_IMMUTABLE, AGENT_URL, CLASS_NAME,
    CLASS_NAME_IMMUTABLE, IDENTIFIER, MESSAGING_SERVICE_SID, ONE_ADDRESS, ONE_AGENT, PATH,
    PREVIOUS_URLS, SECRET_NAME, SERVICE_NAME, WEBHOOK_FRAGMENT, WEBHOOK_URL, all,
};
use crate::status::WhatsAppChannelStatus;

/// A WhatsApp sender that is answered by an agent, and how changes to it are rolled out.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "kanarie.dev",
    version = "v1alpha1",
    kind = "WhatsAppChannel",
    plural = "whatsappchannels",
    shortname = "wach",
    category = "messaging",
    namespaced,
    derive = "PartialEq",
    status = "WhatsAppChannelStatus",
    doc = "A WhatsApp sender that is answered by an agent, and how changes to it are rolled out",
    selectable = ".spec.sender.address",
    selectable = ".spec.className",
    validation = Rule::new(crate::rules::NAME.rule).message(crate::rules::NAME.message),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether customers are served now"
    ),
    printcolumn(
        name = "Rollout",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="RolledOut")].reason"#,
        description = "Whether the spec has landed, or what it waits for"
    ),
    printcolumn(
        name = "Weight",
        type_ = "integer",
        json_path = ".status.rollout.weight",
        description = "Percent of the conversations on the canary"
    ),
    printcolumn(
        name = "Step",
        type_ = "string",
        json_path = ".status.rollout.step",
        description = "Present step of all"
    ),
    printcolumn(
        name = "Waiting",
        type_ = "string",
        json_path = ".status.rollout.waiting",
        description = "Messages seen of needed, failures, evidence of 100, earliest time of the next step"
    ),
    printcolumn(
        name = "Stable",
        type_ = "string",
        json_path = ".status.stable.revision",
        description = "Revision that serves everybody else",
        priority = 1
    ),
    printcolumn(
        name = "Canary",
        type_ = "string",
        json_path = ".status.canary.revision",
        description = "Revision that is rolled out",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Sender",
        type_ = "string",
        json_path = ".spec.sender.address",
        priority = 1
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.webhook.url", priority = 1),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.gateway.summary",
        description = "Gateways that obey the route as it is, of all that live",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="RolledOut")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = all(&[ACCOUNT_SID_IMMUTABLE, ADDRESS_IMMUTABLE, CLASS_NAME_IMMUTABLE])))]
pub struct WhatsAppChannelSpec {
    /// Which installation serves the channel: the one whose operator runs with this `--channel-class`. No
    /// other one touches it. Immutable: queue, counts and route of a channel are its installation's.
    #[serde(default = "class_name")]
    #[schemars(length(min = 1, max = 63))]
    #[schemars(extend("x-kubernetes-validations" = all(&[CLASS_NAME])))]
    pub class_name: String,
    /// The Twilio account and its credentials. Live: a change is in force at once.
    pub twilio: TwilioSpec,
    /// The WhatsApp sender that customers write to.
    pub sender: SenderSpec,
    /// Where Twilio delivers the messages. Live: a change is in force at once.
    pub webhook: WebhookSpec,
    /// Who answers. Part of the revision: a change starts a rollout.
    pub agent: AgentSpec,
    /// Rate limits and memory. Live: a change is in force at once.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How replies are sent. Part of the revision: a change starts a rollout.
    #[serde(default)]
    pub reply: ReplySpec,
    /// How a change reaches the customers.
    #[serde(default)]
    pub rollout: RolloutSpec,
}

/// The class of a channel that names none, and of an operator that is told none.
pub const CHANNEL_CLASS: &str = "kanarie";

fn class_name() -> String {
    CHANNEL_CLASS.to_owned()
}

/// A Secret in the channel's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[schemars(extend("x-kubernetes-validations" = all(&[SECRET_NAME])))]
    pub name: String,
}

/// The Twilio account and its credentials.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TwilioSpec {
    /// Account SID: AC and 32 hexadecimal digits. Immutable.
    #[schemars(length(max = 34))]
    #[schemars(extend("x-kubernetes-validations" = all(&[ACCOUNT_SID])))]
    pub account_sid: String,
    /// Secret with the key `authToken` and, while a rotation lasts, `authTokenSecondary`:
    /// webhooks signed with either are accepted.
    pub auth_token_secret_ref: SecretRef,
    /// Secret with the keys `apiKeySid` and `apiKeySecret` for calls to Twilio; without it they
    /// use the auth token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
    /// Shared keys for webhooks signed with HMAC-SHA256, at most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["keyId"])
    )]
    pub signing_keys: Vec<SigningKey>,
}

/// A shared key of Twilio's webhook configuration.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Id of the shared key, as Twilio names it in the request.
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-validations" = all(&[IDENTIFIER])))]
    pub key_id: String,
    /// Secret with the key `signingKey`.
    pub secret_ref: SecretRef,
}

/// The WhatsApp sender.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SenderSpec {
    /// `whatsapp:+` and the number in E.164. Immutable, and unique per gateway.
    #[schemars(length(max = 25))]
    #[schemars(extend("x-kubernetes-validations" = all(&[ADDRESS])))]
    pub address: String,
    /// Messaging Service that sends the replies: MG and 32 hexadecimal digits. Part of the
    /// revision: a change starts a rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 34))]
    #[schemars(extend("x-kubernetes-validations" = all(&[MESSAGING_SERVICE_SID])))]
    pub messaging_service_sid: Option<String>,
}

/// Where Twilio delivers the messages.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = all(&[PREVIOUS_URLS])))]
pub struct WebhookSpec {
    /// The URL exactly as Twilio signs it: what stands in Twilio's console, without the
    /// `#fragment`.
    #[schemars(length(max = 512))]
    #[schemars(extend("x-kubernetes-validations" = all(&[WEBHOOK_URL, WEBHOOK_FRAGMENT])))]
    pub url: String,
    /// Former URLs whose signatures are still accepted during a move, at most four.
    #[serde(rename = "previousURLs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        extend("x-kubernetes-list-type" = "atomic"),
        transform = each_is_a_webhook_url
    )]
    pub previous_urls: Vec<String>,
    /// Who tells Twilio the URL: External means that you do.
    #[serde(default)]
    pub registration: Registration,
}

fn each_is_a_webhook_url(schema: &mut Schema) {
    let rules = all(&[WEBHOOK_URL, WEBHOOK_FRAGMENT]);
    let items = json!({"type": "string", "maxLength": 512, "x-kubernetes-validations": rules});
    schema.insert("items".to_owned(), items);
}

/// Who registers the webhook URL at Twilio.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Somebody else does, in Twilio's console or by its API.
    #[default]
    External,
}

/// Who answers: exactly one of `langGraph` and `http`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = all(&[ONE_AGENT])))]
pub struct AgentSpec {
    /// A LangGraph server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang_graph: Option<LangGraphAgent>,
    /// Any HTTP service that speaks the agent protocol of docs/agents.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAgent>,
    /// Seconds that the agent has for an answer. Part of the revision: another number is rolled out by steps.
    #[serde(default = "agent_timeout")]
    #[schemars(range(min = 1, max = 120))]
    pub timeout_seconds: u32,
}

fn agent_timeout() -> u32 {
    60
}

/// A LangGraph server: exactly one of `url` and `serviceRef`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = all(&[ONE_ADDRESS])))]
pub struct LangGraphAgent {
    /// Base URL of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[schemars(extend("x-kubernetes-validations" = all(&[AGENT_URL])))]
    pub url: Option<String>,
    /// A Service in the channel's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<LangGraphService>,
    /// Name or UUID of the assistant.
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-validations" = all(&[IDENTIFIER])))]
    pub assistant_id: String,
    /// Secret with the key `apiKey`, sent as `x-api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
}

/// A Service that serves LangGraph.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LangGraphService {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    #[schemars(extend("x-kubernetes-validations" = all(&[SERVICE_NAME])))]
    pub name: String,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// An HTTP service: exactly one of `url` and `serviceRef`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = all(&[ONE_ADDRESS])))]
pub struct HttpAgent {
    /// URL that messages are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[schemars(extend("x-kubernetes-validations" = all(&[AGENT_URL])))]
    pub url: Option<String>,
    /// A Service in the channel's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<HttpService>,
    /// Secret with the key `token`, sent as a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretRef>,
}

/// A Service and a path that messages are posted to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpService {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    #[schemars(extend("x-kubernetes-validations" = all(&[SERVICE_NAME])))]
    pub name: String,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Path of the endpoint.
    #[serde(default = "root_path")]
    #[schemars(length(max = 512))]
    #[schemars(extend("x-kubernetes-validations" = all(&[PATH])))]
    pub path: String,
}

fn root_path() -> String {
    "/".to_owned()
}

/// Rate limits and memory of a channel.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Messages that one customer may send in a rolling window; more are answered 429.
    #[schemars(range(min = 1, max = 1_000))]
    pub inbound_messages: u32,
    /// Seconds of that window.
    #[schemars(range(min = 1, max = 3_600))]
    pub inbound_window_seconds: u32,
    /// Replies per second of this sender, over all gateways.
    #[schemars(range(min = 1, max = 1_000))]
    pub outbound_per_second: u32,
    /// Seconds during which a repeated message is recognised.
    #[schemars(range(min = 300, max = 604_800))]
    pub dedup_seconds: u32,
    /// Seconds for which a message is asked again while its agent fails; then the failure text is
    /// sent and the message is a dead letter.
    #[schemars(range(min = 30, max = 82_800))]
    pub patience_seconds: u32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            inbound_messages: 50,
            inbound_window_seconds: 60,
            outbound_per_second: 80,
            dedup_seconds: 86_400,
            patience_seconds: 900,
        }
    }
}

/// How replies are sent.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplySpec {
    /// Seconds after which Twilio may no longer deliver a reply.
    #[schemars(range(min = 1, max = 36_000))]
    pub validity_seconds: u32,
    /// Sent when the agent has finally failed; empty sends nothing. It is part of the revision: another
    /// text is a change that is rolled out by steps.
    // Four copies of it, at four bytes a character, must fit into a route's Secret.
    #[schemars(length(max = 640))]
    pub failure_text: String,
}

impl Default for ReplySpec {
    fn default() -> Self {
        Self { validity_seconds: 600, failure_text: String::new() }
    }
}

/// What a revision fixes: the part of a spec whose change starts a rollout. Kept as the data of a
/// `ControllerRevision`; two revisions are the same when these values are equal.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionContent {
    /// Who answers.
    pub agent: AgentSpec,
    /// How replies are sent.
    #[serde(default)]
    pub reply: ReplySpec,
    /// Messaging Service that sends the replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging_service_sid: Option<String>,
}

impl WhatsAppChannelSpec {
    /// The revision that this spec asks for.
    pub fn revision_content(&self) -> RevisionContent {
        RevisionContent {
            agent: self.agent.clone(),
            reply: self.reply.clone(),
            messaging_service_sid: self.sender.messaging_service_sid.clone(),
        }
    }
}

impl RevisionContent {
    /// Name of the revision: ten hexadecimal digits of a hash over the content. Whether two
    /// revisions are the same is decided by equality, not by this name.
    pub fn name(&self) -> RevisionName {
        let json = serde_json::to_vec(self).expect("a revision has string keys only");
        RevisionName::parse(&route_hash(&json).as_str()[..10]).expect("ten digits are a name")
    }
}
