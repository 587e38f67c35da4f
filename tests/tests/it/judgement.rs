//! The judge on real parts: agents that die when they have everybody, customers who always fail, a
//! channel that is never quite well, and a promotion that is undone.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{CONTROL_SECRET, CONTROL_TOKEN_KEY};
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::graph::{FakeGraph, Graph};
use kanarie_tests::manifest::{ChannelManifest, http_agent, lang_graph_agent, steps};
use kanarie_tests::world::{CHANNEL, World, reason};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::crowd::{Crowd, under_traffic, under_traffic_of};

const LONG: Duration = Duration::from_secs(150);
/// What happens in a second on a quiet machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A world with two agents that answer, and the channel on the old one.
async fn world() -> (World, ChannelManifest) {
    let world = World::start(ControlPlane::shared().await, None, 1).await.unwrap();
    let manifest = world.manifest();
    world.serve(&manifest).await.unwrap();
    (world, manifest)
}

/// Reasons of the transitions, oldest first.
fn history(channel: &Value) -> Vec<String> {
    let history = channel["status"]["history"].as_array().into_iter().flatten().rev();
    history.map(|one| one["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The transitions of a rollout that nothing held up.
const LANDS: [&str; 5] =
    ["FirstRevision", "RolloutStarted", "StepAdvanced", "StepAdvanced", "Completed"];

/// The rollout has ended, one way or the other.
fn has_ended(channel: &Value) -> bool {
    let word = reason(channel, "RolledOut");
    word == Some("Completed") || word == Some("RolledBack")
}

/// The canary has everybody, and its hold runs.
fn is_baking(channel: &Value) -> bool {
    let rollout = &channel["status"]["rollout"];
    rollout["weight"] == 100 && !rollout["stepStartedAt"].is_null()
}

/// A canary that is well until it has everybody goes back to the first step and is rejected there.
async fn dies_in_the_bake(agent: impl FnOnce(&World) -> Value, die: impl FnOnce(&World)) {
    let (world, mut manifest) = world().await;
    // Long enough to die in it.
    manifest.rollout["steps"][2]["holdSeconds"] = json!(600);
    manifest.agent = agent(&world);
    let first = world.channel().await.unwrap()["status"]["stable"]["revision"].clone();
    let channel = under_traffic(&world, async |world| {
        world.apply(&manifest).await.unwrap();
        world.wait_for("the bake begins", LONG, is_baking).await.unwrap();
        die(world);
        let rejected = |channel: &Value| reason(channel, "RolledOut") == Some("RolledBack");
        world.wait_for("the dead revision is rejected", LONG, rejected).await.unwrap()
    })
    .await;
    let seen = history(&channel);
    let at = |reason: &str| seen.iter().position(|one| one == reason);
    assert!(at("SteppedBack").is_some() && at("SteppedBack") < at("RolledBack"), "{seen:?}");
    assert_eq!(at("Completed"), None, "{seen:?}");
    assert_eq!(channel["status"]["stable"]["revision"], first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_answers_503_in_the_bake_is_taken_back_and_never_promoted() {
    let die = |world: &World| world.new.behave(Behaviour::Fail(503));
    dies_in_the_bake(|world| http_agent(&world.new.url()), die).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_hangs_in_the_bake_is_taken_back_and_never_promoted() {
    let die = |world: &World| world.new.behave(Behaviour::Hang);
    dies_in_the_bake(|world| http_agent(&world.new.url()), die).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_both_agents_in_the_bake_rejects_nobody_and_the_bake_starts_anew() {
    let (world, mut manifest) = world().await;
    // Long enough for the outage to begin in it.
    manifest.rollout["steps"][2]["holdSeconds"] = json!(8);
    manifest.agent = http_agent(&world.new.url());
    let channel = under_traffic(&world, async |world| {
        world.apply(&manifest).await.unwrap();
        world.wait_for("the bake begins", LONG, is_baking).await.unwrap();
        // In this order, so that stable rescues nobody.
        world.old.behave(Behaviour::Fail(503));
        world.new.behave(Behaviour::Fail(503));
        let both = |channel: &Value| reason(channel, "RolledOut") == Some("SharedDegradation");
        world.wait_for("both suffer", LONG, both).await.unwrap();
        world.new.behave(Behaviour::Echo("nieuw: ".to_owned()));
        world.old.behave(Behaviour::Echo("oud: ".to_owned()));
        world.wait_for("the rollout ends", LONG, has_ended).await.unwrap()
    })
    .await;
    let mut seen = history(&channel);
    assert_eq!(seen.pop().as_deref(), Some("Completed"), "{seen:?}");
    assert_eq!(seen.pop().as_deref(), Some("StepRestarted"), "{seen:?}");
    assert_eq!(seen, LANDS[..4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_that_fails_in_the_bake_is_taken_back_and_never_promoted() {
    let graph = FakeGraph::start(Graph::Echo("nieuw: ".to_owned())).await.unwrap();
    let agent = lang_graph_agent(&graph.url(), "care", 5);
    dies_in_the_bake(|_| agent, |_| graph.behave(Graph::Fail)).await;
}

/// What is said of each passed step, oldest first.
fn passed(channel: &Value) -> Vec<String> {
    let history = channel["status"]["history"].as_array().into_iter().flatten().rev();
    let passed = history.filter(|one| one["reason"] == "StepAdvanced");
    passed.map(|one| one["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Somebody whom the canary answers at 10 %, found by letting so many write that no draw leaves it
/// without any.
async fn somebody_on_the_canary(world: &World) -> u32 {
    for who in 201..=300 {
        assert_eq!(world.say(0, &customer(who), "hallo #0").await.unwrap().status, 200);
    }
    assert_eq!(world.twilio.wait_for_sent(100, LONG).await, 100);
    let by_canary = |who: &u32| {
        let replies = world.twilio.sent().into_iter();
        replies.filter(|one| one.to == customer(*who)).any(|one| one.body.starts_with("nieuw"))
    };
    (201..=300).find(by_canary).unwrap()
}

/// Writes on and on, though nobody answers. So seldom that he is less than one of a hundred messages of
/// the canary, for more than that would hold a step of a limit of 1 %.
async fn writes(world: &World, who: u32) -> Infallible {
    let mut number = 0;
    loop {
        number += 1;
        let text = format!("klant {who} vraag #{number}");
        assert_eq!(world.say(0, &customer(who), &text).await.unwrap().status, 200);
        sleep(Duration::from_secs(20)).await;
    }
}

/// The messages with these words that an agent was asked about.
fn messages(agent: &FakeAgent, words: &str) -> BTreeSet<String> {
    let asked = agent.asked().into_iter().filter(|one| one.text.contains(words));
    asked.map(|one| one.sid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_canary_lands_though_one_of_its_customers_always_fails_on_both_tracks() {
    let (world, mut manifest) = world().await;
    manifest.limits["patienceSeconds"] = json!(30);
    manifest.agent = http_agent(&world.new.url());
    world.apply(&manifest).await.unwrap();
    let runs = |channel: &Value| !channel["status"]["rollout"]["stepStartedAt"].is_null();
    world.wait_for("the first step begins", LONG, runs).await.unwrap();
    // Until his second message is asked, which waits until the patience of the first one ends. Nobody has written
    // yet, so that no step has passed.
    manifest.rollout["state"] = json!("Paused");
    world.apply(&manifest).await.unwrap();
    let broken = somebody_on_the_canary(&world).await;
    let words = format!("klant {broken} ");
    for (agent, prefix) in [(&world.old, "oud: "), (&world.new, "nieuw: ")] {
        let well = Box::new(Behaviour::Echo(prefix.to_owned()));
        agent.behave(Behaviour::Shun(words.clone(), 500, well));
    }
    let failed = |world: &World| &messages(&world.new, &words) & &messages(&world.old, &words);
    let channel = under_traffic(&world, async |world| {
        let lands = async {
            while failed(world).len() < 2 {
                sleep(Duration::from_millis(200)).await;
            }
            manifest.rollout["state"] = json!("Running");
            world.apply(&manifest).await.unwrap();
            world.wait_for("the rollout ends", LONG, has_ended).await.unwrap()
        };
        tokio::select! {
            ended = lands => ended,
            never = writes(world, broken) => match never {},
        }
    })
    .await;
    let went: Vec<_> = [&LANDS[..2], &["Paused", "Resumed"], &LANDS[2..]].concat();
    assert_eq!(history(&channel), went, "{:#}", channel["status"]);
    let told = world.twilio.sent().into_iter().filter(|one| one.to == customer(broken)).count();
    assert_eq!(told, 1, "he was answered before, and never since");
    let first = passed(&channel).swap_remove(0);
    assert!(first.contains(" failed (") && !first.contains("canary 0 "), "{first}");
    println!("{first}");
}

/// The first question about two of a hundred messages fails at stable, about fewer at the canary. The
/// limit is under both, so that hardly a step passes by its own rate: only against stable. That takes
/// some thousand messages, at a lower weight many more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_of_which_two_percent_fail_lands_a_repair() {
    let redis = RedisServer::start().await.unwrap();
    let world = World::start(ControlPlane::shared().await, Some(redis.url()), 1).await.unwrap();
    let mut manifest = world.manifest();
    manifest.rollout = json!({
        "steps": steps(&[(25, 2), (50, 2), (100, 2)]),
        "analysis": {
            "maxErrorBasisPoints": 10, "certifyBasisPoints": 500, "minMessages": 300,
            "intervalSeconds": 1,
        },
    });
    manifest.limits["outboundPerSecond"] = json!(1000);
    world.serve(&manifest).await.unwrap();
    for (agent, share, prefix) in [(&world.old, 200, "oud: "), (&world.new, 80, "nieuw: ")] {
        let well = Box::new(Behaviour::Echo(prefix.to_owned()));
        agent.behave(Behaviour::Noisy(share, well));
    }
    // Each failed customer counts once a step.
    let crowd = Crowd { customers: 1_500, rest: Duration::from_secs(15) };
    let channel = under_traffic_of(crowd, &world, async |world| {
        manifest.agent = http_agent(&world.new.url());
        world.apply(&manifest).await.unwrap();
        world.wait_for("the rollout ends", LONG, has_ended).await.unwrap()
    })
    .await;
    assert_eq!(history(&channel), LANDS, "{:#}", channel["status"]);
    println!("{}", passed(&channel).join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_undo_the_next_message_is_answered_by_the_former_agent() {
    let (world, mut manifest) = world().await;
    manifest.agent = http_agent(&world.new.url());
    world.apply(&manifest).await.unwrap();
    let rolls = |channel: &Value| !channel["status"]["canary"].is_null();
    world.wait_for("the rollout starts", LONG, rolls).await.unwrap();
    let in_force = |wanted: &'static str| {
        move |channel: &Value| {
            reason(channel, "RolledOut") == Some(wanted)
                && reason(channel, "Routed") == Some("InForce")
        }
    };
    for (verb, result, prefix) in
        [("promote-full", "PromotedInFull", "nieuw: "), ("undo", "Undone", "oud: ")]
    {
        command(&world, verb).await;
        world.wait_for(result, LONG, in_force(result)).await.unwrap();
        let sent = world.twilio.sent().len();
        world.say(0, &customer(1), "vraag").await.unwrap();
        assert_eq!(world.twilio.wait_for_sent(sent + 1, LONG).await, sent + 1);
        let reply = world.twilio.sent().pop().unwrap().body;
        assert!(reply.starts_with(prefix), "after {verb}: {reply}");
    }
}

/// What the gateways say that they obey, asked of the first one.
struct Control {
    url: String,
    token: String,
}

impl Control {
    async fn of(world: &World) -> Self {
        let secrets: Api<Secret> = Api::namespaced(world.plane.client(), &world.places.routes);
        let token = secrets.get(CONTROL_SECRET).await.unwrap().data.unwrap();
        let token = String::from_utf8(token[CONTROL_TOKEN_KEY].0.clone()).unwrap();
        let uid = world.channel().await.unwrap()["metadata"]["uid"].clone();
        let gateway = world.gateways[0].admin_url();
        let url = format!("{gateway}/control/v1/state?channels={}", uid.as_str().unwrap());
        Self { url, token }
    }

    /// The serving that each of the gateways obeys.
    async fn servings(&self, world: &World) -> Vec<u64> {
        let request = world.client.get(&self.url).bearer_auth(&self.token);
        let state: Value = request.send().await.unwrap().json().await.unwrap();
        let told = state.pointer("/channels/0/acknowledged").and_then(Value::as_array);
        told.into_iter().flatten().filter_map(|one| one["serving"].as_u64()).collect()
    }
}

/// What the customers of two gateways are told.
#[derive(Default)]
struct Signs {
    stop: AtomicBool,
    /// Both gateways have said that they obey: what is written from now on says so.
    obeyed: AtomicBool,
}

/// Eighty customers write to one gateway after the other until told to stop, about forty messages a
/// second to each.
async fn everybody_writes(world: &World, signs: &Signs) {
    let customers = (1..=80_u32).map(|who| async move {
        sleep(Duration::from_millis(12) * who).await;
        for number in 1_usize.. {
            if signs.stop.load(Ordering::Relaxed) {
                return;
            }
            let when = if signs.obeyed.load(Ordering::Relaxed) { AFTERWARDS } else { "" };
            let text = format!("klant {who} vraag{when} #{number}");
            let answer = world.say(number % 2, &customer(who), &text).await.unwrap();
            assert_eq!(answer.status, 200);
            sleep(Duration::from_secs(1)).await;
        }
    });
    futures::future::join_all(customers).await;
}

/// In the texts of those who write when every gateway has said that it obeys.
const AFTERWARDS: &str = " daarna";

/// A world with two gateways, whose channel has just promoted the new agent.
async fn promoted(redis: &RedisServer) -> World {
    let world = World::start(ControlPlane::shared().await, Some(redis.url()), 2).await.unwrap();
    let mut manifest = world.manifest();
    manifest.limits["outboundPerSecond"] = json!(1000);
    world.serve(&manifest).await.unwrap();
    manifest.agent = http_agent(&world.new.url());
    world.apply(&manifest).await.unwrap();
    let rolls = |channel: &Value| !channel["status"]["canary"].is_null();
    world.wait_for("the rollout starts", LONG, rolls).await.unwrap();
    command(&world, "promote-full").await;
    let promoted = |channel: &Value| {
        reason(channel, "RolledOut") == Some("PromotedInFull")
            && reason(channel, "Routed") == Some("InForce")
    };
    world.wait_for("the promotion is in force", LONG, promoted).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_is_obeyed_by_every_gateway_at_once() {
    let redis = RedisServer::start().await.unwrap();
    let world = promoted(&redis).await;
    let control = Control::of(&world).await;
    let before = control.servings(&world).await;
    assert_eq!(before.len(), 2, "both gateways");
    let signs = Signs::default();
    let story = async {
        // A route that was just written is asked about every second.
        sleep(Duration::from_secs(3)).await;
        let begun = Instant::now();
        command(&world, "undo").await;
        while control.servings(&world).await != [before[0] + 1, before[1] + 1] {
            assert!(begun.elapsed() < LONG, "not obeyed: {:?}", control.servings(&world).await);
            sleep(Duration::from_millis(10)).await;
        }
        let took = begun.elapsed();
        signs.obeyed.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(3)).await;
        signs.stop.store(true, Ordering::Relaxed);
        (begun, took)
    };
    let ((begun, took), ()) = tokio::join!(story, everybody_writes(&world, &signs));
    assert!(world.new.count() > 80, "it was asked until then");
    let last = world.new.asked().pop().unwrap().at - begun;
    println!("its agent is asked no more after {last:?}, both gateways say so after {took:?}");
    assert_eq!(messages(&world.new, AFTERWARDS), BTreeSet::new(), "of both gateways");
    assert!(messages(&world.old, AFTERWARDS).len() > 80);
    assert!(took < AT_ONCE, "{took:?}: the next look is a minute away");
    assert!(last < AT_ONCE, "{last:?}: the next look is a minute away");
    assert_eq!(world.twilio.sent_twice(), []);
    assert_eq!(world.twilio.out_of_order(), []);
}

async fn command(world: &World, verb: &str) {
    let api: Api<kanarie_crds::channel::WhatsAppChannel> =
        Api::namespaced(world.plane.client(), &world.places.channels);
    let status = api.get(CHANNEL).await.unwrap().status.unwrap();
    let canary = status.canary.map(|canary| canary.revision);
    let revision = canary.or(status.stable.map(|stable| stable.revision)).unwrap();
    let annotations = json!({"kanarie.dev/command": format!("{verb} {revision}")});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    api.patch(CHANNEL, &PatchParams::default(), &patch).await.unwrap();
}
