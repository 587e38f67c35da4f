//! What ten thousand channels cost, and how fast a canary is taken off among them: `make bench-operator`.
//!
//! Starts a control plane of its own (kube-apiserver and etcd), the operator of this build as a process
//! of its own under the roles of the chart, and stand-ins for the gateways, which follow the routes and
//! answer. Prints a table of what was measured beside the limits and beside Argo Rollouts and Flagger
//! at the same work. Asserts nothing, since machines differ. Requests are counted where they arrive.

mod fleet;
mod meter;
mod plant;
mod scenes;
mod table;

use anyhow::{Result, bail};
use clap::Parser;
use kanarie_tests::audit::AuditedRequests;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::product::{OperatorOptions, Program};
use kanarie_tests::roles::{self, Places};
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::plant::Plant;
use crate::scenes::Scenes;
use crate::table::Table;

/// Measures the operator beside many channels.
#[derive(Parser)]
struct Options {
    /// Channels
    #[arg(long, env = "KANARIE_BENCH_CHANNELS", default_value_t = 10_000)]
    channels: u32,
    /// Rollouts at once
    #[arg(long, env = "KANARIE_BENCH_ROLLOUTS", value_delimiter = ',', default_value = "200,1000")]
    rollouts: Vec<u32>,
    /// Seconds for which nothing happens
    #[arg(long, env = "KANARIE_BENCH_REST_SECONDS", default_value_t = 120)]
    rest_seconds: u64,
    /// Canaries that turn bad
    #[arg(long, env = "KANARIE_BENCH_BAD", default_value_t = 100)]
    bad: u32,
    /// Transitions over which memory is compared
    #[arg(long, env = "KANARIE_BENCH_TRANSITIONS", default_value_t = 100_000)]
    transitions: u64,
    /// Scenes after the first: rest, restart, rollouts, bad, memory
    #[arg(
        long,
        env = "KANARIE_BENCH_SCENES",
        value_delimiter = ',',
        default_value = "rest,restart,rollouts,bad,memory"
    )]
    scenes: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let plane = ControlPlane::start().await?;
    plane.install_crd().await?;
    let places = Places::make(&plane).await?;
    roles::apply(&plane, &places).await?;
    let fleet = Fleet::start(plane.client(), &places.routes).await?;
    let plant = Plant::new(plane.client(), &places.channels);
    let made = Instant::now();
    plant.grow(options.channels).await?;
    println!("{} channels were made in {:.0} s", options.channels, made.elapsed().as_secs_f64());
    let account = "kanarie-operator";
    let operator = OperatorOptions {
        kubeconfig: plane.kubeconfig_for_service_account(&places.system, account).await?,
        routes_namespace: places.routes.clone(),
        watch_namespaces: places.channels.clone(),
        gateway_url: fleet.url(),
        // Nobody is there: what Twilio says is none of the operator's cost.
        twilio: "http://127.0.0.1:1".to_owned(),
        arguments: vec!["--leader-elect".to_owned()],
    };
    let requests = AuditedRequests::of(&plane, &places.system, account);
    let began = Instant::now();
    let operator = Program::operator(&operator).await?;
    let (table, agent) = (Table::default(), 0);
    let mut scenes = Scenes { options, plant, fleet, operator, requests, table, agent };
    scenes.first(began).await?;
    for scene in scenes.options.scenes.clone() {
        println!("-- {scene}");
        match scene.as_str() {
            "rest" => scenes.rest().await?,
            "restart" => scenes.restart().await?,
            "rollouts" => scenes.rollouts(&scenes.options.rollouts.clone()).await?,
            "bad" => scenes.bad(200, scenes.options.bad).await?,
            "memory" => scenes.wander(scenes.options.transitions).await?,
            other => bail!("there is no scene {other}"),
        }
    }
    println!("\n{}", scenes.table);
    Ok(())
}
