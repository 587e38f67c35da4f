//! The judge on real parts: agents that die when they have everybody, and a promotion that is undone.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::customer;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::graph::{FakeGraph, Graph};
use kanarie_tests::manifest::{ChannelManifest, http_agent, lang_graph_agent};
use kanarie_tests::world::{CHANNEL, World, reason};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rollout::under_traffic;

const LONG: Duration = Duration::from_secs(150);

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

/// A canary that is well until it has everybody goes back to the first step and is rejected there.
async fn dies_in_the_bake(agent: impl FnOnce(&World) -> Value, die: impl FnOnce(&World)) {
    let (world, mut manifest) = world().await;
    // Long enough to die in it.
    manifest.rollout["steps"][2]["holdSeconds"] = json!(600);
    manifest.agent = agent(&world);
    let first = world.channel().await.unwrap()["status"]["stable"]["revision"].clone();
    let channel = under_traffic(&world, async |world| {
        world.apply(&manifest).await.unwrap();
        let baking = |channel: &Value| {
            channel["status"]["rollout"]["weight"] == 100
                && !channel["status"]["rollout"]["stepStartedAt"].is_null()
        };
        world.wait_for("the bake begins", LONG, baking).await.unwrap();
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
async fn a_graph_that_fails_in_the_bake_is_taken_back_and_never_promoted() {
    let graph = FakeGraph::start(Graph::Echo("nieuw: ".to_owned())).await.unwrap();
    let agent = lang_graph_agent(&graph.url(), "care", 5);
    dies_in_the_bake(|_| agent, |_| graph.behave(Graph::Fail)).await;
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

async fn command(world: &World, verb: &str) {
    let api: Api<kanarie_crds::channel::WhatsAppChannel> =
        Api::namespaced(world.plane.client(), &world.places.channels);
    let annotations = json!({"kanarie.dev/command": verb, "kanarie.dev/command-id": verb});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    api.patch(CHANNEL, &PatchParams::default(), &patch).await.unwrap();
}
