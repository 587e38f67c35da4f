//! The first line in front of a worker: signed webhooks as Twilio posts them, and messages brought
//! without one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use kanarie_fakes::signer::sign_body;
use kanarie_gateway::envelope;
use kanarie_gateway::handover::KeptPlace;
use kanarie_gateway::heartbeat::Pulse;
use kanarie_gateway::inbound::admission::Gate;
use kanarie_gateway::inbound::{Inbound, router};
use kanarie_gateway::server::body::BodyBudget;
use kanarie_gateway::server::limits::ClientLimits;
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::lease::NewLease;
use kanarie_words::ids::ConversationId;
use tower::ServiceExt as _;

use crate::worker::twilio::Created;
use crate::worker::world::{Running, SENDER, UID, World, admission};

const PATH: &str = "/webhooks/twilio/whatsapp";

impl World {
    /// Brings a message to a worker as the webhook does; true when its turn began at once.
    pub(crate) async fn bring(&self, to: &Running, customer: u8, sid: &str, text: &str) -> bool {
        let place = self.keep_place(to, customer);
        let lease = place.as_ref().map(|place| place.lease());
        match (self.admit_for(lease, customer, sid, text).await, place) {
            (Admission::Leased(head), Some(place)) => {
                place.begin(*head);
                true
            }
            (_, place) => {
                place.into_iter().for_each(KeptPlace::leave);
                self.doorbell.ring(ConversationId::from_bytes([customer; 16]).shard());
                false
            }
        }
    }

    /// Keeps a place at a worker for a message of a customer.
    pub(crate) fn keep_place(&self, at: &Running, customer: u8) -> Option<Box<dyn KeptPlace>> {
        let conversation = ConversationId::from_bytes([customer; 16]);
        at.handover.keep_place(&UID.parse().unwrap(), &conversation)
    }

    /// Admits a message whose lease is wanted.
    pub(crate) async fn admit_for(
        &self,
        lease: Option<NewLease>,
        customer: u8,
        sid: &str,
        text: &str,
    ) -> Admission {
        let message = self.message(&format!("whatsapp:+1401000{customer:04}"), sid, text);
        let admit = admission(UID, customer, sid, envelope::write(&message));
        self.store.run(Admit { lease, ..admit }).await.unwrap()
    }

    /// Posts a message of a customer to the gateway of a worker; gives the status of the answer.
    pub(crate) async fn post(&self, to: &Running, customer: u8, sid: &str, text: &str) -> u16 {
        let customer = format!("whatsapp:+1401000{customer:04}");
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("MessageSid", sid), ("AccountSid", "AC1"), ("To", SENDER)])
            .extend_pairs([("From", customer.as_str()), ("Body", text), ("SmsStatus", "received")])
            .finish();
        self.signed(to, &format!("https://wa.example.com{PATH}"), body).await
    }

    /// Posts a report of a message as Twilio does; gives the status of the answer.
    pub(crate) async fn post_report(&self, to: &Running, created: &Created, status: &str) -> u16 {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("MessageSid", created.sid.as_str()), ("AccountSid", "AC1")])
            .extend_pairs([("To", created.field("To")), ("From", SENDER)])
            .extend_pairs([("MessageStatus", status)])
            .finish();
        self.signed(to, created.field("StatusCallback"), body).await
    }

    async fn signed(&self, to: &Running, url: &str, body: String) -> u16 {
        let signature = sign_body("token", url, body.as_bytes());
        let target = url.strip_prefix("https://wa.example.com").unwrap();
        let request = Request::post(target).header("x-twilio-signature", signature);
        let inbound = Inbound {
            routes: Arc::clone(&self.routes),
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            pulse: Pulse::default(),
            handover: to.handover.clone(),
            doorbell: Arc::clone(&self.doorbell),
            reports: self.reports.clone(),
            deliveries: self.deliveries.clone(),
            clock: Arc::new(|| 0),
            limits: ClientLimits::default(),
            bodies: BodyBudget::default(),
            gate: Gate::default(),
            full: self.full.clone(),
        };
        let request = request.body(Body::from(body)).unwrap();
        router(Arc::new(inbound)).oneshot(request).await.unwrap().status().as_u16()
    }
}
