//! The ruler: what the gateway costs beside a floor, which does with the same crates and the same
//! fsyncs the least that a message needs, and nothing else.
//!
//! Takes how much to measure; starts gateway, floor and Redis, each in a process of its own, posts
//! to them from this one, and prints a table: figure, gateway, floor, ratio, goal. Build it with
//! `--release`. It asserts nothing about times, since machines differ; docs/bench.md says how to
//! read it.

mod cluster;
mod commands;
mod cost;
mod floor;
mod fsyncs;
mod load;
mod measure;
mod post;
mod report;
mod subject;
mod table;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::measure::Amounts;
use crate::report::Report;
use crate::subject::Kept;
use crate::table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the gateway beside the floor.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    amounts: Amounts,
    /// One store only: redis or embedded.
    #[arg(long)]
    store: Option<Kept>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The floor itself, as a process that can be measured alone
    Floor(floor::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Floor(options)) = options.role {
        return floor::run(options).await;
    }
    // The backlog's agents hold a connection each, here and in the gateway.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut table = Table::default();
    for kept in [Kept::Redis, Kept::Embedded] {
        if options.store.is_none_or(|only| only == kept) {
            Report::measure(kept, &options.amounts).await?.rows(&mut table);
        }
    }
    println!("\n{table}");
    Ok(())
}
