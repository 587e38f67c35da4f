//! Evidence: a board of what the gateways said, on which every reconcile reads its view.
//!
//! Takes what reconciles are interested in and the answers of the gateways; gives what the store last
//! said, what to ask next, and for whom an answer is news. Details are due every `interval` for
//! channels that roll, every second for routes that were just written until every live replica
//! acknowledged them; a summary with exceptions at least every ten seconds. What is told unasked does
//! not put that off. A gateway that cannot be asked leaves the view as it is until it is too old to
//! be used: that is no evidence, never bad evidence. What was not asked about yet since this process
//! started is no silence. Asks nobody by itself (`reader.rs`).
//!
//! So 10,000 channels at rest cost one request in ten seconds instead of 10,000 a minute, and a
//! batch of 200 channels is of one moment of the store. Each answer that changes something is a
//! reconcile of that channel. After one that is too old holds stop, and nothing is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::control::{ChannelDeadLetters, ChannelState, ChannelUndelivered, ControlState};
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::key::ChannelKey;

/// Longest time between two answers while gateways can be asked.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two looks at what is due.
pub const TICK: Duration = Duration::from_millis(500);
/// Interval for routes that are not yet acknowledged, and for how long.
const EAGER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// An answer that is older than the one that stands, by no more than this, was overtaken by it; by more, the
/// store's clock was put back.
const OVERTAKEN_MS: u64 = 10_000;
/// Age from which on the gateways count as unreachable, and a replica without a route as one that does
/// not get it any more: a store that restarts knows again what its replicas hold within half a minute.
const SILENCE: Duration = Duration::from_secs(30);

/// What a reconcile wants to know from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The channel.
    pub key: ChannelKey,
    /// Its uid.
    pub uid: ChannelUid,
    /// Hash of the route's bytes as they are in the cluster.
    pub hash: RouteHash,
    /// Whether its counts are needed.
    pub rolling: bool,
    /// How often, at the least.
    pub interval: Duration,
    /// When the next answer is wanted, if that is sooner: at the end of a hold.
    pub next: Duration,
}

/// Who is there to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// This process has not asked about the channel yet, so what was known before is still all that is
    /// known.
    #[default]
    NotAsked,
    /// No gateway has answered for too long.
    Silent,
    /// Names of the live replicas by the last answer.
    Alive(Vec<ReplicaName>),
}

/// What is known about a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Who is there to serve it.
    pub presence: Presence,
    /// Details of this channel, if they were asked for and are young.
    pub details: Option<Details>,
    /// Live replicas that obey the route as it is.
    pub synced: usize,
    /// Those that do not, as far as they are known by name.
    pub lacking: Vec<ReplicaName>,
    /// Those that have held no route of the channel at all, for longer than anybody takes to get one.
    pub unserved: Vec<ReplicaName>,
    /// Dead letters of this channel.
    pub dead_letters: Option<ChannelDeadLetters>,
    /// Replies of this channel that were not delivered.
    pub undelivered: Option<ChannelUndelivered>,
}

/// One answer about one channel; everything in it is of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The store's clock, Unix milliseconds.
    pub at_ms: u64,
    /// Digest of the store's epochs.
    pub epoch: EpochDigest,
    /// Names of the replicas that were live then.
    pub replicas: Vec<ReplicaName>,
    /// What they hold and have counted; none when no replica knows the channel.
    pub channel: Option<ChannelState>,
}

impl View {
    /// Whether every live replica obeys the route as it is.
    pub fn in_force(&self) -> bool {
        self.live() > 0 && self.synced == self.live()
    }

    /// Whether there is nothing to wait for, and no number that grows: it is in force, or nobody was asked
    /// yet, who will tell.
    pub fn is_settled(&self) -> bool {
        (self.presence == Presence::NotAsked || self.in_force()) && self.undelivered.is_none()
    }

    /// How many replicas live.
    pub fn live(&self) -> usize {
        match &self.presence {
            Presence::Alive(replicas) => replicas.len(),
            Presence::NotAsked | Presence::Silent => 0,
        }
    }
}

/// What the poller and the reconciles share.
#[derive(Default)]
pub struct Board {
    notices: Mutex<Notices>,
    /// Told when a channel begins to roll, or rolls no more.
    rollouts: watch::Sender<()>,
}

#[derive(Default)]
struct Notices {
    /// The first look: from then on somebody has waited for an answer.
    began: Option<Instant>,
    last: Option<Summary>,
    channels: BTreeMap<ChannelUid, Watched>,
    /// Whether everybody knows of the silence.
    silent: bool,
}

struct Summary {
    replicas: Vec<ReplicaName>,
    unsynced: BTreeSet<ChannelUid>,
    dead_letters: BTreeMap<ChannelUid, ChannelDeadLetters>,
    undelivered: BTreeMap<ChannelUid, ChannelUndelivered>,
    read: Instant,
}

struct Watched {
    interest: Interest,
    since: Instant,
    asked: Option<Instant>,
    details: Option<(Details, Instant)>,
    /// Every replica that lived then acknowledged the hash of `interest`.
    confirmed: bool,
    /// Since when some live replica holds no route of the channel at all.
    lacks: Option<Instant>,
}

impl Board {
    /// Says what a reconcile is interested in and gives what is known now.
    pub fn look(&self, interest: Interest, now: Instant) -> View {
        let mut notices = self.lock();
        let notices = &mut *notices;
        notices.began.get_or_insert(now);
        let rolled = notices.channels.get(&interest.uid).is_some_and(|of| of.interest.rolling);
        if rolled != interest.rolling {
            self.rollouts.send_replace(());
        }
        let watched = notices.channels.entry(interest.uid.clone()).or_insert_with(|| Watched {
            interest: interest.clone(),
            since: now,
            asked: None,
            details: None,
            confirmed: false,
            lacks: None,
        });
        if watched.interest.hash != interest.hash {
            watched.confirmed = false;
            watched.since = now;
            watched.asked = None;
        }
        watched.interest = interest;
        let watched = &*watched;
        match &notices.last {
            Some(last) => last.view(watched, now),
            None => unheard(notices.began, now),
        }
    }

    /// What is known of a channel now, by what a reconcile was last interested in.
    pub fn view(&self, uid: &ChannelUid, now: Instant) -> View {
        let notices = self.lock();
        let known = notices.last.as_ref().zip(notices.channels.get(uid));
        known.map_or_else(|| unheard(notices.began, now), |(last, watched)| last.view(watched, now))
    }

    /// Who is there to serve anybody, also a channel that nobody asks about.
    pub fn presence(&self, now: Instant) -> Presence {
        let notices = self.lock();
        match &notices.last {
            None => unheard(notices.began, now).presence,
            Some(last) if last.is_old(now) => Presence::Silent,
            Some(last) => Presence::Alive(last.replicas.clone()),
        }
    }

    /// Forgets a channel that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().channels.remove(uid);
    }

    /// The channels that roll, in order.
    pub fn rolling(&self) -> Vec<ChannelUid> {
        let notices = self.lock();
        let rolling = notices.channels.iter().filter(|(_, watched)| watched.interest.rolling);
        rolling.map(|(uid, _)| uid.clone()).collect()
    }

    /// Says when others roll.
    pub fn rollouts(&self) -> watch::Receiver<()> {
        self.rollouts.subscribe()
    }

    /// Whether nobody has answered for so long that a summary is due.
    pub fn summary_is_due(&self, now: Instant) -> bool {
        let notices = self.lock();
        notices.last.as_ref().is_none_or(|last| now.duration_since(last.read) >= SUMMARY_INTERVAL)
    }

    /// The channels whose details are due.
    pub fn due(&self, now: Instant) -> Vec<ChannelUid> {
        let notices = self.lock();
        // Without a live replica there are no details to ask for; the summary tells when one comes.
        let Some(last) = notices.last.as_ref().filter(|last| !last.replicas.is_empty()) else {
            return Vec::new();
        };
        let due = notices.channels.iter().filter(|(uid, watched)| {
            let Some(interval) = watched.interval(last.unsynced.contains(*uid), now) else {
                return false;
            };
            watched.asked.is_none_or(|asked| now.duration_since(asked) + TICK / 2 >= interval)
        });
        due.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes the answer in that was due and gives the channels for which it is news: it is for each of
    /// these that rolls.
    pub fn take(&self, uids: &[ChannelUid], state: ControlState, now: Instant) -> Vec<ChannelKey> {
        self.fill(uids, state, now, false)
    }

    /// The same of an answer that came unasked: of these it is news for those that it tells more of.
    pub fn hear(&self, uids: &[ChannelUid], state: ControlState, now: Instant) -> Vec<ChannelKey> {
        self.fill(uids, state, now, true)
    }

    fn fill(
        &self,
        uids: &[ChannelUid],
        state: ControlState,
        now: Instant,
        unasked: bool,
    ) -> Vec<ChannelKey> {
        let mut notices = self.lock();
        let notices = &mut *notices;
        let mut details: BTreeMap<ChannelUid, ChannelState> =
            state.channels.into_iter().map(|channel| (channel.uid.clone(), channel)).collect();
        let undelivered = match state.undelivered {
            Some(all) => all.into_iter().map(|of| (of.uid.clone(), of)).collect(),
            // An older gateway during an update: what a newer one said stays.
            None => notices.last.as_ref().map_or_else(BTreeMap::new, |was| was.undelivered.clone()),
        };
        let answer = Summary {
            replicas: state.replicas.into_iter().map(|replica| replica.id).collect(),
            unsynced: state.unsynced.into_iter().collect(),
            dead_letters: state
                .dead_letters
                .into_iter()
                .map(|dead| (dead.uid.clone(), dead))
                .collect(),
            undelivered,
            read: now,
        };
        let before = notices.last.replace(answer);
        notices.silent = false;
        let last = notices.last.as_ref().expect("it was put there a line above");
        let mut news = BTreeSet::new();
        for (uid, watched) in &mut notices.channels {
            let old = before.as_ref().map(|before| before.view(watched, now));
            let mut tells_more = false;
            if uids.contains(uid) {
                if !unasked {
                    watched.asked = Some(now);
                }
                let told = Details {
                    at_ms: state.observed_at_ms,
                    epoch: state.epoch.clone(),
                    replicas: last.replicas.clone(),
                    channel: details.remove(uid),
                };
                tells_more = watched.take(told, now) || !unasked;
            }
            watched.forget_what_is_settled(now);
            let new = last.view(watched, now);
            if (tells_more && watched.interest.rolling)
                || old.is_none_or(|old| !old.tells_the_same(&new))
            {
                news.insert(watched.interest.key.clone());
            }
        }
        news.into_iter().collect()
    }

    /// Nobody has answered about these: others are asked about first.
    pub fn put_off(&self, uids: &[ChannelUid], now: Instant) {
        let mut notices = self.lock();
        for uid in uids {
            if let Some(watched) = notices.channels.get_mut(uid) {
                watched.asked = Some(now);
            }
        }
    }

    /// Notices once that the gateways have been silent for too long; that is news for everybody.
    pub fn silence(&self, now: Instant) -> Vec<ChannelKey> {
        let mut notices = self.lock();
        let silent = match &notices.last {
            Some(last) => last.is_old(now),
            None => unheard(notices.began, now).presence == Presence::Silent,
        };
        if !silent || notices.silent {
            return Vec::new();
        }
        notices.silent = true;
        notices.channels.values().map(|watched| watched.interest.key.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Whether two views lead to the same status; counts are told on their own.
    fn tells_the_same(&self, other: &Self) -> bool {
        // How many replicas obey is no news of a channel that all of them serve.
        let as_served = (self.in_force() && other.in_force())
            || (self.presence == other.presence
                && self.synced == other.synced
                && self.lacking == other.lacking);
        as_served
            && self.unserved == other.unserved
            && self.dead_letters == other.dead_letters
            // Their number and the last code change with every one: both are looked at again within a
            // minute.
            && self.undelivered.is_some() == other.undelivered.is_some()
    }
}

impl Summary {
    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.read) > SILENCE
    }

    fn view(&self, watched: &Watched, now: Instant) -> View {
        if self.is_old(now) {
            return View { presence: Presence::Silent, ..View::default() };
        }
        let uid = &watched.interest.uid;
        let told = View {
            dead_letters: self.dead_letters.get(uid).cloned(),
            undelivered: self.undelivered.get(uid).cloned(),
            ..View::default()
        };
        if watched.is_unheard(now) && !self.replicas.is_empty() {
            return told;
        }
        let details = watched.fresh_details(now);
        let hash = &watched.interest.hash;
        let is_confirmed = watched.confirmed && !self.unsynced.contains(uid);
        let (synced, lacking) = match details {
            Some(details) => (details.acknowledging(hash), details.without(Some(hash))),
            None if is_confirmed => (self.replicas.len(), Vec::new()),
            None => (0, self.replicas.clone()),
        };
        let lacks = watched.lacks.is_some_and(|since| now.duration_since(since) >= SILENCE);
        let unserved = details.filter(|_| lacks).map(|details| details.without(None));
        View {
            presence: Presence::Alive(self.replicas.clone()),
            details: details.cloned(),
            synced: synced.min(self.replicas.len()),
            lacking,
            unserved: unserved.unwrap_or_default(),
            ..told
        }
    }
}

/// What is known before the first answer: nothing, until the wait for it is a silence.
fn unheard(began: Option<Instant>, now: Instant) -> View {
    let silent = began.is_some_and(|began| now.duration_since(began) > SILENCE);
    let presence = if silent { Presence::Silent } else { Presence::NotAsked };
    View { presence, ..View::default() }
}

impl Watched {
    /// Whether nothing was heard of this channel since the process started, which takes a moment.
    fn is_unheard(&self, now: Instant) -> bool {
        self.details.is_none() && now.duration_since(self.since) < SILENCE
    }

    /// How often details are wanted; never, if nothing is open.
    fn interval(&self, unsynced: bool, now: Instant) -> Option<Duration> {
        let open = !self.confirmed || unsynced;
        let eager = open && now.duration_since(self.since) < EAGER.1;
        match (self.interest.rolling, eager, open) {
            (_, true, _) => Some(EAGER.0.min(self.interest.interval).min(self.interest.next)),
            (true, false, _) => Some(self.interest.interval.min(self.interest.next)),
            (false, false, true) => Some(SUMMARY_INTERVAL),
            (false, false, false) => None,
        }
    }

    /// Whether it tells another thing of the channel than what stood there.
    fn take(&mut self, details: Details, now: Instant) -> bool {
        let before = self.details.as_ref().map(|(before, _)| before);
        let behind = before.map_or(0, |before| before.at_ms.saturating_sub(details.at_ms));
        if (1..=OVERTAKEN_MS).contains(&behind) {
            return false;
        }
        let tells_more = before.is_none_or(|before| {
            (&before.channel, &before.epoch) != (&details.channel, &details.epoch)
        });
        let all = details.replicas.len();
        self.confirmed = all > 0 && details.acknowledging(&self.interest.hash) == all;
        let lacks = !details.without(None).is_empty();
        self.lacks = if lacks { self.lacks.or(Some(now)) } else { None };
        self.details = Some((details, now));
        tells_more
    }

    /// What every replica has acknowledged of a channel at rest need not be kept.
    fn forget_what_is_settled(&mut self, now: Instant) {
        let is_old = now.duration_since(self.since) >= SILENCE && self.fresh_details(now).is_none();
        if is_old && self.confirmed && !self.interest.rolling {
            self.details = None;
        }
    }

    fn fresh_details(&self, now: Instant) -> Option<&Details> {
        let (details, read) = self.details.as_ref()?;
        let limit = self.interest.interval * 2 + SUMMARY_INTERVAL;
        (now.duration_since(*read) <= limit).then_some(details)
    }
}

impl Details {
    /// How many live replicas acknowledge this hash.
    fn acknowledging(&self, hash: &RouteHash) -> usize {
        self.replicas.len() - self.without(Some(hash)).len()
    }

    /// The live replicas that do not acknowledge this hash, or none at all.
    fn without(&self, hash: Option<&RouteHash>) -> Vec<ReplicaName> {
        let known = self.channel.as_ref().map_or(&[][..], |channel| &channel.acknowledged);
        let holds = |name: &ReplicaName| {
            known
                .iter()
                .any(|ack| ack.replica == *name && hash.is_none_or(|hash| ack.hash == *hash))
        };
        self.replicas.iter().filter(|name| !holds(name)).cloned().collect()
    }
}
