//! Read: everything that one reconcile asks the cluster, in one phase.
//!
//! Takes a channel; gives what is there: the route object, whether another's owner lives, the revisions
//! if the route cannot tell what a content is called, the Secrets, the command as it stands now, and
//! what the gateways said. Decides nothing and writes nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::channel::{RevisionContent, WhatsAppChannel};
use kanarie_crds::compile::secret_names;
use kanarie_crds::route::CHANNEL_UID_LABEL;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::order::Command;
use kanarie_rollout::rebuild::rebuild;
use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use serde_json::Value;
use thiserror::Error;
use tokio::time::Instant;

use crate::cluster::key::ChannelKey;
use crate::cluster::revisions::{RevisionError, Revisions, content_digest};
use crate::cluster::route_object::{RouteObject, RouteOwner, decode, owner_of};
use crate::cluster::secrets::Read;
use crate::cluster::stored::StoredRevision;
use crate::gateways::board::View;
use crate::process::clock::millis_of;
use crate::process::context::Ctx;
use crate::reconcile::found::{KnownStatus, RouteFound};
use crate::reconcile::notes::AskedContent;
use crate::reconcile::ownership::is_taken;
use crate::reconcile::remains::{content_of, remains};
use crate::reconcile::status::is_unsaid;
use crate::reconcile::validate::{Channel, Identity, ValidSpec, command};

/// How long a new content must have been there unchanged.
const SETTLES: Duration = Duration::from_secs(1);
/// And how long at most, if it never is.
const SETTLES_AT_LAST: Duration = Duration::from_secs(5);

/// What one reconcile has read.
pub struct Reading {
    /// How long until the content of the spec, which is new, may be carried out.
    pub settles_in: Option<Duration>,
    /// The object that stands where the channel's route belongs.
    pub route: Option<RouteFound>,
    /// A channel that claimed the same sender earlier; looked for when the place is free.
    pub first_claimant: Option<ChannelKey>,
    /// Status, and the version of the object that it was read from.
    pub known_status: KnownStatus,
    /// What the content of the spec is called, as found in an earlier pass.
    pub resolved: Option<RevisionName>,
    /// The channel's revisions, none if they were not needed, or why they cannot be read.
    pub revisions: Result<Vec<StoredRevision>, RevisionError>,
    /// Values of the Secrets.
    pub secrets: Read,
    /// The command in the annotations as they are now.
    pub command: Option<Command>,
    /// What the gateways said.
    pub view: View,
}

/// Why something could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The API server said no, or nothing.
    #[error("the API server could not be asked about the channel")]
    Api(#[source] Box<kube::Error>),
    /// The channel is gone.
    #[error("the channel is gone")]
    Gone,
}

/// Reads everything.
pub async fn read(ctx: &Ctx, channel: &Channel) -> Result<Reading, ReadError> {
    let route = route(ctx, channel).await?;
    let known_status = known_status(ctx, channel, route.as_ref()).await?;
    let own = match &route {
        Some(RouteFound::Own(own)) => Some(own.as_ref()),
        Some(RouteFound::Unreadable(_) | RouteFound::Foreign { .. }) | None => None,
    };
    let heir = match &route {
        Some(RouteFound::Foreign { owner: Some((owner, _)), .. }) => {
            Some(owner.key.namespace.as_str())
        }
        Some(_) | None => None,
    };
    let first_claimant = match (&channel.spec, own) {
        (Ok(spec), None) => ctx.channels.first_claimant(channel, spec, heir).await,
        (Ok(_), Some(_)) | (Err(_), _) => None,
    };
    let resolved = resolved(ctx, channel);
    let settles_in = settles_in(ctx, channel, own, resolved.as_ref());
    // Whoever may not serve anyway is asked nothing more about.
    let may_serve = !is_taken(route.as_ref(), first_claimant.as_ref());
    let is_needed = may_serve
        && settles_in.is_none()
        && needs_revisions(channel, own, &known_status, resolved.as_ref());
    let revisions = match is_needed {
        true => revisions(ctx, channel).await,
        false => Ok(Vec::new()),
    };
    let command = standing_command(ctx, channel, own).await;
    let secrets = match &channel.spec {
        Ok(spec) if may_serve => {
            let known = revisions.as_deref().unwrap_or_default();
            let lost = stable_of(&known_status, known, command.as_ref(), (ctx.clock)());
            secrets(ctx, channel, spec, own, lost).await
        }
        Ok(_) | Err(_) => Read::default(),
    };
    let view = ctx.board.view(&channel.reference.uid, Instant::now());
    Ok(Reading {
        settles_in,
        route,
        first_claimant,
        known_status,
        resolved,
        revisions,
        secrets,
        command,
        view,
    })
}

/// The object where the route belongs. That of a spec that cannot be decoded is found by its channel.
async fn route(ctx: &Ctx, channel: &Channel) -> Result<Option<RouteFound>, ReadError> {
    if let Some(held) = held(ctx, channel) {
        return Ok(Some(RouteFound::Own(Box::new(held))));
    }
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let object = match &channel.route_name {
        Some(name) if is_unheard_of(ctx, channel, name) => None,
        Some(name) => api.get_opt(name).await.map_err(failed)?,
        None => {
            let label = format!("{CHANNEL_UID_LABEL}={}", channel.identity.uid);
            let found = api.list(&ListParams::default().labels(&label)).await.map_err(failed)?;
            found.items.into_iter().next()
        }
    };
    let Some(object) = object else { return Ok(None) };
    let owner = owner_of(&object);
    if owner.as_ref().is_some_and(|owner| owner.uid == channel.identity.uid) {
        return Ok(Some(match decode(object) {
            Ok(own) => RouteFound::Own(Box::new(own)),
            Err(error) => RouteFound::Unreadable(error),
        }));
    }
    let owner = match owner {
        Some(owner) => {
            let lives = lives(ctx, &owner).await?;
            Some((owner, lives))
        }
        None => None,
    };
    Ok(Some(RouteFound::Foreign { metadata: Box::new(object.metadata), owner }))
}

/// Whether there is no such route, as far as the watch knows, and none was there before. What the watch does
/// not know yet is met by the write, which is a creation.
fn is_unheard_of(ctx: &Ctx, channel: &Channel, name: &str) -> bool {
    ctx.notes.get(&channel.identity.uid).route.is_none()
        && ctx.routes.is_complete()
        && ctx.routes.get(name).is_none()
}

/// Whether this process has never written a word of the channel, nor any other one a route.
fn is_unmet(ctx: &Ctx, channel: &Channel) -> bool {
    let is_written = ctx.notes.get(&channel.identity.uid).status_written.is_some();
    let name = channel.route_name.as_ref();
    !is_written && name.is_some_and(|name| is_unheard_of(ctx, channel, name))
}

/// The route as the last pass over a rollout left it, while its watch knows of no other version. One that was
/// written since by a pass that did not end is none.
fn held(ctx: &Ctx, channel: &Channel) -> Option<RouteObject> {
    let note = ctx.notes.get(&channel.identity.uid);
    let held = note.held.filter(|held| held.metadata.resource_version == note.route)?;
    let name = held.metadata.name.as_ref()?;
    let is_its = channel.route_name.as_ref().is_none_or(|its| its == name);
    let status = channel.status.as_ref();
    let is_behind = status.is_some_and(|told| held.memory.rollout.transition < told.transition);
    let is_known = ctx.routes.is_at(name, held.metadata.resource_version.as_ref());
    (is_its && !is_behind && is_known).then(|| RouteObject::clone(&held))
}

/// Whether this very channel exists. One that may not be looked at is taken to exist.
pub async fn lives(ctx: &Ctx, owner: &RouteOwner) -> Result<bool, ReadError> {
    let RouteOwner { key, uid } = owner;
    if !ctx.config.watches(&key.namespace) {
        return Ok(true);
    }
    let api: Api<PartialObjectMeta<WhatsAppChannel>> =
        Api::namespaced(ctx.client.clone(), &key.namespace);
    match api.get_opt(&key.name).await {
        Ok(found) => Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(uid))),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(true),
        Err(error) => Err(failed(error)),
    }
}

/// Status as the watch told it, unless more than showing it hangs on it: after the loss of a route, and
/// when it tells of more than the route does.
async fn known_status(
    ctx: &Ctx,
    channel: &Channel,
    route: Option<&RouteFound>,
) -> Result<KnownStatus, ReadError> {
    let mut identity = channel.identity.clone();
    let told = ctx.notes.get(&identity.uid).status;
    if let Some(told) = told.filter(|told| told.over == identity.resource_version) {
        // The watch has not told yet what was written over this very version.
        identity.resource_version.clone_from(&told.version);
        return Ok(KnownStatus { identity, status: told.status.clone() });
    }
    let is_behind = match (route, &channel.status) {
        (Some(RouteFound::Own(own)), Some(status)) => {
            own.memory.rollout.transition < status.transition
        }
        (Some(RouteFound::Unreadable(_)), Some(_)) => false,
        // New: nobody has written a route or a word of it.
        (None, Some(status)) if is_unsaid(status) && is_unmet(ctx, channel) => false,
        (Some(RouteFound::Foreign { .. }) | None, _) | (_, None) => true,
    };
    match &channel.status {
        Some(status) if !is_behind => Ok(KnownStatus { identity, status: status.clone() }),
        Some(_) | None => live(ctx, &identity).await?.ok_or(ReadError::Gone),
    }
}

/// A channel and its status as they are now, of an object whose spec cannot be decoded as well; none if
/// this very channel is gone.
pub async fn live(ctx: &Ctx, identity: &Identity) -> Result<Option<KnownStatus>, ReadError> {
    let kind = ApiResource::erase::<WhatsAppChannel>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &identity.key.namespace, &kind);
    let Some(mut live) = api.get_opt(&identity.key.name).await.map_err(failed)? else {
        return Ok(None);
    };
    let status = match live.data["status"].take() {
        Value::Null => WhatsAppChannelStatus::default(),
        status => serde_json::from_value(status).unwrap_or_else(|error| {
            // Nobody can read it, so it tells as little as one that is lost, and is written anew. The channel
            // says so as it does of a spec that cannot be decoded.
            let (namespace, channel) = (&identity.key.namespace, &identity.key.name);
            tracing::warn!(namespace, channel, %error, "the status cannot be read; it is taken for none");
            WhatsAppChannelStatus::default()
        }),
    };
    let found = KnownStatus { identity: Identity::of(&live.metadata), status };
    Ok(Some(found).filter(|found| found.identity.uid == identity.uid))
}

/// What the content is called, if an earlier pass has found it.
fn resolved(ctx: &Ctx, channel: &Channel) -> Option<RevisionName> {
    let spec = channel.spec.as_ref().ok()?;
    let (digest, name) = ctx.notes.get(&channel.identity.uid).resolved?;
    (digest == content_digest(&channel.owner, &spec.content).ok()?).then_some(name)
}

async fn revisions(ctx: &Ctx, channel: &Channel) -> Result<Vec<StoredRevision>, RevisionError> {
    let namespace = &channel.identity.key.namespace;
    let all = Revisions::list(&ctx.client, namespace, channel.owner.clone()).await?;
    Ok(all.known().to_vec())
}

/// Ten edits within a second are one change: a content that is new is carried out when nobody has changed it
/// for a while. What rolls is not kept waiting.
fn settles_in(
    ctx: &Ctx,
    channel: &Channel,
    own: Option<&RouteObject>,
    resolved: Option<&RevisionName>,
) -> Option<Duration> {
    let (Ok(spec), Some(own)) = (&channel.spec, own) else { return None };
    let is_known = own.memory.name_of(&spec.content).or(resolved).is_some();
    if is_known || channel.identity.is_deleted || own.memory.rollout.rolling().is_some() {
        ctx.notes.update(&channel.identity.uid, |note| note.asked = None);
        return None;
    }
    let content = content_digest(&channel.owner, &spec.content).ok()?;
    let now = Instant::now();
    let asked = ctx.notes.update(&channel.identity.uid, |note| {
        let asked = match note.asked.take() {
            Some(asked) if asked.content == content => asked,
            Some(AskedContent { first, .. }) => AskedContent { content, since: now, first },
            None => AskedContent { content, since: now, first: now },
        };
        note.asked.insert(asked).clone()
    });
    let until = (asked.since + SETTLES).min(asked.first + SETTLES_AT_LAST);
    until.checked_duration_since(now).filter(|rest| !rest.is_zero())
}

fn needs_revisions(
    channel: &Channel,
    own: Option<&RouteObject>,
    known_status: &KnownStatus,
    resolved: Option<&RevisionName>,
) -> bool {
    let Some(own) = own else {
        // Status follows the route: a channel that has neither has no revision either.
        return channel.spec.is_ok() && !is_unsaid(&known_status.status);
    };
    let is_named = match &channel.spec {
        Ok(spec) => own.memory.name_of(&spec.content).or(resolved).is_some(),
        Err(_) => true,
    };
    !is_named || own.memory.rollout.transition < known_status.status.transition
}

async fn secrets(
    ctx: &Ctx,
    channel: &Channel,
    spec: &ValidSpec,
    own: Option<&RouteObject>,
    lost: Option<&RevisionContent>,
) -> Read {
    let kept = own.into_iter().flat_map(|own| own.memory.revisions.values());
    let kept = kept.map(|kept| &kept.content);
    let contents: Vec<_> = kept.chain([&spec.content]).chain(lost).collect();
    let names = secret_names(&spec.spec, &contents);
    ctx.secrets.read(&channel.identity.key, &names).await
}

/// The content that serves after a loss, of all that somebody may have stored.
fn stable_of<'a>(
    known_status: &KnownStatus,
    known: &'a [StoredRevision],
    command: Option<&Command>,
    now: jiff::Timestamp,
) -> Option<&'a RevisionContent> {
    let now = Timestamp(millis_of(now));
    let state = rebuild(remains(known_status, known, command, now), now).ok()?;
    content_of(state.split().stable, known).ok()
}

/// The command in the annotations. The watch may lag behind a newer one, and no generation tells:
/// before one is executed, the object is asked.
async fn standing_command(
    ctx: &Ctx,
    channel: &Channel,
    own: Option<&RouteObject>,
) -> Option<Command> {
    let last = own.and_then(|own| own.memory.rollout.last_command.as_ref());
    let seen = channel.command.as_ref()?;
    if last.is_some_and(|last| seen.is_answered_by(last)) || own.is_none() {
        return channel.command.clone();
    }
    let api: Api<PartialObjectMeta<WhatsAppChannel>> =
        Api::namespaced(ctx.client.clone(), &channel.identity.key.namespace);
    // One that cannot be asked waits with its command, and is judged meanwhile.
    let live = api.get_opt(&channel.identity.key.name).await.ok().flatten()?;
    let now = Identity::of(&live.metadata);
    // A word of today is not about the spec of yesterday: the watch brings both.
    let is_same = now.uid == channel.identity.uid && now.generation == channel.identity.generation;
    is_same.then(|| command(&live.metadata)).flatten()
}

fn failed(error: kube::Error) -> ReadError {
    ReadError::Api(Box::new(error))
}

#[cfg(test)]
mod tests {
    use kanarie_rollout::rebuild::Promotion;
    use kube::api::ObjectMeta;

    use super::*;

    fn stored(name: &str, transition: u64) -> StoredRevision {
        let text = format!(r#"{{"agent": {{"http": {{"url": "http://{name}"}}}}}}"#);
        let at = Timestamp(1_000 * transition);
        StoredRevision {
            name: name.parse().unwrap(),
            content: Ok(serde_json::from_str(&text).unwrap()),
            number: 1,
            promoted: Some(Promotion { at, transition: Some(transition) }),
            rejected_at: None,
        }
    }

    /// Whoever may write a revision of a channel may write a thousand, each with a Secret of its own.
    #[test]
    fn after_a_loss_the_secrets_of_one_revision_are_read_and_not_those_of_all() {
        let metadata = ObjectMeta { uid: Some("u".to_owned()), ..ObjectMeta::default() };
        let status = WhatsAppChannelStatus::default();
        let known_status = KnownStatus { identity: Identity::of(&metadata), status };
        let all = [stored("a", 1), stored("c", 3), stored("b", 2)];
        let now = jiff::Timestamp::UNIX_EPOCH;
        let found = stable_of(&known_status, &all, None, now);
        assert_eq!(found, all[1].content.as_ref().ok());
        assert_eq!(stable_of(&known_status, &[], None, now), None);
    }
}
