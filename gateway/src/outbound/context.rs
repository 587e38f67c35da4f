//! What every turn of the outbound line works with, and nothing that one of them owns.
//!
//! Takes nothing and decides nothing: it is handed about.

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::Route;
use kanarie_words::ids::{ReplicaName, StoreKey};
use kanarie_words::track::Track;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cut::Cuts;
use crate::doorbell::Doorbell;
use crate::handover::Handover;
use crate::heartbeat::Pulse;
use crate::key::LearnedKey;
use crate::levels::{Levelled, Levels, OutboundLevels};
use crate::loads::FullChannels;
use crate::outbound::agent::Agents;
use crate::outbound::lease::Leases;
use crate::outbound::pace::Senders;
use crate::outbound::places::Places;
use crate::outbound::put_back::PutBack;
use crate::outbound::quarantine::Quarantine;
use crate::outbound::refused::Holds;
use crate::outbound::track::Choice;
use crate::outbound::twilio::Twilio;
use crate::outbound::underway::Underway;
use crate::reports::Reports;
use crate::routes::table::RouteTable;
use crate::store::SharedStore;
use kanarie_process::tasks::Living;

/// What the workers work with.
pub struct Context {
    /// The name of this replica.
    pub replica: ReplicaName,
    /// The store.
    pub store: SharedStore,
    /// The store's key, once it is known.
    pub key: LearnedKey,
    /// The routes that this replica obeys.
    pub routes: Arc<RouteTable>,
    /// When the store last heard this replica.
    pub pulse: Pulse,
    /// The claimers that are alive.
    pub claimers: Living,
    /// The canaries that are left alone while nobody watches.
    pub cuts: Arc<Cuts>,
    /// Rung with the shard of every message that this replica admits, and of every report.
    pub doorbell: Arc<Doorbell>,
    /// Tells the first line of the turns of this process.
    pub handover: Handover,
    /// What Twilio reports to this replica.
    pub reports: Reports,
    /// The channels that hold as much as they may.
    pub full: FullChannels,
    /// Tells how the turns of this process stand.
    pub levels: Levels,
    /// The client of the agents.
    pub agents: Agents,
    /// The client of Twilio.
    pub twilio: Twilio,
    /// How much and how long.
    pub settings: Pace,
}

/// How much and how long a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Turns at once, at most half of them of one channel; 0 claims nothing.
    pub turns: u32,
    /// After `shutdown`: how long turns may go on before they are given back.
    pub drain: Duration,
}

/// The context and what the turns share besides.
pub(crate) struct Worker {
    pub(crate) ctx: Context,
    /// The store's key, from which buckets are drawn.
    pub(crate) key: StoreKey,
    pub(crate) leases: Leases,
    pub(crate) places: Arc<Places>,
    pub(crate) holds: Holds,
    pub(crate) senders: Senders,
    pub(crate) quarantine: Quarantine,
    pub(crate) put_back: PutBack,
    /// The turns, those that sleep included.
    pub(crate) turns: Underway,
    /// The POSTs to Twilio that go on whatever becomes of their turns.
    pub(crate) posts: Underway,
    stop: watch::Receiver<bool>,
}

impl Worker {
    /// A worker that has nothing to do yet.
    pub(crate) fn new(ctx: Context, key: StoreKey, stop: watch::Receiver<bool>) -> Self {
        Self {
            places: Arc::new(Places::new(ctx.settings.turns)),
            leases: Leases::of(&ctx.replica),
            ctx,
            key,
            holds: Holds::default(),
            senders: Senders::new(Instant::now()),
            quarantine: Quarantine::default(),
            put_back: PutBack::default(),
            turns: Underway::default(),
            posts: Underway::default(),
            stop,
        }
    }

    /// The choice as it stands, or stable's, uncounted, while the canary is cut off here.
    pub(crate) fn uncut<'a>(&self, choice: Choice<'a>, route: &'a Route) -> Choice<'a> {
        let canary = &choice.revision.revision;
        let cut = choice.track == Track::Canary
            && self.ctx.cuts.is_cut(&route.channel.uid, canary, Instant::now());
        if cut {
            Choice { track: Track::Stable, revision: &route.stable, judged: false }
        } else {
            choice
        }
    }

    /// Rings for a shard in which something may be ready, and calls the others while nothing is claimed
    /// here.
    pub(crate) fn ring(&self, shard: u8) {
        self.ctx.doorbell.ring(shard);
        if !self.may_claim() {
            self.ctx.doorbell.call_others(shard);
        }
    }

    /// Whether the routes are loaded, the store has heard this replica, and it is not told to stop.
    pub(crate) fn may_claim(&self) -> bool {
        !*self.stop.borrow() && self.ctx.routes.ready() && self.ctx.pulse.is_fresh()
    }
}

impl Levelled for Worker {
    fn levels(&self) -> OutboundLevels {
        let mut ages = self.leases.ages();
        ages.extend(self.put_back.ages(Instant::now()));
        let mut left_alone = self.ctx.agents.left_alone();
        // Nobody asks one that was stable before.
        left_alone.retain(|agent| {
            let entry = self.ctx.routes.find_channel(agent.channel.as_str());
            entry.is_some_and(|entry| entry.route.stable.revision == agent.revision)
        });
        OutboundLevels {
            turns: u64::from(self.places.taken()),
            ages,
            left_alone: left_alone.into_iter().map(|agent| agent.channel).collect(),
        }
    }
}
