//! What becomes of a LangGraph run: answered, failed, hung, late, taken over.

use kanarie_queue::claim::KeepRun;
use serde_json::json;

use crate::worker::agents::{LangGraph, NextRun};
use crate::worker::replies;
use crate::worker::world::{World, canary_route, eventually, graph, route};

async fn two_graphs() -> (World, LangGraph) {
    let server = LangGraph::start().await;
    let both = canary_route(graph(&server.url, "stable"), graph(&server.url, "canary"));
    (World::start(both).await, server)
}

#[tokio::test]
async fn a_graph_answers_with_its_text_after_the_message() {
    let (world, server) = two_graphs().await;
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["canary answers"]);
    assert_eq!(server.calls(), ["wait canary"]);
}

#[tokio::test]
async fn a_graph_that_failed_is_rescued_by_stable() {
    let (world, server) = two_graphs().await;
    let _running = world.work().await;
    server.next(NextRun::Error);
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["stable answers"]);
    assert_eq!(world.counted(1).await, [("7:canary:http".to_owned(), 1)]);
}

#[tokio::test]
async fn a_hung_run_is_cancelled_before_stable_is_asked() {
    let (world, server) = two_graphs().await;
    let _running = world.work().await;
    server.next(NextRun::Hang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the run", || server.calls().len() == 1).await;
    world.pass(4).await;
    assert_eq!(replies(&world, 1).await, ["stable answers"]);
    assert_eq!(server.calls(), ["wait canary", "cancel r0", "wait stable"]);
    assert_eq!(world.counted(1).await, [("7:canary:timeout".to_owned(), 1)]);
}

#[tokio::test]
async fn a_run_that_finished_before_it_could_be_cancelled_answers_but_counts_as_late() {
    let (world, server) = two_graphs().await;
    let _running = world.work().await;
    server.next(NextRun::FinishUnseen);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the run", || server.calls().len() == 1).await;
    world.pass(4).await;
    assert_eq!(replies(&world, 1).await, ["r0 answers"]);
    assert_eq!(server.calls(), ["wait canary", "cancel r0", "join r0"]);
    assert_eq!(world.counted(1).await, [("7:canary:timeout".to_owned(), 1)]);
}

/// A worker that died while run r0 of `assistant` went on.
async fn dies_with_a_run(world: &World, server: &LangGraph, assistant: &str) {
    world.admit(1, "SM1", "Hallo").await;
    let thread = "f56f5df1-cee8-549c-bb4d-6ab0c830f20d";
    let lease = world.claim(1).await;
    let run = json!({ "url": server.url, "assistant": assistant, "thread": thread, "run": "r0" });
    world.store.run(KeepRun { lease, run: Some(run.to_string()) }).await.unwrap();
    world.skip(16_000);
}

#[tokio::test]
async fn whoever_takes_a_run_over_waits_for_it_and_begins_no_other() {
    let (world, server) = two_graphs().await;
    dies_with_a_run(&world, &server, "canary").await;
    server.begin("SM1");
    server.finish(0);
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["r0 answers"]);
    assert_eq!(server.calls(), ["join r0"]);
    assert_eq!(world.counted(1).await, [("7:canary:success".to_owned(), 1)]);
}

#[tokio::test]
async fn a_run_of_another_revision_is_cancelled_at_the_takeover() {
    let (world, server) = two_graphs().await;
    dies_with_a_run(&world, &server, "stable").await;
    server.begin("SM1");
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["canary answers"]);
    assert_eq!(server.calls(), ["cancel r0", "wait canary"]);
}

#[tokio::test]
async fn a_run_that_is_gone_is_begun_again() {
    let (world, server) = two_graphs().await;
    dies_with_a_run(&world, &server, "canary").await;
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["canary answers"]);
    assert_eq!(server.calls(), ["join r0", "wait canary"]);
    assert_eq!(world.counted(1).await, [("7:canary:success".to_owned(), 1)]);
}

#[tokio::test]
async fn a_graph_s_question_is_the_reply_and_the_next_message_resumes_it() {
    let (world, server) = two_graphs().await;
    let _running = world.work().await;
    server.next(NextRun::Ask(json!("Which colour?")));
    world.admit(1, "SM1", "Hallo").await;
    assert_eq!(replies(&world, 1).await, ["Which colour?"]);
    world.admit(1, "SM2", "Blauw").await;
    assert_eq!(replies(&world, 2).await[1], "canary heard \"Blauw\"");
    world.admit(1, "SM3", "Dank u").await;
    assert_eq!(replies(&world, 3).await[2], "canary answers");
    let resumed = ["wait canary", "state", "resume canary \"Blauw\"", "state c1", "wait canary"];
    assert_eq!(server.calls(), resumed);
    assert_eq!(world.counted(3).await, [("7:canary:success".to_owned(), 3)]);
}

#[tokio::test]
async fn a_question_of_stable_is_answered_there_by_a_customer_who_has_moved() {
    let server = LangGraph::start().await;
    let (stable, canary) = (graph(&server.url, "stable"), graph(&server.url, "canary"));
    let world = World::start(route(stable.clone())).await;
    let _running = world.work().await;
    server.next(NextRun::Ask(json!("Which colour?")));
    world.admit(1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    world.set_route(canary_route(stable, canary));
    world.admit(1, "SM2", "Blauw").await;
    assert_eq!(replies(&world, 2).await[1], "stable heard \"Blauw\"");
    assert_eq!(world.counts().await, [], "the weight did not choose it");
    world.admit(1, "SM3", "Dank u").await;
    assert_eq!(replies(&world, 3).await[2], "canary answers");
}

#[tokio::test]
async fn a_run_whose_id_died_with_its_worker_is_found_and_waited_for() {
    let (world, server) = two_graphs().await;
    world.admit(1, "SM1", "Hallo").await;
    world.claim(1).await;
    world.skip(16_000);
    server.begin("SM1");
    server.finish(0);
    let _running = world.work().await;
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["r0 answers"]);
    assert_eq!(server.calls(), ["runs", "join r0"]);
    assert_eq!(world.counted(1).await, [("7:canary:success".to_owned(), 1)]);
}
