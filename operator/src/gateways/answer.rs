//! One answer of the gateways as the core takes it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_crds::control::{ChannelState, ClassCount, CustomerCount};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, StoreAnswer};
use kanarie_rollout::tally::{CustomerTally, ServingTally, Tally};
use kanarie_words::class::Class;
use kanarie_words::ids::ReplicaName;
use kanarie_words::track::Track;

use crate::gateways::board::Details;

/// One answer of the store, as `decide` takes it.
pub fn answer(details: &Details) -> StoreAnswer {
    let acknowledged = details.channel.iter().flat_map(|channel| &channel.acknowledged);
    let serving: BTreeMap<&str, u64> =
        acknowledged.map(|ack| (ack.replica.as_str(), ack.serving)).collect();
    let replica = |name: &ReplicaName| LiveReplica {
        name: name.clone(),
        serving: serving.get(name.as_str()).copied(),
    };
    let evidence = details.channel.as_ref().map(evidence).unwrap_or_default();
    StoreAnswer {
        epoch: details.epoch.clone(),
        at: StoreTime(details.at_ms),
        replicas: details.replicas.iter().map(replica).collect(),
        evidence,
    }
}

/// What was counted for every serving that is still remembered.
fn evidence(channel: &ChannelState) -> Vec<ServingTally> {
    let servings: BTreeSet<u64> = channel.counts.iter().map(|count| count.serving).collect();
    let of = |serving, track| {
        let ours = |of: u64, on: Track| of == serving && on == track;
        let counts = channel.counts.iter().filter(|count| ours(count.serving, count.track));
        let tally = counts.fold(Tally::default(), |sum, count| sum.plus(tally(count)));
        let customers = match &channel.customers {
            Some(all) => {
                let counts = all.iter().filter(|count| ours(count.serving, count.track));
                counts.fold(CustomerTally::default(), |sum, count| sum.plus(customers(count)))
            }
            // A gateway that counts messages only: each of them is taken for a customer.
            None => CustomerTally {
                asked: tally.messages(),
                failed: tally.failures(),
                rescued: tally.failures(),
            },
        };
        Tally { customers, ..tally }
    };
    let both = |serving| ServingTally {
        serving,
        stable: of(serving, Track::Stable),
        canary: of(serving, Track::Canary),
    };
    servings.into_iter().map(both).collect()
}

fn customers(count: &CustomerCount) -> CustomerTally {
    let CustomerCount { serving: _, track: _, conversations: asked, failed, rescued } = *count;
    // A gateway that counts no rescues: the canary is blamed for every one of them.
    CustomerTally { asked, failed, rescued: rescued.unwrap_or(failed) }
}

fn tally(count: &ClassCount) -> Tally {
    let mut tally = Tally::default();
    let field = match count.class {
        Class::Success => &mut tally.success,
        Class::Timeout => &mut tally.timeout,
        Class::Http => &mut tally.http,
        Class::Invalid => &mut tally.invalid,
        Class::NoAnswer => &mut tally.no_answer,
        Class::Slow => &mut tally.slow,
        Class::Unavailable => &mut tally.unavailable,
    };
    *field = count.messages;
    tally
}

#[cfg(test)]
mod tests {
    use kanarie_crds::control::Acknowledged;

    use super::*;

    fn details(customers: Option<Vec<CustomerCount>>) -> Details {
        let count =
            |serving, track, class, messages| ClassCount { serving, track, class, messages };
        Details {
            at_ms: 7,
            epoch: "e".parse().unwrap(),
            replicas: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            channel: Some(ChannelState {
                uid: "u".parse().unwrap(),
                acknowledged: vec![Acknowledged {
                    replica: "a".parse().unwrap(),
                    serving: 3,
                    hash: "h".parse().unwrap(),
                    cut: false,
                }],
                counts: vec![
                    count(3, Track::Canary, Class::Success, 5),
                    count(3, Track::Canary, Class::Http, 2),
                    count(3, Track::Canary, Class::Unavailable, 1),
                    count(3, Track::Stable, Class::Success, 40),
                    count(2, Track::Canary, Class::Slow, 9),
                ],
                customers,
            }),
        }
    }

    #[test]
    fn counts_are_grouped_by_serving_and_track() {
        let store = answer(&details(None));
        assert_eq!(store.evidence_of(3).canary.messages(), 8);
        assert_eq!(store.evidence_of(3).canary.failures(), 3);
        assert_eq!(store.evidence_of(3).stable.messages(), 40);
        assert_eq!(store.evidence_of(2).canary.slow, 9);
        assert_eq!(store.acknowledged(3), 1);
        assert!(!store.in_force(3), "a live replica without the route has not acknowledged it");
    }

    #[test]
    fn customers_stand_beside_the_messages_of_their_serving_and_track() {
        let told = |rescued| {
            let (conversations, failed) = (6, 2);
            let one =
                CustomerCount { serving: 3, track: Track::Canary, conversations, failed, rescued };
            answer(&details(Some(vec![one]))).evidence_of(3)
        };
        let customers = |rescued| CustomerTally { asked: 6, failed: 2, rescued };
        assert_eq!(told(Some(1)).canary.customers, customers(1));
        assert_eq!(told(None).canary.customers, customers(2), "nobody knows, so each is blamed");
        assert_eq!(told(None).stable.customers, CustomerTally::default(), "none were told");
    }

    #[test]
    fn each_message_is_a_customer_for_a_gateway_that_counts_messages_only() {
        let evidence = answer(&details(None)).evidence_of(3);
        assert_eq!(evidence.canary.customers, CustomerTally { asked: 8, failed: 3, rescued: 3 });
        assert_eq!(evidence.stable.customers, CustomerTally { asked: 40, failed: 0, rescued: 0 });
    }
}
