//! Status of a `WhatsAppChannel`: what the operator last saw and did, flat and stable.
//!
//! Derived from the route's state and from observations; it is never read back as memory, except
//! when the route is lost. Words of conditions and reasons are those of kanarie-words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the operator last saw and did.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct WhatsAppChannelStatus {
    /// Generation of the spec that this status answers.
    pub observed_generation: i64,
    /// Ready, CredentialsReady, Routed, RolledOut, Reconciling and Stalled.
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]),
        transform = bound_conditions
    )]
    pub conditions: Vec<Condition>,
    /// The installation that serves the channel, by its routes namespace; another one leaves it alone while it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub installation: Option<String>,
    /// The revision that serves everybody whom the canary does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<RevisionStatus>,
    /// The revision that is rolled out at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<RevisionStatus>,
    /// Where the rollout is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The numbers of the present step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStatus>,
    /// The gateways that serve this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
    /// Revisions that were rolled back and are not tried again until `retry`.
    #[schemars(
        length(max = 50),
        inner(length(max = 253)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub rejected: Vec<String>,
    /// The last rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rollback: Option<RollbackStatus>,
    /// The answer to the last command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_command: Option<CommandStatus>,
    /// Messages that could not be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLettersStatus>,
    /// Replies that Twilio took and did not deliver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<UndeliveredReplyStatus>,
    /// Number of the last transition; status never goes back to a lower one.
    pub transition: u64,
    /// The last transitions, newest first, at most ten.
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<HistoryEntry>,
}

/// The bounds that Kubernetes itself puts on a condition; its Rust type does not carry them.
fn bound_conditions(schema: &mut Schema) {
    let properties = json!({
        "type": {"type": "string", "minLength": 1, "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "message": {"type": "string", "maxLength": 32768},
    });
    let required = json!(["lastTransitionTime", "message", "reason", "status", "type"]);
    let items = json!({"type": "object", "properties": properties, "required": required});
    schema.insert("items".to_owned(), items);
}

/// A revision in service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Name of the revision.
    #[schemars(length(max = 253))]
    pub revision: String,
    /// Its agent, in one line.
    #[schemars(length(max = 1_024))]
    pub agent: String,
    /// Since when it is in service.
    pub since: Time,
}

/// Where the rollout is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Percent of the conversations on the canary, as the route says.
    pub weight: u8,
    /// Present step of all, as `2/3`.
    #[schemars(length(max = 16))]
    pub step: String,
    /// What the rollout waits for, in one line: messages seen of needed, failures, evidence of 100, what
    /// comes next.
    #[schemars(length(max = 1_024))]
    pub waiting: String,
    /// When every gateway had acknowledged the step, by the store's clock, which holds run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<Time>,
    /// Earliest time of the next step, by the store's clock: with another clock it comes by that much sooner
    /// or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step_at: Option<Time>,
    /// When the rollout is overdue, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Time>,
}

/// The numbers of the present step, at most a minute old. What an older operator wrote lacks some.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// Judged messages of the canary.
    pub canary_messages: u64,
    /// Failed ones among them.
    pub canary_failures: u64,
    /// Those by class.
    #[serde(default)]
    pub canary_failure_classes: FailuresByClass,
    /// Customers who asked the canary.
    #[serde(default)]
    pub canary_customers: u64,
    /// Those whom it failed at least once.
    #[serde(default)]
    pub canary_failed_customers: u64,
    /// Those of them whom stable answered instead.
    #[serde(default)]
    pub canary_rescued_customers: u64,
    /// Judged messages of stable in the same time.
    pub stable_messages: u64,
    /// Failed ones among them.
    pub stable_failures: u64,
    /// Those by class.
    #[serde(default)]
    pub stable_failure_classes: FailuresByClass,
    /// Customers who asked stable.
    #[serde(default)]
    pub stable_customers: u64,
    /// Those whom it failed at least once.
    #[serde(default)]
    pub stable_failed_customers: u64,
    /// Messages of the canary that the step needs, whatever they say.
    pub min_messages: u64,
    /// Evidence against the canary over the whole rollout: 100 is proof.
    #[serde(default)]
    pub evidence: u64,
    /// Error rate that this step is held against, in hundredths of a percent. In the bake it is no lower
    /// than what stable itself has shown.
    #[serde(default)]
    pub effective_limit_basis_points: u32,
    /// Lowest error rate that the step's counts exclude by now with 95 %, in hundredths of a percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certifies_basis_points: Option<u32>,
    /// The one that they are to exclude before the step passes.
    #[serde(default)]
    pub certify_basis_points: u32,
    /// Messages without a failure that are missing for that.
    #[serde(default)]
    pub missing_messages: u64,
    /// Seconds until they come at the present traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_seconds: Option<u64>,
    /// Pass, Fail or Inconclusive.
    #[schemars(length(max = 16))]
    pub verdict: String,
    /// Time of these numbers, by the store's clock.
    pub at: Time,
}

/// Failed messages by the way their first attempt ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct FailuresByClass {
    /// Not before the agent's deadline.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// With a refused connection or an HTTP error.
    #[serde(skip_serializing_if = "is_zero")]
    pub http: u64,
    /// With something that is no answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub invalid: u64,
    /// Without an answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_answer: u64,
    /// With an answer over `maxLatencyMilliseconds`.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow: u64,
    /// Not at all: the agent could not be asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub unavailable: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The gateways that serve a channel.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Live replicas.
    pub replicas: u32,
    /// Replicas that acknowledged the route as it is.
    pub synced: u32,
    /// Both, as `2/2`.
    #[schemars(length(max = 32))]
    pub summary: String,
}

/// A rollback and its reason.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// The revision that was taken back.
    #[schemars(length(max = 253))]
    pub revision: String,
    /// Why, one of the reasons of RolledOut.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// When.
    pub at: Time,
    /// The numbers behind it.
    #[schemars(length(max = 2_048))]
    pub message: String,
}

/// The answer to a command.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CommandStatus {
    /// The command as it was written in `kanarie.dev/command`. The same text is the same command; to send
    /// it again, give it another `#token`.
    #[schemars(length(max = 256))]
    pub id: String,
    /// Its first word.
    #[schemars(length(max = 64))]
    pub command: String,
    /// Who said it: the annotation `kanarie.dev/actor` as it stood then. Whoever may annotate the channel
    /// may write any name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub actor: Option<String>,
    /// Executed or Refused.
    #[schemars(length(max = 16))]
    pub result: String,
    /// What was done, or why it was not.
    #[schemars(length(max = 2_048))]
    pub message: String,
    /// When.
    pub at: Time,
}

/// Messages of a channel that could not be answered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersStatus {
    /// How many are kept.
    pub count: u64,
    /// When the oldest one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_at: Option<Time>,
}

/// Replies of a channel that Twilio took and did not deliver, as its status callbacks say. The numbers
/// are about a minute old; after 14 days without such a reply there are none.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredReplyStatus {
    /// How many, in segments of a reply.
    pub count: u64,
    /// Twilio's error code for the last one: 63016 is outside of the customer's 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_code: Option<u32>,
    /// When the last one was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Time>,
}

/// One transition.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Its number.
    pub transition: u64,
    /// When.
    pub at: Time,
    /// Its reason.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The revision it concerns.
    #[schemars(length(max = 253))]
    pub revision: String,
    /// Weight after it.
    pub weight: u8,
    /// What happened, with the numbers.
    #[schemars(length(max = 2_048))]
    pub message: String,
}
