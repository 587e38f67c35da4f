//! What is measured: a gateway or a floor with a store of its own, its agent and its Twilio.
//!
//! Takes which of the two, which store, how many turns and channels; starts it in a process of its
//! own, and makes the webhooks that it believes, or does not. Agent and Twilio are in this process,
//! with those who write.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::{self, Account};
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::redis_server::RedisServer;
use kanarie_fakes::server::free_port;
use kanarie_fakes::signer::{self, Form};
use kanarie_fakes::twilio::FakeTwilio;
use kanarie_tests::product::{GatewayOptions, Program, Routes};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::cluster::{Cluster, NAMESPACE};
use crate::post::Prepared;

/// Channels that share the traffic: no sender has more than some dozens of messages a second.
pub(crate) const CHANNELS: u32 = 8;
/// Longest that a process may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    /// A Redis server of its own.
    Redis,
    /// A database in a file.
    Embedded,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The product.
    Gateway,
    /// The least that does the same.
    Floor,
}

/// A process that is measured, and everything around it.
pub(crate) struct Subject {
    /// Who is asked.
    pub(crate) agent: FakeAgent,
    /// Where replies arrive.
    pub(crate) twilio: FakeTwilio,
    running: Running,
    redis: Option<RedisServer>,
    side: Side,
    accounts: Vec<Account>,
    _cluster: Cluster,
}

enum Running {
    Gateway(Box<Program>),
    Floor(Process, SocketAddr, #[expect(dead_code, reason = "goes with the process")] TempDir),
}

impl Subject {
    /// Starts one that answers so many messages at once; none is as many as it likes.
    pub(crate) async fn start(side: Side, kept: Kept, turns: Option<u32>) -> Result<Self> {
        Self::with_channels(side, kept, turns, CHANNELS).await
    }

    /// The same with another number of channels.
    pub(crate) async fn with_channels(
        side: Side,
        kept: Kept,
        turns: Option<u32>,
        channels: u32,
    ) -> Result<Self> {
        let accounts: Vec<Account> = (1..=channels).map(Account::new).collect();
        let known: Vec<&Account> = accounts.iter().take(CHANNELS as usize).collect();
        let twilio = FakeTwilio::start(&known).await?;
        let agent = FakeAgent::start(Behaviour::Echo("U schreef: ".to_owned())).await?;
        let cluster = Cluster::start(&accounts, &agent.url()).await?;
        let redis = if kept == Kept::Redis { Some(RedisServer::start().await?) } else { None };
        let store = redis.as_ref().map(RedisServer::url);
        let running = match side {
            Side::Gateway => {
                let arguments = turns.map(|turns| format!("--turns={turns}")).into_iter().collect();
                let namespace = NAMESPACE.to_owned();
                let routes = Routes::Namespace(namespace, cluster.kubeconfig());
                let options = GatewayOptions { store, routes, twilio: twilio.url(), arguments };
                Running::Gateway(Box::new(Program::gateway(&options).await?))
            }
            Side::Floor => floor(store, turns, &agent, &twilio, &accounts[0]).await?,
        };
        Ok(Self { agent, twilio, running, redis, side, accounts, _cluster: cluster })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        match &self.running {
            Running::Gateway(program) => program.pid(),
            Running::Floor(process, ..) => Ok(process.id()),
        }
    }

    /// Its Redis server, if it has one.
    pub(crate) fn redis(&self) -> Option<&RedisServer> {
        self.redis.as_ref()
    }

    /// Where webhooks go.
    pub(crate) fn address(&self) -> String {
        match &self.running {
            Running::Gateway(program) => program.authority(),
            Running::Floor(_, address, _) => address.to_string(),
        }
    }

    /// So many messages, each of a customer who never wrote before.
    pub(crate) fn messages(&self, count: u32) -> Result<Vec<Prepared>> {
        self.prepare(count, 1, true)
    }

    /// So many messages of customers who write eight each.
    pub(crate) fn chats(&self, count: u32) -> Result<Vec<Prepared>> {
        self.prepare(count, 8, true)
    }

    /// So many messages whose signature is not ours.
    pub(crate) fn forgeries(&self, count: u32) -> Result<Vec<Prepared>> {
        self.prepare(count, 8, false)
    }

    fn prepare(&self, count: u32, each: u32, genuine: bool) -> Result<Vec<Prepared>> {
        static CUSTOMERS: AtomicU32 = AtomicU32::new(0);
        let customers = count.div_ceil(each);
        let first = CUSTOMERS.fetch_add(customers, Ordering::Relaxed);
        let all = (0..count).map(|number| {
            let number = first + number % customers;
            let customer = customer::customer(number);
            let account = &self.accounts[(number % CHANNELS) as usize];
            let form = account.text(&customer::message_sid(), &customer, "Wat kost een Golf?");
            let mut signature = self.sign(account, &form);
            if !genuine {
                signature.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
            }
            Ok(Prepared::new(&Url::parse(&account.webhook_url)?, customer, &form, &signature))
        });
        all.collect()
    }

    /// Twilio's signature, or the floor's over the whole body.
    fn sign(&self, account: &Account, form: &Form) -> String {
        match self.side {
            Side::Gateway => signer::sign(&account.token, &account.webhook_url, form),
            Side::Floor => {
                let token = self.accounts[0].token.as_bytes();
                signer::mac(token, signer::encode(form).as_bytes())
            }
        }
    }
}

async fn floor(
    store: Option<String>,
    turns: Option<u32>,
    agent: &FakeAgent,
    twilio: &FakeTwilio,
    account: &Account,
) -> Result<Running> {
    let folder = process::folder("floor")?;
    let file = || folder.path().join("floor.redb").display().to_string();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &address.to_string(), "--agent", &agent.url()]);
    command.args(["--store", &store.unwrap_or_else(file), "--twilio", &twilio.url()]);
    command.args(["--account", &account.sid, "--token", &account.token]);
    command.args(["--turns", &turns.unwrap_or(2_000).to_string()]);
    let mut process = Process::spawn("floor", &mut command, &folder.path().join("log"))?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if process.ended().context("the floor")?.is_some() || Instant::now() > deadline {
            bail!("the floor does not come up:\n{}", process.log_tail());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Running::Floor(process, address, folder))
}
