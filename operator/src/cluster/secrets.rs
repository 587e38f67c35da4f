//! The Secrets that channels name: read one by one, kept for a minute at most.
//!
//! Takes names, gives the keys that a route can use and no others. A metadata-only watch says when
//! a Secret changed (`changed`); the timed re-read is for a watch that missed it. Never lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::compile::Secrets;
use kanarie_crds::secrets::{
    AGENT_API_KEY, AGENT_TOKEN, API_KEY_SECRET, API_KEY_SID, AUTH_TOKEN, AUTH_TOKEN_SECONDARY,
    MAX_VALUE_BYTES, SIGNING_KEY,
};
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use crate::cluster::key::ChannelKey;
use crate::process::chain::chain;

/// Oldest value that is used without another look.
pub const REREAD: Duration = Duration::from_secs(60);
/// Time that reading one may take.
const WITHIN: Duration = Duration::from_secs(5);
/// The only keys that are ever read.
const KEYS: [&str; 7] = [
    AUTH_TOKEN,
    AUTH_TOKEN_SECONDARY,
    API_KEY_SID,
    API_KEY_SECRET,
    SIGNING_KEY,
    AGENT_API_KEY,
    AGENT_TOKEN,
];

/// Reads Secrets and knows who uses them.
pub struct SecretReader {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    values: BTreeMap<Place, (Value, Instant)>,
    users: BTreeMap<Place, BTreeSet<ChannelKey>>,
    /// Changes so far: an answer that crossed one on its way is not kept.
    changes: u64,
}

/// Namespace and name of a Secret.
type Place = (String, String);

/// What became of one Secret.
#[derive(Clone)]
enum Value {
    Found(BTreeMap<String, Vec<u8>>),
    Missing,
    Forbidden,
}

/// What could be read of the Secrets that a channel names.
#[derive(Clone, Default)]
pub struct Read {
    /// Those that are there.
    pub found: Secrets,
    /// Those that the operator may not read.
    pub forbidden: BTreeSet<String>,
    /// Those of which the API server could not say anything, and what it said instead.
    pub unreadable: BTreeMap<String, String>,
}

impl SecretReader {
    /// Reads with this client's rights.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::new(Known::default()) }
    }

    /// Reads the named Secrets of a channel's namespace. One that cannot be read keeps nobody from
    /// the others.
    pub async fn read(&self, channel: &ChannelKey, names: &BTreeSet<String>) -> Read {
        let mut read = Read::default();
        let asked = names.iter().map(|name| timeout(WITHIN, self.one(channel, name)));
        for (name, answer) in names.iter().zip(join_all(asked).await) {
            let Ok(answer) = answer else {
                let late = format!("no answer within {} s", WITHIN.as_secs());
                read.unreadable.insert(name.clone(), late);
                continue;
            };
            match answer {
                Ok(Value::Found(data)) => {
                    read.found.insert(name.clone(), data);
                }
                Ok(Value::Missing) => {}
                Ok(Value::Forbidden) => {
                    read.forbidden.insert(name.clone());
                }
                Err(error) => {
                    read.unreadable.insert(name.clone(), chain(&error));
                }
            }
        }
        read
    }

    /// A Secret was created, changed or deleted: the channels that use it.
    pub fn changed(&self, namespace: &str, name: &str) -> Vec<ChannelKey> {
        let place = (namespace.to_owned(), name.to_owned());
        let mut known = self.lock();
        known.values.remove(&place);
        known.changes = known.changes.wrapping_add(1);
        known.users.get(&place).into_iter().flatten().cloned().collect()
    }

    /// A channel is gone: what only it used is forgotten.
    pub fn forget(&self, channel: &ChannelKey) {
        let mut known = self.lock();
        known.users.retain(|_, users| {
            users.remove(channel);
            !users.is_empty()
        });
        let Known { values, users, .. } = &mut *known;
        values.retain(|place, _| users.contains_key(place));
    }

    async fn one(&self, channel: &ChannelKey, name: &str) -> Result<Value, kube::Error> {
        let place = (channel.namespace.clone(), name.to_owned());
        let started = Instant::now();
        let changes = {
            let mut known = self.lock();
            known.users.entry(place.clone()).or_default().insert(channel.clone());
            let young = |read: &Instant| started.duration_since(*read) < REREAD;
            if let Some((value, _)) = known.values.get(&place).filter(|(_, read)| young(read)) {
                return Ok(value.clone());
            }
            known.changes
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &channel.namespace);
        let value = match api.get_opt(name).await {
            Ok(Some(secret)) => Value::Found(keys_of(secret)),
            Ok(None) => Value::Missing,
            Err(kube::Error::Api(status)) if status.is_forbidden() => Value::Forbidden,
            Err(error) => return Err(error),
        };
        let mut known = self.lock();
        if known.changes == changes {
            known.values.insert(place, (value.clone(), started));
        }
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys_of(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.unwrap_or_default().into_iter();
    let ours = data.filter(|(key, _)| KEYS.contains(&key.as_str()));
    // A byte more than is usable says as much as a whole megabyte, and is kept for every channel.
    ours.map(|(key, mut value)| {
        value.0.truncate(MAX_VALUE_BYTES + 1);
        (key, value.0)
    })
    .collect()
}
