//! How the turns stand, as `/metrics` reads it: places, ages, agents that are left alone.

use std::sync::Arc;
use std::time::Duration;

use kanarie_gateway::loads::{self, Bounds};
use kanarie_queue::send::Complete;
use tokio::sync::watch;

use crate::worker::agents::Next;
use crate::worker::one_agent;
use crate::worker::world::{UID, eventually, http, revision, route, within};

#[tokio::test]
async fn a_turn_is_seen_with_the_age_of_its_message_until_it_ends() {
    let (world, agent) = one_agent().await;
    let running = world.work().await;
    agent.next(Next::Hang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || agent.asked().len() == 1).await;
    world.pass(3).await;
    let levels = running.levels.read();
    assert_eq!(levels.turns, 1);
    let (channel, age) = &levels.ages[0];
    assert!(channel.as_str() == UID && *age >= Duration::from_secs(3), "{age:?}");
    within(&world, 120, "the reply", || world.twilio.created().len() == 1).await;
    eventually("its end", || running.levels.read().turns == 0).await;
}

#[tokio::test]
async fn what_waits_for_an_agent_that_is_left_alone_grows_older_until_it_is_back() {
    let (world, agent) = one_agent().await;
    let running = world.work().await;
    agent.always(Some(Next::Status(503)));
    for customer in 1..=6 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    let left_alone = || running.levels.read().left_alone.len() == 1;
    within(&world, 60, "an open breaker", left_alone).await;
    world.pass(20).await;
    let oldest = || running.levels.read().ages.into_iter().map(|(_, age)| age).max();
    assert!(oldest() >= Some(Duration::from_secs(20)), "{:?}", oldest());
    agent.always(None);
    within(&world, 60, "every reply", || world.twilio.created().len() == 6).await;
    eventually("nothing that waits", || {
        let levels = running.levels.read();
        levels.left_alone.is_empty() && levels.turns == 0
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_stable_no_more_is_not_said_to_be_left_alone() {
    let (world, agent) = one_agent().await;
    let running = world.work().await;
    agent.always(Some(Next::Status(503)));
    for customer in 1..=6 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    let left_alone = || running.levels.read().left_alone.len();
    within(&world, 60, "an open breaker", || left_alone() == 1).await;
    let mut next = route(http(&agent.url));
    next.stable = revision("two", http(&agent.url));
    world.set_route(next);
    assert_eq!(left_alone(), 0);
}

#[tokio::test]
async fn what_ended_at_another_replica_waits_no_more_after_half_a_minute() {
    let (world, _agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    let bounds = Bounds { messages: 9, bytes: 9_000, dead_letters: 2 };
    let (_stop, stopping) = watch::channel(false);
    let (store, routes) = (Arc::clone(&world.store), Arc::clone(&world.routes));
    tokio::spawn(loads::watch(store, bounds, world.full.clone(), routes, stopping));
    eventually("the first look", || world.full.loads().len() == 1).await;
    let lease = world.claim(1).await;
    world.store.run(Complete { lease, outcome: None }).await.unwrap();
    // A step of two seconds takes three of this clock, which goes by whole ones.
    within(&world, 50, "an empty queue", || world.full.loads().is_empty()).await;
}
