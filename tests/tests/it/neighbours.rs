//! Channels that share a gateway: one's trouble is its own.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::manifest::http_agent;
use kanarie_tests::street::Street;

/// The deadline of the agent that hangs, and more: whoever waits for one of its turns sees this.
const DEADLINE: u32 = 60;
const AT_MOST: Duration = Duration::from_secs(90);
/// Customers of the channel whose agent hangs.
const MANY: u32 = 128;

/// While many customers of one channel wait for an agent that hangs, one of another channel writes:
/// the reply comes before the first of those questions has reached its deadline.
async fn is_answered_beside_a_hanging_agent(store: Option<String>) {
    let well = FakeAgent::start(Behaviour::Echo("re: ".to_owned())).await.unwrap();
    let hanging = FakeAgent::start(Behaviour::Hang).await.unwrap();
    let mut patient = http_agent(&hanging.url());
    patient["timeoutSeconds"] = DEADLINE.into();
    let street = Street::new(&[http_agent(&well.url()), patient]).await.unwrap();
    let gateway = street.gateway(store).await.unwrap();
    for who in 0..MANY {
        let said = street.say(&gateway, 1, &customer(1_000 + who), "hallo").await.unwrap();
        assert_eq!(said.status, 200);
    }
    while hanging.count() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    street.say(&gateway, 0, &customer(1), "hallo").await.unwrap();
    assert_eq!(street.twilio.wait_for_sent(1, AT_MOST).await, 1);
    let metrics = gateway.metrics().await.unwrap();
    let ended = |line: &str| line.contains(r#"class="timeout""#) && !line.ends_with(" 0");
    let mut attempts = metrics.lines().filter(|line| line.starts_with("kanarie_attempts_total{"));
    assert!(!attempts.any(ended), "it waited for the neighbour:\n{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_answered_while_the_agent_of_another_channel_hangs() {
    is_answered_beside_a_hanging_agent(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_answered_on_redis_while_the_agent_of_another_channel_hangs() {
    let redis = RedisServer::start().await.unwrap();
    is_answered_beside_a_hanging_agent(Some(redis.url())).await;
}

/// Messages that a channel may have waiting.
const MOST: &str = "50";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_channel_is_answered_503_by_itself_until_it_has_room_again() {
    let well = FakeAgent::start(Behaviour::Echo("re: ".to_owned())).await.unwrap();
    let away = FakeAgent::start(Behaviour::Fail(503)).await.unwrap();
    let street = Street::new(&[http_agent(&well.url()), http_agent(&away.url())]).await.unwrap();
    let gateway = street.gateway_with(None, &["--channel-messages", MOST]).await.unwrap();
    let (mut accepted, mut number) = (0, 0);
    while {
        number += 1;
        let who = customer(1_000 + number);
        street.say(&gateway, 1, &who, &format!("vraag #{number}")).await.unwrap().status == 200
    } {
        accepted += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(accepted >= 50, "{accepted} had room");
    assert_eq!(street.say(&gateway, 0, &customer(1), "hallo").await.unwrap().status, 200);
    assert_eq!(street.twilio.wait_for_sent(1, AT_MOST).await, 1);
    let metrics = gateway.metrics().await.unwrap();
    let told = r#"kanarie_channel_full_total{bound="messages"} 1"#;
    assert!(metrics.lines().any(|line| line == told), "{metrics}");
    assert!(gateway.log().contains("shop-1"), "the log names the channel");
    away.behave(Behaviour::Echo("re: ".to_owned()));
    assert_eq!(street.twilio.wait_for_sent(1 + accepted, AT_MOST).await, 1 + accepted);
    while street.say(&gateway, 1, &customer(1), "weer").await.unwrap().status != 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
