//! When a segment goes: after the one before it, at the sender's pace, and to its end.

use std::time::Duration;

use kanarie_crds::route::{RouteLimits, route_hash, route_name};
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::reserve::{Reserve, Reserved};
use kanarie_words::ids::{ConversationId, Nonce};

use crate::agents::Next;
use crate::twilio::Next as Send;
use crate::world::{World, breathe, eventually, http, route};
use crate::{one_agent, replies};

/// An answer of two segments, of which the first one is posted.
async fn first_of_two_segments() -> (World, crate::world::Running) {
    let (world, agent) = one_agent().await;
    let running = world.work().await;
    agent.next(Next::Say(format!("{}\n\n{}", "a".repeat(1_500), "b".repeat(1_500))));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first segment", || world.twilio.posts() == 1).await;
    breathe_a_while().await;
    assert_eq!(world.twilio.posts(), 1);
    (world, running)
}

async fn breathe_a_while() {
    for _ in 0..20 {
        breathe().await;
    }
}

#[tokio::test]
async fn a_segment_goes_as_soon_as_the_one_before_it_is_reported_as_sent() {
    let (world, _running) = first_of_two_segments().await;
    let first = world.twilio.created()[0].clone();
    world.report(&first, "queued").await;
    breathe_a_while().await;
    assert_eq!(world.twilio.posts(), 1);
    world.report(&first, "sent").await;
    assert_eq!(replies(&world, 2).await, ["a".repeat(1_500), "b".repeat(1_500)]);
}

#[tokio::test]
async fn without_a_report_a_segment_goes_after_a_second() {
    let (world, _running) = first_of_two_segments().await;
    world.pass(2).await;
    assert_eq!(replies(&world, 2).await, ["a".repeat(1_500), "b".repeat(1_500)]);
}

#[tokio::test]
async fn a_report_that_comes_before_a_lost_answer_settles_the_reply_at_once() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::AcceptAndHang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.created().len() == 1).await;
    world.report(&world.twilio.created()[0], "sent").await;
    world.admit(1, "SM2", "Nog eens").await;
    world.pass(6).await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (0, 2));
}

#[tokio::test]
async fn a_report_wakes_a_conversation_that_waits_to_learn_of_its_reply() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.created().len() == 1).await;
    world.admit(1, "SM2", "Nog eens").await;
    world.pass(3).await;
    assert_eq!(world.twilio.posts(), 1);
    world.report(&world.twilio.created()[0], "sent").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
    assert_eq!(world.twilio.lists(), 0);
}

#[tokio::test]
async fn a_post_that_is_repeated_books_its_own_place_in_the_pace() {
    let (world, agent) = one_agent().await;
    let mut slow = route(http(&agent.url));
    slow.limits = RouteLimits { outbound_per_second: 1, ..slow.limits };
    let sender = route_hash(route_name(&slow.account_sid, &slow.sender).as_bytes());
    world.set_route(slow);
    let _running = world.work().await;
    world.twilio.next(Send::Refuse(429, 20_429));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    breathe_a_while().await;
    // The store's clock stands still, so no place comes back.
    tokio::time::advance(Duration::from_secs(2)).await;
    replies(&world, 1).await;
    let mut left = 0;
    let reserve = Reserve { sender, per_second: 1, count: 1 };
    while world.store.run(reserve.clone()).await.unwrap() == Reserved::After(0) {
        left += 1;
    }
    assert_eq!(left, 6, "of a burst of eight, two POSTs took their places");
}

#[tokio::test]
async fn a_stop_waits_for_the_post_that_is_under_way() {
    let (world, _agent) = one_agent().await;
    let running = world.work().await;
    world.twilio.next(Send::AcceptAfter(Duration::from_secs(3)));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the POST", || world.twilio.posts() == 1).await;
    running.stop();
    running.hurry();
    breathe_a_while().await;
    assert!(!running.worker.is_finished(), "the POST goes on");
    world.pass(4).await;
    eventually("the end of the worker", || running.worker.is_finished()).await;
    let shard = ConversationId::from_bytes([1; 16]).shard();
    let claim = Claim { shard, nonce: Nonce::from_bytes([9; 16]), lease_ms: 15_000 };
    let claimed = world.store.run(claim).await.unwrap();
    let Claimed::Head(claim) = claimed else { panic!("the head was not given back") };
    assert_eq!(claim.intent.unwrap().sent.len(), 1);
}
