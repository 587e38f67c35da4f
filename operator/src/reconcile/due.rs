//! Due: how long after the last write a status is worth another one. Pure.
//!
//! Takes two statuses; gives at once for what somebody may wait or be woken for, some seconds for what a
//! step waits for, and a minute for numbers. Ten thousand channels share one API server.

use std::time::Duration;

use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_words::reason::Reason;

/// Time between two writes that change numbers only.
const NUMBERS: Duration = Duration::from_secs(60);
/// The same in holds that are shorter than this: as long as the hold, since somebody sits before it.
const SHORT: Duration = Duration::from_secs(10);
/// Time between two writes that say what a step waits for. A hold of ten seconds ends before it is over.
const PROGRESS: Duration = Duration::from_secs(15);
/// What a step that goes its way says one after the other.
const ON_ITS_WAY: [Reason; 6] = [
    Reason::StepStarted,
    Reason::Holding,
    Reason::WaitingForGateways,
    Reason::WaitingForAnswers,
    Reason::WaitingForTraffic,
    Reason::WaitingForEvidence,
];

/// Time that must have passed since the last write; none if there is nothing to write.
pub fn after(
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
    hold: Option<Duration>,
) -> Option<Duration> {
    if before == after {
        return None;
    }
    let numbers = hold.filter(|hold| *hold < SHORT).unwrap_or(NUMBERS);
    Some(if differs(before, after) {
        Duration::ZERO
    } else if still(before) == still(after) {
        numbers
    } else {
        PROGRESS.min(numbers)
    })
}

/// Whether two statuses differ in more than numbers and in how far a step is.
fn differs(before: &WhatsAppChannelStatus, after: &WhatsAppChannelStatus) -> bool {
    let on_its_way = ON_ITS_WAY.map(Reason::as_str);
    let settled = |status: &WhatsAppChannelStatus| {
        let mut settled = still(status);
        for condition in &mut settled.conditions {
            if on_its_way.contains(&condition.reason.as_str()) {
                condition.reason.clear();
            }
        }
        if let Some(rollout) = &mut settled.rollout {
            (rollout.step_started_at, rollout.next_step_at) = (None, None);
        }
        settled
    };
    settled(before) != settled(after)
}

/// Without numbers, and without how many gateways there are: Routed says whether they obey.
fn still(status: &WhatsAppChannelStatus) -> WhatsAppChannelStatus {
    let mut still = status.clone();
    (still.analysis, still.gateway) = (None, None);
    for condition in &mut still.conditions {
        condition.message.clear();
    }
    if let Some(rollout) = &mut still.rollout {
        rollout.waiting.clear();
    }
    // With two reasons the last one alternates, as fast as replies go out.
    if let Some(undelivered) = &mut still.undelivered {
        (undelivered.count, undelivered.last_code, undelivered.last_at) = (0, None, None);
    }
    still
}

#[cfg(test)]
mod tests {
    use kanarie_crds::status::UndeliveredReplyStatus;
    use serde_json::{Value, json};

    use super::*;
    use crate::process::clock::time_of;

    fn status(reason: &str, more: Value) -> WhatsAppChannelStatus {
        let condition = json!({
            "type": "RolledOut", "status": "Unknown", "reason": reason, "message": reason,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let mut status = json!({"conditions": [condition], "transition": 7});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_minute_of_numbers_is_one_write_and_what_somebody_waits_for_is_one_at_once() {
        let holding = status("Holding", json!({}));
        let counted =
            status("Holding", json!({"gateway": {"replicas": 2, "synced": 2, "summary": "2/2"}}));
        assert_eq!(after(&holding, &holding, None), None);
        assert_eq!(
            after(&holding, &counted, None),
            Some(NUMBERS),
            "a replica that comes is a number"
        );
        let short = Some(Duration::from_secs(2));
        assert_eq!(
            after(&holding, &counted, short),
            short,
            "in a hold of two seconds they are live"
        );
        assert_eq!(after(&holding, &counted, Some(SHORT)), Some(NUMBERS));
        let waiting = status("WaitingForTraffic", json!({}));
        assert_eq!(after(&holding, &waiting, None), Some(PROGRESS));
        let failing = status("ErrorRateTooHigh", json!({}));
        assert_eq!(after(&holding, &failing, None), Some(Duration::ZERO));
        let stepped = status("Holding", json!({"transition": 8}));
        assert_eq!(after(&holding, &stepped, None), Some(Duration::ZERO));
    }

    #[test]
    fn undelivered_replies_are_news_when_they_begin_and_end_and_no_other_number_or_code_is() {
        let none = status("Completed", json!({}));
        let of = |count, last_code| WhatsAppChannelStatus {
            undelivered: Some(UndeliveredReplyStatus {
                count,
                last_code,
                last_at: Some(time_of(count)),
            }),
            ..none.clone()
        };
        assert!(differs(&none, &of(1, Some(63_016))));
        assert!(!differs(&of(1, Some(63_016)), &of(7, Some(63_016))));
        assert!(!differs(&of(7, Some(63_016)), &of(8, Some(63_024))));
        assert!(!differs(&of(8, Some(63_024)), &of(9, None)));
        assert!(differs(&of(9, None), &none));
    }
}
