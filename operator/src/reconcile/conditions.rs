//! Conditions: what the six of them say of a channel.
//!
//! Takes what a pass saw and the status as it was; gives each condition with its reason and text. Ready is
//! served, RolledOut is in force, and what was not asked about since the operator started is as it was.
//! Pure; keeps from the former status only what nobody knows better, and the times of changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::analysis::Verdict;
use kanarie_rollout::why::{LackingReplicas, Why};
use kanarie_words::conditions::{ConditionStatus, ConditionType};
use kanarie_words::reason::Reason;

use crate::cluster::memory::Memory;
use crate::gateways::board::{Presence, View};
use crate::process::clock::{millis_of, time_of};
use crate::reconcile::blocked::{Blocked, SecretProblem};
use crate::twilio::answers::{CredentialState, is_twilios};

/// What a status is made of.
pub struct Facts<'a> {
    /// Generation of the spec that was looked at.
    pub generation: i64,
    /// Status as it was.
    pub before: &'a WhatsAppChannelStatus,
    /// The memory as it is in the cluster.
    pub memory: &'a Memory,
    /// Reason of RolledOut.
    pub reason: Reason,
    /// Its text.
    pub message: &'a str,
    /// What a rollout that is overdue still waits for.
    pub waits_for: Option<Reason>,
    /// What the counts say, if they are of the present step.
    pub verdict: Option<&'a Verdict>,
    /// What the gateways said.
    pub view: &'a View,
    /// Whether the Secrets were looked at: not for a spec that is not carried out.
    pub is_checked: bool,
    /// What is wrong with the Secrets.
    pub problem: Option<&'a SecretProblem>,
    /// What Twilio says of the credentials in force, if it was asked.
    pub credentials: Option<CredentialState>,
    /// Why the revisions could not be marked or pruned. What is in force is in force all the same.
    pub unkept: Option<&'a str>,
    /// The present moment.
    pub now: Timestamp,
}

/// One condition before it has a time.
struct Said {
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

/// The six conditions of a channel that has a route.
pub fn serving(facts: &Facts<'_>) -> Vec<Condition> {
    let ready = match facts.problem {
        None if !facts.is_checked => unsaid(ConditionType::CredentialsReady, facts.before),
        None => credentials(facts),
        Some(problem) => (ConditionStatus::False, problem.reason, problem.message.clone()),
    };
    let (reason, message) = landed(facts);
    let under = |kind, otherwise| match value(reason, kind) {
        Some(status) => (status, reason, message.clone()),
        None => otherwise,
    };
    let pending = (ConditionStatus::Unknown, Reason::Pending, message.clone());
    let said = |kind, (status, reason, message): Value| Said { kind, status, reason, message };
    let said = ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let value = match kind {
                ConditionType::Ready => served(facts),
                ConditionType::CredentialsReady => ready.clone(),
                ConditionType::Routed => routed(facts),
                ConditionType::RolledOut => under(kind, pending.clone()),
                ConditionType::Reconciling => match facts.unkept {
                    Some(why) => (ConditionStatus::True, Reason::ReconcileFailed, why.to_owned()),
                    None => under(kind, plain(ConditionStatus::False, Reason::Idle)),
                },
                ConditionType::Stalled => {
                    under(kind, plain(ConditionStatus::False, Reason::Healthy))
                }
            };
            said(kind, value)
        })
        .collect();
    conditions(said, facts.generation, facts.before, facts.now)
}

/// The six conditions of a channel for which nothing may be done: what it says nothing about stays as it
/// was known, but nobody is served while no gateway lives.
pub fn standing(
    generation: i64,
    before: &WhatsAppChannelStatus,
    blocked: &Blocked,
    presence: &Presence,
    now: Timestamp,
) -> Vec<Condition> {
    let Blocked { reason, message, secrets: problem } = blocked;
    let said = ConditionType::ALL.into_iter().map(|kind| {
        let (status, reason, message) = match (value(*reason, kind), problem) {
            (Some(status), _) => (status, *reason, message.clone()),
            (None, Some(problem)) if kind == ConditionType::CredentialsReady => {
                (ConditionStatus::False, problem.reason, problem.message.clone())
            }
            (None, _) if matches!(kind, ConditionType::Ready | ConditionType::Routed) => {
                unheard(kind, presence, before).unwrap_or_else(|| as_it_was(before, kind))
            }
            (None, _) => unsaid(kind, before),
        };
        Said { kind, status, reason, message }
    });
    conditions(said.collect(), generation, before, now)
}

type Value = (ConditionStatus, Reason, String);

fn plain(status: ConditionStatus, reason: Reason) -> Value {
    (status, reason, reason.meaning().to_owned())
}

/// Reason and text of RolledOut. What was written has landed when gateways that live obey it, and stays
/// so whoever comes or goes after that.
fn landed(facts: &Facts<'_>) -> (Reason, String) {
    let known = (facts.reason, facts.message.to_owned());
    let is_done = value(facts.reason, ConditionType::RolledOut) == Some(ConditionStatus::True);
    let had_landed = facts.before.transition == facts.memory.rollout.transition
        && said_before(facts.before, ConditionType::RolledOut)
            .is_some_and(|(status, ..)| status == ConditionStatus::True);
    if !is_done || had_landed || facts.view.in_force() {
        return known;
    }
    let waiting = match facts.view.presence {
        Presence::NotAsked | Presence::Silent => Why::WaitingForEvidence.to_string(),
        Presence::Alive(_) => Why::WaitingForGateways {
            acknowledged: facts.view.synced,
            live: facts.view.live(),
            lacking: facts.view.lacking.clone(),
        }
        .to_string(),
    };
    (Reason::WaitingForGateways, waiting)
}

/// What Twilio says of credentials that are all there. That this process has not asked yet is no news.
fn credentials(facts: &Facts<'_>) -> Value {
    if let Some(state) = facts.credentials {
        let status = if state.is_good() { ConditionStatus::True } else { ConditionStatus::False };
        return (status, state.reason(), state.message().to_owned());
    }
    said_before(facts.before, ConditionType::CredentialsReady)
        .filter(|(_, reason, _)| is_twilios(*reason))
        .unwrap_or_else(|| plain(ConditionStatus::True, Reason::Found))
}

/// Whether every live gateway obeys the route as it is.
fn routed(facts: &Facts<'_>) -> Value {
    let view = facts.view;
    if let Some(value) = unheard(ConditionType::Routed, &view.presence, facts.before) {
        return value;
    }
    if view.in_force() {
        return plain(ConditionStatus::True, Reason::InForce);
    }
    let (synced, live, lacking) = (view.synced, view.live(), LackingReplicas(&view.lacking));
    let message = format!("{synced} of {live} live gateways obey the route as it is{lacking}");
    (ConditionStatus::False, Reason::NotAcknowledged, message)
}

/// Whether customers are served now. While gateways take up a newer route they serve by the one
/// before, so what was ready stays ready; one that holds none at all serves nobody.
fn served(facts: &Facts<'_>) -> Value {
    let view = facts.view;
    if let Some(value) = unheard(ConditionType::Ready, &view.presence, facts.before) {
        return value;
    }
    if !view.unserved.is_empty() {
        let (live, lacking) = (view.live(), LackingReplicas(&view.unserved));
        let holding = live - view.unserved.len();
        let message = format!(
            "{holding} of {live} live gateways hold a route of the channel{lacking}; the log of one \
             that does not says why"
        );
        return (ConditionStatus::False, Reason::NotServed, message);
    }
    let was_ready = said_before(facts.before, ConditionType::Ready)
        .is_some_and(|(_, reason, _)| reason == Reason::StableServing);
    if view.in_force() || was_ready {
        plain(ConditionStatus::True, Reason::StableServing)
    } else {
        plain(ConditionStatus::Unknown, Reason::Pending)
    }
}

/// What Ready and Routed say of any channel while no gateway is heard that lives. That this process has not
/// asked yet is no news.
fn unheard(
    kind: ConditionType,
    presence: &Presence,
    before: &WhatsAppChannelStatus,
) -> Option<Value> {
    match presence {
        Presence::NotAsked => Some(as_it_was(before, kind)),
        Presence::Silent => Some(plain(ConditionStatus::Unknown, Reason::GatewayUnreachable)),
        Presence::Alive(replicas) if replicas.is_empty() => {
            Some(plain(ConditionStatus::False, Reason::NoGateway))
        }
        Presence::Alive(_) => None,
    }
}

/// What status says of a condition already, if it may stand there.
fn said_before(before: &WhatsAppChannelStatus, kind: ConditionType) -> Option<Value> {
    let known = before.conditions.iter().find(|known| known.type_ == kind.as_str())?;
    let reason = Reason::parse(&known.reason)?;
    Some((value(reason, kind)?, reason, known.message.clone()))
}

fn as_it_was(before: &WhatsAppChannelStatus, kind: ConditionType) -> Value {
    said_before(before, kind).unwrap_or_else(|| plain(ConditionStatus::Unknown, Reason::Pending))
}

/// A condition about which a block says nothing: what was known stays known, but nothing is said
/// to be under way.
fn unsaid(kind: ConditionType, before: &WhatsAppChannelStatus) -> Value {
    match kind {
        ConditionType::Reconciling => plain(ConditionStatus::False, Reason::Idle),
        ConditionType::Stalled => plain(ConditionStatus::False, Reason::Healthy),
        ConditionType::CredentialsReady => said_before(before, kind)
            .unwrap_or_else(|| plain(ConditionStatus::Unknown, Reason::NotChecked)),
        ConditionType::Ready | ConditionType::Routed | ConditionType::RolledOut => {
            as_it_was(before, kind)
        }
    }
}

/// The conditions after a pass that failed: one says so, the others stay of the spec that they were of.
pub fn failing(before: &WhatsAppChannelStatus, why: &str, now: Timestamp) -> Vec<Condition> {
    let (kind, status) = (ConditionType::Reconciling, ConditionStatus::True);
    let said = Said { kind, status, reason: Reason::ReconcileFailed, message: why.to_owned() };
    let mut kept = before.conditions.clone();
    kept.retain(|one| one.type_ != kind.as_str());
    kept.extend(conditions(vec![said], before.observed_generation, before, now));
    kept
}

fn value(reason: Reason, kind: ConditionType) -> Option<ConditionStatus> {
    reason.conditions().iter().find(|(stands, _)| *stands == kind).map(|(_, status)| *status)
}

fn conditions(
    said: Vec<Said>,
    generation: i64,
    before: &WhatsAppChannelStatus,
    now: Timestamp,
) -> Vec<Condition> {
    let now = time_of(millis_of(now));
    let condition = |said: Said| {
        let (kind, status) = (said.kind.as_str(), said.status.as_str());
        let was = before.conditions.iter().find(|was| was.type_ == kind && was.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: said.reason.as_str().to_owned(),
            message: said.message,
            // Nothing was looked at yet, and no generation is below nothing.
            observed_generation: Some(generation).filter(|generation| *generation >= 0),
            last_transition_time: was
                .map_or_else(|| now.clone(), |was| was.last_transition_time.clone()),
        }
    };
    said.into_iter().map(condition).collect()
}
