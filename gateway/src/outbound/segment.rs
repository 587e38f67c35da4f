//! One segment of a committed reply on its way to the customer.
//!
//! Takes the head's owner, the route and the reply; gives what posting and settling need of it.
//! Never posts and never decides.

use std::time::Duration;

use kanarie_crds::route::Route;
use kanarie_queue::intent::Post;
use kanarie_queue::send::{MarkSent, Marked};
use kanarie_words::ids::{AttemptId, IntentId, MessageSid};
use tokio::time::Instant;

use crate::callback::SegmentId;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::end::End;
use crate::outbound::owner::Owner;
use crate::outbound::reply::Reply;
use crate::outbound::twilio::Account;

/// Pause when Twilio refuses without naming one.
pub(crate) const LATER: Duration = Duration::from_secs(30);

/// One segment, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) owner: &'a Owner<'a>,
    pub(crate) route: &'a Route,
    pub(crate) customer: &'a str,
    pub(crate) reply: &'a Reply,
    /// Id of the reply's intent.
    pub(crate) intent: &'a IntentId,
    /// Its place in the reply, from 0.
    pub(crate) number: u32,
    pub(crate) text: &'a str,
    /// Whether it was posted again after listings without it.
    pub(crate) resent: bool,
}

impl Segment<'_> {
    /// Its name in status callbacks.
    pub(crate) fn id(&self) -> SegmentId {
        let conversation = self.owner.claim.conversation.clone();
        SegmentId { conversation, intent: self.intent.clone(), segment: self.number }
    }

    /// Whether nothing of the reply follows it.
    pub(crate) fn is_last(&self) -> bool {
        self.number as usize + 1 >= self.reply.segments.len()
    }

    /// One POST of it.
    pub(crate) fn post(&self, attempt: &AttemptId) -> Post {
        let (intent, attempt) = (self.intent.clone(), attempt.clone());
        Post { intent, segment: self.number, attempt }
    }

    /// That it was sent, as the store records it.
    pub(crate) fn sent(&self, sid: MessageSid) -> MarkSent {
        let (conversation, intent) = (self.owner.claim.conversation.clone(), self.intent.clone());
        MarkSent { conversation, intent, segment: self.number, sid }
    }

    /// Whether its head is done once it is sent.
    pub(crate) fn ends_well(&self) -> bool {
        self.is_last() && self.reply.failed.is_none()
    }

    /// Marks it as being sent by `attempt`.
    pub(crate) async fn mark(
        &self,
        attempt: &AttemptId,
        refuted: Option<AttemptId>,
    ) -> Result<Marked, End> {
        self.owner.mark(self.post(attempt), refuted).await
    }

    /// Whose account sends it.
    pub(crate) fn account(&self) -> Account<'_> {
        Account { sid: self.route.account_sid.as_str(), credentials: &self.route.credentials }
    }

    /// Twilio refused the channel's credentials: its sends wait for others, however long.
    pub(crate) fn hold(&self, code: Option<u32>) -> End {
        if self.owner.worker.holds.refuse(self.route, Instant::now()) {
            let channel = self.route.channel.to_string();
            emit(OutboundEvent::CredentialsRefused { channel, code });
        }
        End::wait(self.owner.rarely(LATER))
    }
}
