//! Customers who write while something happens to their channel.
//!
//! Takes a world and a story; gives the channel as the story ends. What they wrote must have been
//! answered by then, each message once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kanarie_fakes::customer::customer;
use kanarie_tests::world::World;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How many customers write, and how long each of them rests in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) customers: u32,
    pub(crate) rest: Duration,
}

/// Lets customers write while the channel changes, then gives the channel as it ended.
pub(crate) async fn under_traffic(
    world: &World,
    until: impl AsyncFnOnce(&World) -> Value,
) -> Value {
    // So many that no draw leaves the canary without any: 0.9 to the power of 150.
    let crowd = Crowd { customers: 150, rest: Duration::from_millis(1500) };
    under_traffic_of(crowd, world, until).await
}

/// The same, of another crowd.
pub(crate) async fn under_traffic_of(
    crowd: Crowd,
    world: &World,
    until: impl AsyncFnOnce(&World) -> Value,
) -> Value {
    let stop = AtomicBool::new(false);
    let story = async {
        let channel = until(world).await;
        stop.store(true, Ordering::Relaxed);
        channel
    };
    let (channel, accepted) = tokio::join!(story, talk(crowd, world, &stop));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut told = told(world);
    while Instant::now() < deadline && accepted.iter().any(|text| !told.contains_key(text)) {
        sleep(Duration::from_millis(500)).await;
        told = self::told(world);
    }
    let missing = accepted.iter().filter(|text| !told.contains_key(*text)).count();
    assert_eq!(missing, 0, "of {} accepted messages are not answered", accepted.len());
    let twice: Vec<_> = told.iter().filter(|(_, replies)| **replies > 1).collect();
    assert_eq!(twice, [], "each is answered once, by one of the agents");
    assert_eq!(world.twilio.sent_twice(), []);
    assert_eq!(world.twilio.out_of_order(), []);
    channel
}

/// How often each of the crowd's messages was answered. One whose webhook was not answered in time may
/// have been accepted all the same.
fn told(world: &World) -> BTreeMap<String, u32> {
    let mut told = BTreeMap::new();
    for sent in world.twilio.sent() {
        if let Some((_, text)) = sent.body.split_once(": klant ") {
            *told.entry(text.to_owned()).or_default() += 1;
        }
    }
    told
}

/// Customers who write until told to stop; gives what was accepted, as in `told`.
async fn talk(crowd: Crowd, world: &World, stop: &AtomicBool) -> BTreeSet<String> {
    let Crowd { customers, rest } = crowd;
    let customers = (1..=customers).map(|who| async move {
        // They do not all begin at once.
        sleep(rest * who / customers).await;
        let mut accepted = Vec::new();
        for number in 1_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let text = format!("{who} vraag #{number}");
            let said = world.say(0, &customer(who), &format!("klant {text}")).await;
            if said.is_ok_and(|answer| answer.status == 200) {
                accepted.push(text);
            }
            sleep(rest).await;
        }
        accepted
    });
    futures::future::join_all(customers).await.into_iter().flatten().collect()
}
