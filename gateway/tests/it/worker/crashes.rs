//! Heads on which workers died, and messages that this version cannot read.

use kanarie_gateway::envelope;
use kanarie_gateway::outbound::lease::holder;
use kanarie_queue::claim::{Claim, Claimed, Isolate};
use kanarie_queue::intent::{Intent, Memo};
use kanarie_queue::send::CommitReply;
use kanarie_words::ids::{ConversationId, Nonce};

use crate::worker::agents::Next;
use crate::worker::world::{UID, World, eventually};
use crate::worker::{one_agent, replies};

/// So many workers die on a customer's head.
async fn workers_die(world: &World, customer: u8, times: u32) {
    for _ in 0..times {
        world.claim(customer).await;
        world.skip(16_000);
    }
}

/// A worker dies that ran no other suspect.
async fn a_worker_dies_alone(world: &World, customer: u8) {
    let lease = world.claim(customer).await;
    world.store.run(Isolate { lease }).await.unwrap();
    world.skip(16_000);
}

#[tokio::test]
async fn a_message_that_was_in_the_way_of_three_dying_workers_is_answered() {
    let (world, _agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    workers_die(&world, 1, 3).await;
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.dead().await, None);
}

#[tokio::test]
async fn a_message_on_which_a_worker_died_alone_is_buried() {
    let (world, agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    workers_die(&world, 1, 2).await;
    a_worker_dies_alone(&world, 1).await;
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(world.buried().await, "crashed");
    assert_eq!(agent.asked().len(), 0);
}

#[tokio::test]
async fn a_reply_on_which_a_worker_died_alone_is_sent() {
    let (world, agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let body = r#"{"segments":["Dag"],"validitySeconds":600}"#.to_owned();
    let intent = Intent::fresh("reply".parse().unwrap(), 1, body);
    let commit = CommitReply { lease, intent, outcome: None, memo: Memo::default(), mark: None };
    world.store.run(commit).await.unwrap();
    world.skip(16_000);
    workers_die(&world, 1, 1).await;
    a_worker_dies_alone(&world, 1).await;
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["Dag"]);
    assert_eq!(agent.asked().len(), 0);
}

#[tokio::test]
async fn of_two_suspects_one_is_worked_on_at_a_time() {
    let (world, agent) = one_agent().await;
    for customer in [1, 2] {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
        workers_die(&world, customer, 2).await;
    }
    world.admit(3, "SM3", "Hoi").await;
    (0..2).for_each(|_| agent.next(Next::Hang));
    let _running = world.work().await;
    world.pass(1).await;
    eventually("a suspect and the other one", || agent.asked().len() == 2).await;
    world.pass(1).await;
    assert_eq!(agent.asked().len(), 2, "the second suspect waits");
    world.pass(10).await;
    assert_eq!(replies(&world, 3).await.len(), 3);
}

#[tokio::test]
async fn a_message_of_a_newer_gateway_is_left_for_it_however_old() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    let written = envelope::write(&world.message("whatsapp:+14010000001", "SM1", "Hallo"));
    let schema = format!("\"schema\":{}", envelope::SCHEMA);
    let newer = written.replace(&schema, "\"schema\":99");
    assert_ne!(newer, written);
    world.admit_to(UID, 1, "SM1", newer).await;
    let kind = written
        .replace("\"text\"}", "\"a-later-kind\"}")
        .replace("\"kind\":\"text\"", "\"kind\":\"a-later-kind\"");
    assert_ne!(kind, written);
    world.admit_to(UID, 2, "SM2", kind).await;
    world.pass(2).await;
    world.skip(3 * 24 * 60 * 60 * 1_000);
    world.pass(70).await;
    assert_eq!((agent.asked().len(), world.dead().await), (0, None));
}

#[tokio::test]
async fn a_message_that_no_version_wrote_is_buried() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    world.admit_to(UID, 1, "SM1", "no message".to_owned()).await;
    assert_eq!(world.buried().await, "unreadable");
    assert_eq!(agent.asked().len(), 0);
}

/// A head that another gateway left with a reply of this body.
async fn with_reply(world: &World, body: &str) {
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let intent = Intent::fresh("reply".parse().unwrap(), 1, body.to_owned());
    let commit = CommitReply { lease, intent, outcome: None, memo: Memo::default(), mark: None };
    world.store.run(commit).await.unwrap();
    world.skip(16_000);
}

#[tokio::test]
async fn a_reply_of_a_newer_gateway_is_left_for_it() {
    let (world, _agent) = one_agent().await;
    with_reply(&world, r#"{"schema":99,"parts":["Dag"]}"#).await;
    let _running = world.work().await;
    world.pass(70).await;
    assert_eq!((world.twilio.posts(), world.dead().await), (0, None));
}

#[tokio::test]
async fn a_reply_that_is_none_is_buried_and_neither_sent_nor_made_again() {
    let (world, agent) = one_agent().await;
    // So it comes from a store that cannot read it.
    with_reply(&world, "").await;
    let _running = world.work().await;
    assert_eq!(world.buried().await, "unreadable");
    assert_eq!((agent.asked().len(), world.twilio.posts()), (0, 0));
}

#[tokio::test]
async fn what_a_replica_held_that_fell_silent_goes_on_within_seconds() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.pass(6).await;
    world.meet_another_replica().await;
    let message = envelope::write(&world.message("whatsapp:+14010000001", "SM1", "Hallo"));
    world.admit_elsewhere(UID, 1, "SM1", message).await;
    let nonce = Nonce::held_by(&holder(&"another".parse().unwrap()), [1; 16]);
    let shard = ConversationId::from_bytes([1; 16]).shard();
    let claimed = world.store.run(Claim { shard, nonce, lease_ms: 15_000 }).await.unwrap();
    assert!(matches!(claimed, Claimed::Head(_)));
    world.pass(4).await;
    assert_eq!(world.twilio.posts(), 0, "it may still live");
    world.pass(3).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}
