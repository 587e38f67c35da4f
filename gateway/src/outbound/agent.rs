//! Asks the agent of a revision about one message.
//!
//! Takes a question, a revision and where to keep the id of a run; gives how the attempt ended,
//! within the revision's deadline. Never follows a redirect, never connects to an address that
//! `address` refuses, never reads more than 8 MiB, never asks twice, and never puts a URL, a text
//! or a token into a failure.

pub mod address;
pub mod answer;
pub mod breaker;
pub(crate) mod call;
pub mod http;
pub mod langgraph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute, SecretText};
use reqwest::{Client, redirect, retry};
use tokio::time::Instant;

use crate::outbound::agent::address::Allow;
use crate::outbound::agent::answer::{Answer, Attempt, Failure, KeepRun, Question};
use crate::outbound::agent::breaker::{Breaker, Permission};
use crate::outbound::agent::langgraph::{Run, Server};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Below the five seconds after which common servers close an idle connection, so that a question
/// is not written into a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// From so many agents on, those without trouble are forgotten.
const MANY_BREAKERS: usize = 1_024;

/// The client of every agent, and what is known about their health.
#[derive(Debug)]
pub struct Agents {
    client: Client,
    allow: Arc<Allow>,
    breakers: Mutex<HashMap<String, Breaker>>,
}

impl Agents {
    /// A client that connects to public and private addresses, and to what `allow` names.
    pub fn new(allow: Allow) -> Result<Self, reqwest::Error> {
        let allow = Arc::new(allow);
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .dns_resolver(address::Resolver::new(Arc::clone(&allow)))
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { client, allow, breakers: Mutex::default() })
    }

    /// Whether the agent may be asked now. A Go must be followed by [`Agents::ask`].
    pub fn permit(&self, channel: &ChannelRef, agent: &AgentRoute) -> Permission {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        match breakers.get_mut(&identity(channel, agent)) {
            Some(breaker) => breaker.permit(Instant::now()),
            None => Permission::Go,
        }
    }

    /// Asks, or with `resume` waits for a run that was begun before.
    pub async fn ask(
        &self,
        question: Question<'_>,
        revision: &RevisionRoute,
        resume: Option<&Run>,
        keep: &KeepRun<'_>,
    ) -> Attempt {
        let deadline = Instant::now() + Duration::from_millis(revision.timeout_ms);
        let attempt = match &revision.agent {
            AgentRoute::LangGraph { url, assistant_id, api_key } => {
                match self.server(url, api_key.as_ref()) {
                    Ok(server) => {
                        server.ask_or_resume(resume, assistant_id, question, deadline, keep).await
                    }
                    Err(failure) => Attempt::failed(failure),
                }
            }
            AgentRoute::Http { url, token } => match address::check_url(url, &self.allow) {
                Ok(url) => http::ask(&self.client, url, token.as_ref(), question, deadline).await,
                Err(failure) => Attempt::failed(failure),
            },
        };
        self.record(question.channel, &revision.agent, &attempt);
        attempt
    }

    /// Leaves a run that an earlier owner began: cancels it, and gives its answer if it had
    /// finished.
    pub async fn leave(
        &self,
        run: &Run,
        api_key: Option<&SecretText>,
        question: Question<'_>,
    ) -> Option<Answer> {
        let server = self.server(&run.url, api_key).ok()?;
        server.leave(run, question).await
    }

    fn server<'a>(
        &'a self,
        url: &str,
        api_key: Option<&'a SecretText>,
    ) -> Result<Server<'a>, Failure> {
        let base = address::check_url(url, &self.allow)?;
        Ok(Server { client: &self.client, base, written: url.to_owned(), api_key })
    }

    fn record(&self, channel: &ChannelRef, agent: &AgentRoute, attempt: &Attempt) {
        let Some(healthy) = attempt.health() else { return };
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= MANY_BREAKERS {
            breakers.retain(|_, breaker| !breaker.is_idle());
        }
        breakers.entry(identity(channel, agent)).or_default().record(healthy, Instant::now());
    }
}

/// What a breaker stands for: one endpoint, whichever channels and revisions of a namespace ask it.
/// Another namespace could name the same URL with a deadline that nobody meets, and so stop the
/// channels of this one.
fn identity(channel: &ChannelRef, agent: &AgentRoute) -> String {
    let namespace = &channel.namespace;
    match agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => {
            format!("{namespace} {url} {assistant_id}")
        }
        AgentRoute::Http { url, .. } => format!("{namespace} {url}"),
    }
}

#[cfg(test)]
mod tests {
    use kanarie_crds::route::{AgentRoute, ChannelRef};

    use super::Agents;
    use crate::outbound::agent::address::Allow;
    use crate::outbound::agent::answer::{Attempt, Failure};
    use crate::outbound::agent::breaker::Permission;

    #[test]
    fn a_breaker_opens_for_the_channels_of_its_namespace_only() {
        // Another test may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agents = Agents::new(Allow::default()).unwrap();
        let agent = AgentRoute::Http { url: "http://agent".to_owned(), token: None };
        let channel = |namespace: &str, name: &str| ChannelRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: name.parse().unwrap(),
        };
        for _ in 0..5 {
            agents.record(&channel("a", "one"), &agent, &Attempt::failed(Failure::Deadline));
        }
        assert!(matches!(agents.permit(&channel("a", "two"), &agent), Permission::Wait(_)));
        assert_eq!(agents.permit(&channel("b", "three"), &agent), Permission::Go);
    }
}
