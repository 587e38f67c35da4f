//! What the admin port knows of its gateway, and what that says about being ready.
//!
//! Takes parts of the gateway, gives the names of what is missing. Never waits longer for the store
//! than a probe waits for us, and never changes anything.

use std::sync::Arc;
use std::time::Duration;

use kanarie_words::ids::{ChannelUid, SHARDS};
use tokio::sync::watch;

use crate::admin::unsynced::Unsynced;
use crate::doorbell::Doorbell;
use crate::heartbeat::Pulse;
use crate::key::LearnedKey;
use crate::levels::{Levels, Standing, StoreLevels};
use crate::loads::FullChannels;
use crate::routes::table::RouteTable;
use crate::store::SharedStore;
use kanarie_process::tasks::Living;

/// What the admin port shows.
pub struct Admin {
    /// The routes in force.
    pub routes: Arc<RouteTable>,
    /// The store.
    pub store: SharedStore,
    /// The store's key, once it is known.
    pub key: LearnedKey,
    /// When the store last heard this replica.
    pub pulse: Pulse,
    /// The claimers that are alive; none are wanted by a gateway that only receives.
    pub claimers: Option<Living>,
    /// How the turns stand.
    pub levels: Levels,
    /// What every channel held when the store was last asked.
    pub full: FullChannels,
    /// What replicas do not hold alike.
    pub unsynced: Unsynced,
    /// Wakes whoever claims what waits.
    pub doorbell: Arc<Doorbell>,
    /// Says true once the gateway is told to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Longest that a question whether the store answers may take: probes wait a second by default.
const PING_DEADLINE: Duration = Duration::from_millis(800);

/// What only a new start mends.
const OTHER_KEY: &str = "the store was emptied and has another key: restart this gateway";

impl Admin {
    /// What keeps the gateway from being ready, in words.
    pub async fn missing(&self) -> Vec<&'static str> {
        let answers = tokio::time::timeout(PING_DEADLINE, self.store.ping()).await;
        let told = [
            (*self.shutdown.borrow(), "it is stopping"),
            (!self.routes.ready(), "the routes are not loaded"),
            (!matches!(answers, Ok(Ok(()))), "the store does not answer"),
            (self.key.get().is_none(), "the store's key is not known"),
            (self.pulse.has_other_key(), OTHER_KEY),
            (!self.pulse.is_fresh(), "the store has not heard this replica for five seconds"),
            (!self.claims(), "not every claimer is alive"),
        ];
        told.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
    }

    /// How everything stands, by the names of channels.
    pub fn standing(&self) -> Standing {
        let lanes = self.store.lanes_up() as u64;
        let store = StoreLevels { lanes, is_durable: self.store.lacks().is_none() };
        Standing::of(self.levels.read(), &self.full.loads(), store, &self.routes)
    }

    /// Whether anybody judges what is counted for a channel: not while its route here has no canary. After an
    /// operator's start it asks about every channel, and the counts of those at rest are most of the answer.
    pub(super) fn may_roll(&self, channel: &ChannelUid) -> bool {
        let route = self.routes.find_channel(channel.as_str());
        route.is_none_or(|entry| entry.route.canary.is_some())
    }

    fn claims(&self) -> bool {
        let all = usize::from(SHARDS);
        self.claimers.as_ref().is_none_or(|claimers| claimers.count() == all)
    }
}
