//! What a channel feels of its neighbour: one channel's agent hangs while thousands of its messages
//! wait, and another channel's customers go on writing.
//!
//! Starts one gateway on each store, and in alternating runs measures the time from webhook to reply
//! of the healthy channel, with the neighbour idle and with its agent hanging; prints the medians
//! and whether the 95th percentile stays within 10 % or 2 ms of idle, whichever is more. Build it with
//! `--release`; it asserts nothing, since machines differ. The clock stops where the fake Twilio
//! takes the reply, not where somebody notices it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use futures::StreamExt as _;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::manifest::http_agent;
use kanarie_tests::product::Program;
use kanarie_tests::street::Street;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

/// The channel that is measured, and the one whose agent hangs.
const HEALTHY: usize = 0;
const NEIGHBOUR: usize = 1;
const CONNECTIONS: usize = 32;
/// Longest wait for replies and for the neighbour's messages to end.
const AT_MOST: Duration = Duration::from_secs(300);

/// Measures one channel while another one's agent hangs.
#[derive(Parser)]
struct Options {
    /// Messages of the neighbour that wait.
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
    /// Runs of each kind.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Measured messages of a run.
    #[arg(long, default_value_t = 300)]
    messages: usize,
    /// Measured messages a second.
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// The deadline of the agent that hangs.
    #[arg(long, default_value_t = 60)]
    timeout_seconds: u32,
    /// One store only: embedded or redis.
    #[arg(long)]
    store: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    // A thousand agents' connections are a thousand files, here and in the gateway.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    println!(
        "{} messages a run, {} a second; {} of the neighbour wait, its agent has {} s",
        options.messages, options.rate, options.waiting, options.timeout_seconds
    );
    for store in ["embedded", "redis"] {
        if options.store.as_deref().is_none_or(|only| only == store) {
            measure(store, &options).await?;
        }
    }
    Ok(())
}

async fn measure(store: &str, options: &Options) -> Result<()> {
    let redis = if store == "redis" { Some(RedisServer::start().await?) } else { None };
    let bench = Arc::new(Bench::start(redis.as_ref(), options).await?);
    bench.run(options).await?; // connections are open and caches warm
    let (mut idle, mut beside) = (Vec::new(), Vec::new());
    for number in 0..options.runs {
        idle.push(bench.run(options).await?);
        bench.hang(number, options.waiting).await?;
        beside.push(bench.run(options).await?);
        bench.heal(number, options.waiting).await?;
        println!("{store}, run {}: idle {}, beside {}", number + 1, idle[number], beside[number]);
    }
    let (idle, beside) = (Delays::median(&idle), Delays::median(&beside));
    let most = (idle.p95 * 1.1).max(idle.p95 + 2.0);
    let word = if beside.p95 <= most { "within" } else { "NOT within" };
    println!("{store}, median of {}: idle {idle}, beside {beside}", options.runs);
    println!("{store}: p95 {:.1} ms is {word} 10 % or 2 ms of idle ({most:.1} ms)\n", beside.p95);
    Ok(())
}

/// Two channels at one gateway.
struct Bench {
    street: Street,
    gateway: Program,
    neighbour: FakeAgent,
    _agent: FakeAgent,
}

impl Bench {
    async fn start(redis: Option<&RedisServer>, options: &Options) -> Result<Self> {
        let agent = FakeAgent::start(Behaviour::Echo("re: ".to_owned())).await?;
        let neighbour = FakeAgent::start(Behaviour::Silence).await?;
        let mut hanging = http_agent(&neighbour.url());
        hanging["timeoutSeconds"] = options.timeout_seconds.into();
        let street = Street::new(&[http_agent(&agent.url()), hanging]).await?;
        let gateway = street.gateway(redis.map(RedisServer::url)).await?;
        Ok(Self { street, gateway, neighbour, _agent: agent })
    }

    /// The healthy channel's customers write at a steady rate, whatever becomes of their replies.
    async fn run(self: &Arc<Self>, options: &Options) -> Result<Delays> {
        let before = self.street.twilio.sent().len();
        let mut ticks = interval(Duration::from_secs(1) / options.rate);
        let mut posts = JoinSet::new();
        for number in 0..options.messages {
            ticks.tick().await;
            posts.spawn(Arc::clone(self).post(customer(number as u32)));
        }
        let begun: Result<BTreeMap<String, Instant>> = posts.join_all().await.into_iter().collect();
        let (begun, all) = (begun?, before + options.messages);
        ensure!(self.street.twilio.wait_for_sent(all, AT_MOST).await == all, "replies are missing");
        let sent = self.street.twilio.sent().split_off(before);
        let delays = sent.iter().filter_map(|sent| Some(sent.arrived - *begun.get(&sent.to)?));
        Ok(Delays::of(delays.map(|delay| delay.as_secs_f64() * 1e3).collect()))
    }

    async fn post(self: Arc<Self>, who: String) -> Result<(String, Instant)> {
        let begun = Instant::now();
        let answer = self.street.say(&self.gateway, HEALTHY, &who, "Hallo").await?;
        ensure!(answer.status == 200, "a message was answered {}", answer.status);
        Ok((who, begun))
    }

    /// The neighbour's agent hangs, and so many of its customers have written.
    async fn hang(&self, run: usize, waiting: usize) -> Result<()> {
        self.neighbour.behave(Behaviour::Hang);
        let posts = futures::stream::iter(0..waiting).map(|number| async move {
            let who = customer((1_000_000 + run * waiting + number) as u32);
            let said = self.street.say(&self.gateway, NEIGHBOUR, &who, &format!("{run}")).await?;
            ensure!(said.status == 200, "the neighbour's message was answered {}", said.status);
            Ok(())
        });
        let answers: Vec<Result<()>> = posts.buffer_unordered(CONNECTIONS).collect().await;
        sleep(Duration::from_secs(2)).await; // every turn that it can get has begun
        answers.into_iter().collect()
    }

    /// The agent is well again; waits until it was asked about everything that was not buried.
    async fn heal(&self, run: usize, waiting: usize) -> Result<()> {
        self.neighbour.behave(Behaviour::Silence);
        let begun = Instant::now();
        loop {
            let metrics = self.gateway.metrics().await?;
            let numbers = |name: &str, word: &str| -> f64 {
                let of = metrics.lines().filter(|l| l.starts_with(name) && l.contains(word));
                of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
            };
            let buried = numbers("kanarie_buried_total", "");
            let silent = numbers("kanarie_attempts_total", "class=\"success\"");
            let sent = self.street.twilio.sent().len() as f64;
            if silent + buried >= sent + ((run + 1) * waiting) as f64 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < AT_MOST,
                "the neighbour's messages do not end: {silent} answered, {buried} buried"
            );
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Milliseconds from webhook to reply.
#[derive(Clone, Copy)]
struct Delays {
    p50: f64,
    p95: f64,
}

impl Delays {
    fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let at = |share: usize| delays[(delays.len() - 1) * share / 100];
        Self { p50: at(50), p95: at(95) }
    }

    /// The median of each, over all runs.
    fn median(runs: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| Self::of(runs.iter().map(of).collect()).p50;
        Self { p50: middle(|run| run.p50), p95: middle(|run| run.p95) }
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "p50 {:.1} ms p95 {:.1} ms", self.p50, self.p95)
    }
}
