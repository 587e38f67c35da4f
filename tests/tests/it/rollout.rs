//! The whole product on a real API server: a change carried to everybody, and one taken back.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::langgraph::LangGraphServer;
use kanarie_tests::manifest::{http_agent, lang_graph_agent, steps};
use kanarie_tests::world::{CHANNEL, World, condition, reason};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::crowd::under_traffic;

/// Eighty customers write at once, to each of these gateways.
async fn everybody_writes(world: &World, gateways: &[usize]) {
    let say = |gateway: usize, who: u32| async move {
        assert_eq!(world.say(gateway, &customer(who), "hallo").await.unwrap().status, 200);
    };
    let all = gateways.iter().flat_map(|gateway| (1..=80).map(|who| say(*gateway, who)));
    futures::future::join_all(all).await;
}

/// Neither log nor metric of either process names a customer, a text or a secret.
async fn nothing_private_was_told(world: &World) {
    for program in [&world.gateways[0], &world.operator] {
        let seen = format!("{}\n{}", program.log(), program.metrics().await.unwrap());
        for private in ["vraag", "whatsapp:+", "+316", "316000000", &world.account.token] {
            let line = seen.lines().find(|line| line.contains(private));
            assert_eq!(line, None, "{private} is nobody's business");
        }
    }
}

/// Weights of the transitions, oldest first.
fn weights(channel: &Value) -> Vec<u64> {
    let history = channel["status"]["history"].as_array().cloned().unwrap_or_default();
    let mut weights: Vec<u64> = history.iter().rev().filter_map(|h| h["weight"].as_u64()).collect();
    weights.dedup();
    weights
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_change_goes_10_50_100_and_is_promoted() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    let mut manifest = world.manifest();
    world.serve(&manifest).await.unwrap();
    let first = world.channel().await.unwrap()["status"]["stable"]["revision"].clone();
    let channel = under_traffic(&world, async |world| {
        manifest.agent = http_agent(&world.new.url());
        world.apply(&manifest).await.unwrap();
        world
            .wait_for("the second revision is promoted", Duration::from_secs(90), |channel| {
                let status = &channel["status"];
                condition(channel, "RolledOut") == Some("True")
                    && status["stable"]["revision"] != first
            })
            .await
            .unwrap()
    })
    .await;
    let seen = weights(&channel);
    let at = |weight| seen.iter().position(|w| *w == weight);
    assert!(at(10) < at(50) && at(50) < at(100) && at(10).is_some(), "{seen:?}");
    assert!(world.new.count() > 0 && world.old.count() > 0);
    nothing_private_was_told(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_change_is_taken_back_and_every_customer_is_answered() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    let mut manifest = world.manifest();
    manifest.rollout = json!({
        "steps": steps(&[(10, 30), (50, 30), (100, 30)]),
        "analysis": {"minMessages": 20, "intervalSeconds": 1},
    });
    world.serve(&manifest).await.unwrap();
    let first = world.channel().await.unwrap()["status"]["stable"]["revision"].clone();
    world.new.behave(Behaviour::Fail(500));
    let channel = under_traffic(&world, async |world| {
        manifest.agent = http_agent(&world.new.url());
        world.apply(&manifest).await.unwrap();
        world
            .wait_for("the bad revision is rejected", Duration::from_secs(90), |channel| {
                channel["status"]["rejected"]
                    .as_array()
                    .is_some_and(|rejected| !rejected.is_empty())
            })
            .await
            .unwrap()
    })
    .await;
    assert_eq!(channel["status"]["stable"]["revision"], first);
    assert_eq!(condition(&channel, "RolledOut"), Some("False"), "{:#}", channel["status"]);
    assert!(reason(&channel, "RolledOut").is_some());
    assert!(world.new.count() > 0, "the canary was asked");
    let replies = world.twilio.sent();
    assert!(replies.iter().all(|sent| sent.body.starts_with("oud: ")), "stable answered them all");
}

/// Scenario 10: under traffic a dead canary has weight 0 within 10 s, at every gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_10_a_canary_that_fails_at_one_gateway_goes_at_once_though_another_one_is_asked() {
    let redis = RedisServer::start().await.unwrap();
    let world = World::start(ControlPlane::shared().await, Some(redis.url()), 2).await.unwrap();
    let mut manifest = world.manifest();
    manifest.rollout = json!({
        "steps": steps(&[(50, 600), (100, 600)]),
        "analysis": {"minMessages": 20, "intervalSeconds": 60},
    });
    world.serve(&manifest).await.unwrap();
    world.new.behave(Behaviour::Fail(500));
    manifest.agent = http_agent(&world.new.url());
    world.apply(&manifest).await.unwrap();
    let runs = |channel: &Value| channel["status"]["rollout"]["stepStartedAt"].is_string();
    world.wait_for("the step", Duration::from_secs(30), runs).await.unwrap();
    // A route that was just written is asked about every second.
    sleep(Duration::from_secs(3)).await;
    everybody_writes(&world, &[1]).await;
    assert_eq!(world.twilio.wait_for_sent(80, Duration::from_secs(60)).await, 80);
    let answered = Instant::now();
    let rejected = |channel: &Value| {
        let rejected = channel["status"]["rejected"].as_array();
        rejected.is_some_and(|rejected| !rejected.is_empty())
    };
    world.wait_for("the end of the canary", Duration::from_secs(90), rejected).await.unwrap();
    let took = answered.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: the next look is a minute away");
    sleep(Duration::from_secs(3)).await;
    let asked = world.new.count();
    everybody_writes(&world, &[0, 1]).await;
    assert_eq!(world.twilio.wait_for_sent(240, Duration::from_secs(60)).await, 240);
    assert_eq!(world.new.count(), asked, "both gateways obey");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_the_channel_and_waits_for_it() {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    world.serve(&world.manifest()).await.unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = world.plane.kubectl().unwrap();
        let output = command.args(["-n", &world.places.channels]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let channel = format!("wach/{CHANNEL}");
    kubectl(&["wait", "--for=condition=RolledOut", &channel, "--timeout=30s"]);
    assert!(kubectl(&["get", "wach"]).contains(CHANNEL));
    assert!(kubectl(&["explain", "wach.spec.rollout.steps"]).contains("holdSeconds"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_canary_run_of_langgraph_is_rescued_with_one_answer_and_one_turn() {
    let server = LangGraphServer::start().await.unwrap();
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    let mut manifest = world.manifest();
    manifest.rollout = json!({
        "steps": steps(&[(50, 600), (100, 600)]),
        "analysis": {"minMessages": 1000, "intervalSeconds": 1},
        // So that the counts stay in status even if they are proof.
        "onFailure": "Pause",
    });
    manifest.agent = lang_graph_agent(server.url(), "agent", 3);
    world.serve(&manifest).await.unwrap();
    manifest.agent = lang_graph_agent(server.url(), "hanging", 3);
    world.apply(&manifest).await.unwrap();
    world
        .wait_for("half of the conversations are on the canary", Duration::from_secs(30), |c| {
            c["status"]["rollout"]["weight"] == 50
                && !c["status"]["rollout"]["stepStartedAt"].is_null()
        })
        .await
        .unwrap();
    // So many that one draw in four thousand leaves the canary without any.
    for who in 1..=12 {
        world.say(0, &customer(who), &format!("klant {who}")).await.unwrap();
    }
    assert_eq!(world.twilio.wait_for_sent(12, Duration::from_secs(60)).await, 12);
    for who in 1..=12 {
        let name = format!("{}|{}", world.account.sender, customer(who));
        let thread = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
        let turns = server.thread(&thread).await.unwrap();
        let roles: Vec<&str> = turns.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(roles, ["human", "ai"], "{turns:?}");
    }
    let counts = world.wait_for("the hung runs are counted", Duration::from_secs(70), |c| {
        c["status"]["analysis"]["canaryFailures"].as_u64() > Some(0)
    });
    counts.await.unwrap();
}
