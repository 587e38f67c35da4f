//! The Secrets that channels name: read one by one, and kept in the version that the watch knows.
//!
//! Takes names, gives the keys that a route can use and no others. A metadata-only watch tells the
//! versions: while it can be relied on, what it knows is not asked for again, and what it does not know
//! is not there. Else a value is kept for a minute. Never lists a value.

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
use crate::cluster::route_note::SecretStamps;
use crate::process::chain::chain;

/// Oldest value that is used without another look while no watch tells of changes.
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
    values: BTreeMap<Place, Kept>,
    users: BTreeMap<Place, BTreeSet<ChannelKey>>,
    /// The names that each channel uses.
    used: BTreeMap<ChannelKey, BTreeSet<String>>,
    /// Versions as the watches know them, and those of a list that is not complete yet.
    versions: BTreeMap<Place, String>,
    listed: BTreeMap<Place, String>,
    /// Which watches have listed all, and since when they work without an error.
    watches: BTreeMap<Watched, Instant>,
    /// Changes so far: an answer that crossed one on its way is not kept.
    changes: u64,
}

/// Namespace and name of a Secret.
type Place = (String, String);

/// What a watch watches: one namespace, or all of them.
pub type Watched = Option<String>;

/// A value, its version, and when it was read.
struct Kept {
    value: Value,
    version: Option<String>,
    read: Instant,
}

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
    /// The versions of those that are there and of those that are not.
    pub versions: SecretStamps,
}

impl SecretReader {
    /// Reads with this client's rights.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::new(Known::default()) }
    }

    /// Reads the named Secrets of a channel's namespace. One that cannot be read keeps nobody from
    /// the others.
    pub async fn read(&self, channel: &ChannelKey, names: &BTreeSet<String>) -> Read {
        self.uses(channel, names);
        let mut read = Read::default();
        let asked = names.iter().map(|name| timeout(WITHIN, self.one(channel, name)));
        for (name, answer) in names.iter().zip(join_all(asked).await) {
            let Ok(answer) = answer else {
                let late = format!("no answer within {} s", WITHIN.as_secs());
                read.unreadable.insert(name.clone(), late);
                continue;
            };
            match answer {
                Ok((Value::Found(data), version)) => {
                    read.found.insert(name.clone(), data);
                    read.versions.insert(name.clone(), version);
                }
                Ok((Value::Missing, _)) => {
                    read.versions.insert(name.clone(), None);
                }
                Ok((Value::Forbidden, _)) => {
                    read.forbidden.insert(name.clone());
                }
                Err(error) => {
                    read.unreadable.insert(name.clone(), chain(&error));
                }
            }
        }
        read
    }

    /// A Secret was made or changed, or is gone: the channels that use it.
    pub fn changed(&self, namespace: &str, name: &str, version: Option<String>) -> Vec<ChannelKey> {
        self.lock().change((namespace.to_owned(), name.to_owned()), version)
    }

    /// A watch begins anew.
    pub fn begin(&self, watched: &Watched) {
        let mut known = self.lock();
        known.listed.retain(|place, _| !is_seen(watched, place));
    }

    /// One of all that are there, told by a watch that begins anew.
    pub fn listed(&self, namespace: &str, name: &str, version: Option<String>) {
        let place = (namespace.to_owned(), name.to_owned());
        self.lock().listed.insert(place, version.unwrap_or_default());
    }

    /// All were told that this watch sees: the channels that use one which is another now, or gone.
    pub fn complete(&self, watched: &Watched) -> Vec<ChannelKey> {
        let mut known = self.lock();
        let all = std::mem::take(&mut known.listed);
        let (seen, others) = all.into_iter().partition(|(place, _)| is_seen(watched, place));
        known.listed = others;
        let seen: BTreeMap<Place, String> = seen;
        let gone = known.versions.keys().filter(|place| is_seen(watched, place));
        let gone: Vec<Place> = gone.filter(|place| !seen.contains_key(*place)).cloned().collect();
        let gone = gone.into_iter().map(|place| (place, None));
        let there = seen.into_iter().map(|(place, version)| (place, Some(version)));
        let mut users = Vec::new();
        for (place, version) in gone.chain(there).collect::<Vec<_>>() {
            if known.versions.get(&place) != version.as_ref() {
                users.extend(known.change(place, version));
            }
        }
        known.watches.insert(watched.clone(), Instant::now());
        users
    }

    /// A watch has broken: what it knows is not relied on for a while.
    pub fn troubled(&self, watched: &Watched) {
        let mut known = self.lock();
        if let Some(since) = known.watches.get_mut(watched) {
            *since = Instant::now() + REREAD;
        }
    }

    /// Whether a watch tells of every change in this namespace.
    pub fn tells_of(&self, namespace: &str) -> bool {
        self.lock().is_watched(namespace, Instant::now())
    }

    /// Whether this watch has told all that it sees.
    pub fn is_complete(&self, watched: &Watched) -> bool {
        self.lock().watches.contains_key(watched)
    }

    /// The versions of these Secrets as the watch knows them, if it can be relied on.
    pub fn versions(&self, namespace: &str, names: &BTreeSet<String>) -> Option<SecretStamps> {
        let known = self.lock();
        known.is_watched(namespace, Instant::now()).then(|| {
            let version = |name: &String| {
                let place = (namespace.to_owned(), name.clone());
                (name.clone(), known.versions.get(&place).cloned())
            };
            names.iter().map(version).collect()
        })
    }

    /// A channel uses these Secrets, whether it reads them or not, and no others any more.
    pub fn uses(&self, channel: &ChannelKey, names: &BTreeSet<String>) {
        let mut known = self.lock();
        if known.used.get(channel) == Some(names) {
            return;
        }
        let former = known.used.insert(channel.clone(), names.clone()).unwrap_or_default();
        former.difference(names).for_each(|name| known.leave(channel, name));
        for name in names.difference(&former) {
            let place = (channel.namespace.clone(), name.clone());
            known.users.entry(place).or_default().insert(channel.clone());
        }
    }

    /// A channel is gone: what only it used is forgotten.
    pub fn forget(&self, channel: &ChannelKey) {
        let mut known = self.lock();
        let names = known.used.remove(channel).unwrap_or_default();
        names.iter().for_each(|name| known.leave(channel, name));
    }

    async fn one(
        &self,
        channel: &ChannelKey,
        name: &str,
    ) -> Result<(Value, Option<String>), kube::Error> {
        let place = (channel.namespace.clone(), name.to_owned());
        let started = Instant::now();
        let changes = {
            let known = self.lock();
            if let Some(known) = known.at_hand(&place, started) {
                return Ok(known);
            }
            known.changes
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &channel.namespace);
        let (value, version) = match api.get_opt(name).await {
            Ok(Some(secret)) => {
                let version = secret.metadata.resource_version.clone();
                (Value::Found(keys_of(secret)), version)
            }
            Ok(None) => (Value::Missing, None),
            Err(kube::Error::Api(status)) if status.is_forbidden() => (Value::Forbidden, None),
            Err(error) => return Err(error),
        };
        let mut known = self.lock();
        // Nor what nobody uses any more.
        if known.changes == changes && known.users.contains_key(&place) {
            let (value, version) = (value.clone(), version.clone());
            known.values.insert(place, Kept { value, version, read: started });
        }
        Ok((value, version))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_seen(watched: &Watched, (namespace, _): &Place) -> bool {
    watched.as_ref().is_none_or(|only| only == namespace)
}

impl Known {
    /// A channel does not use a Secret any more; with the last one its value goes.
    fn leave(&mut self, channel: &ChannelKey, name: &str) {
        let place = (channel.namespace.clone(), name.to_owned());
        let Some(users) = self.users.get_mut(&place) else { return };
        users.remove(channel);
        if users.is_empty() {
            self.users.remove(&place);
            self.values.remove(&place);
        }
    }

    fn change(&mut self, place: Place, version: Option<String>) -> Vec<ChannelKey> {
        self.values.remove(&place);
        self.changes = self.changes.wrapping_add(1);
        let users = self.users.get(&place).into_iter().flatten().cloned().collect();
        match version {
            Some(version) => self.versions.insert(place, version),
            None => self.versions.remove(&place),
        };
        users
    }

    /// What need not be asked for.
    fn at_hand(&self, place: &Place, now: Instant) -> Option<(Value, Option<String>)> {
        let kept = self.values.get(place);
        let given = kept.map(|kept| (kept.value.clone(), kept.version.clone()));
        if kept.is_some_and(|kept| now.duration_since(kept.read) < REREAD) {
            return given;
        }
        if !self.is_watched(&place.0, now) {
            return None;
        }
        match (self.versions.get(place), kept) {
            (None, _) => Some((Value::Missing, None)),
            (known, Some(kept)) if known == kept.version.as_ref() => given,
            (Some(_), _) => None,
        }
    }

    /// Whether a watch tells of every change in this namespace.
    fn is_watched(&self, namespace: &str, now: Instant) -> bool {
        let its = self.watches.get(&Some(namespace.to_owned()));
        its.or_else(|| self.watches.get(&None)).is_some_and(|since| *since <= now)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> SecretReader {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        SecretReader::new(Client::try_from(config).unwrap())
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_a_channel_names_no_more_is_not_kept() {
        let reader = reader();
        let key = |name: &str| ChannelKey { namespace: "shop".into(), name: name.into() };
        for number in 0..100 {
            reader.uses(&key("care"), &names(&["shared", &format!("twilio-{number}")]));
        }
        reader.uses(&key("other"), &names(&["shared"]));
        let users = |name: &str| reader.changed("shop", name, Some("1".to_owned()));
        assert_eq!(reader.lock().users.len(), 2);
        assert_eq!(users("twilio-99"), [key("care")]);
        assert_eq!(users("shared"), [key("care"), key("other")]);
        reader.forget(&key("care"));
        assert_eq!(users("shared"), [key("other")]);
        assert_eq!(reader.lock().used.len(), 1);
    }
}
