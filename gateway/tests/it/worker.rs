//! The second line end to end: a store in memory, agents and Twilio in this process, time that the
//! tests move themselves.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod agents;
mod asking;
mod crashes;
mod levels;
mod patience;
mod places;
mod rescues;
mod runs;
mod segments;
mod sending;
mod trips;
mod twilio;
mod webhook;
pub(crate) mod world;

use std::time::Duration;

use kanarie_crds::route::{ChannelRef, Route};
use kanarie_gateway::envelope::{self, InboundMessage};
use kanarie_gateway::outbound::agent::address::Allow;
use kanarie_queue::claim::{Claim, Claimed, Release};
use kanarie_queue::dead::Bury;
use kanarie_queue::evidence::EndAttempt;
use kanarie_queue::outcome::Evidence;
use kanarie_words::ids::ConversationId;

use self::agents::{HttpAgent, Next};
use self::world::{World, breathe, canary_route, eventually, http, revision, route, within};

async fn one_agent() -> (World, HttpAgent) {
    let agent = HttpAgent::start("stable").await;
    (World::start(route(http(&agent.url))).await, agent)
}

async fn with_canary() -> (World, HttpAgent, HttpAgent) {
    let (stable, canary) = (HttpAgent::start("stable").await, HttpAgent::start("canary").await);
    let world = World::start(canary_route(http(&stable.url), http(&canary.url))).await;
    (world, stable, canary)
}

/// Waits for so many replies, first without time: on a busy machine a step may come a second late.
async fn replies(world: &World, count: usize) -> Vec<String> {
    for _ in 0..5 {
        for _ in 0..1_000 {
            if world.twilio.created().len() >= count {
                breathe().await;
                return world.twilio.bodies();
            }
            breathe().await;
        }
        world.pass(1).await;
    }
    panic!("there are {} replies", world.twilio.created().len());
}

#[tokio::test]
async fn a_message_is_answered_by_the_agent_through_twilio() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    let asked = &agent.asked()[0];
    assert_eq!(
        (asked.idempotency_key.as_str(), asked.body["messageSid"].as_str()),
        ("SM1", Some("SM1"))
    );
    assert_eq!(asked.authorization.as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn a_reply_names_sender_customer_validity_and_callback() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    let created = &world.twilio.created()[0];
    assert_eq!(created.field("From"), world::SENDER);
    assert_eq!(created.field("To"), "whatsapp:+14010000001");
    assert_eq!(created.field("ValidityPeriod"), "600");
    assert_eq!(created.authorization, "Basic QUMxOnRva2Vu", "the account and its token");
    let callback = created.field("StatusCallback");
    let conversation = "01".repeat(16);
    let start =
        format!("https://wa.example.com/webhooks/twilio/status?kanarie-reply={conversation}.");
    assert!(callback.starts_with(&start) && callback.ends_with(".0"), "{callback}");
}

#[tokio::test]
async fn a_callback_keeps_path_and_query_of_the_webhook() {
    let (world, agent) = one_agent().await;
    let mut prefixed = route(http(&agent.url));
    prefixed.webhook_urls =
        vec!["https://wa.example.com/eu/webhooks/twilio/whatsapp?tenant=1#rc=2".to_owned()];
    world.set_route(prefixed);
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    let created = &world.twilio.created()[0];
    let start = "https://wa.example.com/eu/webhooks/twilio/status?tenant=1&kanarie-reply=";
    assert!(created.field("StatusCallback").starts_with(start));
}

#[tokio::test]
async fn messages_of_one_conversation_are_answered_in_order_and_one_at_a_time() {
    let (world, agent) = one_agent().await;
    for number in 0..5 {
        world.admit(1, &format!("SM{number}"), &number.to_string()).await;
    }
    let _running = world.work().await;
    world.pass(1).await;
    let expected: Vec<_> = (0..5).map(|number| format!("stable: {number}")).collect();
    assert_eq!(replies(&world, 5).await, expected);
    assert_eq!(agent.most_at_once(), 1);
}

#[tokio::test]
async fn two_gateways_on_one_store_answer_every_message_once() {
    let (world, _agent) = one_agent().await;
    let (_one, _two) = (world.work().await, world.work().await);
    for customer in 0..20 {
        world.admit(customer, &format!("SM{customer}"), &customer.to_string()).await;
    }
    world.pass(2).await;
    let mut bodies = replies(&world, 20).await;
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), world.twilio.posts()), (20, 20));
}

#[tokio::test]
async fn a_long_answer_is_sent_in_segments_in_order() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    agent.next(Next::Say(format!("{}\n\n{}", "a".repeat(1_500), "b".repeat(1_500))));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first segment", || world.twilio.posts() == 1).await;
    world.pass(5).await;
    assert_eq!(replies(&world, 2).await, ["a".repeat(1_500), "b".repeat(1_500)]);
}

#[tokio::test]
async fn stable_answers_when_the_canary_fails_and_only_the_canary_is_judged() {
    let (world, stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Status(500));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!((canary.asked().len(), stable.asked().len()), (1, 1));
    assert_eq!(world.counted(1).await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn a_canary_that_answers_is_counted_as_a_success() {
    let (world, stable, _canary) = with_canary().await;
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["canary: Hallo"]);
    assert_eq!(stable.asked().len(), 0);
    assert_eq!(world.counted(1).await, [("7:canary:success".to_owned(), 1)]);
}

#[tokio::test]
async fn nothing_is_counted_without_a_canary() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    assert_eq!(world.counts().await, []);
}

#[tokio::test]
async fn without_the_rescue_the_canary_is_asked_again() {
    let (world, stable, canary) = with_canary().await;
    let both = canary_route(http(&stable.url), http(&canary.url));
    world.set_route(kanarie_crds::route::Route { retry_on_stable: false, ..both });
    let _running = world.work().await;
    canary.next(Next::Status(500));
    world.admit(1, "SM1", "Hallo").await;
    world.counted(1).await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await, ["canary: Hallo"]);
    assert_eq!(stable.asked().len(), 0);
    let counted = [("7:canary:http".to_owned(), 1)];
    assert_eq!(world.counts().await, counted, "a later try counts for neither");
}

#[tokio::test]
async fn a_later_try_does_not_ask_the_canary_that_failed() {
    let (world, stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Status(500));
    stable.next(Next::Status(500));
    world.admit(1, "SM1", "Hallo").await;
    world.counted(1).await;
    world.pass(3).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!((canary.asked().len(), stable.asked().len()), (1, 2));
    assert_eq!(world.counts().await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn a_takeover_after_a_failed_canary_goes_straight_to_stable() {
    let (world, _stable, canary) = with_canary().await;
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let evidence = Evidence::parse("7:canary:http");
    let failed_on = Some("two".parse().unwrap());
    world.store.run(EndAttempt { lease, evidence, failed_on }).await.unwrap();
    world.skip(16_000);
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(canary.asked().len(), 0);
    assert_eq!(world.counts().await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn a_deliberate_silence_sends_nothing_and_is_a_success() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Status(204));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(world.counted(1).await, [("7:canary:success".to_owned(), 1)]);
    world.pass(2).await;
    assert_eq!(world.twilio.posts(), 0);
}

#[tokio::test]
async fn a_blank_answer_is_a_failure() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Say("  ".to_owned()));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.counted(1).await, [("7:canary:no-answer".to_owned(), 1)]);
}

#[tokio::test]
async fn an_answer_over_the_latency_limit_is_sent_and_counted_as_slow() {
    let (world, stable, canary) = with_canary().await;
    let both = canary_route(http(&stable.url), http(&canary.url));
    world.set_route(kanarie_crds::route::Route { max_latency_ms: Some(0), ..both });
    let _running = world.work().await;
    // Time stands still by itself, so even a limit of nothing needs an agent that takes some.
    canary.next(Next::Delay(Duration::from_millis(500), "laat".to_owned()));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || canary.asked().len() == 1).await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await, ["laat"]);
    assert_eq!(world.counted(1).await, [("7:canary:slow".to_owned(), 1)]);
}

#[tokio::test]
async fn a_hung_agent_is_left_at_its_deadline() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Hang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || canary.asked().len() == 1).await;
    world.pass(4).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.counted(1).await, [("7:canary:timeout".to_owned(), 1)]);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (world, stable, canary) = with_canary().await;
    let elsewhere = HttpAgent::start("elsewhere").await;
    let _running = world.work().await;
    canary.next(Next::Redirect(elsewhere.url.clone()));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!((elsewhere.asked().len(), stable.asked().len()), (0, 1));
    assert_eq!(world.counted(1).await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn an_agent_on_the_loopback_is_refused_unless_it_is_allowed() {
    let (world, stable, canary) = with_canary().await;
    let by_name = stable.url.replace("127.0.0.1", "localhost");
    world.set_route(canary_route(http(&by_name), http(&canary.url)));
    let _running = world.work_with(Allow::default()).await;
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(world.counted(1).await, [("7:canary:unavailable".to_owned(), 1)]);
    world.pass(2).await;
    assert_eq!((canary.asked().len(), stable.asked().len()), (0, 0));
}

/// Five customers open the agent's breaker, and a sixth waits behind it.
async fn one_waits(world: &World, agent: &HttpAgent) {
    (0..5).for_each(|_| agent.next(Next::Status(503)));
    for customer in 1..=5 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    eventually("five failures", || agent.asked().len() == 5).await;
    world.admit(6, "SM6", "Hoi").await;
    for _ in 0..20 {
        breathe().await;
    }
    assert_eq!(agent.asked().len(), 5, "an open breaker asks nobody");
}

#[tokio::test]
async fn a_message_waits_uncounted_while_the_breaker_of_stable_is_open() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    one_waits(&world, &agent).await;
    world.pass(15).await;
    assert_eq!(replies(&world, 6).await.len(), 6);
}

#[tokio::test]
async fn what_a_channel_left_behind_is_answered_by_the_one_of_its_namespace_that_has_its_sender() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    for (customer, namespace) in [(1, Some("web")), (2, Some("other")), (3, None)] {
        let sid = format!("SM{customer}");
        let message = world.message(&format!("whatsapp:+1401000{customer:04}"), &sid, "Hallo");
        let message = InboundMessage { namespace: namespace.map(str::to_owned), ..message };
        world.admit_to("former", customer, &sid, envelope::write(&message)).await;
    }
    assert_eq!(replies(&world, 1).await.len(), 1);
    world.pass(40).await;
    assert_eq!((world.twilio.created().len(), agent.asked().len()), (1, 1));
}

#[tokio::test]
async fn what_waits_for_the_agent_of_a_channel_goes_on_when_another_one_has_its_sender() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    one_waits(&world, &agent).await;
    let fresh = HttpAgent::start("fresh").await;
    let route = route(http(&fresh.url));
    let channel = ChannelRef { uid: "renamed".parse().unwrap(), ..route.channel };
    let stable = revision("new", http(&fresh.url));
    world.set_route(Route { channel, stable, ..route });
    within(&world, 5, "all of them", || fresh.asked().len() == 6).await;
}

#[tokio::test]
async fn a_message_without_a_channel_waits_for_a_day_and_is_buried() {
    let (world, _agent) = one_agent().await;
    world.routes.replace(Vec::new(), tokio::time::Instant::now());
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    world.pass(40).await;
    assert_eq!(world.dead().await, None);
    world.skip(24 * 60 * 60 * 1_000);
    world.pass(9).await;
    assert_eq!(world.buried().await, "no-channel");
}

#[tokio::test]
async fn what_has_outlived_its_time_is_dropped_within_two_minutes() {
    let (world, _agent) = one_agent().await;
    // The last shard is the last one that is swept.
    world.admit(31, "SM1", "Hallo").await;
    let lease = world.claim(31).await;
    world.store.run(Bury { lease, class: "http".to_owned() }).await.unwrap();
    world.skip(14 * 24 * 60 * 60 * 1_000);
    let _running = world.work().await;
    world.pass(110).await;
    assert_eq!(world.dead().await, None);
}

#[tokio::test]
async fn nothing_is_claimed_while_the_store_has_not_heard_this_replica() {
    let (world, agent) = one_agent().await;
    let _running = world.work_unheard();
    world.admit(1, "SM1", "Hallo").await;
    world.pass(2).await;
    assert_eq!(agent.asked().len(), 0);
    let _heard = world.work().await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await.len(), 1);
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_sends_nothing() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    agent.next(Next::Delay(Duration::from_millis(500), "te laat".to_owned()));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || agent.asked().len() == 1).await;
    // Its claimer looks for more before its clock stands.
    world.pass(0).await;
    // The store's clock alone runs on, as it does while a process is frozen.
    world.skip(16_000);
    let lease = world.claim(1).await;
    world.pass(2).await;
    assert_eq!(world.twilio.posts(), 0);
    world.store.run(Release { lease }).await.unwrap();
    world.pass(9).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}

#[tokio::test]
async fn a_stopped_worker_claims_no_more_and_gives_back_what_it_cannot_finish() {
    let (world, agent) = one_agent().await;
    let mut patient = route(http(&agent.url));
    patient.stable = revision("one", http(&agent.url));
    patient.stable.timeout_ms = 60_000;
    world.set_route(patient);
    let running = world.work().await;
    agent.next(Next::Hang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || agent.asked().len() == 1).await;
    running.stop();
    for _ in 0..10 {
        breathe().await;
    }
    world.admit(2, "SM2", "Hoi").await;
    world.pass(11).await;
    eventually("the end of the worker", || running.worker.is_finished()).await;
    assert_eq!(agent.asked().len(), 1);
    let shard = ConversationId::from_bytes([1; 16]).shard();
    let claim = Claim { shard, nonce: "next".parse().unwrap(), lease_ms: 15_000 };
    let claimed = world.store.run(claim).await.unwrap();
    let Claimed::Head(claim) = claimed else { panic!("the head was not given back") };
    assert_eq!((claim.tries, claim.crashes), (1, 0));
}

#[tokio::test]
async fn a_worker_that_is_told_twice_gives_back_at_once_what_it_works_on() {
    let (world, agent) = one_agent().await;
    let running = world.work().await;
    agent.next(Next::Hang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || agent.asked().len() == 1).await;
    running.stop();
    running.hurry();
    eventually("the end of the worker", || running.worker.is_finished()).await;
    let shard = ConversationId::from_bytes([1; 16]).shard();
    let claim = Claim { shard, nonce: "next".parse().unwrap(), lease_ms: 15_000 };
    let claimed = world.store.run(claim).await.unwrap();
    let Claimed::Head(claim) = claimed else { panic!("the head was not given back") };
    assert_eq!((claim.tries, claim.crashes), (1, 0));
}
