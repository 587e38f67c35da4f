//! Found: what stands where a channel's route belongs, and what its status was at one moment. Plain values.

use kanarie_crds::status::WhatsAppChannelStatus;
use kube::api::ObjectMeta;

use crate::cluster::memory::MemoryError;
use crate::cluster::route_object::{RouteObject, RouteOwner};
use crate::reconcile::validate::Identity;

/// A route object.
pub enum RouteFound {
    /// The channel's own.
    Own(Box<RouteObject>),
    /// The channel's own, but it cannot be used.
    Unreadable(MemoryError),
    /// Another's.
    Foreign {
        /// To be replaced, if its owner is gone.
        metadata: Box<ObjectMeta>,
        /// Its owner, and whether that one is still there; none of a Secret that is no route.
        owner: Option<(RouteOwner, bool)>,
    },
}

/// A channel and its status at one moment.
#[derive(Clone)]
pub struct KnownStatus {
    /// The channel.
    pub identity: Identity,
    /// Its status.
    pub status: WhatsAppChannelStatus,
}
