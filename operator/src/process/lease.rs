//! Leader election by a Lease: for quiet, not for safety (every write is conditional anyway).
//!
//! Takes a client, gives the moment of leadership and the moment of its loss. `Election` is the
//! pure part: it sees the Lease and a monotonic time and says what to write. A foreign Lease is
//! expired when *we* have seen it unchanged for its whole duration; clocks of other machines are
//! never compared. A leader that could not renew within `RENEW_DEADLINE`, which is shorter than
//! the Lease, is none any more.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::Instant;

use crate::process::clock;

/// Name of the Lease.
pub const LEASE_NAME: &str = "kanarie-operator";
/// How long others wait after the last change that they saw.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader may go on after the start of its last successful renewal.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(5);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// Time that one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A candidate with its client.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    live: Option<Lease>,
}

/// Leadership is gone: whoever holds this must stop at once.
#[derive(Debug, Error)]
#[error("leadership was lost: the Lease {LEASE_NAME} could not be renewed in time")]
pub struct LeadershipLost;

impl Candidate {
    /// A candidate for the Lease in `namespace`; `identity` must be unique to this process.
    pub fn new(client: &Client, namespace: &str, identity: String) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, election: Election::new(identity), live: None }
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        while !self.election.leads(Instant::now()) {
            self.attempt().await;
            if !self.election.leads(Instant::now()) {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Renews until leadership is lost.
    pub async fn keep(&mut self) -> LeadershipLost {
        while self.election.leads(Instant::now()) {
            let until = self.election.until().unwrap_or_else(Instant::now);
            let next = self.election.next_turn(self.live.is_some());
            tokio::time::sleep_until(until.min(next)).await;
            let _too_late = tokio::time::timeout_at(until, self.attempt()).await;
        }
        LeadershipLost
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn release(&mut self) {
        let Some(mut lease) = self.live.take().filter(|lease| self.election.holds(lease)) else {
            return;
        };
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(clock::now()));
        }
        let params = PostParams::default();
        let replaced = self.api.replace(LEASE_NAME, &params, &lease);
        if !matches!(tokio::time::timeout(REQUEST_TIMEOUT, replaced).await, Ok(Ok(_))) {
            tracing::info!("the Lease could not be given back; it ends by itself");
        }
        self.election.step_down();
    }

    /// One look and, if it is our turn, one conditional write.
    async fn attempt(&mut self) {
        let started = Instant::now();
        match tokio::time::timeout(REQUEST_TIMEOUT, self.look_and_write(started)).await {
            Ok(Ok(())) => {}
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                self.live = None;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be reached"),
            Err(_) => tracing::warn!("the API server did not answer about the Lease in time"),
        }
    }

    async fn look_and_write(&mut self, started: Instant) -> Result<(), kube::Error> {
        // A leader knows the Lease as it wrote it: that of another is a conflict.
        if self.live.is_none() || !self.election.leads(started) {
            self.live = self.api.get_opt(LEASE_NAME).await?;
        }
        let now = clock::now();
        let lease = match self.election.consider(self.live.as_ref(), Instant::now()) {
            Intent::Wait => return Ok(()),
            Intent::Create => {
                let lease = self.election.claim(None, now);
                self.api.create(&PostParams::default(), &lease).await?
            }
            Intent::Replace => {
                let lease = self.election.claim(self.live.as_ref(), now);
                self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await?
            }
        };
        self.live = Some(lease);
        self.election.written(started);
        Ok(())
    }
}

/// What to do with the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// There is none: create it.
    Create,
    /// It is ours, free or expired: replace it under its resourceVersion.
    Replace,
    /// Another holds it.
    Wait,
}

/// What one candidate knows: its name, the last change it saw and its own last renewal.
struct Election {
    identity: String,
    seen: Option<(Option<LeaseSpec>, Instant)>,
    renewed: Option<Instant>,
}

impl Election {
    fn new(identity: String) -> Self {
        Self { identity, seen: None, renewed: None }
    }

    fn consider(&mut self, live: Option<&Lease>, now: Instant) -> Intent {
        let Some(lease) = live else {
            self.seen = None;
            return Intent::Create;
        };
        let changed = self.seen.as_ref().is_none_or(|(spec, _)| *spec != lease.spec);
        if changed {
            self.seen = Some((lease.spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let stated = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0).max(0);
        let duration = LEASE_DURATION.max(Duration::from_secs(stated.unsigned_abs().into()));
        if holder.is_empty() || holder == self.identity || now.duration_since(since) >= duration {
            return Intent::Replace;
        }
        // Somebody else holds it: whatever we believed about ourselves is over.
        self.renewed = None;
        Intent::Wait
    }

    /// The Lease as we want it, based on the one that was read.
    fn claim(&self, live: Option<&Lease>, now: jiff::Timestamp) -> Lease {
        let mut lease = live.cloned().unwrap_or_default();
        lease.metadata.name = Some(LEASE_NAME.to_owned());
        let mine = self.holds(&lease);
        let spec = lease.spec.get_or_insert_default();
        if !mine {
            spec.acquire_time = Some(MicroTime(now));
            spec.lease_transitions =
                Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
        lease
    }

    fn holds(&self, lease: &Lease) -> bool {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        holder == Some(self.identity.as_str())
    }

    /// Our write succeeded; it counts from when it was begun.
    fn written(&mut self, started: Instant) {
        self.renewed = Some(started);
    }

    fn step_down(&mut self) {
        self.renewed = None;
    }

    /// End of the leadership without another renewal.
    fn until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_DEADLINE)
    }

    /// When the Lease is to be renewed: a renewal that failed is tried again sooner.
    fn next_turn(&self, is_known: bool) -> Instant {
        let now = Instant::now();
        let renewed = self.renewed.map_or(now, |renewed| renewed + RENEW);
        if is_known && renewed > now { renewed } else { now + RETRY }
    }

    fn leads(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An API server with one Lease and its resourceVersion.
    #[derive(Default)]
    struct Server {
        lease: Option<Lease>,
        version: u64,
    }

    impl Server {
        fn write(&mut self, mut lease: Lease, read: u64) -> bool {
            if read != self.version {
                return false;
            }
            self.version += 1;
            lease.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(lease);
            true
        }
    }

    fn wall(elapsed: Duration) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(i64::try_from(elapsed.as_millis()).unwrap()).unwrap()
    }

    fn turn(server: &mut Server, election: &mut Election, now: Instant, wall: jiff::Timestamp) {
        let read = server.version;
        let live = server.lease.clone();
        if election.consider(live.as_ref(), now) == Intent::Wait {
            return;
        }
        if server.write(election.claim(live.as_ref(), wall), read) {
            election.written(now);
        }
    }

    /// Scenario 41: one leader at a time, also while one is cut off.
    #[test]
    fn scenario_41_two_candidates_never_lead_at_once_while_one_is_cut_off_and_healed() {
        let start = Instant::now();
        let mut server = Server::default();
        let (mut first, mut second) = (Election::new("a".into()), Election::new("b".into()));
        let mut second_led = false;
        for tick in 0..1_200u64 {
            let elapsed = Duration::from_millis(100 * tick);
            let now = start + elapsed;
            let cut_off = (3..40).contains(&elapsed.as_secs());
            if tick % 20 == 0 && !cut_off {
                turn(&mut server, &mut first, now, wall(elapsed));
            }
            if tick % 20 == 7 {
                // This candidate's wall clock is an hour ahead; it must not matter.
                turn(&mut server, &mut second, now, wall(elapsed + Duration::from_secs(3600)));
            }
            assert!(!(first.leads(now) && second.leads(now)), "two leaders at {elapsed:?}");
            second_led |= second.leads(now);
        }
        assert!(second_led, "nobody took the Lease over");
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once() {
        let now = Instant::now();
        let mut server = Server::default();
        let (mut first, mut second) = (Election::new("a".into()), Election::new("b".into()));
        turn(&mut server, &mut first, now, wall(Duration::ZERO));
        let mut free = server.lease.clone().unwrap();
        free.spec.as_mut().unwrap().holder_identity = None;
        assert!(server.write(free, server.version));
        turn(&mut server, &mut second, now, wall(Duration::ZERO));
        assert!(second.leads(now));
    }

    #[test]
    fn a_write_against_an_older_version_makes_no_leader() {
        let now = Instant::now();
        let mut server = Server::default();
        let first = Election::new("a".into());
        let stale = server.version;
        assert!(server.write(first.claim(None, wall(Duration::ZERO)), stale));
        assert!(!server.write(first.claim(None, wall(Duration::ZERO)), stale));
        assert!(!first.leads(now), "leadership comes from a successful write only");
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_before_the_lease_ends() {
        let now = Instant::now();
        let mut election = Election::new("a".into());
        election.written(now);
        assert!(election.leads(now + RENEW_DEADLINE - Duration::from_millis(1)));
        assert!(!election.leads(now + RENEW_DEADLINE));
        const { assert!(RENEW_DEADLINE.as_secs() < LEASE_DURATION.as_secs()) };
    }

    #[tokio::test]
    async fn a_leader_renews_every_five_seconds_and_tries_again_sooner_when_that_fails() {
        let now = Instant::now();
        let mut election = Election::new("a".into());
        election.written(now);
        assert_eq!(election.next_turn(true), now + RENEW);
        assert!(election.next_turn(false) < now + RENEW, "what stands there is not known");
        const { assert!(RENEW.as_secs() + RETRY.as_secs() < RENEW_DEADLINE.as_secs()) };
    }
}
