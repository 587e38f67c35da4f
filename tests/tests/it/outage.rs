//! The store goes away and comes back under load.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kanarie_fakes::chaos::{Proxy, Way};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::product::Program;
use kanarie_tests::stage::Stage;
use tokio::time::sleep;

/// What customers were answered, each writing one message after the other until told to stop.
async fn talk(stage: &Stage, gateway: &Program, stop: &AtomicBool) -> Vec<(String, u16)> {
    let customers = (1..=8).map(|who| async move {
        let mut answers = Vec::new();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let text = format!("klant {who} vraag #{number}");
            let answer = stage.say(gateway, &customer(who), &text).await.unwrap();
            answers.push((text, answer.status));
            sleep(Duration::from_millis(50)).await;
        }
        answers
    });
    futures::future::join_all(customers).await.into_iter().flatten().collect()
}

/// Accepted messages that nobody answered.
fn unanswered(stage: &Stage, answers: &[(String, u16)]) -> Vec<String> {
    let sent: Vec<String> = stage.twilio.sent().into_iter().map(|sent| sent.body).collect();
    let accepted = answers.iter().filter(|(_, status)| *status == 200);
    accepted.map(|(text, _)| format!("re: {text}")).filter(|reply| !sent.contains(reply)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_and_starts_under_load_and_nothing_accepted_is_lost() {
    let mut redis = RedisServer::start().await.unwrap();
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(Some(redis.url())).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let outage = async {
        sleep(Duration::from_secs(1)).await;
        redis.stop().unwrap();
        sleep(Duration::from_secs(2)).await;
        redis.resume().await.unwrap();
        sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (answers, ()) = tokio::join!(talk(&stage, &gateway, &stop), outage);
    let with = |code: u16| answers.iter().filter(|(_, status)| *status == code).count();
    assert_eq!(with(200) + with(503), answers.len(), "nothing but 200 and 503");
    assert!(with(503) > 0, "the outage was felt");
    assert!(answers.iter().rev().take(8).all(|(_, status)| *status == 200), "it serves again");
    let accepted = with(200);
    stage.twilio.wait_for_sent(accepted, Duration::from_secs(60)).await;
    assert_eq!(unanswered(&stage, &answers), Vec::<String>::new());
    assert_eq!(stage.twilio.sent_twice(), []);
    assert_eq!(stage.twilio.out_of_order(), []);
    // Hundreds of webhooks were refused meanwhile, and each claimer and turn asked in vain.
    let log = gateway.log();
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("the store gives no answers"), 1, "{log}");
    let lines = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(lines < 20, "{lines} lines:\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_swallows_packets_is_answered_503_within_two_seconds() {
    let redis = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(redis.address()).await.unwrap();
    let stage = Stage::new().await.unwrap();
    let store = format!("redis://{}/", proxy.address());
    let gateway = stage.gateway(Some(store)).await.unwrap();
    proxy.set(Way::Paused);
    let writer = customer(1);
    let said = stage.say(&gateway, &writer, "hallo");
    let answer = tokio::time::timeout(Duration::from_secs(2), said).await.unwrap().unwrap();
    assert_eq!(answer.status, 503);
    proxy.set(Way::Open);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    let mut number = 0;
    loop {
        number += 1;
        let text = format!("hallo #{number}");
        if stage.say(&gateway, &customer(1), &text).await.unwrap().status == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it serves again without a restart");
        sleep(Duration::from_millis(100)).await;
    }
}
