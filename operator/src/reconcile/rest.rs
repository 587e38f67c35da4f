//! Rest: whether a channel is as the last pass left it, by what the watches know alone.
//!
//! Takes a channel; says whether a pass could change anything. Compares spec and status of the watch, the
//! note on the route, the versions of the Secrets and what the gateways say. Whoever is not sure of one
//! of them says no, and the channel is looked at in full. Asks the API server nothing.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kanarie_crds::compile::secret_names;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_words::conditions::{ConditionStatus, ConditionType};
use kanarie_words::reason::Reason;
use tokio::time::Instant;

use crate::cluster::route_note::{RouteNote, digest};
use crate::gateways::board::Interest;
use crate::process::clock::share;
use crate::process::context::Ctx;
use crate::reconcile::marks::MARKS;
use crate::reconcile::status::shows;
use crate::reconcile::validate::Channel;
use crate::twilio::answers::is_twilios;

/// When to look again at what rests, for a watch that missed something; a quarter more or less.
const REST: Duration = Duration::from_secs(600);

/// Until the next look at a channel at rest.
pub fn pause() -> Duration {
    REST * 3 / 4 + share(REST / 2)
}

/// Whether nothing has changed since the channel came to rest.
pub fn rests(ctx: &Ctx, channel: &Channel) -> bool {
    let (Ok(spec), Some(status), Some(name)) =
        (&channel.spec, &channel.status, &channel.route_name)
    else {
        return false;
    };
    let Some(route) = ctx.routes.get(name) else { return false };
    let is_own = route.owner.is_some_and(|owner| owner.uid == channel.identity.uid);
    let Some(made) = route.note.filter(|note| is_own && is_settled(channel, status, note)) else {
        return false;
    };
    let is_good = |one: &Condition| {
        one.type_ == ConditionType::CredentialsReady.as_str()
            && one.status == ConditionStatus::True.as_str()
    };
    if ctx.checks.wants_a_look(&channel.identity.key, status.conditions.iter().any(is_good)) {
        return false;
    }
    let names = secret_names(&spec.spec, &[&spec.content]);
    let key = &channel.identity.key;
    ctx.secrets.uses(key, &names);
    let versions = ctx.secrets.versions(&key.namespace, &names);
    if versions.is_none_or(|versions| digest(&versions) != made.secrets) {
        return false;
    }
    if status.installation.as_ref() != Some(&ctx.config.routes_namespace) {
        return false;
    }
    if !is_looked_after(ctx, channel, route.resource_version.as_ref()) {
        return false;
    }
    let interval = Duration::from_secs(u64::from(spec.policy.interval_seconds.clamp(1, 60)));
    let (uid, hash) = (channel.reference.uid.clone(), made.hash);
    let interest =
        Interest { key: key.clone(), uid, hash, rolling: false, interval, next: interval };
    if !shows(status, &ctx.board.look(interest, Instant::now())) {
        return false;
    }
    ctx.metrics.channels.show(key, status);
    true
}

/// Whether status says that the spec as it is has been carried out, by the route with this note.
fn is_settled(channel: &Channel, status: &WhatsAppChannelStatus, made: &RouteNote) -> bool {
    let says = |kind: ConditionType| {
        let expected = match kind {
            ConditionType::Reconciling | ConditionType::Stalled => ConditionStatus::False,
            ConditionType::Ready
            | ConditionType::CredentialsReady
            | ConditionType::Routed
            | ConditionType::RolledOut => ConditionStatus::True,
        };
        let is_said = |one: &&Condition| one.type_ == kind.as_str();
        status.conditions.iter().find(is_said).is_some_and(|one| {
            one.status == expected.as_str()
                // Somebody has to do something at Twilio, and the checker tells when it was done.
                || (kind == ConditionType::CredentialsReady
                    && Reason::parse(&one.reason).is_some_and(is_twilios))
        })
    };
    let answered = status.last_command.as_ref().map(|last| last.id.as_str());
    !channel.identity.is_deleted
        && status.observed_generation == channel.identity.generation
        && status.transition == made.transition
        && status.rollout.is_none()
        && channel.command.as_ref().is_none_or(|command| answered == Some(command.id.as_str()))
        && ConditionType::ALL.into_iter().all(says)
}

/// Whether this process, or the one before it, has done all that it does beside the route, and nobody
/// has touched the route since.
fn is_looked_after(ctx: &Ctx, channel: &Channel, version: Option<&String>) -> bool {
    ctx.notes.update(&channel.identity.uid, |note| {
        let is_touched = note.route.as_ref().is_some_and(|seen| Some(seen) != version);
        if note.failures > 0 || is_touched {
            return false;
        }
        note.route = version.cloned();
        (note.held, note.status) = (None, None);
        let due = *note.looked_after.get_or_insert_with(|| Instant::now() + share(MARKS));
        Instant::now() < due
    })
}
