//! How long an agent is asked, who is left alone, and what counts meanwhile.

use kanarie_crds::route::Route;
use kanarie_words::weight::Weight;

use crate::worker::agents::{HttpAgent, Next};
use crate::worker::world::{World, breathe, canary_route, eventually, http, route, within};
use crate::worker::{one_agent, replies, with_canary};

/// A link-local address: no agent.
const REFUSED: &str = "http://169.254.169.254/";

/// Agents have all the time they need: what is slow here is the machine.
fn unhurried(mut route: Route) -> Route {
    let revisions = [Some(&mut route.stable), route.canary.as_mut()];
    revisions.into_iter().flatten().for_each(|revision| revision.timeout_ms = 120_000);
    route
}

/// A channel whose messages are asked about for so many seconds, then apologised for.
async fn patient_for(seconds: u64, apology: &str) -> (World, HttpAgent) {
    let (world, agent) = one_agent().await;
    let mut patient = unhurried(route(http(&agent.url)));
    patient.limits.patience_ms = seconds * 1_000;
    patient.stable.failure_text = apology.to_owned();
    world.set_route(patient);
    (world, agent)
}

/// A rollout that has only begun: stable answers everybody, and counts.
async fn on_stable() -> (World, HttpAgent) {
    let (world, stable, canary) = with_canary().await;
    let both = canary_route(http(&stable.url), http(&canary.url));
    world.set_route(unhurried(Route { weight: Weight::new(0).unwrap(), ..both }));
    (world, stable)
}

#[tokio::test]
async fn a_busy_agent_is_asked_again_when_it_says() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    agent.next(Next::Busy(429, 20));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || agent.asked().len() == 1).await;
    world.pass(19).await;
    assert_eq!(agent.asked().len(), 1);
    world.pass(3).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}

#[tokio::test]
async fn an_agent_that_is_busy_for_minutes_loses_no_message_and_no_order() {
    let (world, agent) = patient_for(900, "").await;
    let _running = world.work().await;
    agent.always(Some(Next::Busy(503, 20)));
    for number in 0..3 {
        world.admit(1, &format!("SM{number}"), &number.to_string()).await;
    }
    world.pass(300).await;
    agent.always(None);
    within(&world, 120, "every reply", || world.twilio.created().len() == 3).await;
    let answers: Vec<_> = (0..3).map(|number| format!("stable: {number}")).collect();
    assert_eq!(world.twilio.bodies(), answers);
    assert!(agent.asked().len() < 3 + 20, "{} questions", agent.asked().len());
    assert_eq!(world.dead().await, None);
}

#[tokio::test]
async fn a_message_is_asked_about_until_its_patience_ends_and_the_customer_is_told() {
    let (world, agent) = patient_for(40, "Sorry").await;
    let _running = world.work().await;
    agent.always(Some(Next::Status(400)));
    world.admit(1, "SM1", "Hallo").await;
    world.pass(36).await;
    assert_eq!((world.dead().await, world.twilio.posts()), (None, 0));
    within(&world, 60, "the apology", || world.twilio.posts() == 1).await;
    assert_eq!(replies(&world, 1).await, ["Sorry"]);
    assert_eq!(world.buried().await, "http");
    assert!((4..=8).contains(&agent.asked().len()), "after 1, 2, 4, 8, 16 seconds");
}

#[tokio::test]
async fn without_a_failure_text_nothing_is_sent_at_the_end_of_the_patience() {
    let (world, agent) = patient_for(10, "").await;
    let _running = world.work().await;
    agent.always(Some(Next::Say(String::new())));
    world.admit(1, "SM1", "Hallo").await;
    world.pass(30).await;
    assert_eq!(world.buried().await, "no-answer");
    assert_eq!(world.twilio.posts(), 0);
}

#[tokio::test]
async fn an_agent_that_is_away_for_five_minutes_answers_everybody_afterwards() {
    let (world, agent) = patient_for(900, "Sorry").await;
    let _running = world.work().await;
    agent.always(Some(Next::Status(500)));
    for customer in 1..=8 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    world.pass(300).await;
    agent.always(None);
    within(&world, 90, "every reply", || world.twilio.created().len() == 8).await;
    assert_eq!(world.twilio.bodies(), ["stable: Hallo"; 8]);
    assert_eq!(world.dead().await, None);
}

#[tokio::test]
async fn a_customer_is_told_once_an_outage() {
    let (world, agent) = patient_for(3, "Sorry").await;
    let _running = world.work().await;
    agent.always(Some(Next::Say(String::new())));
    world.admit(1, "SM1", "Hallo").await;
    world.admit(1, "SM2", "Bent u daar?").await;
    within(&world, 30, "the apology", || world.twilio.posts() == 1).await;
    world.pass(10).await;
    assert_eq!(world.dead().await, Some((2, "no-answer".to_owned())));
    assert_eq!(world.twilio.bodies(), ["Sorry"]);
    agent.always(None);
    world.admit(1, "SM3", "Hoi").await;
    within(&world, 30, "the reply", || world.twilio.created().len() == 2).await;
    agent.always(Some(Next::Say(String::new())));
    world.admit(1, "SM4", "Nog iets").await;
    within(&world, 30, "the next apology", || world.twilio.created().len() == 3).await;
    assert_eq!(world.twilio.bodies(), ["Sorry", "stable: Hoi", "Sorry"]);
}

#[tokio::test]
async fn a_canary_is_asked_about_every_message_however_it_fares() {
    let (world, stable, canary) = with_canary().await;
    let _running = world.work().await;
    (0..8).for_each(|_| canary.next(Next::Status(503)));
    for number in 0..8 {
        world.admit(1, &format!("SM{number}"), &number.to_string()).await;
    }
    let expected: Vec<_> = (0..8).map(|number| format!("stable: {number}")).collect();
    assert_eq!(replies(&world, 8).await, expected);
    assert_eq!((canary.asked().len(), stable.asked().len()), (8, 8));
    assert_eq!(world.counted(8).await, [("7:canary:http".to_owned(), 8)]);
}

#[tokio::test]
async fn a_busy_canary_has_failed_and_is_rescued() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.next(Next::Busy(429, 20));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.counted(1).await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn a_canary_that_cannot_be_asked_is_unavailable_and_rescued() {
    let (world, stable, _canary) = with_canary().await;
    world.set_route(canary_route(http(&stable.url), http(REFUSED)));
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.counted(1).await, [("7:canary:unavailable".to_owned(), 1)]);
}

#[tokio::test]
async fn a_message_that_stable_s_breaker_delays_counts_once_as_unavailable() {
    let (world, stable) = on_stable().await;
    let _running = world.work().await;
    stable.always(Some(Next::Status(503)));
    for customer in 1..=5 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    let five = [("7:stable:http".to_owned(), 5)];
    assert_eq!(world.counted(5).await, five);
    world.admit(6, "SM6", "Hoi").await;
    let six = [five[0].clone(), ("7:stable:unavailable".to_owned(), 1)];
    assert_eq!(world.counted(6).await, six);
    stable.always(None);
    within(&world, 90, "every reply", || world.twilio.created().len() == 6).await;
    assert_eq!(world.counts().await, six, "later tries count for nobody");
}

#[tokio::test]
async fn a_customer_whose_thread_is_broken_makes_nobody_else_wait() {
    let (world, agent) = patient_for(900, "").await;
    let _running = world.work().await;
    agent.always(Some(Next::Status(500)));
    world.admit(1, "SM1", "Hallo").await;
    within(&world, 60, "six failures", || agent.asked().len() == 6).await;
    agent.always(None);
    world.admit(2, "SM2", "Hoi").await;
    eventually("the other's reply", || world.twilio.created().len() == 1).await;
    within(&world, 60, "his own", || world.twilio.created().len() == 2).await;
    assert_eq!(world.twilio.bodies(), ["stable: Hoi", "stable: Hallo"]);
}

#[tokio::test]
async fn what_waits_for_an_agent_goes_on_as_soon_as_one_message_is_answered() {
    let (world, agent) = patient_for(900, "").await;
    let _running = world.work().await;
    agent.always(Some(Next::Status(503)));
    for customer in 1..=5 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    eventually("five failures", || agent.asked().len() == 5).await;
    for customer in 6..=25 {
        world.admit(customer, &format!("SM{customer}"), "Hoi").await;
    }
    world.pass(60).await;
    let probes = agent.asked().len() - 5;
    assert!((1..=12).contains(&probes), "{probes} probes in a minute");
    agent.always(None);
    within(&world, 70, "the first reply", || world.twilio.posts() > 0).await;
    within(&world, 5, "all the others", || world.twilio.created().len() == 25).await;
    assert_eq!(agent.asked().len(), 5 + probes + 25, "nobody was asked twice");
}

#[tokio::test]
async fn what_still_waits_when_its_patience_ends_is_told_and_buried() {
    let (world, agent) = patient_for(30, "Sorry").await;
    let _running = world.work().await;
    agent.always(Some(Next::Status(503)));
    for customer in 1..=6 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    within(&world, 90, "every apology", || world.twilio.created().len() == 6).await;
    world.pass(1).await;
    assert_eq!(world.twilio.bodies(), ["Sorry"; 6]);
    assert_eq!(world.dead().await, Some((6, "http".to_owned())));
    assert!(agent.asked().len() < 30, "{} questions", agent.asked().len());
}

#[tokio::test]
async fn a_message_that_failed_before_the_rollout_is_no_evidence_of_it() {
    let (world, stable, canary) = with_canary().await;
    world.set_route(route(http(&stable.url)));
    let _running = world.work().await;
    stable.next(Next::Status(400));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the question", || stable.asked().len() == 1).await;
    breathe().await;
    world.set_route(canary_route(http(&stable.url), http(&canary.url)));
    world.pass(3).await;
    assert_eq!(replies(&world, 1).await, ["canary: Hallo"]);
    assert_eq!(world.counts().await, []);
}

#[tokio::test]
async fn what_waits_for_a_revision_goes_on_when_another_one_is_stable() {
    let (world, broken) = patient_for(900, "").await;
    let well = HttpAgent::start("next").await;
    let _running = world.work().await;
    broken.always(Some(Next::Status(503)));
    for customer in 1..=5 {
        world.admit(customer, &format!("SM{customer}"), "Hallo").await;
    }
    eventually("five failures", || broken.asked().len() == 5).await;
    for customer in 6..=25 {
        world.admit(customer, &format!("SM{customer}"), "Hoi").await;
    }
    world.pass(30).await;
    let mut mended = unhurried(route(http(&well.url)));
    mended.stable.revision = "next".parse().unwrap();
    mended.limits.patience_ms = 900_000;
    world.set_route(mended);
    within(&world, 3, "those that waited", || world.twilio.created().len() >= 20).await;
    within(&world, 60, "every reply", || world.twilio.created().len() == 25).await;
}

#[tokio::test]
async fn a_channel_with_too_many_dead_letters_keeps_its_messages_and_asks_nobody() {
    let (world, agent) = patient_for(3, "").await;
    let _running = world.work().await;
    world.hold_dead_letters(2);
    agent.always(Some(Next::Say(String::new())));
    world.admit(1, "SM1", "Hallo").await;
    world.pass(200).await;
    assert_eq!(world.dead().await, None);
    assert!(agent.asked().len() <= 3, "{} questions", agent.asked().len());
    world.hold_dead_letters(0);
    world.pass(70).await;
    assert_eq!(world.buried().await, "http");
}

#[tokio::test]
async fn a_canary_that_fails_while_nobody_watches_is_left_alone_until_somebody_asks() {
    let (world, _stable, canary) = with_canary().await;
    let _running = world.work().await;
    canary.always(Some(Next::Status(503)));
    for number in 0..5 {
        world.admit(1, &format!("SM{number}"), "Hallo").await;
    }
    replies(&world, 5).await;
    world.pass(31).await;
    world.admit(1, "SM5", "Hoi").await;
    replies(&world, 6).await;
    assert_eq!(canary.asked().len(), 5, "nobody has asked for half a minute");
    assert_eq!(world.counts().await, [("7:canary:http".to_owned(), 5)], "no evidence of stable");
    world.ask_for_counts();
    world.admit(1, "SM6", "Hallo").await;
    replies(&world, 7).await;
    assert_eq!(canary.asked().len(), 6);
}
