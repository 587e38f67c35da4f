//! Who may ask an agent: the breakers of all of them, and the permits that they give.
//!
//! A breaker stands for one revision of one channel, as what waits for it does: another channel or
//! revision could name the same URL with a deadline that nobody meets, and so stop this one.
//!
//! Takes a channel and a revision, gives a permit or says since when and until when the agent is
//! left alone. A permit that is dropped without an outcome gives its probe back. Never asks
//! anybody; what has no breaker needs no permit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kanarie_queue::lease::Park;
use kanarie_words::ids::ConversationId;
use tokio::time::Instant;

use crate::outbound::agent::answer::Attempt;
use crate::outbound::agent::breaker::{Breaker, Change, Outage, Permission, Permitted};

/// From so many breakers on, those without trouble are forgotten.
const MANY: usize = 1_024;

/// The breakers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakers(Arc<Mutex<HashMap<Park, Breaker>>>);

/// The right to ask an agent once.
#[derive(Debug)]
#[must_use = "the outcome is to be recorded"]
pub struct Permit {
    breakers: Breakers,
    agent: Park,
    call: Permitted,
}

impl Breakers {
    /// A permit to ask an agent about a message of `conversation`, which may have `waited` before;
    /// unless the agent is left alone.
    pub(crate) fn permit(
        &self,
        agent: Park,
        conversation: ConversationId,
        waited: bool,
    ) -> Result<Permit, Outage> {
        let permission = match self.lock().get_mut(&agent) {
            Some(breaker) => breaker.permit(waited, Instant::now()),
            None => Permission::Go(None),
        };
        match permission {
            Permission::Go(probe) => {
                let call = Permitted { conversation, waited, probe };
                Ok(Permit { breakers: self.clone(), agent, call })
            }
            Permission::Wait(outage) => Err(outage),
        }
    }

    /// Since when and until when an agent is left alone, if it is.
    pub(crate) fn outage(&self, agent: &Park) -> Option<Outage> {
        self.lock().get(agent)?.outage()
    }

    /// The agents that are left alone, but for those that nobody asks about any more.
    pub(crate) fn open(&self) -> Vec<Park> {
        let (breakers, now) = (self.lock(), Instant::now());
        let is_open = |breaker: &Breaker| breaker.outage().is_some() && !breaker.is_idle(now);
        let open = breakers.iter().filter(|(_, breaker)| is_open(breaker));
        open.map(|(agent, _)| agent.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Park, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes the outcome; says whether the agent is left alone from now on, or what waits for it is
    /// to be woken.
    pub fn record(mut self, attempt: &Attempt) -> Change {
        // Nobody's outcome: the probe goes back.
        let Some(health) = attempt.health() else { return Change::None };
        let (now, call) = (Instant::now(), self.call.clone());
        self.call.probe = None;
        let mut breakers = self.breakers.lock();
        if breakers.len() >= MANY {
            breakers.retain(|_, breaker| !breaker.is_idle(now));
        }
        breakers.entry(self.agent.clone()).or_default().record(call, health, now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(probe) = self.call.probe else { return };
        if let Some(breaker) = self.breakers.lock().get_mut(&self.agent) {
            breaker.give_back(probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_queue::lease::Park;
    use kanarie_words::ids::ConversationId;

    use super::{Breakers, Permit};
    use crate::outbound::agent::answer::{Answer, Attempt, Failure};
    use crate::outbound::agent::breaker::{Change, Outage};

    fn agent(channel: &str, revision: &str) -> Park {
        Park { channel: channel.parse().unwrap(), revision: revision.parse().unwrap() }
    }

    fn permit(breakers: &Breakers, agent: Park, customer: u8) -> Result<Permit, Outage> {
        breakers.permit(agent, ConversationId::from_bytes([customer; 16]), false)
    }

    /// A permit to ask the agent that fails below.
    fn another(breakers: &Breakers) -> Result<Permit, Outage> {
        permit(breakers, agent("one", "r1"), 0)
    }

    fn well() -> Attempt {
        Attempt::ended(Ok(Answer::Silence))
    }

    fn fail(breakers: &Breakers, customer: u8, failure: Failure) -> Change {
        let permit = permit(breakers, agent("one", "r1"), customer).unwrap();
        permit.record(&Attempt::failed(failure))
    }

    fn open(failure: Failure) -> Breakers {
        let breakers = Breakers::default();
        (0..4).for_each(|customer| assert_eq!(fail(&breakers, customer, failure), Change::None));
        assert_eq!(fail(&breakers, 4, failure), Change::Opened, "{failure}");
        breakers
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_stands_for_a_channel_and_a_revision() {
        let breakers = open(Failure::Deadline);
        assert!(another(&breakers).is_err());
        assert!(permit(&breakers, agent("two", "r1"), 0).is_ok());
        assert!(permit(&breakers, agent("one", "r2"), 0).is_ok());
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
            (0..10).for_each(|customer| {
                assert_eq!(fail(&breakers, customer, failure), Change::None, "{failure}");
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_without_an_outcome_gives_its_probe_back() {
        let breakers = open(Failure::Connect);
        tokio::time::advance(Duration::from_secs(5)).await;
        let probe = another(&breakers).unwrap();
        assert!(another(&breakers).is_err());
        drop(probe);
        let probe = another(&breakers).unwrap();
        let lost = probe.record(&Attempt::failed(Failure::LeaseLost));
        assert_eq!(lost, Change::None);
        let probe = another(&breakers).unwrap();
        assert_eq!(probe.record(&well()), Change::Closed);
        assert!(another(&breakers).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_says_since_when_and_until_when() {
        let breakers =
            open(Failure::Busy { status: 503, retry_after: Some(Duration::from_secs(20)) });
        tokio::time::advance(Duration::from_secs(1)).await;
        let outage = another(&breakers).unwrap_err();
        assert_eq!(outage.until - outage.since, Duration::from_secs(20));
    }
}
