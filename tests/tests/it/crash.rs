//! kill -9 in the middle of a canary under traffic.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::{customer, message_sid};
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::manifest::{http_agent, steps};
use kanarie_tests::product::{OperatorOptions, Program};
use kanarie_tests::world::{World, condition};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The service account of the operators.
const OPERATOR: &str = "kanarie-operator";
const HOLD_SECONDS: u32 = 6;
/// What a killed gateway was just sending is sent again after two listings without it, 80 seconds
/// later; the rest is for a busy machine.
const LATE: Duration = Duration::from_secs(180);

/// Customers who write until told to stop. Like Twilio they repeat a message that no gateway
/// answered 200. Gives the texts that were accepted.
async fn talk(world: &World, stop: &AtomicBool) -> Vec<String> {
    // So many that no draw leaves the canary without any: 0.9 to the power of 150.
    let customers = (1..=150).map(|who| async move {
        let mut accepted = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let text = format!("klant {who} vraag #{}", accepted.len() + 1);
            let form = world.account.text(&message_sid(), &customer(who), &text);
            loop {
                let gateway = world.gateways[0].authority();
                let posted = world.account.post(&world.client, &gateway, &form).await;
                if posted.is_ok_and(|answer| answer.status == 200) {
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
            accepted.push(text);
            sleep(Duration::from_millis(1500)).await;
        }
        accepted
    });
    futures::future::join_all(customers).await.into_iter().flatten().collect()
}

/// Applies a second revision and lets `crash` act while the first step lasts, under traffic.
async fn canary_with(world: &World, crash: impl AsyncFnOnce(&World)) {
    let mut manifest = world.manifest();
    let steps = steps(&[(10, HOLD_SECONDS), (50, HOLD_SECONDS), (100, HOLD_SECONDS)]);
    manifest.rollout = json!({
        "steps": steps,
        "analysis": {"minMessages": 5, "certifyBasisPoints": 1000, "intervalSeconds": 1},
    });
    world.serve(&manifest).await.unwrap();
    let first = world.channel().await.unwrap()["status"]["stable"]["revision"].clone();
    let stop = AtomicBool::new(false);
    let story = async {
        manifest.agent = http_agent(&world.new.url());
        world.apply(&manifest).await.unwrap();
        let started = |channel: &Value| !channel["status"]["rollout"]["stepStartedAt"].is_null();
        world.wait_for("the first step runs", Duration::from_secs(30), started).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        crash(world).await;
        let promoted = |channel: &Value| {
            condition(channel, "RolledOut") == Some("True")
                && channel["status"]["stable"]["revision"] != first
        };
        let channel =
            world.wait_for("it is promoted", Duration::from_secs(120), promoted).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        channel
    };
    let (channel, accepted) = tokio::join!(story, talk(world, &stop));
    every_step_had_its_time(&channel);
    assert!(accepted.len() > 100, "there was traffic: {}", accepted.len());
    world.twilio.wait_for_sent(accepted.len(), LATE).await;
    let sent: BTreeSet<String> = world.twilio.sent().into_iter().map(|sent| sent.body).collect();
    let answered = |text: &String| {
        ["oud: ", "nieuw: "].iter().any(|who| sent.contains(&format!("{who}{text}")))
    };
    let unanswered: Vec<&String> = accepted.iter().filter(|text| !answered(text)).collect();
    assert_eq!(unanswered, Vec::<&String>::new(), "of {}", accepted.len());
    assert_eq!(sent.len(), accepted.len(), "nobody was answered by both");
    assert_eq!(world.twilio.sent_twice(), []);
    assert_eq!(world.twilio.out_of_order(), []);
}

/// Each weight was held at least as long as its step says, and none was left out.
fn every_step_had_its_time(channel: &Value) {
    let history = channel["status"]["history"].as_array().unwrap();
    let first_at = |weight: u64| {
        let entry = history.iter().rev().find(|entry| entry["weight"] == weight);
        assert!(entry.is_some(), "no step at {weight}: {history:#?}");
        entry.unwrap()["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let newest: jiff::Timestamp = history[0]["at"].as_str().unwrap().parse().unwrap();
    for (from, to) in
        [(first_at(10), first_at(50)), (first_at(50), first_at(100)), (first_at(100), newest)]
    {
        // Times are written in whole seconds.
        let held = to.duration_since(from).as_secs();
        assert!(held >= i64::from(HOLD_SECONDS) - 1, "held {held} s only: {history:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_on_the_embedded_store_loses_nothing_and_repeats_nothing() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    canary_with(&world, async |world| {
        world.gateways[0].kill();
        world.gateways[0].start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_on_redis_loses_nothing_and_repeats_nothing() {
    let redis = RedisServer::start().await.unwrap();
    let world = World::start(ControlPlane::shared().await, Some(redis.url()), 2).await.unwrap();
    canary_with(&world, async |world| {
        world.gateways[0].kill();
        sleep(Duration::from_secs(1)).await;
        world.gateways[0].start().await.unwrap();
    })
    .await;
}

/// How often an operator is killed: three times, or as often as `make kills` says.
fn kills() -> usize {
    std::env::var("KANARIE_KILLS").map_or(3, |kills| kills.parse().unwrap())
}

/// Kills one operator after the other, one every four seconds.
async fn kill_in_turn(operators: &[&Program]) {
    for operator in operators.iter().cycle().take(kills()) {
        operator.kill();
        sleep(Duration::from_secs(1)).await;
        operator.start().await.unwrap();
        sleep(Duration::from_secs(3)).await;
    }
}

/// Scenario 40: an operator that is killed every four seconds skips and shortens no step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_40_an_operator_killed_again_and_again_skips_and_shortens_no_step() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    canary_with(&world, async |world| kill_in_turn(&[&world.operator]).await).await;
}

/// Scenario 40: two with a Lease, one of which is killed every four seconds, skip and shorten none either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_40_two_operators_with_a_lease_killed_in_turn_skip_and_shorten_no_step() {
    let mut world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    world.operator = elected(&world).await;
    let other = elected(&world).await;
    canary_with(&world, async |world| kill_in_turn(&[&world.operator, &other]).await).await;
}

/// Scenario 41: a leader is frozen while its canary fails: another one leads and takes the canary back, and
/// the first one ends when it goes on, without another word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_41_a_leader_that_was_frozen_writes_nothing_when_it_goes_on() {
    let mut world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    world.operator = elected(&world).await;
    let mut manifest = world.manifest();
    manifest.rollout = json!({
        "steps": steps(&[(50, 600), (100, 600)]),
        "analysis": {"minMessages": 20, "intervalSeconds": 1},
    });
    world.serve(&manifest).await.unwrap();
    let other = elected(&world).await;
    world.new.behave(Behaviour::Fail(500));
    manifest.agent = http_agent(&world.new.url());
    world.apply(&manifest).await.unwrap();
    let runs = |channel: &Value| channel["status"]["rollout"]["stepStartedAt"].is_string();
    world.wait_for("the step", Duration::from_secs(30), runs).await.unwrap();
    world.operator.freeze();
    for who in 1..=40 {
        assert_eq!(world.say(0, &customer(who), "hallo").await.unwrap().status, 200);
    }
    let rejected = |channel: &Value| {
        channel["status"]["rejected"].as_array().is_some_and(|all| !all.is_empty())
    };
    world.wait_for("the other one leads", Duration::from_secs(60), rejected).await.unwrap();
    let landed = |channel: &Value| condition(channel, "RolledOut") == Some("False");
    let before = world.wait_for("it is told", Duration::from_secs(30), landed).await.unwrap();
    let leads = other.metrics().await.unwrap();
    assert!(leads.lines().any(|line| line == "kanarie_operator_leader 1"), "{leads}");

    world.operator.resume();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !world.operator.log().contains("leadership was lost") {
        assert!(Instant::now() < deadline, "it goes on:\n{}", world.operator.log());
        sleep(Duration::from_millis(100)).await;
    }
    let after = world.channel().await.unwrap();
    for field in ["transition", "history", "rejected"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    assert_eq!(after["status"]["history"][0]["reason"], "RolledBack");
}

/// One more operator, which works when it has the Lease.
async fn elected(world: &World) -> Program {
    let account = world.plane.kubeconfig_for_service_account(&world.places.system, OPERATOR);
    let options = OperatorOptions {
        kubeconfig: account.await.unwrap(),
        routes_namespace: world.places.routes.clone(),
        watch_namespaces: world.places.channels.clone(),
        gateway_url: world.gateways[0].admin_url(),
        twilio: world.twilio.url(),
        arguments: vec!["--leader-elect=true".to_owned()],
    };
    Program::operator(&options).await.unwrap()
}
