//! How things stand, as gauges.
//!
//! Takes a standing when somebody looks, gives its numbers to the page. Says of each whether it is of this
//! replica or of the whole fleet.

use kanarie_metrics::by_channel::GaugeByChannel;
use kanarie_metrics::page::MetricsPage;
use kanarie_metrics::series::Gauge;

use crate::levels::Standing;

/// The gauges.
pub(super) struct LevelMetrics {
    turns: Gauge,
    lanes: Gauge,
    durable: Gauge,
    oldest: GaugeByChannel,
    left_alone: GaugeByChannel,
    waiting: GaugeByChannel,
    dead_letters: GaugeByChannel,
}

impl LevelMetrics {
    pub(super) fn new(page: &MetricsPage) -> Self {
        Self {
            turns: page.gauge(
                "kanarie_turns_in_use",
                "Turns of this replica that have a place; --turns is the most of them.",
            ),
            lanes: page.gauge(
                "kanarie_store_lanes_up",
                "Connections of this replica to Redis that can be used; 1 for the embedded store.",
            ),
            durable: page.gauge(
                "kanarie_store_durable",
                "0 when the store has said that it may lose what it accepted, else 1.",
            ),
            oldest: page.gauge_by_channel(
                "kanarie_oldest_waiting_seconds",
                "Age of the oldest message that this replica works on or has put back, by channel. \
                 What nobody has claimed yet is not seen here, but in kanarie_waiting_messages.",
            ),
            left_alone: page.gauge_by_channel(
                "kanarie_breaker_open",
                "1 while this replica leaves a channel's stable agent alone because it fails.",
            ),
            waiting: page.gauge_by_channel(
                "kanarie_waiting_messages",
                "Messages of the whole fleet without an end yet, by channel, as the store summed them \
                 up: two seconds ago while messages come, half a minute while they only wait.",
            ),
            dead_letters: page.gauge_by_channel(
                "kanarie_dead_letters",
                "Dead letters of the whole fleet, by channel, as the store summed them up.",
            ),
        }
    }

    pub(super) fn show(&self, standing: &Standing) {
        self.turns.set(standing.turns);
        self.lanes.set(standing.lanes);
        self.durable.set(standing.durable);
        self.oldest.set_all(standing.oldest.clone());
        self.left_alone.set_all(standing.left_alone.clone());
        self.waiting.set_all(standing.waiting.clone());
        self.dead_letters.set_all(standing.dead_letters.clone());
    }
}
