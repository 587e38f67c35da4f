//! The floor: the least program that takes a message to its reply and loses none on the way.
//!
//! Takes signed forms; for each one HMAC, three durable steps and two HTTP calls, with the crates
//! that the gateway uses and none of its code. Without turns it is the bare handler: one HMAC and one
//! step. It forgives nothing: no retry, no lease that ends, no limit, no order. A failure ends it.

mod embedded;
mod line;
mod redis;
mod rows;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::routing::post;
use clap::Args;
use kanarie_fakes::server::Server;

use crate::floor::line::Floor;

/// How the floor is started.
#[derive(Args)]
pub(crate) struct Options {
    /// Where webhooks arrive.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// redis://… or a file.
    #[arg(long)]
    pub(crate) store: String,
    /// Who is asked.
    #[arg(long)]
    pub(crate) agent: String,
    /// The Messages API.
    #[arg(long)]
    pub(crate) twilio: String,
    /// The account that replies.
    #[arg(long)]
    pub(crate) account: String,
    /// Signs bodies, and authenticates the account.
    #[arg(long)]
    pub(crate) token: String,
    /// Messages that are answered at once; 0 only receives.
    #[arg(long)]
    pub(crate) turns: usize,
}

/// Serves until it is killed.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listen = options.listen;
    let floor = Arc::new(Floor::new(options).await?);
    let router = Router::new().fallback(post(line::receive)).with_state(floor);
    let _server = Server::start(listen, router).await?;
    std::future::pending().await
}
