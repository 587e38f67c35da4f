//! When a segment goes: after the one before it, at the sender's pace, and to its end.

use std::time::Duration;

use kanarie_crds::route::{RouteLimits, route_hash, route_name};
use kanarie_gateway::envelope;
use kanarie_queue::claim::{Claim, Claimed, Head};
use kanarie_queue::pace::Reserved;
use kanarie_queue::reserve::Reserve;
use kanarie_words::ids::{ConversationId, Nonce};

use crate::worker::agents::Next;
use crate::worker::twilio::Next as Send;
use crate::worker::world::{Running, World, breathe, eventually, http, route};
use crate::worker::{one_agent, replies};

/// An answer of two segments, of which the first one is posted: its turn waits for the report, or
/// there would be no place for anybody else.
async fn first_of_two_segments() -> (World, Running) {
    let (mut world, agent) = one_agent().await;
    world.turns = 1;
    let running = world.work().await;
    agent.next(Next::Say(format!("{}\n\n{}", "a".repeat(1_500), "b".repeat(1_500))));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first segment", || world.twilio.posts() == 1).await;
    only_another_is_answered(&world, 2).await;
    (world, running)
}

/// Another customer is asked about, answered and posted to, and nobody else meanwhile.
async fn only_another_is_answered(world: &World, customer: u8) {
    let before = world.twilio.created().len();
    world.admit(customer, &format!("SM{customer}"), "Hoi").await;
    assert_eq!(replies(world, before + 1).await[before..], ["stable: Hoi"]);
}

#[tokio::test]
async fn a_segment_goes_as_soon_as_the_one_before_it_is_reported_as_sent() {
    let (world, _running) = first_of_two_segments().await;
    let first = world.twilio.created()[0].clone();
    world.report(&first, "queued").await;
    only_another_is_answered(&world, 3).await;
    world.report(&first, "sent").await;
    let (a, b, hoi) = ("a".repeat(1_500), "b".repeat(1_500), "stable: Hoi");
    assert_eq!(replies(&world, 4).await, [a.as_str(), hoi, hoi, b.as_str()]);
}

#[tokio::test]
async fn without_a_report_a_segment_goes_after_a_second() {
    let (world, _running) = first_of_two_segments().await;
    world.pass(2).await;
    let (a, b) = ("a".repeat(1_500), "b".repeat(1_500));
    assert_eq!(replies(&world, 3).await, [a.as_str(), "stable: Hoi", b.as_str()]);
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
    let (mut world, agent) = one_agent().await;
    world.turns = 1;
    let mut slow = route(http(&agent.url));
    slow.limits = RouteLimits { outbound_per_second: 1, ..slow.limits };
    let sender = route_hash(route_name(&slow.account_sid, &slow.sender).as_bytes());
    world.set_route(slow);
    world.add_route("neighbour", route(http(&agent.url)));
    // Alone it would keep the pace by itself.
    world.meet_another_replica().await;
    let _running = world.work().await;
    world.twilio.next(Send::Refuse(429, 20_429));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    // The turn waits to repeat its POST, or there would be no place for the neighbour.
    let message = world.message("whatsapp:+14010000002", "SM2", "Hoi");
    world.admit_to("neighbour", 2, "SM2", envelope::write(&message)).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hoi"]);
    // The store's clock stands still, so no place of the pace comes back.
    tokio::time::advance(Duration::from_secs(2)).await;
    replies(&world, 2).await;
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
    let sent = given_back(&world).await.intent.unwrap().sent;
    assert_eq!((sent.len(), running.worker.is_finished()), (0, false), "the POST goes on");
    world.pass(4).await;
    eventually("the end of the worker", || running.worker.is_finished()).await;
    assert_eq!(given_back(&world).await.intent.unwrap().sent.len(), 1);
}

/// The head of the first customer, as soon as nobody else has it; asked again, the same one.
async fn given_back(world: &World) -> Head {
    let shard = ConversationId::from_bytes([1; 16]).shard();
    let claim = Claim { shard, nonce: Nonce::from_bytes([9; 16]), lease_ms: 15_000 };
    for _ in 0..5_000 {
        if let Claimed::Head(head) = world.store.run(claim.clone()).await.unwrap() {
            return *head;
        }
        breathe().await;
    }
    panic!("the head was not given back");
}
