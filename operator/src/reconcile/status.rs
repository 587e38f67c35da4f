//! Status: what users see of a channel, derived anew in every pass.
//!
//! Takes the memory as it is in the cluster, the decision's reason and this pass's observations;
//! gives the whole status. Pure. Keeps from the former status only the times at which conditions
//! changed, and what a lost history would have said.

use jiff::Timestamp;
use kanarie_crds::channel::{AgentSpec, RevisionContent};
use kanarie_crds::control::{ChannelDeadLetters, ChannelUndelivered};
use kanarie_crds::status::{
    AnalysisStatus, CommandStatus, DeadLettersStatus, FailuresByClass, GatewayStatus, HistoryEntry,
    RevisionStatus, RollbackStatus, RolloutStatus, UndeliveredReplyStatus, WhatsAppChannelStatus,
};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::numbers::Numbers;
use kanarie_rollout::proof::PROOF;
use kanarie_rollout::state::{Rolling, State};
use kanarie_rollout::tally::Tally;
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;

use crate::gateways::board::{Presence, View};
use crate::process::clock::time_of;
use crate::reconcile::blocked::Blocked;
use crate::reconcile::conditions::{Facts, failing, serving, standing};

/// Oldest numbers that are still shown: they are written once a minute.
const MAX_AGE_MS: u64 = 120_000;

/// Status of a channel that has a route.
pub fn derive(facts: &Facts<'_>) -> WhatsAppChannelStatus {
    let state = &facts.memory.rollout;
    let split = state.split();
    let revision = |name: &RevisionName| {
        let kept = facts.memory.revisions.get(name)?;
        let agent = agent_line(&kept.content);
        Some(RevisionStatus { revision: name.to_string(), agent, since: time_of(kept.since_ms) })
    };
    WhatsAppChannelStatus {
        observed_generation: facts.generation,
        conditions: serving(facts),
        installation: facts.before.installation.clone(),
        stable: revision(split.stable),
        canary: split.canary.and_then(revision),
        rollout: state.rolling().map(|rolling| rollout(rolling, facts)),
        analysis: analysis(facts),
        gateway: gateway(facts),
        rejected: state.rejected.iter().map(|rejected| rejected.revision.to_string()).collect(),
        last_rollback: last_rollback(state).or_else(|| facts.before.last_rollback.clone()),
        last_command: state.last_command.as_ref().map(|answer| CommandStatus {
            id: answer.id.clone(),
            command: answer.verb.clone(),
            actor: answer.actor.clone(),
            result: answer.result.as_str().to_owned(),
            message: answer.message.clone(),
            at: time_of(answer.at.0),
        }),
        dead_letters: match facts.view.presence {
            Presence::Alive(_) => facts.view.dead_letters.as_ref().map(dead_letters),
            // What nobody asks about any more is still there.
            Presence::NotAsked | Presence::Silent => facts.before.dead_letters.clone(),
        },
        undelivered: match facts.view.presence {
            Presence::Alive(_) => facts.view.undelivered.as_ref().map(undelivered),
            Presence::NotAsked | Presence::Silent => facts.before.undelivered.clone(),
        },
        transition: state.transition,
        history: state.history.iter().map(entry).collect(),
    }
}

/// Status of a channel for which nothing may be done; what was known before stays.
pub fn blocked(
    generation: i64,
    before: &WhatsAppChannelStatus,
    blocked: &Blocked,
    presence: &Presence,
    now: Timestamp,
) -> WhatsAppChannelStatus {
    WhatsAppChannelStatus {
        observed_generation: generation,
        conditions: standing(generation, before, blocked, presence, now),
        ..before.clone()
    }
}

/// Status of a channel of which a pass has failed: nothing was looked at, and nothing else is said.
pub fn failed(before: &WhatsAppChannelStatus, why: &str, now: Timestamp) -> WhatsAppChannelStatus {
    WhatsAppChannelStatus { conditions: failing(before, why, now), ..before.clone() }
}

/// Whether nobody has ever said anything of the channel: what stands there is the API server's default.
pub fn is_unsaid(status: &WhatsAppChannelStatus) -> bool {
    status.conditions.is_empty() && status.stable.is_none() && status.transition == 0
}

/// Whether a status shows all that a view would have it say of a channel at rest.
pub fn shows(status: &WhatsAppChannelStatus, view: &View) -> bool {
    match view.presence {
        Presence::NotAsked => true,
        Presence::Silent => false,
        Presence::Alive(_) => {
            view.in_force()
                && status.gateway == fleet(view)
                && status.dead_letters == view.dead_letters.as_ref().map(dead_letters)
                && status.undelivered == view.undelivered.as_ref().map(undelivered)
        }
    }
}

fn rollout(rolling: &Rolling, facts: &Facts<'_>) -> RolloutStatus {
    let time = |StoreTime(at)| time_of(at);
    let steps = rolling.policy.steps.count();
    RolloutStatus {
        weight: rolling.weight().percent(),
        step: rolling
            .step_index()
            .map_or_else(|| "manual".to_owned(), |index| format!("{}/{steps}", index + 1)),
        waiting: waiting(rolling, facts),
        step_started_at: rolling.step_started_at().map(time),
        next_step_at: rolling.next_step_at().map(time),
        deadline_at: rolling.deadline_at().map(|at| time_of(at.0)),
    }
}

/// The line of the column, as short as one that is read in a table of 100 characters: what the column
/// beside it says is not said again.
fn waiting(rolling: &Rolling, facts: &Facts<'_>) -> String {
    let reason = facts.reason;
    let counted = facts.verdict.map(|verdict| {
        let Numbers { canary, missing, evidence, .. } = verdict.numbers;
        let (messages, failures) = (canary.messages(), canary.failures());
        let needed = messages.saturating_add(missing);
        let share = format!("{messages}/{needed} messages");
        match facts.waits_for {
            Some(_) => share,
            None => format!("{share}, {failures} failed, evidence {}/{PROOF}", shown(evidence)),
        }
    });
    match (reason, facts.waits_for, rolling.next_step_at()) {
        (Reason::WaitingForGateways, ..) => {
            format!("{} of {} gateways have the step", facts.view.synced, facts.view.live())
        }
        (_, Some(waits_for), _) => match counted {
            Some(counted) => format!("{waits_for}, {counted}"),
            None => waits_for.as_str().to_owned(),
        },
        (Reason::Holding | Reason::StepStarted, None, Some(at)) => {
            let until = time_of(at.0).0;
            let is_near = until.duration_since(facts.now).as_hours() < 12;
            let until = until.strftime(if is_near { "%H:%MZ" } else { "%m-%d %H:%MZ" });
            match counted {
                Some(counted) => format!("{counted}; {until}"),
                None => format!("not before {until}"),
            }
        }
        (..) => counted.unwrap_or_else(|| reason.as_str().to_owned()),
    }
}

/// Numbers of the present step; those of the former status stay while they are young enough.
fn analysis(facts: &Facts<'_>) -> Option<AnalysisStatus> {
    let rolling = facts.memory.rollout.rolling()?;
    let (Some(verdict), Some(details)) = (facts.verdict, &facts.view.details) else {
        let now = crate::process::clock::millis_of(facts.now);
        let young = |known: &&AnalysisStatus| {
            now.saturating_sub(crate::process::clock::millis_of(known.at.0)) < MAX_AGE_MS
        };
        let same = facts.before.transition == facts.memory.rollout.transition;
        return facts.before.analysis.as_ref().filter(young).filter(|_| same).cloned();
    };
    let Numbers { canary, stable, .. } = verdict.numbers;
    let numbers = verdict.numbers;
    Some(AnalysisStatus {
        canary_messages: canary.messages(),
        canary_failures: canary.failures(),
        canary_failure_classes: classes(canary),
        canary_customers: canary.customers.asked,
        canary_failed_customers: canary.customers.failed,
        canary_rescued_customers: canary.customers.rescued,
        stable_messages: stable.messages(),
        stable_failures: stable.failures(),
        stable_failure_classes: classes(stable),
        stable_customers: stable.customers.asked,
        stable_failed_customers: stable.customers.failed,
        min_messages: rolling.policy.min_messages,
        evidence: shown(numbers.evidence),
        effective_limit_basis_points: numbers.limit,
        certifies_basis_points: numbers.certifies,
        certify_basis_points: numbers.certify,
        missing_messages: shown(numbers.missing),
        missing_seconds: numbers.missing_seconds.map(shown),
        verdict: verdict.finding.as_str().to_owned(),
        at: time_of(details.at_ms),
    })
}

fn classes(tally: Tally) -> FailuresByClass {
    let Tally { success: _, timeout, http, invalid, no_answer, slow, unavailable, customers: _ } =
        tally;
    FailuresByClass { timeout, http, invalid, no_answer, slow, unavailable }
}

/// A number of the judge's own, which may be as large as a number gets: a million says enough, and
/// fits the API.
fn shown(number: u64) -> u64 {
    number.min(1_000_000)
}

/// None while nobody tells.
fn gateway(facts: &Facts<'_>) -> Option<GatewayStatus> {
    match facts.view.presence {
        Presence::NotAsked => facts.before.gateway.clone(),
        Presence::Silent => None,
        Presence::Alive(_) => fleet(facts.view),
    }
}

fn fleet(view: &View) -> Option<GatewayStatus> {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Some(GatewayStatus {
        replicas: count(view.live()),
        synced: count(view.synced),
        summary: format!("{}/{}", view.synced, view.live()),
    })
}

fn dead_letters(dead: &ChannelDeadLetters) -> DeadLettersStatus {
    DeadLettersStatus { count: dead.count, oldest_at: Some(time_of(dead.oldest_at_ms)) }
}

fn undelivered(undelivered: &ChannelUndelivered) -> UndeliveredReplyStatus {
    UndeliveredReplyStatus {
        count: undelivered.count,
        last_code: undelivered.last_code,
        last_at: Some(time_of(undelivered.last_at_ms)),
    }
}

fn last_rollback(state: &State) -> Option<RollbackStatus> {
    let taken_back = [Reason::RolledBack, Reason::Aborted, Reason::Undone].map(Reason::as_str);
    let last = state.history.iter().find(|one| taken_back.contains(&one.reason.as_str()))?;
    Some(RollbackStatus {
        revision: last.revision.to_string(),
        reason: last.reason.clone(),
        at: time_of(last.at.0),
        message: last.message.clone(),
    })
}

/// A transition as status shows it.
pub fn entry(transition: &kanarie_rollout::state::Transition) -> HistoryEntry {
    HistoryEntry {
        transition: transition.number,
        at: time_of(transition.at.0),
        reason: transition.reason.clone(),
        revision: transition.revision.to_string(),
        weight: transition.weight.percent(),
        message: transition.message.clone(),
    }
}

/// The agent in one line, without anything that could be a secret.
fn agent_line(content: &RevisionContent) -> String {
    let AgentSpec { lang_graph, http, .. } = &content.agent;
    let place = |url: Option<&str>, service: Option<String>| match (url, service) {
        (_, Some(service)) => service,
        (Some(url), None) => host_and_path(url),
        (None, None) => String::new(),
    };
    match (lang_graph, http) {
        (Some(graph), _) => {
            let service = graph.service_ref.as_ref();
            let service = service.map(|service| format!("{}:{}", service.name, service.port));
            format!("langGraph {} at {}", graph.assistant_id, place(graph.url.as_deref(), service))
        }
        (None, Some(http)) => {
            let service = http.service_ref.as_ref();
            let service =
                service.map(|service| format!("{}:{}{}", service.name, service.port, service.path));
            format!("http {}", place(http.url.as_deref(), service))
        }
        (None, None) => String::new(),
    }
}

fn host_and_path(url: &str) -> String {
    let Ok(url) = reqwest::Url::parse(url) else {
        return String::new();
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ready() -> WhatsAppChannelStatus {
        let said = |kind: &str, reason: &str| {
            json!({
                "type": kind, "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions = [said("Ready", "StableServing"), said("Routed", "InForce")];
        serde_json::from_value(json!({"conditions": conditions, "transition": 7})).unwrap()
    }

    fn said(status: &WhatsAppChannelStatus, kind: &str) -> (String, String) {
        let condition = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
        (condition.status.clone(), condition.reason.clone())
    }

    #[test]
    fn a_channel_without_a_route_is_not_said_to_be_served() {
        for reason in [Reason::RouteLost, Reason::CredentialsNotReady] {
            let why = Blocked::by(reason, "");
            let status = blocked(2, &ready(), &why, &Presence::NotAsked, Timestamp::UNIX_EPOCH);
            let expected = ("False".to_owned(), reason.as_str().to_owned());
            assert_eq!(said(&status, "Ready"), expected);
            assert_eq!(said(&status, "Routed"), expected);
            assert_eq!(status.transition, 7, "what is no condition stays");
        }
    }

    #[test]
    fn a_route_that_is_left_as_it_is_serves_on_as_long_as_a_gateway_lives() {
        for reason in [Reason::RouteUnreadable, Reason::InvalidSpec] {
            let while_there = |names: &[&str]| {
                let names = names.iter().map(|name| name.parse().unwrap()).collect();
                let (why, there) = (Blocked::by(reason, ""), Presence::Alive(names));
                blocked(2, &ready(), &why, &there, Timestamp::UNIX_EPOCH)
            };
            let served = while_there(&["gateway-0"]);
            assert_eq!(said(&served, "Ready").0, "True");
            assert_eq!(said(&served, "Stalled").0, "True");
            let left = while_there(&[]);
            for kind in ["Ready", "Routed"] {
                assert_eq!(said(&left, kind), ("False".to_owned(), "NoGateway".to_owned()));
            }
        }
    }
}
