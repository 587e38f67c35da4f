//! An agent that dies in the bake, when it has everybody: each customer is rescued, and the counts
//! that the operator reads say each failure, also while stable's breaker is open.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::graph::{FakeGraph, Graph};
use kanarie_tests::hand::{Hand, http_route, lang_graph_route};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Customers of each of the two rounds.
const CUSTOMERS: u32 = 30;
const AT_MOST: Duration = Duration::from_secs(120);

/// What a track's first attempts were counted as under a serving.
fn counted(state: &Value, serving: u64, track: &str) -> Vec<(String, u64)> {
    let of = |count: &&Value| count["serving"] == serving && count["track"] == track;
    let counts = state["counts"].as_array().into_iter().flatten().filter(of);
    counts
        .map(|count| {
            (count["class"].as_str().unwrap().to_owned(), count["messages"].as_u64().unwrap())
        })
        .collect()
}

/// Waits until the canary's first attempts are so many, and gives them by class.
async fn canary_counts(hand: &Hand, serving: u64, wanted: u64) -> Vec<(String, u64)> {
    let deadline = Instant::now() + AT_MOST;
    loop {
        let counts = counted(&hand.state().await.unwrap(), serving, "canary");
        let sum: u64 = counts.iter().map(|(_, messages)| messages).sum();
        if sum >= wanted || Instant::now() > deadline {
            return counts;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// A canary that died has everybody. First stable is well and rescues them all; then it is away
/// until its breaker is open, and comes back.
async fn dies_in_the_bake(canary: Value, store: Option<String>) {
    let hand = Hand::start(ControlPlane::shared().await, store).await.unwrap();
    let stable = FakeAgent::start(Behaviour::Echo("oud: ".to_owned())).await.unwrap();
    let agent = http_route(&stable.url());
    hand.write(4, 100, agent.clone(), canary).await.unwrap();
    for who in 0..CUSTOMERS {
        assert_eq!(hand.say(&customer(who), &format!("klant {who} #1")).await.unwrap().status, 200);
    }
    let all = CUSTOMERS as usize;
    assert_eq!(hand.twilio.wait_for_sent(all, AT_MOST).await, all, "stable rescues everybody");
    only_failures(&canary_counts(&hand, 4, u64::from(CUSTOMERS)).await, CUSTOMERS);
    stable.behave(Behaviour::Fail(500));
    for who in 0..CUSTOMERS {
        assert_eq!(hand.say(&customer(who), &format!("klant {who} #2")).await.unwrap().status, 200);
    }
    only_failures(&canary_counts(&hand, 4, 2 * u64::from(CUSTOMERS)).await, 2 * CUSTOMERS);
    stable.behave(Behaviour::Echo("oud: ".to_owned()));
    assert_eq!(hand.twilio.wait_for_sent(2 * all, AT_MOST).await, 2 * all, "nobody is forgotten");
    assert_eq!(hand.twilio.sent_twice(), []);
    assert_eq!(hand.twilio.out_of_order(), []);
    only_failures(&canary_counts(&hand, 4, 2 * u64::from(CUSTOMERS)).await, 2 * CUSTOMERS);
    let customers = hand.state().await.unwrap()["customers"].clone();
    let expected = json!({
        "serving": 4, "track": "canary", "conversations": CUSTOMERS, "failed": CUSTOMERS,
        "rescued": CUSTOMERS,
    });
    assert_eq!(customers, json!([expected]));
}

/// Every message counted for the canary, once, and none of them as a success.
fn only_failures(counts: &[(String, u64)], messages: u32) {
    let sum: u64 = counts.iter().map(|(_, messages)| messages).sum();
    let good = counts.iter().any(|(class, _)| class == "success");
    assert!(sum == u64::from(messages) && !good, "{counts:?}, not {messages} failures");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_answers_503_in_the_bake_is_counted_for_every_message() {
    let canary = FakeAgent::start(Behaviour::Fail(503)).await.unwrap();
    let redis = RedisServer::start().await.unwrap();
    dies_in_the_bake(http_route(&canary.url()), Some(redis.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_hangs_in_the_bake_is_counted_for_every_message() {
    let canary = FakeAgent::start(Behaviour::Hang).await.unwrap();
    dies_in_the_bake(http_route(&canary.url()), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_whose_graph_fails_in_the_bake_is_counted_for_every_message() {
    let canary = FakeGraph::start(Graph::Fail).await.unwrap();
    dies_in_the_bake(lang_graph_route(&canary.url()), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_open_breaker_of_stable_delays_is_counted_for_stable_once() {
    let hand = Hand::start(ControlPlane::shared().await, None).await.unwrap();
    let canary = FakeAgent::start(Behaviour::Echo("nieuw: ".to_owned())).await.unwrap();
    let stable = FakeAgent::start(Behaviour::Fail(503)).await.unwrap();
    hand.write(2, 1, http_route(&stable.url()), http_route(&canary.url())).await.unwrap();
    for who in 0..CUSTOMERS {
        assert_eq!(hand.say(&customer(who), &format!("klant {who} #1")).await.unwrap().status, 200);
    }
    let all = u64::from(CUSTOMERS);
    let deadline = Instant::now() + AT_MOST;
    let sum = |state: &Value| {
        let tracks = ["stable", "canary"].into_iter();
        tracks.flat_map(|track| counted(state, 2, track)).map(|(_, messages)| messages).sum::<u64>()
    };
    while sum(&hand.state().await.unwrap()) < all && Instant::now() < deadline {
        sleep(Duration::from_millis(200)).await;
    }
    stable.behave(Behaviour::Echo("oud: ".to_owned()));
    hand.twilio.wait_for_sent(CUSTOMERS as usize, AT_MOST).await;
    assert_eq!(hand.twilio.sent().len(), CUSTOMERS as usize);
    let state = hand.state().await.unwrap();
    let of_canary = canary.count() as u64;
    only_failures(&counted(&state, 2, "stable"), CUSTOMERS - of_canary as u32);
    assert_eq!(sum(&state), all, "each message is counted once: {state:#}");
}

/// Scenario 42: while no operator watches, a gateway leaves a dead canary alone by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_42_while_nobody_asks_for_the_counts_stable_serves_the_customers_of_a_dead_canary()
{
    let hand = Hand::start(ControlPlane::shared().await, None).await.unwrap();
    let canary = FakeAgent::start(Behaviour::Fail(500)).await.unwrap();
    let stable = FakeAgent::start(Behaviour::Echo("oud: ".to_owned())).await.unwrap();
    hand.write(9, 100, http_route(&stable.url()), http_route(&canary.url())).await.unwrap();
    let eight_write = async |number: usize| {
        for who in 1..=8 {
            let text = format!("klant {who} #{number}");
            assert_eq!(hand.say(&customer(who), &text).await.unwrap().status, 200);
        }
        let all = 8 * number;
        assert_eq!(hand.twilio.wait_for_sent(all, AT_MOST).await, all);
        canary.count()
    };
    assert_eq!(eight_write(1).await, 8, "as long as somebody watches, the canary is asked");
    sleep(Duration::from_secs(35)).await;
    assert_eq!(eight_write(2).await, 8, "nobody watches, and it has failed five in a row");
    let state = hand.state().await.unwrap();
    assert_eq!(state["acknowledged"][0]["cut"], true, "{state:#}");
    only_failures(&counted(&state, 9, "canary"), 8);
    assert_eq!(counted(&state, 9, "stable"), [], "what stable answers by itself is no evidence");
    // Each replica hears with its next heartbeat that somebody asked.
    let is_cut = |state: Value| state["acknowledged"][0]["cut"] == true;
    while is_cut(hand.state().await.unwrap()) {
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(eight_write(3).await, 16, "somebody asked, so the canary is judged again");
    only_failures(&canary_counts(&hand, 9, 16).await, 16);
}

/// Scenario 47: after a rollback new messages are stable's, and one that the canary is being asked about is
/// answered by the canary and counted for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_47_what_the_canary_is_being_asked_when_it_is_taken_back_it_still_answers() {
    let hand = Hand::start(ControlPlane::shared().await, None).await.unwrap();
    let slow = Behaviour::Slow(Duration::from_secs(2), Box::new(Behaviour::Echo("nieuw: ".into())));
    let canary = FakeAgent::start(slow).await.unwrap();
    let stable = FakeAgent::start(Behaviour::Echo("oud: ".to_owned())).await.unwrap();
    let (old, new) = (http_route(&stable.url()), http_route(&canary.url()));
    hand.write(2, 100, old.clone(), new.clone()).await.unwrap();
    assert_eq!(hand.say(&customer(1), "eerst").await.unwrap().status, 200);
    while canary.count() == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    hand.write(3, 0, old, new).await.unwrap();
    assert_eq!(hand.say(&customer(2), "daarna").await.unwrap().status, 200);
    assert_eq!(hand.twilio.wait_for_sent(2, AT_MOST).await, 2);
    let replies: Vec<String> = hand.twilio.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(
        replies,
        ["oud: daarna", "nieuw: eerst"],
        "the later one did not wait for the canary"
    );
    assert_eq!(canary_counts(&hand, 2, 1).await, [("success".to_owned(), 1)]);
    assert_eq!((canary.count(), stable.count()), (1, 1));
}
