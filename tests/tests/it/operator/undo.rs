//! Back to the former revision after a promotion, while it is warm.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kanarie_tests::bench::Bench;
use kanarie_tests::manifest::http_agent;
use kanarie_tests::world::{condition, reason};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::operator::care::{NEW, OLD, annotate, command, revision, rolling};

/// The marks of a ControllerRevision: promoted at, rejected at.
type Marks = (Option<String>, Option<String>);

/// Promotes the canary at once; gives the former stable revision and the one of now.
async fn promoted(bench: &Bench) -> (String, String) {
    let before =
        bench.until("care", |channel| !channel["status"]["canary"].is_null()).await.unwrap();
    annotate(bench, command(&format!("promote-full {}", revision(&before, "canary")))).await;
    let done = |channel: &Value| {
        reason(channel, "RolledOut") == Some("PromotedInFull")
            && revision(channel, "stable") == revision(&before, "canary")
    };
    bench.until("care", done).await.unwrap();
    (revision(&before, "stable"), revision(&before, "canary"))
}

async fn revisions(bench: &Bench) -> BTreeMap<String, Marks> {
    let api: Api<ControllerRevision> =
        Api::namespaced(bench.plane.client(), &bench.places.channels);
    let all = api.list(&ListParams::default()).await.unwrap().items.into_iter();
    let marks = |revision: ControllerRevision| {
        let annotations = revision.metadata.annotations.unwrap_or_default();
        let mark = |key: &str| annotations.get(&format!("kanarie.dev/{key}-at")).cloned();
        (revision.metadata.name.unwrap_or_default(), (mark("promoted"), mark("rejected")))
    };
    all.map(marks).collect()
}

/// Waits until the revisions are as described, and gives them.
async fn until_revisions(
    bench: &Bench,
    mut are: impl FnMut(&BTreeMap<String, Marks>) -> bool,
) -> BTreeMap<String, Marks> {
    let mut now = revisions(bench).await;
    for _ in 0..800 {
        if are(&now) {
            return now;
        }
        sleep(Duration::from_millis(50)).await;
        now = revisions(bench).await;
    }
    assert!(are(&now), "not in time; revisions: {now:#?}");
    now
}

/// A route that is lost is made again around the revision that came back.
async fn is_found_again(bench: &Bench, old: &str) {
    bench.routes().delete(&bench.route_name(), &DeleteParams::default()).await.unwrap();
    let (route, _) = bench.until_route(|_| true).await.unwrap();
    assert_eq!(route.stable.revision.as_str(), old);
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_puts_the_former_revision_back_in_one_write_and_rejects_the_one_it_leaves() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    let (old, new) = promoted(&bench).await;
    let before = bench.route().await.unwrap().0.serving;
    annotate(&bench, command(&format!("undo {new}"))).await;
    let back = |route: &kanarie_crds::route::Route| route.stable.revision.as_str() == old;
    let (route, _) = bench.until_route(back).await.unwrap();
    assert_eq!((route.serving, route.canary.is_none()), (before + 1, true));
    let undone = |channel: &Value| reason(channel, "RolledOut") == Some("Undone");
    let channel = bench.until("care", undone).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("False"));
    assert_eq!(condition(&channel, "Stalled"), Some("True"));
    assert_eq!(channel["status"]["rejected"], json!([new]));
    assert_eq!(channel["status"]["lastRollback"]["revision"], json!(new));
    assert_eq!(channel["status"]["lastCommand"]["result"], "Executed");
    let is_marked = |all: &BTreeMap<String, Marks>| all[&old].0 > all[&new].0;
    until_revisions(&bench, |all| is_marked(all) && all[&new].1.is_some()).await;
    is_found_again(&bench, &old).await;
    annotate(&bench, command(&format!("undo {old}"))).await;
    let refused = |channel: &Value| channel["status"]["lastCommand"]["id"] == format!("undo {old}");
    let channel = bench.until("care", refused).await.unwrap();
    assert_eq!(channel["status"]["lastCommand"]["result"], "Refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_spec_is_in_force_at_once_while_it_is_warm_and_rejects_nothing() {
    let bench = Bench::start().await.unwrap();
    rolling(&bench).await;
    let (old, new) = promoted(&bench).await;
    bench.script(|script| script.silent = true);
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    let back = |route: &kanarie_crds::route::Route| route.stable.revision.as_str() == old;
    bench.until_route(back).await.unwrap();
    bench.script(|script| script.silent = false);
    let reverted = |channel: &Value| reason(channel, "RolledOut") == Some("Reverted");
    let channel = bench.until("care", reverted).await.unwrap();
    assert_eq!(condition(&channel, "RolledOut"), Some("True"));
    assert_eq!(channel["status"]["rejected"], json!([]));
    let marked = until_revisions(&bench, |all| all[&old].0 > all[&new].0).await;
    assert_eq!(marked.len(), 2, "no revision was made for it");
    is_found_again(&bench, &old).await;
}

/// Scenario 04: the former stable revision is kept as the one to go back to.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_04_a_former_revision_is_not_pruned_and_after_its_window_its_spec_is_a_rollout() {
    let bench = Bench::start().await.unwrap();
    let short = |agent: &str| {
        let mut manifest = bench.manifest("care", NEW);
        manifest.agent = http_agent(agent);
        manifest.rollout["revisionHistoryLimit"] = json!(1);
        manifest.rollout["rollbackWindowSeconds"] = json!(60);
        manifest
    };
    rolling(&bench).await;
    let (first, _) = promoted(&bench).await;
    let mut former = String::new();
    for number in 3..6 {
        let agent = format!("https://agent-{number}.example.com/");
        bench.apply(&short(&agent)).await.unwrap();
        (former, _) = promoted(&bench).await;
    }
    let kept = until_revisions(&bench, |all| !all.contains_key(&first)).await;
    assert!(kept.contains_key(&former), "{former} is not among {kept:?}");
    bench.pass(60);
    bench.apply(&short("https://agent-4.example.com/")).await.unwrap();
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    assert_eq!(route.canary.unwrap().revision.as_str(), former);
}
