//! Claim: whose is the route of this channel's sender?
//!
//! Takes a channel, reads the one object that its sender's route can be; gives the channel's own
//! route, a free place, or what stands in the way. The API server lets only one object of the name
//! exist, so two channels can never both serve a sender. Writes nothing.

use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::route::{CHANNEL_UID_LABEL, ROUTE_KEY, Route, STATE_KEY};
use kanarie_words::reason::Reason;
use kube::api::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt as _};

use crate::blocked::Blocked;
use crate::context::Ctx;
use crate::memory::Memory;
use crate::triggers::ChannelKey;
use crate::validate::Channel;

/// Annotation of a route Secret: namespace and name of its channel.
pub const CHANNEL_ANNOTATION: &str = "kanarie.dev/channel";

/// Whose the route is.
pub enum Ownership {
    /// The channel's own.
    Own(Box<RouteObject>),
    /// Nobody's: there is none, or the channel of the one that is there is gone.
    Free {
        /// The object to replace, if there is one.
        replace: Option<Box<ObjectMeta>>,
    },
    /// Nothing may be written.
    Blocked(Blocked),
}

/// The channel's own route, as it is in the cluster.
#[derive(Clone)]
pub struct RouteObject {
    /// Its object's metadata.
    pub metadata: ObjectMeta,
    /// The bytes that gateways obey and acknowledge.
    pub route_bytes: Vec<u8>,
    /// The bytes of the memory.
    pub state_bytes: Vec<u8>,
    /// The route, if it can be read; only the last compiled secrets are taken from it.
    pub route: Option<Route>,
    /// The memory.
    pub memory: Memory,
}

/// Reads the route of the channel's sender.
pub async fn claim(ctx: &Ctx, channel: &Channel) -> Result<Ownership, kube::Error> {
    let name = &channel.route_name;
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let Some(object) = api.get_opt(name).await? else {
        return Ok(free(ctx, channel, None).await);
    };
    if object.labels().get(CHANNEL_UID_LABEL) == Some(&channel.identity.uid) {
        return Ok(match held(object) {
            Ok(held) => Ownership::Own(Box::new(held)),
            Err(blocked) => Ownership::Blocked(blocked),
        });
    }
    let Some((holder, uid)) = owner(&object.metadata) else {
        let message = format!("the Secret `{name}` in the routes namespace is no route; delete it");
        return Ok(Ownership::Blocked(Blocked { reason: Reason::RouteUnreadable, message }));
    };
    if lives(ctx, &holder, &uid).await? {
        return Ok(conflict(&holder));
    }
    ctx.forget(&holder, &uid);
    Ok(free(ctx, channel, Some(Box::new(object.metadata))).await)
}

/// A place that is free is the oldest claimant's.
async fn free(ctx: &Ctx, channel: &Channel, replace: Option<Box<ObjectMeta>>) -> Ownership {
    ctx.channels.ready().await;
    match ctx.channels.older_claimant(channel) {
        Some(older) => conflict(&older),
        None => Ownership::Free { replace },
    }
}

/// The channel that a route object names: where it is, and its uid.
pub fn owner(metadata: &ObjectMeta) -> Option<(ChannelKey, String)> {
    let uid = metadata.labels.as_ref()?.get(CHANNEL_UID_LABEL)?;
    let place = metadata.annotations.as_ref()?.get(CHANNEL_ANNOTATION)?;
    let (namespace, name) = place.split_once('/')?;
    let key = ChannelKey { namespace: namespace.to_owned(), name: name.to_owned() };
    Some((key, uid.clone()))
}

/// Whether this very channel exists. One that may not be looked at is taken to exist.
pub async fn lives(ctx: &Ctx, key: &ChannelKey, uid: &str) -> Result<bool, kube::Error> {
    if !ctx.config.watches(&key.namespace) {
        return Ok(true);
    }
    let api: Api<PartialObjectMeta<WhatsAppChannel>> =
        Api::namespaced(ctx.client.clone(), &key.namespace);
    match api.get_opt(&key.name).await {
        Ok(found) => Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(uid))),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads a route object of the channel itself.
pub fn held(object: Secret) -> Result<RouteObject, Blocked> {
    let mut data = object.data.unwrap_or_default();
    let mut take = |key: &str| data.remove(key).map(|bytes| bytes.0).unwrap_or_default();
    let (route_bytes, state_bytes) = (take(ROUTE_KEY), take(STATE_KEY));
    let memory = Memory::decode(&state_bytes)
        .map_err(|error| Blocked { reason: Reason::RouteUnreadable, message: error.to_string() })?;
    let route = serde_json::from_slice(&route_bytes).ok();
    Ok(RouteObject { metadata: object.metadata, route_bytes, state_bytes, route, memory })
}

fn conflict(holder: &ChannelKey) -> Ownership {
    let ChannelKey { namespace, name } = holder;
    let message = format!(
        "channel {namespace}/{name} holds this account's sender; delete one of the two channels"
    );
    Ownership::Blocked(Blocked { reason: Reason::SenderConflict, message })
}
