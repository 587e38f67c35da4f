//! Metrics of the operator: typed, registered once, without names of channels or customers.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    /// Time that a reconcile took, in seconds.
    pub reconcile_seconds: Histogram,
    /// Reconciles that failed, by class.
    pub reconcile_failures: IntCounterVec,
    /// Transitions, by reason.
    pub transitions: IntCounterVec,
    /// Conditional writes of a route that lost against another writer.
    pub route_conflicts: IntCounter,
    /// Questions to the gateways without an answer.
    pub control_failures: IntCounter,
    /// Routes that were deleted because their channel is gone.
    pub orphans_deleted: IntCounter,
    /// 1 while this process leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// Registers everything in a registry of its own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = HistogramOpts::new(
            "kanarie_operator_reconcile_seconds",
            "Time that a reconcile of a channel took",
        );
        let metrics = Self {
            reconcile_seconds: Histogram::with_opts(histogram)?,
            reconcile_failures: IntCounterVec::new(
                Opts::new("kanarie_operator_reconcile_failures_total", "Reconciles that failed"),
                &["class"],
            )?,
            transitions: IntCounterVec::new(
                Opts::new("kanarie_operator_transitions_total", "Transitions of rollouts"),
                &["reason"],
            )?,
            route_conflicts: IntCounter::new(
                "kanarie_operator_route_conflicts_total",
                "Conditional writes of a route that lost against another writer",
            )?,
            control_failures: IntCounter::new(
                "kanarie_operator_control_failures_total",
                "Questions to the gateways without an answer",
            )?,
            orphans_deleted: IntCounter::new(
                "kanarie_operator_orphans_deleted_total",
                "Routes deleted because their channel is gone",
            )?,
            leader: IntGauge::new("kanarie_operator_leader", "1 while this process leads")?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(self.reconcile_seconds.clone()))?;
        self.registry.register(Box::new(self.reconcile_failures.clone()))?;
        self.registry.register(Box::new(self.transitions.clone()))?;
        self.registry.register(Box::new(self.route_conflicts.clone()))?;
        self.registry.register(Box::new(self.control_failures.clone()))?;
        self.registry.register(Box::new(self.orphans_deleted.clone()))?;
        self.registry.register(Box::new(self.leader.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_registered_once_and_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.route_conflicts.inc();
        assert!(metrics.render().unwrap().contains("kanarie_operator_route_conflicts_total 1"));
    }
}
