//! What becomes of replies: the delivery of each segment, and how many a channel could not deliver.
//!
//! Takes reports as they come, early, late, doubled or reversed; gives which of them changed
//! something, so that a whole fleet counts a change once. A report of a segment that is forgotten is a
//! change like a first one. Of no shard, so that a batch is one step in either store; and it concerns no
//! message: never gives leave for anything.

use kanarie_words::Millis;
use kanarie_words::ids::ChannelUid;

use crate::delivery::SegmentReport;
use crate::queue::Queue;
use crate::verb::Verb;

/// Takes what Twilio reports of segments, in this order; gives for each whether it changed its segment.
/// Repeated, nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteDeliveries {
    /// A batch of them.
    pub reports: Vec<SegmentReport>,
}

/// The channels with replies that were not delivered in the last 14 days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumUndelivered;

/// Replies of one channel that were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// How many segments, since it last had none for 14 days.
    pub count: u64,
    /// Twilio's code for the last one, if it gave one.
    pub last_code: Option<u32>,
    /// When that was.
    pub last_at: Millis,
}

impl Verb for NoteDeliveries {
    type Answer = Vec<bool>;

    fn apply(self, queue: &mut Queue, now: Millis) -> Vec<bool> {
        queue.deliveries.note_all(now, self.reports)
    }
}

impl Verb for SumUndelivered {
    type Answer = Vec<Undelivered>;

    fn apply(self, queue: &mut Queue, now: Millis) -> Vec<Undelivered> {
        queue
            .deliveries
            .undelivered(now)
            .map(|(channel, counted)| Undelivered {
                channel: channel.clone(),
                count: counted.count,
                last_code: counted.code,
                last_at: counted.at,
            })
            .collect()
    }
}
