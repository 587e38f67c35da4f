//! What became of one segment, as Twilio reports it.
//!
//! Takes Twilio's word and error code, gives a delivery; of two deliveries of one segment the greater
//! counts. So any order and any repetition of the same reports ends in the same delivery: they come
//! late, doubled and reversed. A word that is not known is none. Never decides what to do about it.

use kanarie_words::ids::{ChannelUid, ConversationId, IntentId};

/// The statuses of a message, each over all those that it outranks.
///
/// Twilio sends a callback for each change of a message's status and promises no order. Up to `sent` the
/// message is on its way, each word further than the one before. `canceled`, `undelivered` and `failed`
/// are ends of that way: a `sent` that comes after one of them is late. `delivered` is the receipt of the
/// channel and `read` that of the customer: who has read a message has it, whatever else was said of it,
/// so these two outrank the failures, in either order. Of two failures `failed` is the surer: `undelivered`
/// is told by a channel that took the message, `failed` by Twilio itself.
///
/// Sources: Twilio's guides "Outbound Message Status in Status Callbacks" and "Track the Message Status
/// of Outbound Messages", and the values of `status` of its Message resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryStatus {
    /// Taken by a Messaging Service, which has not chosen a sender yet.
    Accepted,
    /// To be sent later.
    Scheduled,
    /// Waits at Twilio.
    Queued,
    /// Twilio hands it on.
    Sending,
    /// The channel has it.
    Sent,
    /// Taken back before it was sent.
    Canceled,
    /// The channel took it and did not deliver it.
    Undelivered,
    /// It was never handed on.
    Failed,
    /// The customer's telephone has it.
    Delivered,
    /// The customer has opened it.
    Read,
}

/// A status and, of a failure, its code: Twilio's, one to six digits. The greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    status: DeliveryStatus,
    code: Option<u32>,
}

/// What Twilio reports of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// UID of the channel whose secret signed it.
    pub channel: ChannelUid,
    /// The conversation.
    pub conversation: ConversationId,
    /// The reply.
    pub intent: IntentId,
    /// The segment, from 0.
    pub segment: u32,
    /// What became of it.
    pub delivery: Delivery,
}

/// What separates two ranks: codes are below it.
const RANK: u32 = 1_000_000;

impl DeliveryStatus {
    /// Every status, the least first.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Scheduled,
        Self::Queued,
        Self::Sending,
        Self::Sent,
        Self::Canceled,
        Self::Undelivered,
        Self::Failed,
        Self::Delivered,
        Self::Read,
    ];

    /// Twilio's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Canceled => "canceled",
            Self::Undelivered => "undelivered",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    fn is_failure(self) -> bool {
        matches!(self, Self::Undelivered | Self::Failed)
    }
}

impl Delivery {
    /// What a callback says; none when its word is not known. Only a failure has a code.
    pub fn reported(word: &str, code: Option<u32>) -> Option<Self> {
        let status = DeliveryStatus::ALL.into_iter().find(|status| status.as_str() == word)?;
        let code = code.filter(|code| status.is_failure() && (1..RANK).contains(code));
        Some(Self { status, code })
    }

    /// The status.
    pub fn status(self) -> DeliveryStatus {
        self.status
    }

    /// Why it failed, if Twilio said so.
    pub fn code(self) -> Option<u32> {
        self.code
    }

    /// Whether the customer does not get it.
    pub fn is_undelivered(self) -> bool {
        self.status.is_failure()
    }

    /// As a number, which is as great among numbers as this is among deliveries: so a row keeps it.
    pub fn number(self) -> u32 {
        self.status as u32 * RANK + self.code.unwrap_or_default()
    }

    /// The delivery of such a number; any other is none.
    pub fn of_number(number: u32) -> Option<Self> {
        let status = *DeliveryStatus::ALL.get(usize::try_from(number / RANK).ok()?)?;
        let code = Some(number % RANK).filter(|code| *code > 0);
        (code.is_none() || status.is_failure()).then_some(Self { status, code })
    }
}
