//! Observe: what was read, as the core takes it.
//!
//! Takes a channel and what was read of it; gives where its rollout is, the contents that a decision
//! can put in service, and one observation; or what stands in the way. A state is remembered by the
//! route, begins at the first sight, or is made again after the route was lost or an older one was put
//! back. Pure.

use std::collections::BTreeMap;

use kanarie_crds::channel::RevisionContent;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::observation::Observation;
use kanarie_rollout::rebuild::{Remains, rebuild};
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use kube::api::ObjectMeta;

use crate::cluster::revisions::{NewRevision, named, revision_name};
use crate::cluster::route_object::RouteObject;
use crate::cluster::secrets::Read;
use crate::cluster::stored::StoredRevision;
use crate::process::chain::chain;
use crate::reconcile::blocked::Blocked;
use crate::reconcile::found::{KnownStatus, RouteFound};
use crate::reconcile::observation::{Wishes, is_untold, observation};
use crate::reconcile::ownership::{Place, place};
use crate::reconcile::read::Reading;
use crate::reconcile::remains::{content_of, left_to_stable, remains};
use crate::reconcile::validate::{Channel, ValidSpec};

/// Said of a route that was put back while nothing newer can be made.
const IS_OLDER: &str = "the route is older than this status, and its stable revision serves everybody until it is \
                        made again, which the spec is needed for";

/// What one reconcile saw.
pub struct Survey {
    /// The route in the cluster, if it is the channel's own.
    pub held: Option<RouteObject>,
    /// Another object in its place that may be replaced.
    pub replace: Option<ObjectMeta>,
    /// Status, and the version of the object that it was read from.
    pub known_status: KnownStatus,
    /// Where the rollout is: as remembered, or as made at the first sight or after a loss.
    pub state: State,
    /// Contents of every revision that a decision can put in service.
    pub contents: BTreeMap<RevisionName, RevisionContent>,
    /// The revision that has to be made before it can be rolled out.
    pub revision: Option<NewRevision>,
    /// Values of the Secrets.
    pub secrets: Read,
    /// What `decide` takes.
    pub observation: Observation,
    /// Why the spec is not carried out.
    pub stays: Option<Blocked>,
}

/// Where the rollout begins from.
struct Start {
    held: Option<RouteObject>,
    replace: Option<ObjectMeta>,
    state: State,
    contents: BTreeMap<RevisionName, RevisionContent>,
    desired: Option<RevisionName>,
    revision: Option<NewRevision>,
    stays: Option<Blocked>,
}

impl Start {
    /// In this state, with nothing asked for yet.
    fn at(state: State, contents: BTreeMap<RevisionName, RevisionContent>) -> Self {
        let (held, replace, desired, revision, stays) = (None, None, None, None, None);
        Self { held, replace, state, contents, desired, revision, stays }
    }
}

/// Brings together what was read.
pub fn observe(channel: &Channel, reading: Reading, now: Timestamp) -> Result<Survey, Blocked> {
    let Reading {
        settles_in: _,
        route,
        first_claimant,
        known_status,
        resolved,
        revisions,
        secrets,
        command,
        view,
    } = reading;
    if channel.identity.is_deleted && !matches!(route, Some(RouteFound::Own(_))) {
        return Err(is_deleted());
    }
    let (known, unread) = match revisions {
        Ok(known) => (known, None),
        Err(error) => (Vec::new(), Some(Blocked::by(Reason::RevisionRefused, chain(&error)))),
    };
    let remains = remains(&known_status, &known, command.as_ref(), now);
    let mut is_behind = false;
    let start = match place(route, first_claimant.as_ref())? {
        Place::Own(own) if remains.are_newer_than(&own.memory.rollout) => match &channel.spec {
            Ok(_) => put_back(channel, *own, remains, &known, now)?,
            Err(why) => {
                is_behind = true;
                fall_back(*own, why)
            }
        },
        Place::Own(own) => go_on(channel, *own, resolved, &known, unread),
        Place::Free { replace } => {
            if let Some(unread) = unread {
                return Err(unread);
            }
            let start = begin(channel, &known_status.status, remains, &known, now)?;
            Start { replace: replace.map(|metadata| *metadata), ..start }
        }
    };
    let Start { held, replace, state, contents, desired, revision, stays } = start;
    // What was commanded of a state that is over is nothing for this one.
    let command = command.filter(|_| !is_behind);
    let is_due = is_behind || is_untold(&known_status.status, &state);
    let wishes = Wishes { desired, command, is_due };
    let observation = observation(channel, &state, wishes, &view)
        .ok_or_else(|| stays.clone().unwrap_or_else(is_deleted))?;
    Ok(Survey {
        held,
        replace,
        known_status,
        state,
        contents,
        revision,
        secrets,
        observation,
        stays,
    })
}

/// The channel has a route: its memory is the state.
fn go_on(
    channel: &Channel,
    held: RouteObject,
    resolved: Option<RevisionName>,
    known: &[StoredRevision],
    unread: Option<Blocked>,
) -> Start {
    let contents = contents(&held);
    let state = held.memory.rollout.clone();
    let start = Start::at(state, contents);
    let start = match unread {
        Some(stays) => Start { stays: Some(stays), ..start },
        None => {
            let in_service =
                |spec: &ValidSpec| held.memory.name_of(&spec.content).cloned().or(resolved);
            asking(channel, start, in_service, known)
        }
    };
    Start { held: Some(held), ..start }
}

/// There is no route: a first one, or one that was lost.
fn begin(
    channel: &Channel,
    status: &WhatsAppChannelStatus,
    remains: Remains,
    known: &[StoredRevision],
    now: Timestamp,
) -> Result<Start, Blocked> {
    let spec = channel.spec.as_ref().map_err(Clone::clone)?;
    if !known.is_empty() || status.stable.is_some() {
        return lost(channel, remains, known, BTreeMap::new(), now);
    }
    // The ControllerRevision follows the route: one without a mark would look like a loss.
    let name = revision_name(&channel.owner, &spec.content, 0)
        .map_err(|error| Blocked::by(Reason::RevisionRefused, error))?;
    let contents = BTreeMap::from([(name.clone(), spec.content.clone())]);
    let start = Start::at(State::first(name.clone(), now), contents);
    Ok(Start { desired: Some(name), ..start })
}

/// Somebody has put an older route back. What has happened since stands in status and in the marks;
/// the route itself is a loss.
fn put_back(
    channel: &Channel,
    held: RouteObject,
    mut remains: Remains,
    known: &[StoredRevision],
    now: Timestamp,
) -> Result<Start, Blocked> {
    for rejected in &held.memory.rollout.rejected {
        if remains.rejected.iter().all(|known| known.revision != rejected.revision) {
            remains.rejected.push(rejected.clone());
        }
    }
    let mut start = lost(channel, remains, known, contents(&held), now)?;
    let serving = held.memory.rollout.serving.saturating_add(1);
    start.state.serving = start.state.serving.max(serving);
    Ok(Start { held: Some(held), ..start })
}

/// Somebody has put an older route back, and without a spec no newer one can be compiled. Nobody knows what
/// became of its canary, so its stable revision serves everybody; when the spec is mended it is a loss.
fn fall_back(held: RouteObject, why: &Blocked) -> Start {
    let message = format!("{IS_OLDER}: {}", why.message);
    let stays = Some(Blocked::by(Reason::RouteUnreadable, message));
    let state = left_to_stable(&held.memory.rollout);
    let start = Start::at(state, contents(&held));
    Start { held: Some(held), stays, ..start }
}

/// The state is made again from what is left.
fn lost(
    channel: &Channel,
    remains: Remains,
    known: &[StoredRevision],
    mut contents: BTreeMap<RevisionName, RevisionContent>,
    now: Timestamp,
) -> Result<Start, Blocked> {
    let state = rebuild(remains, now).map_err(|error| Blocked::by(Reason::RouteLost, error))?;
    let stable = state.split().stable.clone();
    match content_of(&stable, known) {
        Ok(content) => {
            contents.insert(stable, content.clone());
        }
        Err(_) if contents.contains_key(&stable) => {}
        Err(why) => return Err(why),
    }
    let start = Start::at(state, contents);
    Ok(asking(channel, start, |_| None, known))
}

/// What the spec asks for, and what has to be made for it.
fn asking(
    channel: &Channel,
    start: Start,
    in_service: impl FnOnce(&ValidSpec) -> Option<RevisionName>,
    known: &[StoredRevision],
) -> Start {
    let spec = match &channel.spec {
        Err(blocked) => return Start { stays: Some(blocked.clone()), ..start },
        Ok(_) if channel.identity.is_deleted => return start,
        Ok(spec) => spec,
    };
    let found = match in_service(spec) {
        Some(name) => Ok((name, None)),
        None => named(&channel.owner, &spec.content, known),
    };
    match found {
        Ok((name, revision)) => {
            let mut contents = start.contents;
            contents.insert(name.clone(), spec.content.clone());
            Start { contents, revision, desired: Some(name), ..start }
        }
        Err(error) => Start { stays: Some(Blocked::by(Reason::RevisionRefused, error)), ..start },
    }
}

fn contents(held: &RouteObject) -> BTreeMap<RevisionName, RevisionContent> {
    let kept = held.memory.revisions.iter();
    kept.map(|(name, kept)| (name.clone(), kept.content.clone())).collect()
}

fn is_deleted() -> Blocked {
    Blocked::by(Reason::Pending, "the channel is being deleted: nothing is made for it")
}

#[cfg(test)]
mod tests {
    use kanarie_rollout::decide::decide;
    use kanarie_rollout::moment::StoreTime;
    use kanarie_rollout::observation::{LiveReplica, StoreAnswer};
    use kanarie_rollout::order::Command;
    use kanarie_rollout::state::Phase;

    use super::*;
    use crate::cluster::key::ChannelKey;
    use crate::cluster::memory::Memory;
    use crate::cluster::route_object::{decode, encode};
    use crate::gateways::board::View;
    use crate::reconcile::validate::validate;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    /// A channel whose agent is there, with this status and this much metadata more.
    fn channel(agent: &str, status: &str, metadata: &str) -> Channel {
        let text = format!(
            "
apiVersion: kanarie.dev/v1alpha1
kind: WhatsAppChannel
metadata: {{name: care, namespace: shop, uid: u, generation: 3{metadata}}}
spec:
  twilio:
    accountSid: AC0123456789abcdef0123456789abcdef
    authTokenSecretRef: {{name: twilio}}
  sender: {{address: 'whatsapp:+31201234567'}}
  webhook: {{url: 'https://hooks.example.com/wa'}}
  agent: {{http: {{url: '{agent}'}}}}
status: {status}
"
        );
        validate(&serde_saphyr::from_str(&text).unwrap()).unwrap()
    }

    /// The content of a revision whose agent is there.
    fn content(agent: &str) -> RevisionContent {
        channel(agent, "{}", "").spec.unwrap().content
    }

    fn reading(channel: &Channel) -> Reading {
        let (identity, status) = (channel.identity.clone(), channel.status.clone().unwrap());
        Reading {
            settles_in: None,
            route: None,
            first_claimant: None,
            known_status: KnownStatus { identity, status },
            resolved: None,
            revisions: Ok(Vec::new()),
            secrets: Read::default(),
            command: None,
            view: View::default(),
        }
    }

    /// The route of a channel in this state, in which one revision's agent is at /a and another's at /b.
    fn route(channel: &Channel, state: State) -> Option<RouteFound> {
        let known = [("a", "https://x/a"), ("b", "https://x/b")]
            .map(|(name, agent)| (name.parse().unwrap(), content(agent)));
        let memory = Memory::of(state, &known.into(), None, NOW.0).unwrap();
        let bytes = serde_json::to_vec(&memory).unwrap();
        let object = encode("r", &channel.reference, (b"{}", &bytes), None, None);
        Some(RouteFound::Own(Box::new(decode(object).unwrap())))
    }

    fn stable() -> State {
        State::first("a".parse().unwrap(), NOW)
    }

    /// b rolls out over a.
    fn rolling() -> State {
        let spec = channel("https://x/b", "{}", "");
        let desired = Some("b".parse().unwrap());
        let wishes = Wishes { desired, command: None, is_due: false };
        let mut seen = observation(&spec, &stable(), wishes, &View::default()).unwrap();
        let replica = LiveReplica { name: "g".parse().unwrap(), serving: Some(1) };
        seen.store = Some(StoreAnswer {
            epoch: "e".parse().unwrap(),
            at: StoreTime(1),
            replicas: vec![replica],
            evidence: Vec::new(),
        });
        let next = decide(&stable(), &seen, NOW).next;
        assert!(next.rolling().is_some());
        next
    }

    fn stored(name: &str, agent: &str) -> StoredRevision {
        StoredRevision {
            name: name.parse().unwrap(),
            content: Ok(content(agent)),
            number: 1,
            promoted: None,
            rejected_at: None,
        }
    }

    #[test]
    fn a_channel_of_which_nothing_is_there_begins_with_its_first_revision() {
        let channel = channel("https://x/a", "{}", "");
        let seen = observe(&channel, reading(&channel), NOW).unwrap();
        let first = seen.state.split().stable.clone();
        assert_eq!(seen.observation.desired, Some(first));
        assert_eq!(seen.revision, None, "the route comes first");
    }

    #[test]
    fn a_route_is_the_state_and_a_content_that_it_does_not_know_is_to_be_made() {
        let channel = channel("https://x/c", "{}", "");
        let route = route(&channel, stable());
        let seen = observe(&channel, Reading { route, ..reading(&channel) }, NOW).unwrap();
        assert_eq!(seen.state, stable());
        let new = seen.revision.unwrap();
        assert_eq!(
            (Some(&new.name), &new.content),
            (seen.observation.desired.as_ref(), &content("https://x/c"))
        );
    }

    #[test]
    fn a_content_that_serves_or_was_found_before_needs_nothing_made() {
        for (agent, resolved, name) in
            [("https://x/a", None, "a"), ("https://x/c", Some("c".parse().unwrap()), "c")]
        {
            let channel = channel(agent, "{}", "");
            let route = route(&channel, stable());
            let reading = Reading { route, resolved, ..reading(&channel) };
            let seen = observe(&channel, reading, NOW).unwrap();
            assert_eq!(seen.observation.desired.unwrap().as_str(), name);
            assert_eq!(seen.revision, None);
        }
    }

    #[test]
    fn a_lost_route_is_made_again_around_the_stable_revision() {
        let status =
            "{stable: {revision: a, agent: '', since: '2026-01-01T00:00:00Z'}, transition: 7}";
        let channel = channel("https://x/b", status, "");
        let revisions = Ok(vec![stored("a", "https://x/a"), stored("b", "https://x/b")]);
        let seen = observe(&channel, Reading { revisions, ..reading(&channel) }, NOW).unwrap();
        assert!(matches!(&seen.state.phase, Phase::Clearing { stable } if *stable == "a"));
        assert_eq!((seen.state.transition, seen.held.is_some()), (8, false));
        assert_eq!(seen.observation.desired.unwrap().as_str(), "b");
        assert_eq!(seen.contents["a"], content("https://x/a"));
    }

    #[test]
    fn a_lost_route_whose_stable_revision_is_lost_too_is_not_guessed() {
        let status =
            "{stable: {revision: a, agent: '', since: '2026-01-01T00:00:00Z'}, transition: 7}";
        let channel = channel("https://x/b", status, "");
        let why = observe(&channel, reading(&channel), NOW).err().unwrap();
        assert_eq!(why.reason, Reason::RouteLost);
        assert!(why.message.contains("`a`"), "{}", why.message);
    }

    #[test]
    fn an_older_route_that_was_put_back_is_a_loss_and_not_the_truth() {
        let status = "{stable: {revision: b, agent: '', since: '2026-01-01T00:00:00Z'}, \
                       rejected: [c], transition: 7, observedGeneration: 3}";
        let channel = channel("https://x/b", status, "");
        let revisions = Ok(vec![stored("a", "https://x/a"), stored("b", "https://x/b")]);
        let old = rolling();
        let (serving, transition) = (old.serving, old.transition);
        assert!(transition < 7);
        let reading = Reading { route: route(&channel, old), revisions, ..reading(&channel) };
        let seen = observe(&channel, reading, NOW).unwrap();
        assert_eq!(seen.state.split().stable.as_str(), "b");
        assert!(seen.state.serving > serving && seen.state.transition == 8);
        assert_eq!(seen.state.generation, 3);
        assert!(seen.state.rejection(&"c".parse().unwrap()).is_some());
        assert!(seen.held.is_some(), "it is replaced in the version that was read");
    }

    #[test]
    fn an_older_route_that_is_put_back_under_a_spec_that_cannot_be_carried_out_has_no_canary() {
        let mut channel = channel("https://x/b", "{transition: 7, observedGeneration: 3}", "");
        channel.spec = Err(Blocked::by(Reason::InvalidSpec, "no"));
        let old = rolling();
        let command = || Some(Command::read("promote-full b #1", None));
        let route_of = |state| Reading {
            route: route(&channel, state),
            command: command(),
            ..reading(&channel)
        };
        let seen = observe(&channel, route_of(old.clone()), NOW).unwrap();
        assert_eq!(seen.stays.unwrap().reason, Reason::RouteUnreadable);
        let next = decide(&seen.state, &seen.observation, NOW).next;
        assert!(matches!(&next.phase, Phase::Clearing { stable } if *stable == "a"));
        assert!(next.serving > old.serving && next.last_command.is_none());
        assert_eq!(next.transition, old.transition, "it stays older than status");
        let again = observe(&channel, route_of(next.clone()), NOW).unwrap();
        assert_eq!(decide(&again.state, &again.observation, NOW).next, next, "nothing is written");
        assert!(again.stays.unwrap().message.ends_with("no"), "what is to be mended is said");
    }

    /// Scenario 07: an invalid spec that slipped through leaves the traffic as it is, and what rolls is judged.
    #[test]
    fn scenario_07_a_spec_that_cannot_be_carried_out_leaves_a_rollout_to_be_judged() {
        let mut channel = channel("https://x/b", "{transition: 1}", "");
        channel.spec = Err(Blocked::by(Reason::InvalidSpec, "no"));
        let route_of = |state| Reading { route: route(&channel, state), ..reading(&channel) };
        let seen = observe(&channel, route_of(rolling()), NOW).unwrap();
        assert_eq!(seen.observation.desired, None);
        assert_eq!(seen.stays.unwrap().reason, Reason::InvalidSpec);
        let mut untold = route_of(stable());
        untold.known_status.status.transition = 0;
        let untold = observe(&channel, untold, NOW).unwrap();
        assert_eq!(untold.stays.unwrap().reason, Reason::InvalidSpec, "what was done is told");
        let why = observe(&channel, route_of(stable()), NOW).err().unwrap();
        assert_eq!(why.reason, Reason::InvalidSpec, "nothing rolls: there is nothing to judge");
        let command = Some(Command::read("retry #1", None));
        let seen = observe(&channel, Reading { command, ..route_of(stable()) }, NOW).unwrap();
        let next = decide(&seen.state, &seen.observation, NOW).next;
        assert!(next.last_command.unwrap().message.contains("mend it"), "a person is answered");
    }

    /// Scenario 09: while a channel is being deleted nothing starts, and what rolls is judged.
    #[test]
    fn scenario_09_nothing_is_made_for_a_channel_that_is_being_deleted() {
        let deleted = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
        let channel = channel("https://x/c", "{}", deleted);
        let first_claimant = Some(ChannelKey { namespace: "shop".into(), name: "other".into() });
        let contested = Reading { first_claimant, ..reading(&channel) };
        let why = observe(&channel, contested, NOW).err().unwrap();
        assert_eq!(why.reason, Reason::Pending, "whose the sender is does not matter any more");
        let route = route(&channel, rolling());
        let seen = observe(&channel, Reading { route, ..reading(&channel) }, NOW).unwrap();
        assert_eq!((seen.observation.desired, seen.revision), (None, None));
        assert!(seen.state.rolling().is_some(), "its canary is judged as long as it is there");
    }
}
