//! A fake agent as a process, for the local loop and for clusters.
//!
//! Takes an address and a behaviour by flags or environment; answers until it is stopped.

use std::future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use kanarie_fakes::agent::{Behaviour, FakeAgent};

/// Answers customers by the HTTP protocol of docs/agents.md, well or badly.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8090")]
    listen: SocketAddr,
    /// How to behave.
    #[arg(long, env = "BEHAVIOUR", value_enum, default_value = "echo")]
    behaviour: Kind,
    /// What stands before the customer's own words in an echo.
    #[arg(long, env = "PREFIX", default_value = "U schreef: ")]
    prefix: String,
    /// Milliseconds before each answer.
    #[arg(long, env = "DELAY_MS", default_value_t = 0)]
    delay_ms: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Answers with the prefix and the customer's own words.
    Echo,
    /// Refuses with 500.
    Fail,
    /// Answers with broken JSON.
    BrokenJson,
    /// Answers 204.
    Silence,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let behaviour = match options.behaviour {
        Kind::Echo => Behaviour::Echo(options.prefix),
        Kind::Fail => Behaviour::Fail(500),
        Kind::BrokenJson => Behaviour::BrokenJson,
        Kind::Silence => Behaviour::Silence,
    };
    let delay = Duration::from_millis(options.delay_ms);
    let behaviour = Behaviour::Slow(delay, Box::new(behaviour));
    let agent = FakeAgent::start_at(options.listen, behaviour).await?;
    println!("fake agent on {}", agent.url());
    future::pending().await
}
