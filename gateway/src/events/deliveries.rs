//! What becomes of replies, as events.
//!
//! Takes an event, gives its metric and its log line. A line names the channel, Twilio's code and the
//! first digits of the conversation, which is a keyed hash: never a number, and never a text.

use std::time::Duration;

use kanarie_metrics::by_channel::CounterByChannel;
use kanarie_metrics::label::Label as _;
use kanarie_metrics::page::MetricsPage;
use kanarie_metrics::series::Counter;
use kanarie_queue::delivery::Delivery;
use kanarie_words::ids::ConversationId;

use crate::clock::millis;
use crate::labels::SendClass;

/// One thing that happened to a reply after it was sent. Channels are `namespace/name`.
#[derive(Clone, Debug)]
pub enum DeliveryEvent {
    /// The store learned more of a segment than it knew.
    Changed {
        /// The channel.
        channel: String,
        /// What it learned.
        delivery: Delivery,
        /// Whether this version has a class for its code: all others are one label.
        known: bool,
    },
    /// A callback says a word that this version does not know.
    UnknownStatus {
        /// The channel.
        channel: String,
    },
    /// Reports that the store was never told of.
    Dropped {
        /// How many.
        reports: u64,
    },
    /// The first reply of a channel that was not delivered for this reason.
    UndeliveredBegan {
        /// The channel.
        channel: String,
        /// Twilio's code, if it gave one.
        code: Option<u32>,
        /// What that means, if it is known.
        class: Option<SendClass>,
        /// Whose reply.
        conversation: ConversationId,
    },
    /// No more of them for a minute.
    UndeliveredEnded {
        /// The channel.
        channel: String,
        /// Twilio's code, if it gave one.
        code: Option<u32>,
        /// How many there were.
        replies: u64,
        /// From the first to the last.
        lasted: Duration,
    },
}

/// The metrics of deliveries.
pub(super) struct DeliveryMetrics {
    /// By status and, of failures, code.
    deliveries: CounterByChannel<2>,
    dropped: Counter,
}

impl DeliveryMetrics {
    pub(super) fn new(page: &MetricsPage) -> Self {
        Self {
            deliveries: page.counter_by_channel(
                "kanarie_deliveries_total",
                "Changes of what became of sent segments, by channel, status and error code.",
                ["status", "code"],
            ),
            dropped: page.counter(
                "kanarie_delivery_reports_dropped_total",
                "Status callbacks whose status was not kept: the store was away for too long.",
            ),
        }
    }

    pub(super) fn count(&self, event: &DeliveryEvent) {
        match event {
            DeliveryEvent::Changed { channel, delivery, known } => {
                let code = code_word(delivery.code(), *known);
                self.deliveries.inc(channel, [delivery.status().as_str(), &code]);
            }
            DeliveryEvent::UnknownStatus { channel } => {
                self.deliveries.inc(channel, ["other", "none"]);
            }
            DeliveryEvent::Dropped { reports } => self.dropped.inc_by(*reports),
            DeliveryEvent::UndeliveredBegan { .. } | DeliveryEvent::UndeliveredEnded { .. } => {}
        }
    }
}

/// A code as a label: every one that has a class, and one word for all others.
pub(super) fn code_word(code: Option<u32>, known: bool) -> String {
    match code {
        None => "none".to_owned(),
        Some(code) if known => code.to_string(),
        Some(_) => "other".to_owned(),
    }
}

impl DeliveryEvent {
    /// Writes its line; a reply that was delivered is a number, not a line.
    pub(super) fn log(&self) {
        match self {
            Self::Changed { channel, delivery, .. } => {
                let (status, code) = (delivery.status().as_str(), delivery.code());
                tell!(DEBUG, channel, status, code, "a reply went on");
            }
            Self::UnknownStatus { channel } => {
                tell!(DEBUG, channel, "a status callback says a word that is not known");
            }
            Self::Dropped { reports } => {
                tell!(DEBUG, reports, "what became of replies was not kept");
            }
            Self::UndeliveredBegan { channel, code, class, conversation } => {
                let (class, conversation) = (class.map(SendClass::as_str), short(conversation));
                tell!(
                    WARN,
                    channel,
                    code,
                    class,
                    conversation,
                    "a reply was not delivered: others like it are counted, and said at their end"
                );
            }
            Self::UndeliveredEnded { channel, code, replies, lasted } => {
                let lasted_ms = millis(*lasted);
                tell!(
                    WARN,
                    channel,
                    code,
                    replies,
                    lasted_ms,
                    "replies were not delivered; none like them for a minute"
                );
            }
        }
    }
}

/// Digits enough to find its lines again, too few to tell a customer by.
fn short(conversation: &ConversationId) -> &str {
    conversation.as_str().get(..8).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kanarie_metrics::page::MetricsPage;
    use kanarie_queue::delivery::Delivery;

    use super::{DeliveryEvent, DeliveryMetrics};

    #[test]
    fn a_delivery_is_counted_by_channel_status_and_a_code_that_is_known() {
        let page = MetricsPage::new("gateway", "1");
        let metrics = DeliveryMetrics::new(&page);
        let channel = "shop/care".to_owned();
        for (status, code, known) in [
            ("delivered", None, false),
            ("undelivered", Some(63_016), true),
            ("failed", Some(12_345), false),
            ("failed", Some(12_346), false),
        ] {
            let delivery = Delivery::reported(status, code).unwrap();
            metrics.count(&DeliveryEvent::Changed { channel: channel.clone(), delivery, known });
        }
        metrics.count(&DeliveryEvent::UnknownStatus { channel });
        let page = page.render();
        for (code, status, count) in [
            ("none", "delivered", 1),
            ("63016", "undelivered", 1),
            ("other", "failed", 2),
            ("none", "other", 1),
        ] {
            let labels = format!(r#"channel="shop/care",code="{code}",status="{status}""#);
            assert!(
                page.contains(&format!("kanarie_deliveries_total{{{labels}}} {count}\n")),
                "{page}"
            );
        }
    }
}
