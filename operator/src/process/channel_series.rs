//! What `/metrics` shows of each channel: its conditions and its rollout, as status has them.
//!
//! Takes a channel's status whenever one is made; gives the gauges from which an alert is written without
//! reading objects. Never shows a message's text: the words are those of closed sets and names of
//! revisions.

use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_metrics::of_channel::GaugeOfChannel;
use kanarie_metrics::page::MetricsPage;
use kanarie_words::conditions::ConditionType;

use crate::cluster::key::ChannelKey;

/// The gauges of channels.
pub struct ChannelSeries {
    condition: GaugeOfChannel<3>,
    weight: GaugeOfChannel<0>,
    step: GaugeOfChannel<0>,
    evidence: GaugeOfChannel<0>,
    info: GaugeOfChannel<3>,
}

impl ChannelSeries {
    /// Registers them.
    pub fn on(page: &MetricsPage) -> Self {
        Self {
            condition: page.gauge_of_channel(
                "kanarie_channel_condition",
                "1 for what a condition of a channel says now.",
                ["type", "status", "reason"],
            ),
            weight: page.gauge_of_channel(
                "kanarie_rollout_weight",
                "Percent of the conversations on the canary, while there is one.",
                [],
            ),
            step: page.gauge_of_channel(
                "kanarie_rollout_step",
                "Present step of a rollout, from 1; 0 in mode Manual.",
                [],
            ),
            evidence: page.gauge_of_channel(
                "kanarie_rollout_evidence",
                "Evidence against the canary: 100 is proof, and at most 1000000 is shown.",
                [],
            ),
            info: page.gauge_of_channel(
                "kanarie_rollout_info",
                "1; says which revisions serve a channel, and the reason of RolledOut.",
                ["stable", "canary", "reason"],
            ),
        }
    }

    /// Shows a channel as this status has it.
    pub fn show(&self, key: &ChannelKey, status: &WhatsAppChannelStatus) {
        let ChannelKey { namespace, name } = key;
        let conditions = status.conditions.iter();
        self.condition.show(
            namespace,
            name,
            conditions.map(|one| ([one.type_.clone(), one.status.clone(), one.reason.clone()], 1)),
        );
        let rollout = status.rollout.as_ref();
        let weight = rollout.map(|rollout| ([], u64::from(rollout.weight)));
        self.weight.show(namespace, name, weight);
        let step = |step: &str| step.split('/').next().and_then(|step| step.parse().ok());
        let step = rollout.map(|rollout| ([], step(&rollout.step).unwrap_or(0)));
        self.step.show(namespace, name, step);
        let evidence = status.analysis.as_ref().map(|seen| ([], seen.evidence));
        self.evidence.show(namespace, name, evidence);
        let named = |one: &Option<kanarie_crds::status::RevisionStatus>| {
            one.as_ref().map(|one| one.revision.clone()).unwrap_or_default()
        };
        let rolled_out = ConditionType::RolledOut.as_str();
        let reason = status.conditions.iter().find(|one| one.type_ == rolled_out);
        let reason = reason.map(|one| one.reason.clone()).unwrap_or_default();
        let info = [named(&status.stable), named(&status.canary), reason];
        self.info.show(namespace, name, [(info, 1)]);
    }

    /// Shows a channel no more.
    pub fn forget(&self, key: &ChannelKey) {
        let ChannelKey { namespace, name } = key;
        self.condition.forget(namespace, name);
        self.weight.forget(namespace, name);
        self.step.forget(namespace, name);
        self.evidence.forget(namespace, name);
        self.info.forget(namespace, name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_channel_is_shown_as_its_status_is_and_no_more_when_it_is_gone() {
        let page = MetricsPage::new("operator", "1");
        let series = ChannelSeries::on(&page);
        let key = ChannelKey { namespace: "shop".into(), name: "care".into() };
        let of = |reason: &str, rollout: serde_json::Value| -> WhatsAppChannelStatus {
            let conditions = json!([{
                "type": "RolledOut", "status": "Unknown", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
            serde_json::from_value(json!({"conditions": conditions, "rollout": rollout})).unwrap()
        };
        let rollout = json!({"weight": 50, "step": "2/3", "waiting": ""});
        series.show(&key, &of("Holding", rollout));
        let shown = page.render();
        let care = r#"channel="care",namespace="shop""#;
        for line in [
            format!("kanarie_rollout_weight{{{care}}} 50"),
            format!("kanarie_rollout_step{{{care}}} 2"),
            format!(
                r#"kanarie_channel_condition{{{care},type="RolledOut",status="Unknown",reason="Holding"}} 1"#
            ),
        ] {
            assert!(shown.contains(&line), "{line} is not in\n{shown}");
        }
        series.show(&key, &of("Completed", json!(null)));
        let shown = page.render();
        assert!(
            !shown.contains("Holding") && !shown.contains("kanarie_rollout_weight{"),
            "{shown}"
        );
        series.forget(&key);
        assert!(!page.render().contains("care"));
    }
}
