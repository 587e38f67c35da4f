//! Observe: everything that one reconcile reads, in one place.
//!
//! Takes a channel; gives the route in the cluster, the values of its Secrets, the name of the
//! revision that the spec asks for and what the gateways say. Makes a ControllerRevision for a
//! content that has none, and writes nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kanarie_crds::channel::RevisionContent;
use kanarie_crds::compile::secret_names;
use kanarie_crds::control::{ChannelState, ClassCount, CustomerCount};
use kanarie_crds::route::route_hash;
use kanarie_crds::status::CommandStatus;
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Observation, StoreAnswer};
use kanarie_rollout::rebuild::{Mark, Remains, rebuild};
use kanarie_rollout::state::{CommandAnswer, CommandResult, Phase, RejectedRevision, State};
use kanarie_rollout::tally::{CustomerTally, ServingTally, Tally};
use kanarie_words::class::Class;
use kanarie_words::ids::{ReplicaName, RevisionName};
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::track::Track;
use kube::api::ObjectMeta;
use thiserror::Error;
use tokio::time::Instant;

use crate::blocked::Blocked;
use crate::claim::{Ownership, RouteObject, claim};
use crate::clock::millis_of;
use crate::context::Ctx;
use crate::evidence::{Details, Interest, View};
use crate::revisions::{RevisionError, Revisions, revision_name};
use crate::secrets::Read;
use crate::validate::Channel;

/// What one reconcile saw.
pub struct Survey {
    /// The route in the cluster, if it is the channel's own.
    pub held: Option<RouteObject>,
    /// Another object in its place that may be replaced.
    pub replace: Option<ObjectMeta>,
    /// Where the rollout is: as remembered, or as made at the first sight or after a loss.
    pub state: State,
    /// Contents of every revision that a decision can put in service.
    pub contents: BTreeMap<RevisionName, RevisionContent>,
    /// Values of the Secrets.
    pub secrets: Read,
    /// What the gateways said.
    pub view: View,
    /// What `decide` takes.
    pub observation: Observation,
}

/// Why nothing could be observed.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The route or a Secret cannot be read.
    #[error("the API server could not be asked about the channel")]
    Api(#[from] kube::Error),
    /// The revisions cannot be read or made.
    #[error("the revisions of the channel could not be observed")]
    Revisions(#[from] RevisionError),
}

/// Where the rollout starts from.
struct Start {
    held: Option<RouteObject>,
    replace: Option<ObjectMeta>,
    state: State,
    contents: BTreeMap<RevisionName, RevisionContent>,
    desired: RevisionName,
}

/// Reads everything.
pub async fn observe(
    ctx: &Ctx,
    channel: &Channel,
    now: Timestamp,
) -> Result<Result<Survey, Blocked>, ObserveError> {
    let start = match claim(ctx, channel).await? {
        Ownership::Own(held) => own(ctx, channel, *held).await?,
        Ownership::Free { replace } => match fresh(ctx, channel, now).await? {
            Ok(start) => Start { replace: replace.map(|metadata| *metadata), ..start },
            Err(blocked) => return Ok(Err(blocked)),
        },
        Ownership::Blocked(blocked) => return Ok(Err(blocked)),
    };
    let contents: Vec<&RevisionContent> = start.contents.values().collect();
    let names = secret_names(&channel.spec, &contents);
    let secrets = ctx.secrets.read(&channel.identity.key, &names).await?;
    let desired = start.desired;
    let view = match &start.held {
        Some(held) => look(ctx, channel, held, &desired),
        None => View::default(),
    };
    let observation = Observation {
        desired,
        policy: channel.policy.clone(),
        mode: channel.mode,
        paused: channel.paused,
        rollback_window_seconds: channel.rollback_window_seconds,
        command: channel.command.clone(),
        store: view.details.as_ref().map(store),
    };
    let Start { held, replace, state, contents, .. } = start;
    Ok(Ok(Survey { held, replace, state, contents, secrets, view, observation }))
}

/// What the gateways say about the route as it is; from now on they are asked about this one.
pub fn look(ctx: &Ctx, channel: &Channel, held: &RouteObject, desired: &RevisionName) -> View {
    ctx.evidence.look(interest(channel, held, desired), Instant::now())
}

/// The channel has a route: its memory is the state.
async fn own(ctx: &Ctx, channel: &Channel, held: RouteObject) -> Result<Start, RevisionError> {
    let kept = held.memory.revisions.iter();
    let mut contents: BTreeMap<RevisionName, RevisionContent> =
        kept.map(|(name, kept)| (name.clone(), kept.content.clone())).collect();
    let desired = match held.memory.name_of(&channel.content) {
        Some(name) => name.clone(),
        None => resolve(ctx, channel).await?,
    };
    contents.insert(desired.clone(), channel.content.clone());
    let state = held.memory.rollout.clone();
    Ok(Start { held: Some(held), replace: None, state, contents, desired })
}

/// The revision of a content that is not in service; looked up once per content.
async fn resolve(ctx: &Ctx, channel: &Channel) -> Result<RevisionName, RevisionError> {
    let uid = &channel.identity.uid;
    if let Some((content, name)) = ctx.notes.get(uid).resolved
        && content == channel.content
    {
        return Ok(name);
    }
    let mut revisions = list(ctx, channel).await?;
    let name = revisions.ensure(&channel.content).await?;
    let resolved = Some((channel.content.clone(), name.clone()));
    ctx.notes.update(uid, |note| note.resolved = resolved);
    Ok(name)
}

/// There is no route: a first one, or one that was lost.
async fn fresh(
    ctx: &Ctx,
    channel: &Channel,
    now: Timestamp,
) -> Result<Result<Start, Blocked>, RevisionError> {
    let mut revisions = list(ctx, channel).await?;
    if revisions.known().is_empty() && channel.status.stable.is_none() {
        // The ControllerRevision follows the route: one without a mark would look like a loss.
        let name = revision_name(&channel.owner, &channel.content, 0)?;
        let contents = BTreeMap::from([(name.clone(), channel.content.clone())]);
        let state = State::first(name.clone(), now);
        return Ok(Ok(Start { held: None, replace: None, state, contents, desired: name }));
    }
    let lost = |message: String| Blocked { reason: Reason::RouteLost, message };
    let state = match rebuild(remains(channel, &revisions, now), now) {
        Ok(state) => state,
        Err(error) => return Ok(Err(lost(error.to_string()))),
    };
    let stable = state.split().stable.clone();
    let Some(content) = revisions.content(&stable).cloned() else {
        let message = format!(
            "the route is lost and so is ControllerRevision `{stable}`; restore it, or annotate \
             another one with kanarie.dev/promoted-at"
        );
        return Ok(Err(lost(message)));
    };
    let desired = revisions.ensure(&channel.content).await?;
    let contents = BTreeMap::from([(stable, content), (desired.clone(), channel.content.clone())]);
    Ok(Ok(Start { held: None, replace: None, state, contents, desired }))
}

async fn list(ctx: &Ctx, channel: &Channel) -> Result<Revisions, RevisionError> {
    let namespace = &channel.identity.key.namespace;
    Revisions::list(&ctx.client, namespace, channel.owner.clone()).await
}

fn remains(channel: &Channel, revisions: &Revisions, now: Timestamp) -> Remains {
    let status = &channel.status;
    let last = status.last_rollback.as_ref();
    let rejection = |name: &String| {
        let why = last.filter(|rollback| rollback.revision == *name);
        Some(RejectedRevision {
            revision: name.parse().ok()?,
            reason: why.map_or(Reason::RolledBack.as_str().to_owned(), |why| why.reason.clone()),
            message: why.map(|why| why.message.clone()).unwrap_or_default(),
            at: why.map_or(now, |why| Timestamp(millis_of(why.at.0))),
        })
    };
    let marks = revisions.known().iter().map(|known| Mark {
        revision: known.name.clone(),
        promoted_at: known.promoted_at.map(|at| Timestamp(millis_of(at))),
        rejected_at: known.rejected_at.map(|at| Timestamp(millis_of(at))),
    });
    Remains {
        revisions: marks.collect(),
        stable: status.stable.as_ref().and_then(|stable| stable.revision.parse().ok()),
        stable_since: status.stable.as_ref().map(|stable| Timestamp(millis_of(stable.since.0))),
        rejected: status.rejected.iter().filter_map(rejection).collect(),
        last_command: status.last_command.as_ref().map(answer),
        standing: channel.command.clone(),
        transition: status.transition,
    }
}

fn answer(status: &CommandStatus) -> CommandAnswer {
    let executed = status.result == CommandResult::Executed.as_str();
    CommandAnswer {
        id: status.id.clone(),
        verb: status.command.clone(),
        result: if executed { CommandResult::Executed } else { CommandResult::Refused },
        message: status.message.clone(),
        at: Timestamp(millis_of(status.at.0)),
    }
}

fn interest(channel: &Channel, held: &RouteObject, desired: &RevisionName) -> Interest {
    let rollout = &held.memory.rollout;
    let (rolling, seconds) = match &rollout.phase {
        Phase::Rolling(rolling) => (true, rolling.policy.interval_seconds),
        Phase::Clearing { stable } => (stable != desired, channel.policy.interval_seconds),
        Phase::Stable { .. } => (false, channel.policy.interval_seconds),
    };
    Interest {
        key: channel.identity.key.clone(),
        uid: channel.reference.uid.clone(),
        hash: route_hash(&held.route_bytes),
        rolling,
        interval: Duration::from_secs(u64::from(seconds.clamp(1, 60))),
    }
}

/// One answer of the store, as `decide` takes it.
fn store(details: &Details) -> StoreAnswer {
    let acknowledged = details.channel.iter().flat_map(|channel| &channel.acknowledged);
    let serving: BTreeMap<&str, u64> =
        acknowledged.map(|ack| (ack.replica.as_str(), ack.serving)).collect();
    let replica = |name: &ReplicaName| LiveReplica {
        name: name.clone(),
        serving: serving.get(name.as_str()).copied(),
    };
    let evidence = details.channel.as_ref().map(evidence).unwrap_or_default();
    StoreAnswer {
        epoch: details.epoch.clone(),
        at: StoreTime(details.at_ms),
        replicas: details.replicas.iter().map(replica).collect(),
        evidence,
    }
}

/// What was counted for every serving that is still remembered.
fn evidence(channel: &ChannelState) -> Vec<ServingTally> {
    let servings: BTreeSet<u64> = channel.counts.iter().map(|count| count.serving).collect();
    let of = |serving, track| {
        let ours = |of: u64, on: Track| of == serving && on == track;
        let counts = channel.counts.iter().filter(|count| ours(count.serving, count.track));
        let tally = counts.fold(Tally::default(), |sum, count| sum.plus(tally(count)));
        let customers = match &channel.customers {
            Some(all) => {
                let counts = all.iter().filter(|count| ours(count.serving, count.track));
                counts.fold(CustomerTally::default(), |sum, count| sum.plus(customers(count)))
            }
            // A gateway that counts messages only: each of them is taken for a customer.
            None => CustomerTally {
                asked: tally.messages(),
                failed: tally.failures(),
                rescued: tally.failures(),
            },
        };
        Tally { customers, ..tally }
    };
    let both = |serving| ServingTally {
        serving,
        stable: of(serving, Track::Stable),
        canary: of(serving, Track::Canary),
    };
    servings.into_iter().map(both).collect()
}

fn customers(count: &CustomerCount) -> CustomerTally {
    let CustomerCount { serving: _, track: _, conversations: asked, failed, rescued } = *count;
    // A gateway that counts no rescues: the canary is blamed for every one of them.
    CustomerTally { asked, failed, rescued: rescued.unwrap_or(failed) }
}

fn tally(count: &ClassCount) -> Tally {
    let mut tally = Tally::default();
    let field = match count.class {
        Class::Success => &mut tally.success,
        Class::Timeout => &mut tally.timeout,
        Class::Http => &mut tally.http,
        Class::Invalid => &mut tally.invalid,
        Class::NoAnswer => &mut tally.no_answer,
        Class::Slow => &mut tally.slow,
        Class::Unavailable => &mut tally.unavailable,
    };
    *field = count.messages;
    tally
}

#[cfg(test)]
mod tests {
    use kanarie_crds::control::Acknowledged;

    use super::*;

    fn details(customers: Option<Vec<CustomerCount>>) -> Details {
        let count =
            |serving, track, class, messages| ClassCount { serving, track, class, messages };
        Details {
            at_ms: 7,
            epoch: "e".parse().unwrap(),
            replicas: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            channel: Some(ChannelState {
                uid: "u".parse().unwrap(),
                acknowledged: vec![Acknowledged {
                    replica: "a".parse().unwrap(),
                    serving: 3,
                    hash: "h".parse().unwrap(),
                    cut: false,
                }],
                counts: vec![
                    count(3, Track::Canary, Class::Success, 5),
                    count(3, Track::Canary, Class::Http, 2),
                    count(3, Track::Canary, Class::Unavailable, 1),
                    count(3, Track::Stable, Class::Success, 40),
                    count(2, Track::Canary, Class::Slow, 9),
                ],
                customers,
            }),
        }
    }

    #[test]
    fn counts_are_grouped_by_serving_and_track() {
        let store = store(&details(None));
        assert_eq!(store.evidence_of(3).canary.messages(), 8);
        assert_eq!(store.evidence_of(3).canary.failures(), 3);
        assert_eq!(store.evidence_of(3).stable.messages(), 40);
        assert_eq!(store.evidence_of(2).canary.slow, 9);
        assert_eq!(store.acknowledged(3), 1);
        assert!(!store.in_force(3), "a live replica without the route has not acknowledged it");
    }

    #[test]
    fn customers_stand_beside_the_messages_of_their_serving_and_track() {
        let told = |rescued| {
            let (conversations, failed) = (6, 2);
            let one =
                CustomerCount { serving: 3, track: Track::Canary, conversations, failed, rescued };
            store(&details(Some(vec![one]))).evidence_of(3)
        };
        let customers = |rescued| CustomerTally { asked: 6, failed: 2, rescued };
        assert_eq!(told(Some(1)).canary.customers, customers(1));
        assert_eq!(told(None).canary.customers, customers(2), "nobody knows, so each is blamed");
        assert_eq!(told(None).stable.customers, CustomerTally::default(), "none were told");
    }

    #[test]
    fn each_message_is_a_customer_for_a_gateway_that_counts_messages_only() {
        let evidence = store(&details(None)).evidence_of(3);
        assert_eq!(evidence.canary.customers, CustomerTally { asked: 8, failed: 3, rescued: 3 });
        assert_eq!(evidence.stable.customers, CustomerTally { asked: 40, failed: 0, rescued: 0 });
    }
}
