//! Which of stable's answers count as a rescue of the canary's customer, and which do not.

use futures::FutureExt as _;
use kanarie_crds::route::Route;
use kanarie_gateway::envelope;
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::outcome::Evidence;

use crate::worker::agents::{HttpAgent, Next};
use crate::worker::world::{UID, World, breathe, canary_route, http, within};
use crate::worker::{replies, with_canary};

/// A canary with everybody, which fails whoever asks it.
async fn with_dead_canary() -> (World, HttpAgent, HttpAgent) {
    let (world, stable, canary) = with_canary().await;
    canary.always(Some(Next::Status(500)));
    (world, stable, canary)
}

/// The channel's customers, as `serving:track=conversations/failed/rescued`.
async fn customers(world: &World) -> Vec<String> {
    let read = world.store.run(ReadCounts { channels: vec![UID.parse().unwrap()] }).await.unwrap();
    let customers = read.counts.into_iter().flat_map(|counts| counts.customers);
    let text = customers.map(|of| {
        let (track, failed, rescued) = (of.track.as_str(), of.failed, of.rescued);
        format!("{}:{track}={}/{failed}/{rescued}", of.serving, of.conversations)
    });
    text.collect()
}

/// Waits until the customers are these.
async fn are(world: &World, expected: &[&str]) {
    for _ in 0..5_000 {
        if customers(world).await == expected {
            return;
        }
        breathe().await;
    }
    assert_eq!(customers(world).await, expected);
}

/// A worker that died after the canary had failed on the customer's message.
async fn dies_after_the_failure(world: &World) {
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let evidence = Evidence::parse("7:canary:http");
    let failed_on = Some("two".parse().unwrap());
    world.store.run(EndAttempt { lease, evidence, failed_on }).await.unwrap();
    world.skip(16_000);
}

#[tokio::test]
async fn a_customer_whose_every_message_is_rescued_counts_once() {
    let (world, _stable, _canary) = with_dead_canary().await;
    let _running = world.work().await;
    for number in 1..=3 {
        world.admit(1, &format!("SM{number}"), "Hallo").await;
    }
    assert_eq!(replies(&world, 3).await, ["stable: Hallo"; 3]);
    are(&world, &["7:canary=1/1/1"]).await;
}

#[tokio::test]
async fn a_failure_and_a_rescue_are_told_at_once_and_a_success_is_not() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    let channels = [UID.parse().unwrap()];
    let mut listener = world.doorbell.news().listen().unwrap();
    world.admit(1, "SM1", "Hallo").await;
    are(&world, &["7:canary=1/0/0"]).await;
    assert_eq!(replies(&world, 1).await, ["canary: Hallo"]);
    assert!(listener.of(&channels).now_or_never().is_none(), "a success may wait");
    canary.always(Some(Next::Status(500)));
    world.admit(2, "SM2", "Hoi").await;
    are(&world, &["7:canary=2/1/1"]).await;
    let mut told = 0;
    for _ in 0..5_000 {
        if told == 2 {
            break;
        }
        breathe().await;
        told += usize::from(listener.of(&channels).now_or_never().is_some());
    }
    assert_eq!(told, 2, "the failure, and the rescue");
}

#[tokio::test]
async fn what_a_former_channel_left_behind_is_evidence_of_the_channel_whose_agents_are_asked() {
    let (world, _stable, _canary) = with_dead_canary().await;
    let _running = world.work().await;
    let mut listener = world.doorbell.news().listen().unwrap();
    let message = world.message("whatsapp:+14010000001", "SM1", "Hallo");
    world.admit_to("former", 1, "SM1", envelope::write(&message)).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    are(&world, &["7:canary=1/1/1"]).await;
    assert!(listener.of(&[UID.parse().unwrap()]).now_or_never().is_some(), "nobody was told");
}

#[tokio::test]
async fn a_deliberate_silence_of_stable_rescues() {
    let (world, stable, _canary) = with_dead_canary().await;
    let _running = world.work().await;
    stable.next(Next::Status(204));
    world.admit(1, "SM1", "Hallo").await;
    are(&world, &["7:canary=1/1/1"]).await;
    assert_eq!(world.twilio.posts(), 0);
}

#[tokio::test]
async fn a_rescue_that_fails_counts_nobody_until_a_later_one_succeeds() {
    let (world, stable, canary) = with_dead_canary().await;
    let mut impatient = canary_route(http(&stable.url), http(&canary.url));
    impatient.limits.patience_ms = 10_000;
    impatient.stable.failure_text = "Sorry".to_owned();
    world.set_route(impatient);
    let _running = world.work().await;
    stable.always(Some(Next::Status(400)));
    world.admit(1, "SM1", "Hallo").await;
    within(&world, 30, "the apology", || world.twilio.posts() == 1).await;
    assert_eq!(customers(&world).await, ["7:canary=1/1/0"], "an apology rescues nobody");
    stable.always(None);
    world.admit(1, "SM2", "Bent u daar?").await;
    within(&world, 30, "the answer", || world.twilio.created().len() == 2).await;
    assert_eq!(world.twilio.bodies(), ["Sorry", "stable: Bent u daar?"]);
    are(&world, &["7:canary=1/1/1"]).await;
}

#[tokio::test]
async fn a_later_try_of_stable_says_nothing_of_the_time_at_which_the_canary_failed() {
    let (world, stable, _canary) = with_dead_canary().await;
    let _running = world.work().await;
    stable.next(Next::Status(400));
    world.admit(1, "SM1", "Hallo").await;
    are(&world, &["7:canary=1/1/0"]).await;
    world.pass(3).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(customers(&world).await, ["7:canary=1/1/0"]);
}

#[tokio::test]
async fn what_waited_for_the_breaker_of_stable_blames_nobody() {
    let (world, stable, _canary) = with_dead_canary().await;
    let _running = world.work().await;
    stable.always(Some(Next::Status(503)));
    for customer in 1..=8 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    are(&world, &["7:canary=8/8/0"]).await;
    stable.always(None);
    within(&world, 90, "every reply", || world.twilio.created().len() == 8).await;
    assert_eq!(customers(&world).await, ["7:canary=8/8/0"], "an outage of both");
}

#[tokio::test]
async fn a_takeover_after_a_failed_canary_blames_nobody() {
    let (world, _stable, canary) = with_canary().await;
    dies_after_the_failure(&world).await;
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(canary.asked().len(), 0);
    assert_eq!(customers(&world).await, ["7:canary=1/1/0"]);
}

#[tokio::test]
async fn without_the_rescue_nobody_is_rescued() {
    let (world, stable, canary) = with_canary().await;
    let both = canary_route(http(&stable.url), http(&canary.url));
    world.set_route(Route { retry_on_stable: false, ..both });
    let _running = world.work().await;
    canary.next(Next::Status(500));
    world.admit(1, "SM1", "Hallo").await;
    are(&world, &["7:canary=1/1/0"]).await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await, ["canary: Hallo"]);
    assert_eq!(customers(&world).await, ["7:canary=1/1/0"]);
}
