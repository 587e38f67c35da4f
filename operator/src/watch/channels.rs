//! The caches of the watches of channels: who is there, and who claimed a sender first.
//!
//! Takes the caches once, when the watches begin; answers from them. Never asks the API server.

use std::time::Duration;

use kanarie_crds::channel::WhatsAppChannel;
use kube::Resource as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::SetOnce;
use tokio::time::timeout;

use crate::cluster::key::ChannelKey;
use crate::cluster::route_object::RouteOwner;
use crate::reconcile::validate::{Channel, ValidSpec};
use crate::watch::triggers::Guarded;

/// Time between two looks at a cache that is not complete.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The caches of all watches of channels.
#[derive(Default)]
pub struct Channels {
    stores: SetOnce<Vec<Store<Guarded>>>,
}

impl Channels {
    /// Takes the caches, once.
    pub fn fill(&self, stores: Vec<Store<Guarded>>) {
        // A second call would be of the same process start and of the same watches.
        let _ = self.stores.set(stores);
    }

    /// Waits until every cache is complete.
    pub async fn ready(&self) {
        for store in self.stores.wait().await {
            // A store wakes only the last of several waiters, and the controller waits as well:
            // asking again is what cannot be missed. An error means that the watch has ended, and
            // with it this process.
            while timeout(ASK_AGAIN, store.wait_until_ready()).await.is_err() {}
        }
    }

    /// Whether this very channel is there, as far as the watches know.
    pub fn contains(&self, owner: &RouteOwner) -> bool {
        let RouteOwner { key, uid } = owner;
        let wanted = ObjectRef::new(&key.name).within(&key.namespace);
        self.stores.get().into_iter().flatten().any(|store| {
            store.get(&wanted).is_some_and(|found| found.meta().uid.as_ref() == Some(uid))
        })
    }

    /// A channel that claims the same sender and is older, once every cache is complete; of two of the
    /// same age the one whose uid comes first.
    pub async fn older_claimant(&self, channel: &Channel, spec: &ValidSpec) -> Option<ChannelKey> {
        self.ready().await;
        let age = (channel.created.clone(), channel.identity.uid.as_str());
        for object in self.stores.get().into_iter().flatten().flat_map(Store::state) {
            let Ok(other) = &object.0 else { continue };
            let uid = other.metadata.uid.as_deref().unwrap_or_default();
            if same_sender(other, spec) && (other.metadata.creation_timestamp.clone(), uid) < age {
                return Some(ChannelKey {
                    namespace: other.metadata.namespace.clone().unwrap_or_default(),
                    name: other.metadata.name.clone().unwrap_or_default(),
                });
            }
        }
        None
    }
}

fn same_sender(other: &WhatsAppChannel, own: &ValidSpec) -> bool {
    other.spec.sender.address == own.spec.sender.address
        && other.spec.twilio.account_sid == own.spec.twilio.account_sid
        && other.metadata.deletion_timestamp.is_none()
}
