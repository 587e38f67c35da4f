//! Who may ask an agent: the breakers of all of them, and the permits that they give.
//!
//! Takes a channel and a revision, gives a permit or says since when and until when the agent is
//! left alone. A permit that is dropped without an outcome gives its probe back. Never asks
//! anybody; what has no breaker needs no permit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute};
use tokio::time::Instant;

use crate::outbound::agent::answer::Attempt;
use crate::outbound::agent::breaker::{Breaker, Change, Outage, Permission};

/// From so many breakers on, those without trouble are forgotten.
const MANY: usize = 1_024;

/// The breakers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakers(Arc<Mutex<HashMap<String, Breaker>>>);

/// The right to ask an agent once.
#[derive(Debug)]
#[must_use = "the outcome is to be recorded"]
pub struct Permit {
    breakers: Breakers,
    key: String,
    probe: Option<u64>,
    waited: bool,
}

impl Breakers {
    /// A permit to ask about a message, unless the agent is left alone.
    pub(crate) fn permit(
        &self,
        channel: &ChannelRef,
        revision: &RevisionRoute,
        waited: bool,
    ) -> Result<Permit, Outage> {
        let key = key(channel, revision);
        let permission = match self.lock().get_mut(&key) {
            Some(breaker) => breaker.permit(waited, Instant::now()),
            None => Permission::Go(None),
        };
        match permission {
            Permission::Go(probe) => Ok(Permit { breakers: self.clone(), key, probe, waited }),
            Permission::Wait(outage) => Err(outage),
        }
    }

    /// Since when and until when an agent is left alone, if it is.
    pub(crate) fn outage(&self, channel: &ChannelRef, revision: &RevisionRoute) -> Option<Outage> {
        self.lock().get(&key(channel, revision))?.outage()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes the outcome; says whether the agent is left alone from now on, or what waits for it is
    /// to be woken.
    pub fn record(mut self, attempt: &Attempt) -> Change {
        // Nobody's outcome: the probe goes back.
        let Some(health) = attempt.health() else { return Change::None };
        let (now, probe) = (Instant::now(), self.probe.take());
        let mut breakers = self.breakers.lock();
        if breakers.len() >= MANY {
            breakers.retain(|_, breaker| !breaker.is_idle(now));
        }
        breakers.entry(self.key.clone()).or_default().record(health, probe, self.waited, now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(probe) = self.probe else { return };
        if let Some(breaker) = self.breakers.lock().get_mut(&self.key) {
            breaker.give_back(probe);
        }
    }
}

/// What a breaker stands for: one endpoint as one revision asks it, for the channels of a namespace.
/// Another revision, or another namespace, could name the same URL with a deadline that nobody
/// meets, and so stop this one.
fn key(channel: &ChannelRef, revision: &RevisionRoute) -> String {
    let (namespace, name) = (&channel.namespace, &revision.revision);
    match &revision.agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => {
            format!("{namespace} {name} {url} {assistant_id}")
        }
        AgentRoute::Http { url, .. } => format!("{namespace} {name} {url}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute};

    use super::Breakers;
    use crate::outbound::agent::answer::{Answer, Attempt, Failure};
    use crate::outbound::agent::breaker::Change;

    fn channel(namespace: &str, name: &str) -> ChannelRef {
        ChannelRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: name.parse().unwrap(),
        }
    }

    fn revision(name: &str) -> RevisionRoute {
        RevisionRoute {
            revision: name.parse().unwrap(),
            agent: AgentRoute::Http { url: "http://agent".to_owned(), token: None },
            timeout_ms: 1_000,
            validity_seconds: 600,
            failure_text: String::new(),
            messaging_service_sid: None,
        }
    }

    fn well() -> Attempt {
        Attempt::ended(Ok(Answer::Silence))
    }

    fn fail(breakers: &Breakers, failure: Failure) -> Change {
        let permit = breakers.permit(&channel("a", "one"), &revision("r1"), false).unwrap();
        permit.record(&Attempt::failed(failure))
    }

    fn open(failure: Failure) -> Breakers {
        let breakers = Breakers::default();
        (0..4).for_each(|_| assert_eq!(fail(&breakers, failure), Change::None));
        assert_eq!(fail(&breakers, failure), Change::Opened, "{failure}");
        breakers
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_stands_for_a_namespace_and_a_revision() {
        let breakers = open(Failure::Deadline);
        assert!(breakers.permit(&channel("a", "two"), &revision("r1"), false).is_err());
        assert!(breakers.permit(&channel("b", "three"), &revision("r1"), false).is_ok());
        assert!(breakers.permit(&channel("a", "one"), &revision("r2"), false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_graph_and_a_busy_agent_open_it_like_a_broken_one() {
        open(Failure::Graph);
        open(Failure::Busy { status: 429, retry_after: None });
        open(Failure::Status(500));
        open(Failure::Connect);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_answers_badly_is_judged_and_not_left_alone() {
        let breakers = Breakers::default();
        for failure in [Failure::Status(400), Failure::NotJson, Failure::NoText, Failure::TooLong] {
            (0..10).for_each(|_| assert_eq!(fail(&breakers, failure), Change::None, "{failure}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_without_an_outcome_gives_its_probe_back() {
        let breakers = open(Failure::Connect);
        tokio::time::advance(Duration::from_secs(5)).await;
        let (channel, revision) = (channel("a", "one"), revision("r1"));
        let probe = breakers.permit(&channel, &revision, false).unwrap();
        assert!(breakers.permit(&channel, &revision, false).is_err());
        drop(probe);
        let probe = breakers.permit(&channel, &revision, false).unwrap();
        let lost = probe.record(&Attempt::failed(Failure::LeaseLost));
        assert_eq!(lost, Change::None);
        let probe = breakers.permit(&channel, &revision, false).unwrap();
        assert_eq!(probe.record(&well()), Change::Well);
        assert!(breakers.permit(&channel, &revision, false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_says_since_when_and_until_when() {
        let breakers =
            open(Failure::Busy { status: 503, retry_after: Some(Duration::from_secs(20)) });
        tokio::time::advance(Duration::from_secs(1)).await;
        let outage = breakers.permit(&channel("a", "one"), &revision("r1"), false).unwrap_err();
        assert_eq!(outage.until - outage.since, Duration::from_secs(20));
    }
}
