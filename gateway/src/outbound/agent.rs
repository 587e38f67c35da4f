//! Asks the agent of a revision about one message.
//!
//! Takes a question, a revision and where to keep the id of a run; gives how the attempt ended,
//! within the revision's deadline. Never follows a redirect, never connects to an address that
//! `address` refuses, never holds an answer longer than a reply, and never puts a URL, a text or a
//! token into a failure.

pub mod address;
pub mod answer;
pub mod breaker;
pub(crate) mod call;
pub mod http;
pub mod interrupt;
pub(crate) mod json;
pub(crate) mod kept;
pub mod langgraph;
pub mod permit;
pub(crate) mod room;

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::{AgentRoute, RevisionRoute, SecretText};
use kanarie_queue::lease::Park;
use kanarie_words::ids::ConversationId;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, redirect, retry};
use tokio::time::Instant;

use crate::outbound::agent::address::Allow;
use crate::outbound::agent::answer::{Answer, Attempt, Failure, Question, RunKeeper};
use crate::outbound::agent::breaker::Outage;
use crate::outbound::agent::langgraph::{Run, Server};
use crate::outbound::agent::permit::{Breakers, Permit};
use crate::outbound::agent::room::Rooms;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection without a question is kept. Most servers close theirs sooner, which costs
/// nothing: one that is closed is not used, and a question that meets the closing is sent again.
const POOL_IDLE: Duration = Duration::from_secs(90);

/// The clients of every agent, and what is known about their health.
#[derive(Debug)]
pub struct Agents {
    /// For Services that a channel refers to, and for agents of which nobody says what they are.
    services: Way,
    /// For URLs, which may lead anywhere.
    urls: Way,
    breakers: Breakers,
    rooms: Rooms,
}

/// A client, and where it may go.
#[derive(Clone, Debug)]
struct Way {
    client: Client,
    allow: Arc<Allow>,
}

impl Agents {
    /// Clients that connect to what `allow` says; Services may have private addresses all the same.
    pub fn new(allow: Allow) -> Result<Self, reqwest::Error> {
        let private = allow.with_private();
        let services = Way::new(private.clone())?;
        let urls = if allow == private { services.clone() } else { Way::new(allow)? };
        Ok(Self { services, urls, breakers: Breakers::default(), rooms: Rooms::default() })
    }

    /// The permit to ask an agent about a message of `conversation`, which may have `waited` before;
    /// or since when and until when it is left alone. Who is asked whatever became of others, as a
    /// canary is, needs none.
    pub fn permit(
        &self,
        agent: Park,
        conversation: ConversationId,
        waited: bool,
    ) -> Result<Permit, Outage> {
        self.breakers.permit(agent, conversation, waited)
    }

    /// Since when and until when an agent is left alone, if it is.
    pub fn outage(&self, agent: &Park) -> Option<Outage> {
        self.breakers.outage(agent)
    }

    /// The agents that are left alone.
    pub fn left_alone(&self) -> Vec<Park> {
        self.breakers.open()
    }

    /// Asks, or with `resume` waits for a run that was begun before.
    pub async fn ask(
        &self,
        question: Question<'_>,
        revision: &RevisionRoute,
        resume: Option<&Run>,
        keep: &RunKeeper<'_>,
    ) -> Attempt {
        let deadline = Instant::now() + Duration::from_millis(revision.timeout_ms);
        match &revision.agent {
            AgentRoute::LangGraph { url, service_ref, assistant_id, api_key } => {
                match self.server(url, *service_ref, api_key.as_ref()) {
                    Ok(server) => {
                        server.ask_or_resume(resume, assistant_id, question, deadline, keep).await
                    }
                    Err(failure) => Attempt::failed(failure),
                }
            }
            AgentRoute::Http { url, service_ref, token } => {
                let way = self.way(*service_ref);
                match address::check_url(url, &way.allow) {
                    Ok(url) => {
                        let room = self.rooms.room(&question.channel.namespace);
                        http::ask(&way.client, url, token.as_ref(), question, room, deadline).await
                    }
                    Err(failure) => Attempt::failed(failure),
                }
            }
        }
    }

    /// Leaves a run that an earlier owner began, on a server that the route may still know as `known`:
    /// cancels it, and gives its answer if it had finished.
    pub async fn leave(
        &self,
        run: &Run,
        known: Option<&AgentRoute>,
        question: Question<'_>,
    ) -> Option<Answer> {
        let (service_ref, api_key) = match known {
            Some(AgentRoute::LangGraph { service_ref, api_key, .. }) => {
                (*service_ref, api_key.as_ref())
            }
            // Nobody says any more that it is a Service.
            _ => (Some(false), None),
        };
        let server = self.server(&run.url, service_ref, api_key).ok()?;
        server.leave(run, question).await
    }

    fn way(&self, service_ref: Option<bool>) -> &Way {
        if service_ref == Some(false) { &self.urls } else { &self.services }
    }

    fn server<'a>(
        &'a self,
        url: &str,
        service_ref: Option<bool>,
        api_key: Option<&'a SecretText>,
    ) -> Result<Server<'a>, Failure> {
        let way = self.way(service_ref);
        let base = address::check_url(url, &way.allow)?;
        Ok(Server {
            client: &way.client,
            base,
            written: url.to_owned(),
            api_key,
            rooms: &self.rooms,
        })
    }
}

impl Way {
    fn new(allow: Allow) -> Result<Self, reqwest::Error> {
        let allow = Arc::new(allow);
        let plain = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        let client = kept::watched(Client::builder())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .default_headers(plain)
            .dns_resolver(address::Resolver::new(Arc::clone(&allow)))
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { client, allow })
    }
}
