//! One turn of a conversation: its head, from the claim until the head is done or put back.
//!
//! Takes a claim and its lease. Parents branch here, the work is in `attempt` (from the message to
//! a committed reply) and `deliver` (from there to a sent one). A verb of the store is repeated
//! until it is answered: whoever runs the turn ends it when the lease is lost.

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::Route;
use kanarie_queue::types::{Buried, Claim, Class, Lease, Owned};
use tokio::time::{Instant, sleep};

use crate::ends::{self, Outcome};
use crate::envelope::InboundMessage;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, Label as _};
use crate::outbound::context::Worker;
use crate::outbound::lease::Held;
use crate::random;
use crate::routes::table::Entry;
use crate::store::{Answer, SharedStore};

/// Time until a verb that was not answered is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Leases on one head that may expire before it is taken for the cause.
const MAX_CRASHES: u32 = 3;
/// How long a message waits for a channel that is gone, or for a Twilio that cannot be reached.
pub(crate) const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time between two looks at a message whose channel is gone.
const PARKED: Duration = Duration::from_secs(30);
/// Time until a head is looked at again for which there is no room among the dead letters.
const NO_ROOM: Duration = Duration::from_secs(60);

/// The lease is somebody else's: nothing more may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// A claim that is being worked on.
pub(crate) struct Turn<'a> {
    pub(crate) worker: Arc<Worker>,
    pub(crate) claim: Claim,
    pub(crate) held: &'a Held,
    began: Instant,
}

/// The parts of a turn that a message and a route were found for.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) turn: &'a Turn<'a>,
    pub(crate) route: &'a Route,
    pub(crate) message: &'a InboundMessage,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(worker: Arc<Worker>, claim: Claim, held: &'a Held, began: Instant) -> Self {
        Self { worker, claim, held, began }
    }

    /// Runs the turn to its end.
    pub(crate) async fn run(&self) {
        // What is stale belongs to somebody else, who does the rest.
        if self.work().await == Err(Stale) {
            emit(OutboundEvent::LeaseLost);
        }
    }

    async fn work(&self) -> Result<(), Stale> {
        if self.claim.crashes >= MAX_CRASHES {
            return self.bury(DeadLetterClass::Crashed).await;
        }
        let Ok(message) = serde_json::from_str::<InboundMessage>(&self.claim.envelope) else {
            return self.bury(DeadLetterClass::Unreadable).await;
        };
        let entry = self.worker.ctx.routes.find_channel(&self.claim.channel);
        let Some(entry) = entry.filter(|entry| is_in_force(entry)) else {
            return self.wait_for(DeadLetterClass::NoChannel, PARKED).await;
        };
        let work = Work { turn: self, route: &entry.route, message: &message };
        match self.claim.intent.clone() {
            Some(intent) => work.deliver(intent).await,
            None => work.answer().await,
        }
    }

    /// Puts the head back for `pause`, its try uncounted.
    pub(crate) async fn wait(&self, pause: Duration) -> Result<(), Stale> {
        self.put_back(random::jittered(pause), false).await
    }

    /// The same, unless the message has waited for a day: then it is a dead letter.
    pub(crate) async fn wait_for(
        &self,
        class: DeadLetterClass,
        pause: Duration,
    ) -> Result<(), Stale> {
        if self.age() < PATIENCE { self.wait(pause).await } else { self.bury(class).await }
    }

    /// Puts the head back for `pause`, exactly.
    pub(crate) async fn put_back(&self, pause: Duration, counted: bool) -> Result<(), Stale> {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        owned(self.verb(|store, lease| store.retry(lease, pause_ms, counted)).await)
    }

    /// Makes the head a dead letter.
    pub(crate) async fn bury(&self, class: DeadLetterClass) -> Result<(), Stale> {
        let word = class.as_str().to_owned();
        match self.verb(|store, lease| store.bury(lease, word.clone())).await {
            Buried::Done => {
                emit(OutboundEvent::DeadLetter { class });
                if let Ok(message) = serde_json::from_str::<InboundMessage>(&self.claim.envelope) {
                    ends::remember(&message.sid, Outcome::DeadLetter { class: word });
                }
                Ok(())
            }
            Buried::Full => self.wait(NO_ROOM).await,
            Buried::Stale => Err(Stale),
        }
    }

    /// Asks the store until it answers.
    pub(crate) async fn verb<'s, T>(
        &'s self,
        ask: impl Fn(&'s SharedStore, Lease) -> Answer<'s, T>,
    ) -> T {
        insist(|| ask(&self.worker.ctx.store, self.held.lease().clone())).await
    }

    /// Since when the message is waiting for its end.
    pub(crate) fn age(&self) -> Duration {
        let before = self.claim.now.saturating_sub(self.claim.admitted_at);
        Duration::from_millis(before) + self.began.elapsed()
    }
}

/// Asks until there is an answer: a verb may be repeated. Whoever calls sets the end.
pub(crate) async fn insist<'s, T>(ask: impl Fn() -> Answer<'s, T>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => emit(OutboundEvent::StoreFailed { error: error.to_string() }),
        }
        sleep(STORE_PAUSE).await;
    }
}

/// Whether a verb of an owner took effect.
pub(crate) fn owned(answer: Owned) -> Result<(), Stale> {
    match answer {
        Owned::Done => Ok(()),
        Owned::Stale => Err(Stale),
    }
}

/// The dead letters of an agent that finally failed.
pub(crate) fn dead_letter(class: Class) -> DeadLetterClass {
    match class {
        Class::Timeout => DeadLetterClass::Timeout,
        Class::Http => DeadLetterClass::Http,
        Class::NoAnswer => DeadLetterClass::NoAnswer,
        // An answer that is in time or slow is none of a failed agent.
        Class::Invalid | Class::Success | Class::Slow => DeadLetterClass::Invalid,
    }
}

fn is_in_force(entry: &Entry) -> bool {
    entry.gone_since.is_none()
}
