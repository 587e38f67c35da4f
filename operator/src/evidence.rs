//! Evidence: one poller asks the gateways for all channels, and every reconcile reads its view.
//!
//! Takes what reconciles are interested in, gives what the store last said. Details are asked
//! every `interval` for channels that roll, every second for routes that were just written until
//! every live replica acknowledged them; a summary with exceptions at least every ten seconds.
//! A gateway that cannot be asked leaves the view as it is until it is too old to be used: that is
//! no evidence, never bad evidence.
//!
//! So 10,000 channels at rest cost one request in ten seconds instead of 10,000 a minute, and a
//! batch of 200 channels is of one moment of the store. Each answer that changes something is a
//! reconcile of that channel. After one that is too old holds stop, and nothing is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::control::{
    ChannelDeadLetters, ChannelState, ChannelUndelivered, ControlState, MAX_CHANNELS_PER_REQUEST,
};
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash};
use tokio::time::Instant;

use crate::control::{Control, ControlError};
use crate::error::chain;
use crate::metrics::Metrics;
use crate::triggers::{ChannelKey, Triggers};

/// Longest time between two answers while gateways can be asked.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
/// Interval for routes that are not yet acknowledged, and for how long.
const EAGER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Age from which on the gateways count as unreachable.
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
    /// How often.
    pub interval: Duration,
}

/// What is known about a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Names of the live replicas by the last answer, unless the gateways have been silent for too
    /// long.
    pub replicas: Option<Vec<ReplicaName>>,
    /// Details of this channel, if they were asked for and are young.
    pub details: Option<Details>,
    /// Live replicas that obey the route as it is.
    pub synced: usize,
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

    /// How many replicas live.
    pub fn live(&self) -> usize {
        self.replicas.as_ref().map_or(0, Vec::len)
    }
}

/// What the poller and the reconciles share.
#[derive(Default)]
pub struct Board {
    notices: Mutex<Notices>,
}

#[derive(Default)]
struct Notices {
    last: Option<Summary>,
    channels: BTreeMap<ChannelUid, Watched>,
    reachable: bool,
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
}

impl Board {
    /// Says what a reconcile is interested in and gives what is known now.
    pub fn look(&self, interest: Interest, now: Instant) -> View {
        let mut notices = self.lock();
        let notices = &mut *notices;
        let watched = notices.channels.entry(interest.uid.clone()).or_insert_with(|| Watched {
            interest: interest.clone(),
            since: now,
            asked: None,
            details: None,
            confirmed: false,
        });
        if watched.interest.hash != interest.hash {
            watched.confirmed = false;
            watched.since = now;
            watched.asked = None;
        }
        watched.interest = interest;
        notices.last.as_ref().map_or_else(View::default, |last| last.view(watched, now))
    }

    /// Forgets a channel that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().channels.remove(uid);
    }

    /// Polls for ever.
    pub async fn poll(
        self: Arc<Self>,
        control: Control,
        triggers: Triggers,
        metrics: Arc<Metrics>,
    ) {
        loop {
            if let Err(error) = self.round(&control, &triggers).await {
                metrics.control_failures.inc();
                tracing::warn!(error = %chain(&error), "no evidence: the gateways cannot be asked");
                tokio::time::sleep(EAGER.0).await;
            }
            for key in self.silence(Instant::now()) {
                triggers.send(&key).await;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Asks for everything that is due.
    async fn round(&self, control: &Control, triggers: &Triggers) -> Result<(), ControlError> {
        let due = self.due(Instant::now());
        if due.is_empty() && !self.summary_is_due(Instant::now()) {
            return Ok(());
        }
        let mut batches: Vec<&[ChannelUid]> = due.chunks(MAX_CHANNELS_PER_REQUEST).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for uids in batches {
            let state = control.state(uids).await?;
            for key in self.take(uids, state, Instant::now()) {
                triggers.send(&key).await;
            }
        }
        Ok(())
    }

    fn summary_is_due(&self, now: Instant) -> bool {
        let notices = self.lock();
        notices.last.as_ref().is_none_or(|last| now.duration_since(last.read) >= SUMMARY_INTERVAL)
    }

    fn due(&self, now: Instant) -> Vec<ChannelUid> {
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

    /// Takes an answer in and gives the channels for which it is news.
    fn take(&self, uids: &[ChannelUid], state: ControlState, now: Instant) -> Vec<ChannelKey> {
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
        notices.reachable = true;
        let last = notices.last.as_ref().expect("it was put there a line above");
        let mut news = BTreeSet::new();
        for (uid, watched) in &mut notices.channels {
            let old = before.as_ref().map(|before| before.view(watched, now));
            if uids.contains(uid) {
                watched.asked = Some(now);
                watched.take(
                    Details {
                        at_ms: state.observed_at_ms,
                        epoch: state.epoch.clone(),
                        replicas: last.replicas.clone(),
                        channel: details.remove(uid),
                    },
                    now,
                );
            }
            let new = last.view(watched, now);
            if (uids.contains(uid) && watched.interest.rolling)
                || old.is_none_or(|old| !old.tells_the_same(&new))
            {
                news.insert(watched.interest.key.clone());
            }
        }
        news.into_iter().collect()
    }

    /// Notices once that the gateways have been silent for too long; that is news for everybody.
    fn silence(&self, now: Instant) -> Vec<ChannelKey> {
        let mut notices = self.lock();
        let silent = notices.last.as_ref().is_none_or(|last| last.is_old(now));
        if !silent || !notices.reachable {
            return Vec::new();
        }
        notices.reachable = false;
        notices.channels.values().map(|watched| watched.interest.key.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Whether two views lead to the same status; counts are told on their own.
    fn tells_the_same(&self, other: &Self) -> bool {
        self.replicas == other.replicas
            && self.synced == other.synced
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
            return View::default();
        }
        let uid = &watched.interest.uid;
        let details = watched.fresh_details(now);
        let synced = match details {
            Some(details) => details.acknowledging(&watched.interest.hash),
            None if watched.confirmed && !self.unsynced.contains(uid) => self.replicas.len(),
            None => 0,
        };
        View {
            replicas: Some(self.replicas.clone()),
            details: details.cloned(),
            synced: synced.min(self.replicas.len()),
            dead_letters: self.dead_letters.get(uid).cloned(),
            undelivered: self.undelivered.get(uid).cloned(),
        }
    }
}

impl Watched {
    /// How often details are wanted; never, if nothing is open.
    fn interval(&self, unsynced: bool, now: Instant) -> Option<Duration> {
        let open = !self.confirmed || unsynced;
        let eager = open && now.duration_since(self.since) < EAGER.1;
        match (self.interest.rolling, eager, open) {
            (_, true, _) => Some(EAGER.0.min(self.interest.interval)),
            (true, false, _) => Some(self.interest.interval),
            (false, false, true) => Some(SUMMARY_INTERVAL),
            (false, false, false) => None,
        }
    }

    fn take(&mut self, details: Details, now: Instant) {
        let all = details.replicas.len();
        self.confirmed = all > 0 && details.acknowledging(&self.interest.hash) == all;
        self.details = Some((details, now));
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
        let Some(channel) = &self.channel else {
            return 0;
        };
        let holds = |name: &&ReplicaName| {
            channel.acknowledged.iter().any(|ack| ack.replica == **name && ack.hash == *hash)
        };
        self.replicas.iter().filter(holds).count()
    }
}

#[cfg(test)]
mod tests {
    use kanarie_crds::control::{Acknowledged, Replica};

    use super::*;

    fn interest(hash: &str, rolling: bool) -> Interest {
        Interest {
            key: ChannelKey { namespace: "shop".into(), name: "a".into() },
            uid: "u".parse().unwrap(),
            hash: hash.parse().unwrap(),
            rolling,
            interval: Duration::from_secs(5),
        }
    }

    fn state(replicas: &[&str], acknowledged: &[(&str, &str)]) -> ControlState {
        let replica = |id: &&str| Replica { id: id.parse().unwrap(), age_ms: 10 };
        let ack = |(replica, hash): &(&str, &str)| Acknowledged {
            replica: replica.parse().unwrap(),
            serving: 1,
            hash: hash.parse().unwrap(),
            cut: false,
        };
        ControlState {
            observed_at_ms: 1_000,
            epoch: "e".parse().unwrap(),
            replicas: replicas.iter().map(replica).collect(),
            channels: vec![ChannelState {
                uid: "u".parse().unwrap(),
                acknowledged: acknowledged.iter().map(ack).collect(),
                counts: Vec::new(),
                customers: None,
            }],
            unsynced: Vec::new(),
            dead_letters: Vec::new(),
            undelivered: Some(Vec::new()),
            digest: None,
        }
    }

    fn uids() -> Vec<ChannelUid> {
        vec!["u".parse().unwrap()]
    }

    #[test]
    fn a_route_is_in_force_when_every_live_replica_acknowledges_its_bytes() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        board.take(&uids(), state(&["a", "b"], &[("a", "h"), ("b", "old")]), now);
        assert!(!board.look(interest("h", false), now).in_force());
        board.take(&uids(), state(&["a", "b"], &[("a", "h"), ("b", "h")]), now);
        assert!(board.look(interest("h", false), now).in_force());
    }

    #[test]
    fn an_acknowledgement_of_a_replica_that_is_gone_counts_for_nothing() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        board.take(&uids(), state(&["b"], &[("a", "h")]), now);
        assert_eq!(board.look(interest("h", false), now).synced, 0);
    }

    #[test]
    fn a_new_hash_must_be_acknowledged_anew() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        board.take(&uids(), state(&["a"], &[("a", "h")]), now);
        assert!(!board.look(interest("i", false), now).in_force());
        assert_eq!(board.due(now), uids(), "a route just written is asked for at once");
    }

    #[test]
    fn an_acknowledged_route_at_rest_costs_no_request_of_its_own() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        board.take(&uids(), state(&["a"], &[("a", "h")]), now);
        let later = now + Duration::from_secs(25);
        assert!(board.due(later).is_empty());
        board.take(&[], ControlState { channels: vec![], ..state(&["a"], &[]) }, later);
        assert!(board.look(interest("h", false), later).in_force());
    }

    #[test]
    fn an_exception_in_the_summary_makes_a_route_ask_again() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        board.take(&uids(), state(&["a"], &[("a", "h")]), now);
        let later = now + Duration::from_secs(25);
        let exception =
            ControlState { unsynced: uids(), channels: vec![], ..state(&["a", "b"], &[]) };
        let news = board.take(&[], exception, later);
        assert_eq!(news.len(), 1, "a route that is no longer in force is news");
        assert!(!board.look(interest("h", false), later).in_force());
        assert_eq!(board.due(later), uids());
    }

    #[test]
    fn silence_is_no_evidence_and_is_told_once() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", true), now);
        board.take(&uids(), state(&["a"], &[("a", "h")]), now);
        let later = now + SILENCE + Duration::from_secs(1);
        assert_eq!(board.silence(later).len(), 1);
        assert!(board.silence(later).is_empty());
        assert_eq!(board.look(interest("h", true), later), View::default());
    }

    #[test]
    fn a_rolling_channel_is_asked_for_every_interval_and_reconciled_each_time() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", true), now);
        let first = board.take(&uids(), state(&["a"], &[("a", "h")]), now);
        assert_eq!(first.len(), 1);
        assert!(board.due(now + Duration::from_secs(2)).is_empty());
        assert_eq!(board.due(now + Duration::from_secs(5)), uids());
        let again = board.take(&uids(), state(&["a"], &[("a", "h")]), now + Duration::from_secs(5));
        assert_eq!(again.len(), 1);
    }

    #[test]
    fn undelivered_replies_are_news_when_they_begin_and_end_and_no_other_number_or_code_is() {
        let (board, now) = (Board::default(), Instant::now());
        board.look(interest("h", false), now);
        let told = |undelivered: Option<&[(u64, u32)]>| {
            let of = |(count, code): &(u64, u32)| ChannelUndelivered {
                uid: "u".parse().unwrap(),
                count: *count,
                last_code: Some(*code),
                last_at_ms: *count,
            };
            let undelivered = undelivered.map(|all| all.iter().map(of).collect());
            let state = ControlState { undelivered, ..state(&["a"], &[("a", "h")]) };
            board.take(&uids(), state, now).len()
        };
        told(Some(&[]));
        let looks = [&[(1, 63_016)][..], &[(9, 63_024)], &[(10, 63_016)], &[(11, 63_024)]];
        assert_eq!(looks.map(|look| told(Some(look))), [1, 0, 0, 0]);
        assert_eq!(told(None), 0, "a gateway that does not keep them says nothing of them");
        assert_eq!(board.look(interest("h", false), now).undelivered.unwrap().count, 11);
        assert_eq!(told(Some(&[])), 1);
        assert_eq!(board.look(interest("h", false), now).undelivered, None);
    }
}
