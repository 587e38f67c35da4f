//! What becomes of a reply that Twilio took and did not deliver: a number, a line, a word in status.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::product::Program;
use kanarie_tests::stage::Stage;
use kanarie_tests::world::World;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(30);
const BEGAN: &str = "a reply was not delivered";

/// What gateways together have counted of deliveries with such a status and code.
async fn counted(gateways: &[&Program], status: &str, code: &str) -> u64 {
    let labels = format!(r#"code="{code}",status="{status}"}} "#);
    let mut sum = 0;
    for gateway in gateways {
        let page = gateway.metrics().await.unwrap();
        let lines = page.lines().filter(|line| line.starts_with("kanarie_deliveries_total{"));
        let of = lines.filter_map(|line| line.split_once(&labels)?.1.parse::<u64>().ok());
        sum += of.sum::<u64>();
    }
    sum
}

/// Waits until so many are counted; gives how many are.
async fn until_counted(gateways: &[&Program], status: &str, code: &str, many: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let now = counted(gateways, status, code).await;
        if now >= many || begun.elapsed() > SOON {
            return now;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn replies_that_are_not_delivered_are_counted_and_have_one_line_that_names_no_customer() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| settings.undelivered = Some(63_016));
    for who in 1..=5 {
        stage.say(&gateway, &customer(who), "vraag").await.unwrap();
    }
    assert_eq!(until_counted(&[&gateway], "undelivered", "63016", 5).await, 5);
    assert_eq!(counted(&[&gateway], "sent", "none").await, 5);
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(BEGAN)).collect();
    let [line] = lines[..] else { unreachable!("one line and no more: {lines:?}") };
    for word in ["default/shop", "63016", "needs-template", "conversation"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    for private in ["vraag", "whatsapp:", "+316"] {
        assert!(!line.contains(private), "{private}: {line}");
    }
    assert_eq!(stage.twilio.callbacks().iter().filter(|one| one.answer != 200).count(), 0);
}

#[tokio::test]
async fn two_gateways_that_hear_of_a_reply_count_it_once() {
    let (stage, redis) = (Stage::new().await.unwrap(), RedisServer::start().await.unwrap());
    let one = stage.gateway(Some(redis.url())).await.unwrap();
    let other = stage.gateway(Some(redis.url())).await.unwrap();
    stage.twilio.set(|settings| settings.callbacks_to = None);
    for who in 1..=3 {
        stage.say(&one, &customer(who), "vraag").await.unwrap();
    }
    assert_eq!(stage.twilio.wait_for_sent(3, SOON).await, 3);
    let heard = [
        ("undelivered", Some(63_024)),
        ("sent", None),
        ("queued", None),
        ("undelivered", Some(63_024)),
    ];
    for sent in stage.twilio.sent() {
        for (status, code) in heard {
            for gateway in [&one, &other] {
                stage.twilio.report(&gateway.authority(), &sent, status, code).await;
            }
        }
    }
    // Each gateway tells the store in the order in which it was told.
    let both = [&one, &other];
    for (nth, (gateway, sent)) in (1..).zip(both.into_iter().zip(stage.twilio.sent())) {
        stage.twilio.report(&gateway.authority(), &sent, "delivered", None).await;
        assert_eq!(until_counted(&both, "delivered", "none", nth).await, nth);
    }
    assert_eq!(counted(&both, "undelivered", "63024").await, 3);
    assert_eq!(counted(&both, "sent", "none").await, 0, "it came too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_replies_are_not_delivered_says_so_in_its_status() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    world.serve(&world.manifest()).await.unwrap();
    world.twilio.set(|settings| settings.undelivered = Some(63_016));
    world.say(0, &customer(1), "vraag").await.unwrap();
    let told = |channel: &Value| channel["status"]["undelivered"]["lastCode"] == 63_016;
    let channel = world.wait_for("the code is in status", SOON, told).await.unwrap();
    let undelivered = &channel["status"]["undelivered"];
    assert_eq!(undelivered["count"], 1);
    assert!(undelivered["lastAt"].is_string(), "{undelivered}");
    assert_eq!(until_counted(&[&world.gateways[0]], "undelivered", "63016", 1).await, 1);
}
