//! What status says of a channel in the moments in which one can say too much: after a start, before the
//! gateways have taken something up, and when one of them holds nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use kanarie_crds::control::ChannelDeadLetters;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_operator::cluster::memory::Memory;
use kanarie_operator::gateways::board::{Presence, View};
use kanarie_operator::reconcile::conditions::Facts;
use kanarie_operator::reconcile::status::derive;
use kanarie_operator::twilio::answers::CredentialState;
use kanarie_rollout::state::State;
use kanarie_words::ids::ReplicaName;
use kanarie_words::reason::Reason;

/// Status of a channel with its first revision, of which the gateways say this.
fn told(before: &WhatsAppChannelStatus, view: &View) -> WhatsAppChannelStatus {
    told_of(before, view, true)
}

/// The same of one whose Secrets were looked at, or not.
fn told_of(before: &WhatsAppChannelStatus, view: &View, is_checked: bool) -> WhatsAppChannelStatus {
    told_unkept(before, view, is_checked, None)
}

/// The same of one whose revisions could not be marked.
fn told_unkept(
    before: &WhatsAppChannelStatus,
    view: &View,
    is_checked: bool,
    unkept: Option<&str>,
) -> WhatsAppChannelStatus {
    derive(&Facts { is_checked, unkept, ..facts(before, &memory(), view) })
}

/// The same of one about whose credentials Twilio said this, with a live gateway.
fn told_by_twilio(
    before: &WhatsAppChannelStatus,
    credentials: Option<CredentialState>,
) -> WhatsAppChannelStatus {
    derive(&Facts { credentials, ..facts(before, &memory(), &alive(&["a"], 1)) })
}

fn memory() -> Memory {
    let rollout = State::first("r".parse().unwrap(), kanarie_words::timestamp::Timestamp(0));
    Memory { schema: 1, rollout, revisions: BTreeMap::new() }
}

fn facts<'a>(before: &'a WhatsAppChannelStatus, memory: &'a Memory, view: &'a View) -> Facts<'a> {
    Facts {
        generation: 1,
        before,
        memory,
        reason: Reason::FirstRevision,
        message: "",
        waits_for: None,
        verdict: None,
        view,
        is_checked: true,
        problem: None,
        credentials: None,
        unkept: None,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// Live replicas, and how many of them, from the first on, obey the route.
fn alive(replicas: &[&str], synced: usize) -> View {
    let names: Vec<ReplicaName> = replicas.iter().map(|name| name.parse().unwrap()).collect();
    let lacking = names[synced..].to_vec();
    View { presence: Presence::Alive(names), synced, lacking, ..View::default() }
}

/// `True/Reason` of a condition.
fn says(status: &WhatsAppChannelStatus, kind: &str) -> String {
    let one = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
    format!("{}/{}", one.status, one.reason)
}

fn message(status: &WhatsAppChannelStatus, kind: &str) -> String {
    status.conditions.iter().find(|one| one.type_ == kind).unwrap().message.clone()
}

#[test]
fn what_was_not_asked_yet_leaves_everything_as_it_was() {
    let served = told(&WhatsAppChannelStatus::default(), &alive(&["a"], 1));
    assert_eq!(told(&served, &View::default()), served);
    let young = told(&WhatsAppChannelStatus::default(), &View::default());
    assert_eq!(says(&young, "Ready"), "Unknown/Pending");
    let silent = View { presence: Presence::Silent, ..View::default() };
    assert_eq!(says(&told(&served, &silent), "Ready"), "Unknown/GatewayUnreachable");
}

#[test]
fn a_change_has_landed_when_gateways_that_live_obey_it_and_not_before() {
    let written = told(&WhatsAppChannelStatus::default(), &alive(&[], 0));
    assert_eq!(says(&written, "RolledOut"), "Unknown/WaitingForGateways");
    assert_eq!(message(&written, "RolledOut"), "waiting for a live gateway");
    let half = told(&written, &alive(&["a", "b"], 1));
    assert_eq!(says(&half, "RolledOut"), "Unknown/WaitingForGateways");
    assert_eq!(says(&half, "Reconciling"), "True/WaitingForGateways");
    let landed = told(&half, &alive(&["a", "b"], 2));
    assert_eq!(says(&landed, "RolledOut"), "True/FirstRevision");
    assert_eq!(says(&landed, "Reconciling"), "False/Idle");
    let joined = told(&landed, &alive(&["a", "b", "c"], 2));
    assert_eq!(says(&joined, "RolledOut"), "True/FirstRevision", "whoever comes after that");
}

/// Scenario 48: status names the gateways that lack the step.
#[test]
fn scenario_48_a_replica_that_lacks_the_route_is_named_and_of_many_three() {
    let one = told(&WhatsAppChannelStatus::default(), &alive(&["a", "b"], 1));
    assert_eq!(message(&one, "Routed"), "1 of 2 live gateways obey the route as it is; not b");
    let five = told(&WhatsAppChannelStatus::default(), &alive(&["a", "b", "c", "d", "e"], 0));
    let text = message(&five, "RolledOut");
    assert!(text.ends_with("0 of 5 have the route in force; not a, b, c and 2 more"), "{text}");
}

#[test]
fn a_replica_without_any_route_of_the_channel_serves_nobody() {
    let served = told(&WhatsAppChannelStatus::default(), &alive(&["a", "b"], 2));
    let behind = told(&served, &alive(&["a", "b"], 1));
    assert_eq!(says(&behind, "Ready"), "True/StableServing", "it serves by the route before");
    let unserved = vec!["b".parse().unwrap()];
    let lost = told(&behind, &View { unserved, ..alive(&["a", "b"], 1) });
    assert_eq!(says(&lost, "Ready"), "False/NotServed");
    assert!(message(&lost, "Ready").contains("; not b"), "{}", message(&lost, "Ready"));
}

#[test]
fn dead_letters_are_still_there_while_nobody_tells() {
    let dead = ChannelDeadLetters {
        uid: "u".parse().unwrap(),
        count: 3,
        oldest_at_ms: 1,
        class: "http".into(),
    };
    let view = View { dead_letters: Some(dead), ..alive(&["a"], 1) };
    let counted = told(&WhatsAppChannelStatus::default(), &view);
    let silent = View { presence: Presence::Silent, ..View::default() };
    assert_eq!(told(&counted, &silent).dead_letters, counted.dead_letters);
    assert_eq!(told(&counted, &alive(&["a"], 1)).dead_letters, None);
}

#[test]
fn secrets_that_were_not_looked_at_are_not_said_to_be_there() {
    let view = alive(&["a"], 1);
    let unchecked = told_of(&WhatsAppChannelStatus::default(), &view, false);
    assert_eq!(says(&unchecked, "CredentialsReady"), "Unknown/NotChecked");
    let known = told(&unchecked, &view);
    assert_eq!(says(&known, "CredentialsReady"), "True/Found");
    let unchecked = told_of(&known, &view, false);
    assert_eq!(
        says(&unchecked, "CredentialsReady"),
        "True/Found",
        "as it was when somebody looked"
    );
}

#[test]
fn twilios_last_word_on_credentials_stays_until_it_says_another() {
    let view = alive(&["a"], 1);
    let verified =
        told_by_twilio(&WhatsAppChannelStatus::default(), Some(CredentialState::Verified));
    assert_eq!(says(&verified, "CredentialsReady"), "True/Verified");
    assert_eq!(says(&told(&verified, &view), "CredentialsReady"), "True/Verified");
    let rejected = told_by_twilio(&verified, Some(CredentialState::TokenRejected));
    assert_eq!(says(&rejected, "CredentialsReady"), "False/RejectedByTwilio");
    assert_eq!(says(&rejected, "Ready"), "True/StableServing", "what is in force serves");
    assert_eq!(says(&told(&rejected, &view), "CredentialsReady"), "False/RejectedByTwilio");
}

#[test]
fn marks_that_cannot_be_kept_are_told_beside_what_is_in_force() {
    let view = alive(&["gateway-0"], 1);
    let status = told_unkept(&WhatsAppChannelStatus::default(), &view, true, Some("no answer"));
    assert_eq!(says(&status, "RolledOut"), "True/FirstRevision");
    assert_eq!(says(&status, "Reconciling"), "True/ReconcileFailed");
    assert_eq!(message(&status, "Reconciling"), "no answer");
}
