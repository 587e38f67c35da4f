//! The cluster of the bench: thousands of channels, and what their status says as it changes.
//!
//! Takes amounts; makes channels with a Secret each, edits many of them at once, and follows the status
//! of all of them with a watch of its own. Works as the administrator, so nothing of it is counted as
//! the operator's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_fakes::customer::Account;
use kanarie_tests::manifest::{ChannelManifest, steps};
use kanarie_words::ids::ChannelUid;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Requests at once, when many channels are made or edited.
const AT_ONCE: usize = 16;
/// How often it is looked whether something is so.
const LOOK: Duration = Duration::from_millis(50);

/// Many channels of one namespace.
pub(crate) struct Plant {
    client: Client,
    namespace: String,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// Generations of channels, by name.
pub(crate) type Generations = BTreeMap<String, i64>;

/// What a channel's status said last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The channel.
    pub(crate) uid: ChannelUid,
    /// Whether it is ready.
    pub(crate) ready: bool,
    /// Whether its spec is rolled out.
    pub(crate) rolled_out: bool,
    /// The generation that the status is about.
    pub(crate) generation: i64,
    /// Transitions so far.
    pub(crate) transition: u64,
}

impl Plant {
    /// In this namespace; follows it from now on.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let seen = Arc::default();
        let api = Api::namespaced(client.clone(), namespace);
        tokio::spawn(follow(api, Arc::clone(&seen)));
        Self { client, namespace: namespace.to_owned(), seen }
    }

    /// Makes so many channels.
    pub(crate) async fn grow(&self, count: u32) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let channels = self.channels();
        let (secrets, channels) = (&secrets, &channels);
        let made = stream::iter(0..count).map(|number| async move {
            let manifest = manifest(number);
            let secret = serde_json::from_value(manifest.secret())?;
            secrets.create(&PostParams::default(), &secret).await?;
            let channel = serde_json::from_value(manifest.channel())?;
            channels.create(&PostParams::default(), &channel).await?;
            anyhow::Ok(())
        });
        made.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Merges this into the spec of the channels with these numbers, all as fast as the API server can;
    /// gives their generations.
    pub(crate) async fn edit(&self, numbers: Range<u32>, spec: &Value) -> Result<Generations> {
        let channels = &self.channels();
        let patch = &Patch::Merge(json!({"spec": spec}));
        let edits = stream::iter(numbers).map(|number| async move {
            let edited = channels.patch(&name(number), &PatchParams::default(), patch).await?;
            anyhow::Ok((name(number), edited.metadata.generation.unwrap_or_default()))
        });
        edits.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until what was edited is rolled out.
    pub(crate) async fn rolled_out(
        &self,
        from: Instant,
        limit: Duration,
        edited: &Generations,
    ) -> Result<Duration> {
        loop {
            let waiting = {
                let seen = self.lock();
                let is_out = |(name, generation): &(&String, &i64)| {
                    let seen = seen.get(*name);
                    seen.is_some_and(|seen| seen.rolled_out && seen.generation >= **generation)
                };
                edited.iter().filter(|one| !is_out(one)).count()
            };
            if waiting == 0 {
                return Ok(from.elapsed());
            }
            ensure!(from.elapsed() < limit, "{waiting} of {} roll", edited.len());
            sleep(LOOK).await;
        }
    }

    /// The uids of the channels with these numbers.
    pub(crate) fn uids(&self, numbers: Range<u32>) -> BTreeSet<ChannelUid> {
        let seen = self.lock();
        numbers.filter_map(|number| Some(seen.get(&name(number))?.uid.clone())).collect()
    }

    /// Waits until so many channels are as they should be, and says how long after `from` the last
    /// one was.
    pub(crate) async fn until(
        &self,
        from: Instant,
        limit: Duration,
        count: usize,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<Duration> {
        loop {
            let so = self.lock().values().filter(|seen| is_so(seen)).count();
            if so >= count {
                return Ok(from.elapsed());
            }
            ensure!(from.elapsed() < limit, "{so} of {count} channels after {limit:?}");
            sleep(LOOK).await;
        }
    }

    /// Transitions of all channels so far.
    pub(crate) fn transitions(&self) -> u64 {
        self.lock().values().map(|seen| seen.transition).sum()
    }

    fn channels(&self) -> Api<WhatsAppChannel> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(number: u32) -> String {
    format!("shop-{number:05}")
}

/// A channel with three steps of ten seconds, and an agent that has five.
fn manifest(number: u32) -> ChannelManifest {
    let account = Account::new(200_000 + number);
    let mut manifest = ChannelManifest::new(&name(number), &account, "https://agent.example/0");
    manifest.limits = json!({});
    manifest.rollout = json!({
        "steps": steps(&[(10, 10), (50, 10), (100, 10)]),
        "analysis": {"minMessages": 50},
    });
    manifest
}

async fn follow(api: Api<WhatsAppChannel>, seen: Arc<Mutex<BTreeMap<String, Seen>>>) {
    let config = watcher::Config::default().page_size(500);
    let events = watcher(api, config).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Ok(channel) = event else { continue };
        let Some(now) = seen_of(&channel) else { continue };
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.name_any(), now);
    }
}

fn seen_of(channel: &WhatsAppChannel) -> Option<Seen> {
    let uid = channel.metadata.uid.as_ref()?.parse().ok()?;
    let status = channel.status.clone().unwrap_or_default();
    let is = |kind: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let (ready, rolled_out) = (is("Ready"), is("RolledOut"));
    let generation = status.observed_generation;
    Some(Seen { uid, ready, rolled_out, generation, transition: status.transition })
}
