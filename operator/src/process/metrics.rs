//! Metrics of the operator: typed, registered once, without anything of customers.
//!
//! Takes what happened, gives the page of `/metrics`.

use kanarie_metrics::page::{MetricsPage, OTHERS_BUCKETS};
use kanarie_metrics::series::{Counter, CounterOfWords, Gauge, Timing};

use crate::process::channel_series::ChannelSeries;

/// Every metric of the operator.
pub struct Metrics {
    page: MetricsPage,
    /// Time that a reconcile took.
    pub reconcile_duration: Timing,
    /// Reconciles that failed, by class.
    pub reconcile_failures: CounterOfWords<1>,
    /// Transitions, by reason.
    pub transitions: CounterOfWords<1>,
    /// Conditional writes of a route that lost against another writer.
    pub route_conflicts: Counter,
    /// Questions to the gateways without an answer.
    pub control_failures: Counter,
    /// Credentials that Twilio was asked about, by what it said.
    pub credential_checks: CounterOfWords<1>,
    /// Routes that were deleted because their channel is gone.
    pub orphans_deleted: Counter,
    /// Namespaces of which a watch tells nothing.
    pub namespaces_unseen: Gauge,
    /// 1 while this process leads.
    pub leader: Gauge,
    /// What status says of each channel.
    pub channels: ChannelSeries,
}

impl Default for Metrics {
    fn default() -> Self {
        let page = MetricsPage::new("operator", env!("CARGO_PKG_VERSION"));
        Self {
            reconcile_duration: page.timing(
                "kanarie_operator_reconcile_duration_seconds",
                "Time that a reconcile of a channel took.",
                &OTHERS_BUCKETS,
            ),
            reconcile_failures: page.counter_of_words(
                "kanarie_operator_reconcile_failures_total",
                "Reconciles that failed, by class.",
                ["class"],
            ),
            transitions: page.counter_of_words(
                "kanarie_operator_transitions_total",
                "Transitions of rollouts, by reason.",
                ["reason"],
            ),
            route_conflicts: page.counter(
                "kanarie_operator_route_conflicts_total",
                "Conditional writes of a route that lost against another writer.",
            ),
            control_failures: page.counter(
                "kanarie_operator_control_failures_total",
                "Questions to the gateways without an answer.",
            ),
            credential_checks: page.counter_of_words(
                "kanarie_operator_credential_checks_total",
                "Credentials that Twilio was asked about, by what it said.",
                ["reason"],
            ),
            orphans_deleted: page.counter(
                "kanarie_operator_orphans_deleted_total",
                "Routes deleted because their channel is gone.",
            ),
            namespaces_unseen: page.gauge(
                "kanarie_operator_namespaces_unseen",
                "Namespaces whose channels, Secrets or routes cannot be watched.",
            ),
            leader: page.gauge("kanarie_operator_leader", "1 while this process leads."),
            channels: ChannelSeries::on(&page),
            page,
        }
    }
}

impl Metrics {
    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        self.page.render()
    }

    /// A line for every metric: its name, its kind and its labels.
    pub fn outline(&self) -> String {
        self.page.outline()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_metric_is_registered_once_and_rendered() {
        let metrics = Metrics::default();
        metrics.route_conflicts.inc();
        let page = metrics.render();
        assert!(page.contains("kanarie_operator_route_conflicts_total 1"), "{page}");
        assert!(page.contains(r#"component="operator""#), "{page}");
    }

    #[test]
    fn the_metrics_have_the_names_kinds_and_labels_that_they_had() {
        let outline = Metrics::default().outline();
        kanarie_fakes::golden::compare("operator/tests/goldens/metrics.txt", &outline);
    }
}
