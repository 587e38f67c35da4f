//! The scenes: what the operator is asked to do, and what is measured of it.
//!
//! Takes the operator's process, the channels and the gateways; gives rows of the table, in an order in
//! which each scene finds what the one before has left.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kanarie_tests::audit::{AuditedRequests, RequestCounts};
use kanarie_tests::product::Program;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Options;
use crate::fleet::Fleet;
use crate::meter::{cpu_seconds, peak, resident};
use crate::plant::Plant;
use crate::table::{Limit, Table};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often it is looked whether something is so.
const LOOK: Duration = Duration::from_millis(50);
/// Requests of a second while nothing is at work any more.
const QUIET: u64 = 2;

/// All that the scenes need.
pub(crate) struct Scenes {
    /// How much of everything.
    pub(crate) options: Options,
    /// The channels.
    pub(crate) plant: Plant,
    /// The gateways.
    pub(crate) fleet: Fleet,
    /// The operator.
    pub(crate) operator: Program,
    /// What it asks the API server.
    pub(crate) requests: AuditedRequests,
    /// What was measured.
    pub(crate) table: Table,
    /// Number of the next agent: each rollout is to another one.
    pub(crate) agent: u32,
}

impl Scenes {
    /// Channels that were made while no operator ran: all of them ready.
    pub(crate) async fn first(&mut self, began: Instant) -> Result<()> {
        let all = self.options.channels as usize;
        let took = self.plant.until(began, PATIENCE, all, |seen| seen.ready).await?;
        let limit = Limit::AtMost(120.0);
        self.table.row(format!("{all} new ones, all ready"), "s", took.as_secs_f64(), limit);
        let pid = self.operator.pid()?;
        self.table.row("  processor time for it".into(), "s", cpu_seconds(pid)?, Limit::Open);
        let counts = self.requests.since().await?;
        let each = counts.all() as f64 / all as f64;
        self.table.row("  API requests a channel".into(), "", each, Limit::Open);
        println!("  {counts}");
        Ok(())
    }

    /// Nothing happens.
    pub(crate) async fn rest(&mut self) -> Result<()> {
        self.until_quiet().await?;
        let pid = self.operator.pid()?;
        let (cpu, questions) = (cpu_seconds(pid)?, self.fleet.questions());
        let began = Instant::now();
        sleep(Duration::from_secs(self.options.rest_seconds)).await;
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let cpu = (cpu_seconds(pid)? - cpu) / minutes;
        let questions = (self.fleet.questions() - questions) as f64 / minutes;
        let counts = self.requests.since().await?;
        let all = self.options.channels;
        println!("  {counts}");
        let (open, of) = (Limit::Open, format!("{all} at rest"));
        let mib = Limit::AtMost(150.0);
        self.table.beside("163, of 1,000", "121, of 1,000");
        self.table.row(format!("{of}: resident memory"), "MiB", resident(pid)?, mib);
        self.table.row("  the most it ever had".into(), "MiB", peak(pid)?, open);
        self.table.beside("0.10, of 1,000", "7.7, of 1,000");
        self.table.row(format!("{of}: processor time"), "s/min", cpu, Limit::AtMost(1.0));
        let requests = counts.all() as f64 / minutes;
        let limit = Limit::AtMost(60.0);
        self.table.row(format!("{of}: API requests"), "/min", requests, limit);
        let leases = counts.leases() as f64 / minutes;
        self.table.row("  and of the Lease".into(), "/min", leases, Limit::AtMost(12.5));
        self.table.row("  questions to the gateways".into(), "/min", questions, open);
        Ok(())
    }

    /// The operator is stopped and started again: every channel looked at.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.operator.stop()?;
        self.requests.since().await?;
        let all = u64::from(self.options.channels);
        let began = Instant::now();
        self.operator.spawn()?;
        self.operator.wait_until_ready().await?;
        let ready = began.elapsed().as_secs_f64();
        loop {
            let looked_at = number(&self.operator.metrics().await?, LOOKS)?;
            if looked_at >= all as f64 {
                break;
            }
            ensure!(began.elapsed() < PATIENCE, "{looked_at} of {all} were looked at");
            sleep(Duration::from_millis(500)).await;
        }
        let took = began.elapsed().as_secs_f64();
        let limit = Limit::AtMost(10.0);
        self.table.row(format!("restart with {all} routes, all looked at"), "s", took, limit);
        self.table.row("  ready".into(), "s", ready, Limit::Open);
        let cpu = cpu_seconds(self.operator.pid()?)?;
        self.table.row("  processor time for it".into(), "s", cpu, Limit::Open);
        let counts = self.until_quiet().await?;
        println!("  {counts}");
        let each = counts.all() as f64 / all as f64;
        self.table.row("  API requests a channel, until quiet".into(), "", each, Limit::Open);
        Ok(())
    }

    /// So many rollouts at once, beside one alone.
    pub(crate) async fn rollouts(&mut self, counts: &[u32]) -> Result<()> {
        let ideal = self.roll_out(1).await?.as_secs_f64();
        self.table.row("one rollout of three steps of 10 s".into(), "s", ideal, Limit::Open);
        let most = self.options.channels;
        for count in counts.iter().copied().filter(|count| *count <= most) {
            self.until_quiet().await?;
            self.requests.since().await?;
            let cpu = cpu_seconds(self.operator.pid()?)?;
            let took = self.roll_out(count).await?.as_secs_f64();
            let cpu = cpu_seconds(self.operator.pid()?)? - cpu;
            let requests = self.requests.since().await?;
            println!("  {requests}");
            if count == 200 {
                self.table.beside("157 (20)", "154 (70)");
            }
            let limit = Limit::AtMost(ideal + 2.0);
            self.table.row(
                format!("{count} rollouts at once, last end after last edit"),
                "s",
                took,
                limit,
            );
            self.table.row("  processor time for it".into(), "s", cpu, Limit::Open);
            if count == 200 {
                self.table.beside("40", "14");
            }
            let writes = requests.writes() as f64 / f64::from(count);
            let limit = Limit::AtMost(18.0 + took / 60.0);
            self.table.row("  API writes a rollout".into(), "", writes, limit);
            let all = requests.all() as f64 / f64::from(count);
            self.table.row("  API requests a rollout".into(), "", all, Limit::Open);
        }
        Ok(())
    }

    async fn roll_out(&mut self, count: u32) -> Result<Duration> {
        let spec = self.next_agent();
        let edited = self.plant.edit(0..count, &spec).await?;
        let began = Instant::now();
        self.plant.rolled_out(began, PATIENCE, &edited).await
    }

    /// Canaries turn bad one after the other, among many that roll: until the last gateway obeys weight 0.
    pub(crate) async fn bad(&mut self, rolling: u32, bad: u32) -> Result<()> {
        let rolling = rolling.min(self.options.channels);
        let mut spec = self.next_agent();
        spec["rollout"] =
            json!({"steps": kanarie_tests::manifest::steps(&[(10, 3600), (100, 3600)])});
        self.plant.edit(0..rolling, &spec).await?;
        let uids = self.plant.uids(0..rolling);
        let began = Instant::now();
        while self.fleet.at_weight(&uids, 10) < uids.len() {
            ensure!(began.elapsed() < PATIENCE, "not every rollout has begun");
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(15)).await; // every hold has begun and has been looked at
        self.requests.since().await?;
        let cpu = cpu_seconds(self.operator.pid()?)?;
        sleep(Duration::from_secs(60)).await;
        let cpu = cpu_seconds(self.operator.pid()?)? - cpu;
        let writes = self.requests.since().await?;
        println!("  {writes}");
        let open = Limit::Open;
        self.table.row(format!("{rolling} roll on, a minute: processor time"), "s", cpu, open);
        let each = writes.writes() as f64 / f64::from(rolling);
        self.table.row("  API writes of each".into(), "", each, Limit::AtMost(1.2));
        for uid in uids.iter().take(bad as usize) {
            self.fleet.spoil(uid);
            sleep(Duration::from_millis(230)).await;
        }
        let began = Instant::now();
        let cleared = || self.fleet.spoiled().iter().all(|bad| bad.cleared.is_some());
        while !cleared() {
            ensure!(began.elapsed() < PATIENCE, "not every bad canary was taken off");
            sleep(Duration::from_millis(50)).await;
        }
        let spoiled = self.fleet.spoiled();
        let times =
            spoiled.iter().filter_map(|bad| Some((bad.cleared? - bad.shown?).as_secs_f64()));
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        self.table.beside("5.1, at 10 s", "15.8, at 10 s");
        self.table.row("  bad answer to weight 0 obeyed, median".into(), "s", at(50), open);
        self.table.row("  and of 99 %".into(), "s", at(99), Limit::AtMost(1.0));
        let back = json!({"agent": {"http": {"url": "https://agent.example/0"}}, "rollout":
            {"mode": "Automatic", "steps": kanarie_tests::manifest::steps(&[(10, 10), (50, 10), (100, 10)])}});
        self.fleet.heal();
        self.plant.edit(0..rolling, &back).await?;
        Ok(())
    }

    /// Memory over many transitions.
    pub(crate) async fn wander(&mut self, transitions: u64) -> Result<()> {
        let many = 500.min(self.options.channels);
        let pid = self.operator.pid()?;
        let start = self.plant.transitions();
        let (mut early, mut weight) = (None, 10);
        let mut spec = self.next_agent();
        while self.plant.transitions() - start < transitions {
            weight = if weight == 10 { 20 } else { 10 };
            spec["rollout"] = json!({"mode": "Manual", "weight": weight});
            self.plant.edit(0..many, &spec).await?;
            let uids = self.plant.uids(0..many);
            let began = Instant::now();
            while self.fleet.at_weight(&uids, weight) < uids.len() {
                ensure!(
                    began.elapsed() < PATIENCE,
                    "a weight that a person asked for is not obeyed"
                );
                sleep(LOOK).await;
            }
            let done = self.plant.transitions() - start;
            if early.is_none() && done * 10 >= transitions {
                early = Some(resident(pid)?);
            }
        }
        let (early, late) = (early.context("no transition was seen")?, resident(pid)?);
        let done = self.plant.transitions() - start;
        self.table.row(
            format!("{done} transitions: memory after a tenth"),
            "MiB",
            early,
            Limit::Open,
        );
        self.table.row("  and in the end".into(), "MiB", late, Limit::AtMost(early * 1.05));
        Ok(())
    }

    /// Another agent than ever before.
    fn next_agent(&mut self) -> Value {
        self.agent += 1;
        let url = format!("https://agent.example/{}", self.agent);
        json!({"agent": {"http": {"url": url}}})
    }

    /// Until the operator has nothing more to do.
    async fn until_quiet(&mut self) -> Result<RequestCounts> {
        let began = Instant::now();
        let mut all = self.requests.since().await?;
        let mut quiet = 0;
        while quiet < 3 {
            let from = Instant::now();
            sleep(Duration::from_secs(3)).await;
            let since = self.requests.since().await?;
            let requests = since.all();
            all.add(since);
            let busy = requests > QUIET * from.elapsed().as_secs().max(1);
            quiet = if busy { 0 } else { quiet + 1 };
            if began.elapsed() > Duration::from_secs(150) {
                println!("  it does not become quiet: {requests} requests in {:?}", from.elapsed());
                break;
            }
        }
        Ok(all)
    }
}

/// Counts the looks at channels.
const LOOKS: &str = "kanarie_operator_reconcile_duration_seconds_count";

fn number(page: &str, name: &str) -> Result<f64> {
    let line = page.lines().find(|line| line.starts_with(name)).context("no such metric")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}
