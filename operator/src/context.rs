//! What every reconcile of this process shares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::channel::{RevisionContent, WhatsAppChannel};
use kanarie_words::ids::RevisionName;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource as _};
use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout};

use crate::clock::ReconcileClock;
use crate::config::Config;
use crate::evidence::Board;
use crate::metrics::Metrics;
use crate::secrets::SecretReader;
use crate::triggers::{ChannelKey, Guarded};
use crate::validate::Channel;

/// Time between two looks at a cache that is not complete.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Clients, caches and notes.
pub struct Ctx {
    /// The cluster.
    pub client: Client,
    /// Flags.
    pub config: Config,
    /// What the gateways said.
    pub evidence: Arc<Board>,
    /// What the Secrets say.
    pub secrets: SecretReader,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The watched channels.
    pub channels: Channels,
    /// Notes on channels, by uid: may be lost at any time.
    pub notes: Notes,
    /// Name of this process, for Events.
    pub instance: String,
    /// The time of decisions and of what is said about them.
    pub clock: ReconcileClock,
}

impl Ctx {
    /// Forgets a channel that is gone.
    pub fn forget(&self, key: &ChannelKey, uid: &str) {
        self.evidence.forget(uid);
        self.secrets.forget(key);
        self.notes.forget(uid);
    }
}

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
    pub fn contains(&self, key: &ChannelKey, uid: &str) -> bool {
        let wanted = ObjectRef::new(&key.name).within(&key.namespace);
        self.stores.get().into_iter().flatten().any(|store| {
            store.get(&wanted).is_some_and(|found| found.meta().uid.as_deref() == Some(uid))
        })
    }

    /// A channel that claims the same sender and is older; of two of the same age the one whose
    /// uid comes first.
    pub fn older_claimant(&self, channel: &Channel) -> Option<ChannelKey> {
        let age = (channel.created.clone(), channel.identity.uid.as_str());
        for object in self.stores.get().into_iter().flatten().flat_map(Store::state) {
            let Ok(other) = &object.0 else { continue };
            let uid = other.metadata.uid.as_deref().unwrap_or_default();
            if same_sender(other, channel) && (other.metadata.creation_timestamp.clone(), uid) < age
            {
                return Some(ChannelKey {
                    namespace: other.metadata.namespace.clone().unwrap_or_default(),
                    name: other.metadata.name.clone().unwrap_or_default(),
                });
            }
        }
        None
    }
}

fn same_sender(other: &WhatsAppChannel, channel: &Channel) -> bool {
    other.spec.sender.address == channel.spec.sender.address
        && other.spec.twilio.account_sid == channel.spec.twilio.account_sid
        && other.metadata.deletion_timestamp.is_none()
}

/// Notes on channels.
#[derive(Default)]
pub struct Notes {
    notes: Mutex<BTreeMap<String, Note>>,
}

/// What this process has done for a channel, so that it need not do it again.
#[derive(Clone, Default)]
pub struct Note {
    /// The revision that a content was found or made to be.
    pub resolved: Option<(RevisionContent, RevisionName)>,
    /// The transition for which revisions were marked and pruned, and when.
    pub marked: Option<(u64, Instant)>,
    /// Highest transition of which Events were created by this process.
    pub told: Option<u64>,
    /// When status was last written.
    pub status_written: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
}

impl Notes {
    /// The note on a channel.
    pub fn get(&self, uid: &str) -> Note {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes the note on a channel.
    pub fn update<R>(&self, uid: &str, change: impl FnOnce(&mut Note) -> R) -> R {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// Forgets a channel that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
