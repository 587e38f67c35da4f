//! Which revision answers a conversation: pure and deterministic.
//!
//! Takes the store's key, a route, a conversation and what failed before; gives the track and its
//! revision. Within a rollout a conversation keeps its bucket, so a growing weight never moves
//! anybody back; another canary draws other buckets. Never counts anything.

use kanarie_crds::route::{RevisionRoute, Route};
use kanarie_words::ids::{ConversationId, RevisionName, StoreKey};
use kanarie_words::track::Track;

use crate::key::{BUCKETS, bucket};

/// Who answers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The track.
    pub track: Track,
    /// Its revision.
    pub revision: &'a RevisionRoute,
    /// Whether the outcome is evidence: only while a canary is there.
    pub judged: bool,
}

/// Chooses the revision for a message of `conversation`. `failed_on` is the canary revision whose
/// agent failed on this very message: while that is still the canary, stable answers.
pub fn choose<'a>(
    key: StoreKey,
    route: &'a Route,
    conversation: &ConversationId,
    failed_on: Option<&RevisionName>,
) -> Choice<'a> {
    let judged = route.canary.is_some();
    let canary = route.canary.as_ref().filter(|canary| {
        failed_on != Some(&canary.revision)
            && bucket(key, route.channel.uid.as_str(), canary.revision.as_str(), conversation)
                < u64::from(route.weight.percent()) * (BUCKETS / 100)
    });
    match canary {
        Some(revision) => Choice { track: Track::Canary, revision, judged },
        None => Choice { track: Track::Stable, revision: &route.stable, judged },
    }
}

#[cfg(test)]
mod tests {
    use kanarie_fakes::customer::Account;
    use kanarie_fakes::samples;
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::*;

    fn key() -> StoreKey {
        StoreKey::from_bytes([7; 32])
    }

    fn route(weight: u8, canary: Option<&str>) -> Route {
        let mut route = samples::route(&Account::new(1));
        route["weight"] = weight.into();
        route["canary"] = canary.map(|name| samples::revision(name, http())).into();
        serde_json::from_value(route).unwrap()
    }

    fn http() -> Value {
        json!({"http": {"url": "http://agent.example.com/"}})
    }

    fn conversation(number: u128) -> ConversationId {
        ConversationId::from_bytes(number.to_be_bytes())
    }

    fn on_canary(weight: u8, canary: &str, number: u128) -> bool {
        is_canary(&route(weight, Some(canary)), number)
    }

    fn is_canary(route: &Route, number: u128) -> bool {
        choose(key(), route, &conversation(number), None).track == Track::Canary
    }

    proptest! {
        /// Scenario 46: from 10 to 50 % everybody who is on the canary stays there.
        #[test]
        fn scenario_46_a_growing_weight_never_moves_anybody_back(
            number: u128, low in 0u8..=100, more in 0u8..=100,
        ) {
            let high = low.max(more);
            prop_assert!(!on_canary(low, "r2", number) || on_canary(high, "r2", number));
        }

        #[test]
        fn nobody_is_on_the_canary_at_weight_0_and_everybody_at_100(number: u128) {
            prop_assert!(!on_canary(0, "r2", number) && on_canary(100, "r2", number));
        }

        #[test]
        fn without_a_canary_stable_answers_whatever_the_weight(number: u128, weight in 0u8..=100) {
            let route = route(weight, None);
            let choice = choose(key(), &route, &conversation(number), None);
            prop_assert_eq!((choice.track, choice.judged), (Track::Stable, false));
        }
    }

    /// Scenario 45: 10 % are 10 % of the conversations, each of which has one revision.
    #[test]
    fn scenario_45_ten_percent_are_between_nine_and_eleven_of_ten_thousand_conversations() {
        let route = route(10, Some("r2"));
        let share = (0..10_000).filter(|number| is_canary(&route, *number)).count();
        assert!((900..=1_100).contains(&share), "{share} of 10,000");
    }

    #[test]
    fn another_canary_draws_other_customers() {
        let of = |canary| {
            let route = route(10, Some(canary));
            move |number: &u128| is_canary(&route, *number)
        };
        let both = (0..10_000).filter(of("r2")).filter(of("r3")).count();
        assert!(both < 200, "{both} of about 1,000 drawn twice, 100 are expected");
    }

    #[test]
    fn a_message_that_failed_on_the_canary_goes_to_stable() {
        let route = route(100, Some("r2"));
        let choice = choose(key(), &route, &conversation(1), Some(&"r2".parse().unwrap()));
        assert_eq!((choice.track, choice.judged), (Track::Stable, true));
    }

    #[test]
    fn a_failure_on_a_former_canary_says_nothing_about_this_one() {
        let route = route(100, Some("r3"));
        assert_eq!(
            choose(key(), &route, &conversation(1), Some(&"r2".parse().unwrap())).track,
            Track::Canary
        );
    }
}
