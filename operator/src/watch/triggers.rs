//! The way back into the controllers for what no watch of theirs sees: new evidence, a route that
//! was changed by somebody else.
//!
//! Gives a sender and, per controller, a receiver. The queue is bounded: whoever reports waits for
//! the controllers, which take without waiting for their reconciles.

use std::collections::BTreeMap;

use kanarie_crds::channel::WhatsAppChannel;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cluster::key::ChannelKey;

/// A channel as the watches deliver it: one that cannot be decoded does not stop the others.
pub type Guarded = DeserializeGuard<WhatsAppChannel>;

/// Reports that are taken in before the reporter waits; a controller empties it in milliseconds.
const QUEUE: usize = 1024;

/// Asks for reconciles.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// By watched namespace; under the empty name stands the controller of all namespaces.
    controllers: BTreeMap<String, Sender<ObjectRef<Guarded>>>,
}

/// One controller's end: the namespace it watches, none for all, and what it must look at.
pub type ReconcileQueue = (Option<String>, Receiver<ObjectRef<Guarded>>);

impl Triggers {
    /// A sender, and a receiver for each watched namespace or one for all of them.
    pub fn new(watch_namespaces: &[String]) -> (Self, Vec<ReconcileQueue>) {
        let scopes: Vec<Option<String>> = match watch_namespaces {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let mut controllers = BTreeMap::new();
        let mut queues = Vec::new();
        for scope in scopes {
            let (sender, receiver) = channel(QUEUE);
            controllers.insert(scope.clone().unwrap_or_default(), sender);
            queues.push((scope, receiver));
        }
        (Self { controllers }, queues)
    }

    /// Asks for a reconcile of one channel; nothing happens for one that nobody watches.
    pub async fn send(&self, key: &ChannelKey) {
        let controller = self.controllers.get(&key.namespace).or_else(|| self.controllers.get(""));
        if let Some(controller) = controller {
            // A closed queue belongs to a controller that is stopping.
            let _ = controller.send(ObjectRef::new(&key.name).within(&key.namespace)).await;
        }
    }
}
