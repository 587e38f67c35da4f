//! What Twilio reports of the segments that this process is just sending: that one is on its way.
//!
//! Takes a status callback, tells the turn that waits for it. Keeps nothing that nobody waits for,
//! and nothing for longer than he does: what another replica was told costs whoever waits his
//! patience, and no more. Knows which segments the store needs no report of (`recent.rs`). Never says
//! what became of a segment.
//!
//! A segment waits until the one before is reported as sent or better, a second at most, since
//! Twilio promises no order between messages and WhatsApp shows them as they come. Reports through
//! the store would be a row and a look for each segment, to save part of a second when a reply is
//! long and several replicas run; `delivered` may take days when a telephone is off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kanarie_queue::delivery::{Delivery, DeliveryStatus};
use tokio::sync::watch;

use crate::callback::SegmentId;
use crate::recent::Recent;

/// The segments whose report somebody waits for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    waiting: Arc<Mutex<HashMap<SegmentId, watch::Sender<bool>>>>,
    /// Of which the store has the SID, or whose reply is gone: half a megabyte.
    settled: Arc<Recent<(), 32_768>>,
}

/// A segment whose report is waited for until this is dropped.
#[derive(Debug)]
pub struct Expected {
    reports: Reports,
    id: SegmentId,
    gone: watch::Receiver<bool>,
}

impl Reports {
    /// From now on a report of this segment is noted: a callback may come before the answer to the
    /// POST.
    pub fn expect(&self, id: SegmentId) -> Expected {
        let (sender, gone) = watch::channel(false);
        self.entries(|entries| entries.insert(id.clone(), sender));
        Expected { reports: self.clone(), id, gone }
    }

    /// Takes a status callback of a segment, with the status in Twilio's word.
    pub fn note(&self, id: &SegmentId, status: &str) {
        let delivery = Delivery::reported(status, None);
        // Once Twilio has handed it on, or failed to, nothing sent after it can overtake it.
        if delivery.is_none_or(|delivery| delivery.status() >= DeliveryStatus::Sent) {
            self.entries(|entries| {
                if let Some(sender) = entries.get(id) {
                    sender.send_replace(true);
                }
            });
        }
    }

    /// The store has the segment's SID, or wants it no more.
    pub fn settle(&self, id: &SegmentId) {
        self.settled.note(id, ());
    }

    /// Whether that is known here.
    pub fn is_settled(&self, id: &SegmentId) -> bool {
        self.settled.get(id).is_some()
    }

    fn entries<T>(
        &self,
        change: impl FnOnce(&mut HashMap<SegmentId, watch::Sender<bool>>) -> T,
    ) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Expected {
    /// Waits until Twilio has handed the segment on. Whoever calls sets the end.
    pub async fn gone(&mut self) {
        if self.gone.wait_for(|gone| *gone).await.is_err() {
            // Another turn waits for the same segment now: this one has only its patience.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let gone = &self.gone;
        self.reports.entries(|entries| {
            if entries.get(&self.id).is_some_and(|sender| sender.subscribe().same_channel(gone)) {
                entries.remove(&self.id);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use kanarie_words::ids::ConversationId;

    use super::Reports;
    use crate::callback::SegmentId;

    fn id(segment: u32) -> SegmentId {
        let conversation = ConversationId::from_bytes([7; 16]);
        SegmentId { conversation, intent: "a1".parse().unwrap(), segment }
    }

    #[test]
    fn a_segment_is_gone_once_it_is_reported_as_sent_or_later() {
        for status in ["sent", "delivered", "read", "failed", "undelivered", "a later word"] {
            let reports = Reports::default();
            let mut expected = reports.expect(id(0));
            reports.note(&id(0), "queued");
            reports.note(&id(0), "sending");
            reports.note(&id(1), status);
            assert_eq!(expected.gone().now_or_never(), None);
            reports.note(&id(0), status);
            assert_eq!(expected.gone().now_or_never(), Some(()), "{status}");
        }
    }

    #[test]
    fn nothing_is_kept_that_nobody_waits_for() {
        let reports = Reports::default();
        reports.note(&id(0), "sent");
        drop(reports.expect(id(0)));
        assert!(reports.entries(|entries| entries.is_empty()));
    }

    #[test]
    fn a_second_who_waits_for_a_segment_is_not_forgotten_with_the_first() {
        let reports = Reports::default();
        let first = reports.expect(id(0));
        let mut second = reports.expect(id(0));
        drop(first);
        reports.note(&id(0), "sent");
        assert_eq!(second.gone().now_or_never(), Some(()));
    }
}
