//! How many turns run at once, and of whom.

use std::time::Duration;

use kanarie_gateway::envelope;

use crate::worker::agents::{HttpAgent, Next};
use crate::worker::world::{UID, World, eventually, http, route};
use crate::worker::{one_agent, replies};

/// A channel whose agent hangs, and a neighbour with an agent of its own.
async fn neighbours(turns: u32) -> (World, HttpAgent, HttpAgent) {
    let (hanging, well) = (HttpAgent::start("hanging").await, HttpAgent::start("well").await);
    let mut world = World::start(route(http(&hanging.url))).await;
    world.turns = turns;
    world.add_route("neighbour", route(http(&well.url)));
    (world, hanging, well)
}

async fn admit_neighbour(world: &World, customer: u8, sid: &str) {
    let message = world.message("whatsapp:+14010009999", sid, "Hoi");
    world.admit_to("neighbour", customer, sid, envelope::write(&message)).await;
}

#[tokio::test]
async fn a_channel_whose_agent_hangs_leaves_half_of_the_places_to_its_neighbour() {
    let (world, hanging, well) = neighbours(8).await;
    (0..20).for_each(|_| hanging.next(Next::Hang));
    // All in one shard, so the neighbour's message waits behind them.
    for number in 0..6 {
        world.admit(32 * number + 1, &format!("SM{number}"), "Hallo").await;
    }
    let _running = world.work().await;
    eventually("the questions", || hanging.asked().len() == 4).await;
    admit_neighbour(&world, 225, "SM9").await;
    assert_eq!(replies(&world, 1).await, ["well: Hoi"]);
    assert_eq!((hanging.asked().len(), well.asked().len()), (4, 1));
}

#[tokio::test]
async fn a_neighbour_with_many_messages_is_not_held_up_by_a_full_channel() {
    let (world, hanging, well) = neighbours(16).await;
    (0..20).for_each(|_| hanging.next(Next::Hang));
    (0..4).for_each(|_| well.next(Next::Hang));
    world.admit(1, "SM0", "Hallo").await;
    // The hanging channel takes its share in other shards, and waits in this one.
    for customer in 1..=7 {
        world.admit(customer + 1, &format!("SM{customer}"), "Hallo").await;
    }
    let _running = world.work().await;
    eventually("the questions", || hanging.asked().len() == 8).await;
    for (uid, customers) in [(UID, [33, 65, 97]), ("neighbour", [129, 161, 193])] {
        for customer in customers {
            let sid = format!("SM{customer}");
            let message = envelope::write(&world.message("whatsapp:+14010009999", &sid, "Hoi"));
            world.admit_elsewhere(uid, customer, &sid, message).await;
        }
    }
    admit_neighbour(&world, 225, "SM225").await;
    eventually("every question of the neighbour", || well.asked().len() == 4).await;
    assert_eq!(hanging.asked().len(), 8);
}

#[tokio::test]
async fn what_found_no_place_is_answered_when_there_is_one() {
    let (mut world, agent) = one_agent().await;
    world.turns = 2;
    (0..6).for_each(|_| agent.next(Next::Delay(Duration::from_millis(400), "ja".to_owned())));
    for customer in 0..6 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    let _running = world.work().await;
    world.pass(60).await;
    assert_eq!(replies(&world, 6).await.len(), 6);
    assert_eq!((agent.asked().len(), agent.most_at_once()), (6, 1));
}

#[tokio::test]
async fn a_turn_that_waits_for_a_report_gives_its_place_to_another() {
    let (mut world, agent) = one_agent().await;
    world.turns = 1;
    let _running = world.work().await;
    agent.next(Next::Say(format!("{}\n\n{}", "a".repeat(1_500), "b".repeat(1_500))));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first segment", || world.twilio.posts() == 1).await;
    world.admit(2, "SM2", "Hoi").await;
    assert_eq!(replies(&world, 2).await, ["a".repeat(1_500), "stable: Hoi".to_owned()]);
    world.pass(2).await;
    assert_eq!(replies(&world, 3).await[2], "b".repeat(1_500));
}
