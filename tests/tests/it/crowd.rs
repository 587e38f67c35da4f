//! Customers who write while something happens to their channel.
//!
//! Takes a world and a story; gives the channel as the story ends. What they wrote must have been
//! answered by then, each message once and in order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kanarie_fakes::customer::customer;
use kanarie_tests::world::World;
use serde_json::Value;
use tokio::time::sleep;

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

/// The same, of another crowd. What others are sent meanwhile is not to be.
pub(crate) async fn under_traffic_of(
    crowd: Crowd,
    world: &World,
    until: impl AsyncFnOnce(&World) -> Value,
) -> Value {
    let before = world.twilio.sent().len();
    let stop = AtomicBool::new(false);
    let accepted = AtomicUsize::new(0);
    let story = async {
        let channel = until(world).await;
        stop.store(true, Ordering::Relaxed);
        channel
    };
    let (channel, ()) = tokio::join!(story, talk(crowd, world, &stop, &accepted));
    let all = before + accepted.into_inner();
    let answered = world.twilio.wait_for_sent(all, Duration::from_secs(60)).await;
    assert_eq!(answered, all, "every accepted message is answered, and once");
    assert_eq!(world.twilio.sent_twice(), []);
    assert_eq!(world.twilio.out_of_order(), []);
    channel
}

/// Customers who write until told to stop; counts how many messages were accepted.
async fn talk(crowd: Crowd, world: &World, stop: &AtomicBool, accepted: &AtomicUsize) {
    let Crowd { customers, rest } = crowd;
    let customers = (1..=customers).map(|who| async move {
        // They do not all begin at once.
        sleep(rest * who / customers).await;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let text = format!("klant {who} vraag #{number}");
            if world.say(0, &customer(who), &text).await.is_ok_and(|a| a.status == 200) {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
            sleep(rest).await;
        }
    });
    futures::future::join_all(customers).await;
}
