//! The inbound line: one short handler a URL.
//!
//! Takes a request, gives Twilio's answer: webhook → signature → message → route → admit →
//! response. Decides nothing itself. Never asks the store about a request that is not verified, and
//! never answers 403 before the routes are known.

pub mod admission;
pub mod message;
pub mod response;
pub mod signature;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use kanarie_crds::route::Route;
use kanarie_queue::types::{Admission, Admit};
use tokio::time::Instant;

use crate::callback::{IntentId, MESSAGE_PATH, STATUS_PATH, status_url};
use crate::clock::Clock;
use crate::doorbell::Doorbell;
use crate::envelope::InboundMessage;
use crate::events::{Endpoint, Event, emit};
use crate::inbound::admission::Gate;
use crate::inbound::message::{Parsed, StatusCallback};
use crate::inbound::response::Answer;
use crate::inbound::signature::{Presented, UnverifiedBody, VerifiedBody};
use crate::routes::{Entry, RouteTable};
use crate::server::{self, BodyError, Limits};
use crate::store::{SharedStore, StoreError};

/// Most bytes of a message in the queue. WhatsApp carries 1,600 characters; without a bound one
/// tenant's signed giants would fill the room of everybody.
const MAX_ENVELOPE_BYTES: usize = 16 * 1024;

/// What the handlers need.
pub struct Inbound {
    /// The routes in force.
    pub routes: Arc<RouteTable>,
    /// Where messages are admitted.
    pub store: SharedStore,
    /// The store's key, once it is known.
    pub key: Arc<OnceLock<[u8; 32]>>,
    /// Wakes a worker of this process.
    pub doorbell: Arc<Doorbell>,
    /// Stamps messages.
    pub clock: Clock,
    /// How long a body may take and be.
    pub limits: Limits,
    /// What is known about the store's health.
    pub gate: Gate,
}

/// The public router.
pub fn router(inbound: Arc<Inbound>) -> Router {
    Router::new()
        .route(MESSAGE_PATH, post(receive_message))
        .route(STATUS_PATH, post(receive_status))
        .with_state(inbound)
}

async fn receive_message(State(inbound): State<Arc<Inbound>>, request: Request) -> Response {
    inbound.answer(Endpoint::Message, request).await
}

async fn receive_status(State(inbound): State<Arc<Inbound>>, request: Request) -> Response {
    inbound.answer(Endpoint::Status, request).await
}

impl Inbound {
    async fn answer(&self, endpoint: Endpoint, request: Request) -> Response {
        let began = Instant::now();
        let answer = self.receive(endpoint, request).await.unwrap_or_else(|refusal| refusal);
        emit(&Event::Webhook { endpoint, outcome: answer.outcome(), took: began.elapsed() });
        answer.into_response()
    }

    /// The whole line; an error is an answer that ends it early.
    async fn receive(&self, endpoint: Endpoint, request: Request) -> Result<Answer, Answer> {
        let key = self.key.get().filter(|_| self.routes.ready()).ok_or(Answer::NotReady)?;
        let (parts, body) = request.into_parts();
        let body = server::read_body(body, &self.limits).await?;
        let (entry, body) = self.verify(endpoint, &body, &parts.uri, &parts.headers)?;
        let route = &entry.route;
        match message::parse(&body, (self.clock)()).map_err(Answer::Malformed)? {
            Parsed::StatusCallback(callback) if callback.sender == route.sender => {
                self.settle(callback, parts.uri.query()).await
            }
            Parsed::Ignored(ignored) if ignored.sender == route.sender => Ok(Answer::Ignored),
            Parsed::Message(message) if is_own(route, &message) => {
                // Verified like any other, so that a stranger learns nothing from the answer.
                if entry.gone_since.is_some() {
                    return Err(Answer::NotReady);
                }
                self.admit(&message, route, key).await
            }
            _ => Err(Answer::Forbidden),
        }
    }

    /// Finds the channel and believes the body if that channel's secrets signed it.
    fn verify(
        &self,
        endpoint: Endpoint,
        body: &Bytes,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(Arc<Entry>, VerifiedBody), Answer> {
        let body = UnverifiedBody::form(body);
        let presented = Presented {
            query: uri.query(),
            signature: only(headers, "x-twilio-signature")?,
            settings: only(headers, "x-twilio-webhooks-signature-settings")?,
        };
        let addressed = body.addressed();
        // A message comes to our sender and a status callback from it; the latter may also arrive
        // where messages do.
        let senders = match endpoint {
            Endpoint::Message => [addressed.to, addressed.from],
            Endpoint::Status => [None, addressed.from],
        };
        let entry = addressed.account.and_then(|account| {
            senders.into_iter().flatten().find_map(|sender| self.routes.find(account, sender))
        });
        let Some(entry) = entry else {
            body.refuse(&presented);
            return Err(Answer::Forbidden);
        };
        let route = &entry.route;
        let verified = match endpoint {
            Endpoint::Message => body.verify(&presented, &route.webhook_urls, &route.credentials),
            Endpoint::Status => {
                let urls: Vec<String> =
                    route.webhook_urls.iter().map(|url| status_url(url)).collect();
                body.verify(&presented, &urls, &route.credentials)
            }
        };
        Ok((entry, verified.map_err(|_| Answer::Forbidden)?))
    }

    async fn admit(
        &self,
        message: &InboundMessage,
        route: &Route,
        key: &[u8; 32],
    ) -> Result<Answer, Answer> {
        let envelope = serde_json::to_string(message).expect("a message has string keys only");
        if envelope.len() > MAX_ENVELOPE_BYTES {
            return Ok(Answer::TooLarge);
        }
        let conversation = message.conversation(key);
        let shard = conversation.shard();
        let admission = self.gate.ask(self.store.admit(Admit {
            channel: route.channel.uid.clone(),
            dedup_key: message.dedup_key(),
            conversation,
            envelope,
            limit: route.limits.inbound_messages,
            window_ms: route.limits.inbound_window_ms,
            dedup_ms: route.limits.dedup_ms,
        }));
        let admission = admission.await.map_err(store_down)?;
        if admission == Admission::Queued {
            self.doorbell.ring(shard);
        }
        Ok(Answer::Admitted(admission))
    }

    /// Any callback proves that Twilio has the reply, whatever became of it.
    async fn settle(
        &self,
        callback: StatusCallback,
        query: Option<&str>,
    ) -> Result<Answer, Answer> {
        if let Some(id) = query.and_then(IntentId::in_query) {
            let IntentId { conversation, intent, segment } = id;
            let marked = self.store.mark_sent(conversation, intent, segment, callback.sid);
            self.gate.ask(marked).await.map_err(store_down)?;
        }
        Ok(Answer::StatusCallback)
    }
}

/// The route was found by what the body showed before it was verified; this is the check after.
fn is_own(route: &Route, message: &InboundMessage) -> bool {
    message.account == route.account_sid && message.sender == route.sender
}

/// The value of a header that may come once only.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Answer> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Answer::Forbidden),
        (Some(_), Some(_)) => Err(Answer::Forbidden),
    }
}

fn store_down(error: StoreError) -> Answer {
    emit(&Event::StoreFailed { error: error.to_string() });
    Answer::StoreDown
}

impl From<BodyError> for Answer {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TooSlow | BodyError::Broken => Self::TooSlow,
        }
    }
}
