//! The start of a POST: credentials that are not refused, a slot in the sender's pace, and its mark.
//!
//! Takes the head's owner and the route; gives a mark that is made with the commit when the slot is now,
//! a slot that is waited for, or the end of the turn. Each POST books its own slot. Never posts.

use std::time::Duration;

use kanarie_crds::route::{Route, route_hash, route_name};
use kanarie_queue::pace::Reserved;
use kanarie_words::ids::AttemptId;
use tokio::time::{Instant, sleep};

use crate::outbound::end::End;
use crate::outbound::owner::Owner;
use crate::random;

/// From the mark to the end of the POST: well under the time after which a mark is settled, so
/// that a POST never comes after the listing that missed it.
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// A mark that was asked for earlier is made anew before its POST.
const YOUNG: Duration = Duration::from_secs(1);
/// Shortest and longest time until a reply looks again at the pace of a sender that is booked out.
const BOOKED_OUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What is arranged for the next POST.
#[derive(Default)]
pub(crate) enum Start {
    /// Nothing yet.
    #[default]
    Open,
    /// It may go at once, under this mark.
    Marked(Mark),
    /// Its slot is so far ahead.
    Booked(Duration),
    /// It may not go now.
    Not(End),
}

/// The mark of one attempt.
pub(crate) struct Mark {
    pub(crate) attempt: AttemptId,
    /// Before it was asked for.
    began: Instant,
}

impl Start {
    /// Arranges the first POST of a reply that is about to be committed.
    pub(crate) async fn arrange(owner: &Owner<'_>, route: &Route) -> Self {
        match slot(owner, route).await {
            Ok(Duration::ZERO) => Self::Marked(Mark::renewed(None)),
            Ok(wait) => Self::Booked(wait),
            Err(end) => Self::Not(end),
        }
    }

    /// The attempt to mark with the commit.
    pub(crate) fn mark(&self) -> Option<AttemptId> {
        match self {
            Self::Marked(mark) => Some(mark.attempt.clone()),
            Self::Open | Self::Booked(_) | Self::Not(_) => None,
        }
    }

    /// What is left of it after the commit, which may have found another reply.
    pub(crate) fn committed(self, is_marked: bool) -> Self {
        match self {
            Self::Marked(_) if !is_marked => Self::Booked(Duration::ZERO),
            other => other,
        }
    }

    /// Waits until the POST may go; gives its mark, if it has one already.
    pub(crate) async fn ready(self, owner: &Owner<'_>, route: &Route) -> Result<Option<Mark>, End> {
        let slot = match self {
            Self::Marked(mark) => return Ok(Some(mark)),
            Self::Not(end) => return Err(end),
            Self::Booked(slot) => slot,
            Self::Open => slot(owner, route).await?,
        };
        wait(owner, slot).await;
        Ok(None)
    }
}

impl Mark {
    /// A mark to be made now, by the attempt of an older one if there is one.
    pub(crate) fn renewed(older: Option<Self>) -> Self {
        let attempt = older.map(|mark| mark.attempt);
        let attempt = attempt.unwrap_or_else(|| AttemptId::from_bytes(random::bytes()));
        Self { attempt, began: Instant::now() }
    }

    /// Whether enough is left of its time.
    pub(crate) fn is_young(&self) -> bool {
        self.began.elapsed() < YOUNG
    }

    /// When the POST must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.began + SEND_DEADLINE
    }
}

/// Books a slot in the sender's pace; gives the time until then, unless the sender is booked out.
pub(crate) async fn pace(owner: &Owner<'_>, route: &Route) -> Result<Duration, End> {
    // A hash, so that no number stands in the name of a key.
    let sender = route_name(&route.account_sid, &route.sender);
    let sender = route_hash(sender.as_bytes());
    match owner.reserve(sender, route.limits.outbound_per_second).await? {
        Reserved::After(pause_ms) => Ok(Duration::from_millis(pause_ms)),
        Reserved::Busy(pause_ms) => {
            // Each look costs the store a claim: the longer the queue, the more rarely.
            let rest = (owner.age() / 4).clamp(BOOKED_OUT.0, BOOKED_OUT.1);
            Err(End::wait(rest.max(Duration::from_millis(pause_ms))))
        }
    }
}

/// Waits for a slot.
pub(crate) async fn wait(owner: &Owner<'_>, slot: Duration) {
    if !slot.is_zero() {
        owner.rest(sleep(slot)).await;
    }
}

/// The same for credentials that Twilio does not refuse at present.
async fn slot(owner: &Owner<'_>, route: &Route) -> Result<Duration, End> {
    match owner.worker.holds.wait(route, Instant::now()) {
        Some(pause) => Err(End::wait(owner.rarely(pause))),
        None => pace(owner, route).await,
    }
}
