//! The inbound line: one driver for both URLs, which lists the hops.
//!
//! Takes a request, gives Twilio's answer: read → find the channel → verify → parse → own? → admit →
//! response. Decides nothing itself. Never asks the store about a request that is not verified, and
//! never answers 403 before the routes are known.

pub mod admission;
pub mod channel;
pub mod message;
pub mod response;
pub mod signature;
pub mod unanswered;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::post;
use kanarie_crds::route::{ChannelRef, Route};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::send::MarkSent;
use kanarie_words::ids::StoreKey;
use tokio::time::Instant;

use crate::callback::{MESSAGE_PATH, STATUS_PATH, SegmentId};
use crate::clock::WallClock;
use crate::deliveries::Deliveries;
use crate::doorbell::Doorbell;
use crate::envelope::{self, InboundMessage};
use crate::events::{Event, emit};
use crate::handover::{Handover, KeptPlace};
use crate::heartbeat::Pulse;
use crate::inbound::admission::Gate;
use crate::inbound::channel::Absent;
use crate::inbound::message::{Parsed, StatusCallback};
use crate::inbound::response::Response;
use crate::inbound::signature::{Presented, UnverifiedBody, VerifiedBody};
use crate::key::{self, LearnedKey};
use crate::labels::Endpoint;
use crate::loads::FullChannels;
use crate::reports::Reports;
use crate::routes::table::{Entry, RouteTable};
use crate::server::body::{self, BodyBudget, BodyError};
use crate::server::limits::ClientLimits;
use crate::store::SharedStore;
use crate::store::error::StoreError;
use crate::subject::{self, Subject};

/// Most bytes of a message in the queue. WhatsApp carries 4,096 characters, of four bytes each at
/// most; without a bound one tenant's signed giants would fill the room of everybody.
const MAX_ENVELOPE_BYTES: usize = 32 * 1024;

/// What the handlers need.
pub struct Inbound {
    /// The routes in force.
    pub routes: Arc<RouteTable>,
    /// Where messages are admitted.
    pub store: SharedStore,
    /// The store's key, once it is known.
    pub key: LearnedKey,
    /// What the store last said to this replica.
    pub pulse: Pulse,
    /// Brings a message that comes alone to a turn of this process.
    pub handover: Handover,
    /// Wakes a worker of this process.
    pub doorbell: Arc<Doorbell>,
    /// Tells a turn of this process that its segment is on its way.
    pub reports: Reports,
    /// Takes what becomes of replies.
    pub deliveries: Deliveries,
    /// Stamps messages.
    pub clock: WallClock,
    /// How long a body may take and be.
    pub limits: ClientLimits,
    /// What all bodies may be together.
    pub bodies: BodyBudget,
    /// What is known about the store's health.
    pub gate: Gate,
    /// The channels that get no more.
    pub full: FullChannels,
}

/// The public router.
pub fn router(inbound: Arc<Inbound>) -> Router {
    let webhooks = Router::new()
        .route(MESSAGE_PATH, post(receive_message))
        .route(STATUS_PATH, post(receive_status));
    unanswered::beside(webhooks).with_state(inbound)
}

async fn receive_message(State(inbound): State<Arc<Inbound>>, request: Request) -> HttpResponse {
    inbound.answer(Endpoint::Message, request).await
}

async fn receive_status(State(inbound): State<Arc<Inbound>>, request: Request) -> HttpResponse {
    inbound.answer(Endpoint::Status, request).await
}

impl Inbound {
    async fn answer(&self, endpoint: Endpoint, request: Request) -> HttpResponse {
        let began = Instant::now();
        let answered = async {
            let response = self.receive(endpoint, request).await.unwrap_or_else(|refusal| refusal);
            emit(Event::Webhook { endpoint, outcome: response.outcome(), took: began.elapsed() });
            response.into_response()
        };
        Subject::webhook().within(answered).await
    }

    /// The whole line; an error is a response that ends it early.
    async fn receive(&self, endpoint: Endpoint, request: Request) -> Result<Response, Response> {
        let is_ready = self.routes.ready() && !self.pulse.has_other_key();
        let key = self.key.get().filter(|_| is_ready).ok_or(Response::NotReady)?;
        let (parts, body) = request.into_parts();
        let body = body::read_body(body, &self.limits, &self.bodies).await?;
        let body = UnverifiedBody::received(&body).ok_or(Response::TooLarge)?;
        let found = channel::find(endpoint, &body.addressed(), &self.routes, Instant::now());
        let found = found.inspect(subject::found);
        let (entry, body) = verify(endpoint, found, body, &parts)?;
        let parsed = message::parse(&body, (self.clock)()).map_err(Response::Malformed)?;
        if !channel::is_own(&entry.route, &parsed) {
            return Err(Response::Forbidden);
        }
        match parsed {
            Parsed::StatusCallback(callback) => {
                self.settle(callback, &entry.route.channel, parts.uri.query()).await
            }
            Parsed::Ignored(_) => Ok(Response::Ignored),
            // Verified like any other, so that a stranger learns nothing from the answer.
            Parsed::Message(_) if entry.gone_since.is_some() => Err(Response::NotReady),
            Parsed::Message(_) if self.full.is_full(&entry.route.channel.uid) => {
                Err(Response::ChannelFull)
            }
            Parsed::Message(message) => self.admit(message, &entry.route, key).await,
        }
    }

    async fn admit(
        &self,
        mut message: Box<InboundMessage>,
        route: &Route,
        key: StoreKey,
    ) -> Result<Response, Response> {
        message.namespace = Some(route.channel.namespace.clone());
        let envelope = envelope::write(&message);
        if envelope.len() > MAX_ENVELOPE_BYTES {
            return Err(Response::TooLarge);
        }
        let conversation =
            key::conversation(key, &message.account, &message.sender, &message.customer);
        subject::of(&conversation);
        subject::about(&message.sid);
        let shard = conversation.shard();
        let channel = &route.channel.uid;
        let asked = self.gate.ask(async {
            // Dropped without an answer, it gives back the lease that the store may have given.
            let place = self.handover.keep_place(channel, &conversation);
            let admit = Admit {
                channel: channel.clone(),
                dedup_key: message.dedup_key(),
                conversation,
                envelope,
                limit: route.limits.inbound_messages,
                window_ms: route.limits.inbound_window_ms,
                dedup_ms: route.limits.dedup_ms,
                lease: place.as_ref().map(|place| place.lease()),
            };
            Ok((self.store.run(admit).await?, place))
        });
        let asked = asked.await;
        if asked.is_err() {
            // It may be queued all the same.
            self.doorbell.ring(shard);
            self.doorbell.call_others(shard);
        }
        let (admission, place) = asked.map_err(store_down)?;
        Ok(Response::Admitted(self.hand_over(admission, place, shard)))
    }

    /// Begins the turn of a message that was leased, or rings for one that was queued; gives what
    /// Twilio is told.
    fn hand_over(
        &self,
        admission: Admission,
        place: Option<Box<dyn KeptPlace>>,
        shard: u8,
    ) -> Admission {
        match (admission, place) {
            (Admission::Leased(head), Some(place)) => {
                self.full.stir();
                place.begin(*head);
                Admission::Queued
            }
            (Admission::Duplicate, place) => {
                // Maybe of this very message, by a call whose answer was lost: then its lease goes back
                // with the place, and what was only queued is rung for.
                drop(place);
                self.doorbell.ring(shard);
                Admission::Duplicate
            }
            (admission, place) => {
                if admission == Admission::Queued {
                    self.full.stir();
                    self.doorbell.ring(shard);
                    if place.is_none() {
                        self.doorbell.call_others(shard);
                    }
                }
                place.into_iter().for_each(KeptPlace::leave);
                admission
            }
        }
    }

    /// Any callback proves that Twilio has the reply, whatever became of it: its conversation goes on.
    /// The channel that signed it need not be the reply's: knowing the id is the proof (`callback.rs`).
    async fn settle(
        &self,
        callback: StatusCallback,
        channel: &ChannelRef,
        query: Option<&str>,
    ) -> Result<Response, Response> {
        subject::about(&callback.sid);
        let Some(id) = query.and_then(SegmentId::in_query) else {
            return Ok(Response::StatusCallback);
        };
        self.reports.note(&id, &callback.status);
        self.deliveries.note(channel, &id, &callback.status, callback.code);
        if self.reports.is_settled(&id) {
            return Ok(Response::StatusCallback);
        }
        subject::of(&id.conversation);
        let SegmentId { conversation, intent, segment } = id.clone();
        let shard = conversation.shard();
        let sent = MarkSent { conversation, intent, segment, sid: callback.sid };
        let is_news = self.gate.ask(self.store.run(sent)).await.map_err(store_down)?;
        self.reports.settle(&id);
        if is_news {
            self.doorbell.ring(shard);
            self.doorbell.call_others(shard);
        }
        Ok(Response::StatusCallback)
    }
}

/// Believes the body if the secrets of the channel that was found signed it. Without a channel it
/// costs as much.
fn verify(
    endpoint: Endpoint,
    found: Result<Arc<Entry>, Absent>,
    body: UnverifiedBody,
    parts: &Parts,
) -> Result<(Arc<Entry>, VerifiedBody), Response> {
    let presented = Presented {
        query: parts.uri.query(),
        signature: only(&parts.headers, "x-twilio-signature")?,
        settings: only(&parts.headers, "x-twilio-webhooks-signature-settings")?,
    };
    let entry = match found {
        Ok(entry) => entry,
        Err(absent) => {
            body.refuse(&presented);
            return Err(match absent {
                Absent::NotOurs => Response::Forbidden,
                Absent::NotRead => Response::NotReady,
            });
        }
    };
    let urls = channel::signed_urls(endpoint, &entry.route);
    let verified = body.verify(&presented, &urls, &entry.route.credentials);
    let body = verified.map_err(|_| Response::Forbidden)?;
    Ok((Arc::clone(&entry), body))
}

/// The value of a header that may come once only.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Response> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Response::Forbidden),
        (Some(_), Some(_)) => Err(Response::Forbidden),
    }
}

fn store_down(error: StoreError) -> Response {
    emit(Event::StoreFailed { error: error.to_string() });
    Response::StoreDown
}

impl From<BodyError> for Response {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TooSlow | BodyError::Broken => Self::TooSlow,
            BodyError::NoRoom => Self::NoRoom,
        }
    }
}
