//! What a webhook and a whole message cost, as ratios against a bare handler in the same run.
//!
//! Takes how many messages to post; starts the real gateway on both stores, a bare axum handler
//! that reads the request and does one HMAC, and fakes around them, and prints CPU time per request
//! of each process and its ratio to the bare handler's. Build it with `--release`; it asserts
//! nothing, since machines differ.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use clap::{Parser, Subcommand};
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kanarie_tests::agent::{Behaviour, FakeAgent};
use kanarie_tests::customer::{self, Account};
use kanarie_tests::process::{self, Process};
use kanarie_tests::product::{GatewayOptions, Program, Routes};
use kanarie_tests::redis_server::RedisServer;
use kanarie_tests::server::{Server, free_port};
use kanarie_tests::signer;
use kanarie_tests::twilio::{FakeTwilio, http_client};
use sha1::Sha1;
use tokio::time::{Instant, sleep};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;

/// Measures the gateway against a bare handler.
#[derive(Parser)]
struct Options {
    /// Requests of each measurement.
    #[arg(long, default_value_t = 10_000)]
    requests: u32,
    /// Whole messages, from webhook to reply.
    #[arg(long, default_value_t = 2_000)]
    messages: u32,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The bare handler itself, as a process that can be measured alone.
    Bare {
        /// Where to listen.
        address: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Bare { address }) = options.role {
        return bare(address).await;
    }
    println!(
        "{:<34} {:>12} {:>9}   (CPU per request, median of {ROUNDS} rounds)",
        "", "us", "ratio"
    );
    let bench = Bench::new(options).await?;
    let floor = bench.webhooks("bare handler, one HMAC", Target::Bare, 1.0).await?;
    for (name, redis) in [("embedded", false), ("redis", true)] {
        bench
            .webhooks(&format!("{name}: rejected webhook"), Target::Rejected(redis), floor)
            .await?;
        bench
            .webhooks(&format!("{name}: accepted webhook"), Target::Accepted(redis), floor)
            .await?;
        bench.messages(name, redis, floor).await?;
    }
    Ok(())
}

/// Reads the body, computes one HMAC over it, answers with the empty TwiML.
async fn bare(address: SocketAddr) -> Result<()> {
    async fn handler(State(key): State<Hmac<Sha1>>, body: Bytes) -> String {
        let mut mac = key;
        mac.update(&body);
        let tag = mac.finalize().into_bytes();
        format!("<Response/><!-- {} -->", tag[0])
    }
    let key = Hmac::<Sha1>::new_from_slice(b"token").context("any length is a key")?;
    let router = axum::Router::new().fallback(post(handler)).with_state(key);
    let _server = Server::start(address, router).await?;
    std::future::pending().await
}

#[derive(Clone, Copy)]
enum Target {
    Bare,
    Rejected(bool),
    Accepted(bool),
}

struct Bench {
    options: Options,
    account: Account,
    twilio: FakeTwilio,
    channels: tempfile::TempDir,
}

/// A gateway with a store of its own.
struct Gateway {
    program: Program,
    _redis: Option<RedisServer>,
}

impl Bench {
    async fn new(options: Options) -> Result<Self> {
        let account = Account::new(9);
        let twilio = FakeTwilio::start(&[&account]).await?;
        let channels = process::folder("bench")?;
        Ok(Self { options, account, twilio, channels })
    }

    /// CPU per request of one kind; each round has a process of its own.
    async fn webhooks(&self, name: &str, target: Target, floor: f64) -> Result<f64> {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            rounds.push(self.round(target, round).await?);
        }
        Ok(report(name, rounds, floor))
    }

    async fn round(&self, target: Target, round: usize) -> Result<f64> {
        match target {
            Target::Bare => {
                let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("bare").arg(address.to_string());
                let log = self.channels.path().join("bare.log");
                let bare = Process::spawn("bare", &mut command, &log)?;
                while tokio::net::TcpStream::connect(address).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
                self.cost(bare.id(), &address.to_string(), round, true).await
            }
            Target::Rejected(redis) | Target::Accepted(redis) => {
                let gateway = self.gateway(redis, 0, "http://127.0.0.1:9/").await?;
                let genuine = matches!(target, Target::Accepted(_));
                self.cost(gateway.program.pid()?, &gateway.program.authority(), round, genuine)
                    .await
            }
        }
    }

    /// Whole messages: CPU of the gateway for each, and how long one alone takes.
    async fn messages(&self, name: &str, redis: bool, floor: f64) -> Result<()> {
        let agent = FakeAgent::start(Behaviour::Echo("U schreef: ".to_owned())).await?;
        let (mut costs, mut delays) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let gateway = self.gateway(redis, 32, &agent.url()).await?;
            let before = self.twilio.sent().len();
            let used = cpu(gateway.program.pid()?)?;
            self.post_all(&gateway.program.authority(), self.options.messages, 100 + round, true)
                .await?;
            let all = before + self.options.messages as usize;
            self.twilio.wait_for_sent(all, Duration::from_secs(120)).await;
            let used = cpu(gateway.program.pid()?)? - used;
            costs.push(used / f64::from(self.options.messages));
            for number in 0..100 {
                delays.push(self.one_alone(&gateway, 900_000 + number).await?);
            }
        }
        report(&format!("{name}: webhook to reply"), costs, floor);
        delays.sort_by(f64::total_cmp);
        let at = |share: usize| delays[(delays.len() - 1) * share / 100];
        println!("{name}: webhook to reply, one alone: p50 {:.1} ms, p95 {:.1} ms", at(50), at(95));
        Ok(())
    }

    async fn one_alone(&self, gateway: &Gateway, customer: u32) -> Result<f64> {
        let before = self.twilio.sent().len();
        let begun = Instant::now();
        let client = http_client()?;
        let customer = customer::customer(customer);
        self.account.say(&client, &gateway.program.authority(), &customer, "Hallo").await?;
        self.twilio.wait_for_sent(before + 1, Duration::from_secs(10)).await;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    async fn gateway(&self, redis: bool, workers: u32, agent: &str) -> Result<Gateway> {
        let manifests = manifests(&self.account, agent);
        fs::write(self.channels.path().join("channel.yaml"), manifests)?;
        let redis = if redis { Some(RedisServer::start().await?) } else { None };
        let program = Program::gateway(&GatewayOptions {
            store: redis.as_ref().map(RedisServer::url),
            routes: Routes::Folder(self.channels.path().to_owned()),
            twilio: self.twilio.url(),
            arguments: vec!["--workers".to_owned(), workers.to_string()],
        })
        .await?;
        Ok(Gateway { program, _redis: redis })
    }

    /// Microseconds of CPU that a process spends on one request.
    async fn cost(&self, pid: u32, authority: &str, round: usize, genuine: bool) -> Result<f64> {
        self.post_all(authority, 500, 1000 + round, genuine).await?;
        let before = cpu(pid)?;
        self.post_all(authority, self.options.requests, round, genuine).await?;
        Ok((cpu(pid)? - before) / f64::from(self.options.requests))
    }

    async fn post_all(&self, to: &str, count: u32, salt: usize, genuine: bool) -> Result<()> {
        let client = http_client()?;
        let posts = futures::stream::iter(0..count).map(|number| {
            let customer = customer::customer(number % 5_000 + salt as u32 * 10_000);
            let form = self.account.text(&customer::message_sid(), &customer, "Wat kost een Golf?");
            let mut signature = signer::sign(&self.account.token, &self.account.webhook_url, &form);
            if !genuine {
                signature.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
            }
            let (client, url) = (client.clone(), self.account.webhook_url.clone());
            async move { customer::post(&client, to, &url, &form, &signature).await }
        });
        let answers: Vec<_> = posts.buffer_unordered(CONNECTIONS).collect().await;
        let expected = if genuine { 200 } else { 403 };
        let other = answers
            .iter()
            .filter(|answer| answer.as_ref().map_or(true, |answer| answer.status != expected));
        anyhow::ensure!(other.count() == 0, "some of {count} were not answered {expected}");
        Ok(())
    }
}

fn report(name: &str, mut rounds: Vec<f64>, floor: f64) -> f64 {
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let floor = if floor == 1.0 { median } else { floor };
    println!("{name:<34} {median:>12.1} {:>9.2}", median / floor);
    median
}

/// User and system time of a process so far, in microseconds.
fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let after_name = stat.rsplit(')').next().context("the name in /proc/PID/stat ends")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("utime")?.parse()?) };
    // Linux counts in hundredths of a second for every program.
    Ok((ticks(11)? + ticks(12)?) * 10_000.0)
}

fn manifests(account: &Account, agent: &str) -> String {
    let (sid, sender) = (&account.sid, &account.sender);
    let (token, url) = (&account.token, &account.webhook_url);
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: twilio, namespace: bench}}
stringData: {{authToken: {token}}}
---
apiVersion: kanarie.dev/v1alpha1
kind: WhatsAppChannel
metadata: {{name: bench, namespace: bench}}
spec:
  twilio: {{accountSid: {sid}, authTokenSecretRef: {{name: twilio}}}}
  sender: {{address: \"{sender}\"}}
  webhook: {{url: \"{url}\"}}
  agent: {{http: {{url: \"{agent}\"}}}}
  limits: {{inboundMessages: 1000, outboundPerSecond: 1000}}
"
    )
}
