//! The channel `care` of every test, and what its owner does with it.

use std::time::Duration;

use kanarie_fakes::server::free_port;
use kanarie_operator::process::config::Config;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

pub(crate) const OLD: &str = "https://old.example.com/";
pub(crate) const NEW: &str = "https://new.example.com/";

/// A channel that is served, with nothing under way.
pub(crate) async fn served(bench: &Bench) -> Value {
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    bench.until("care", |channel| condition(channel, "Ready") == Some("True")).await.unwrap()
}

/// The channel asks for another agent; gives the serving of its first step.
pub(crate) async fn rolling(bench: &Bench) -> u64 {
    served(bench).await;
    bench.apply(&bench.manifest("care", NEW)).await.unwrap();
    let (route, _) = bench.until_route(|route| route.weight.percent() == 10).await.unwrap();
    step_runs(bench).await;
    route.serving
}

/// Waits until the clock of the present step runs, and status says so: for a moment after a transition it still
/// tells of the step before.
pub(crate) async fn step_runs(bench: &Bench) {
    let present = bench.route().await.unwrap().1.rollout.transition;
    let started = |channel: &Value| {
        channel["status"]["transition"].as_u64() >= Some(present)
            && channel["status"]["rollout"]["stepStartedAt"].is_string()
    };
    bench.until("care", started).await.unwrap();
}

/// The hold of the present step runs, then a minute in which what was asked last may still fail, and in a
/// bake the second between its two looks.
pub(crate) async fn held(bench: &Bench, seconds: u64) {
    bench.pass(seconds);
    let waits = |channel: &Value| reason(channel, "RolledOut") == Some("WaitingForAnswers");
    bench.until("care", waits).await.unwrap();
    let serving = bench.route().await.unwrap().1.rollout.serving;
    bench.pass(61);
    for _ in 0..1_200 {
        let state = bench.route().await.unwrap().1.rollout;
        let hold = state.rolling().and_then(|rolling| rolling.hold());
        let passes = hold.is_some_and(|hold| hold.passing.is_some());
        if passes {
            bench.pass(1);
        }
        if passes || state.serving != serving {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Counts for both tracks of a serving; customers are drawn by the weight, so let the shares be like it.
pub(crate) fn count(bench: &Bench, serving: u64, canary: (u64, u64), stable: u64) {
    let (good, bad) = canary;
    bench.script(|script| {
        let counts = vec![
            (Track::Canary, Class::Success, good),
            (Track::Canary, Class::Http, bad),
            (Track::Stable, Class::Success, stable),
        ];
        script.counts.insert(serving, counts);
    });
}

pub(crate) async fn annotate(bench: &Bench, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    bench.channels().patch("care", &PatchParams::default(), &patch).await.unwrap();
}

/// A command, and who says it.
pub(crate) fn command(text: &str) -> Value {
    json!({"kanarie.dev/command": text, "kanarie.dev/actor": "anna"})
}

pub(crate) fn revision(channel: &Value, track: &str) -> String {
    channel["status"][track]["revision"].as_str().unwrap_or_default().to_owned()
}

/// What the operator says at its admin port.
pub(crate) async fn said(config: &Config, path: &str) -> String {
    let url = format!("http://{}/{path}", config.admin_listen);
    match reqwest::get(url).await {
        Ok(response) => format!("{} {}", response.status(), response.text().await.unwrap()),
        Err(error) => error.to_string(),
    }
}

/// The same with a port of its own, so that it can be asked.
pub(crate) fn with_port(mut config: Config) -> Config {
    config.admin_listen.set_port(free_port().unwrap());
    config
}

/// How often an Event with this reason was told of the channel `care`, once it was.
pub(crate) async fn told(bench: &Bench, reason: &str) -> usize {
    let events = bench.until_told("care", reason).await.unwrap();
    events.iter().filter(|told| *told == reason).count()
}
