//! The webhook pipeline: WhatsApp messages in, agents asked, replies out.
//!
//! Two lines of files, a file a hop. A message comes in:
//!
//! 1. `server` accepts the connection and hands the request to `inbound`, which drives
//! 2. read: `server` gives the body, within its time and size
//! 3. find the channel: `inbound/channel`, by the little that an unverified body shows
//! 4. verify: `inbound/signature`, with the secrets of that channel
//! 5. parse: `inbound/message`
//! 6. own? `inbound/channel` compares what was found by with what was verified
//! 7. admit: `inbound/admission` asks the store
//! 8. response: `inbound/response`
//!
//! Its reply goes out, under the lease of its conversation; `outbound` drives:
//!
//! 1. claim: `outbound/claimer` takes the head of a conversation, `outbound/turn` works on it
//! 2. track: `outbound/track` chooses the revision
//! 3. agent: `outbound/agent` asks it
//! 4. reply: `outbound/reply` cuts the answer into segments
//! 5. commit: the store makes the reply durable
//! 6. twilio: `outbound/twilio` sends each segment under a mark
//! 7. complete: the store takes the head off
//!
//! Beside the lines: `routes` keeps the table of channels right, `heartbeat` tells the store which
//! routes this replica obeys, `admin` answers probes and the operator, `events` logs and counts.
//! `wiring` puts all of it together.

pub mod admin;
pub mod callback;
pub mod calls;
pub mod clock;
pub mod commands;
pub mod config;
pub mod cut;
pub mod deliveries;
pub mod doorbell;
pub mod ends;
pub mod envelope;
pub mod events;
pub mod handover;
pub mod heartbeat;
pub mod inbound;
pub mod key;
pub mod labels;
pub mod levels;
pub mod loading;
pub mod loads;
pub mod log;
pub mod news;
pub mod outbound;
pub mod random;
mod recent;
pub mod reports;
pub mod routes;
pub mod server;
pub mod silence;
pub mod stop;
pub mod store;
pub mod subject;
pub mod token;
pub mod wiring;

use crate::config::Config;
use crate::stop::Signals;

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// When it cannot be started, or one of the tasks that it cannot do without ends.
pub async fn run(config: Config, signals: Signals) -> anyhow::Result<()> {
    let gateway = wiring::bind(config).await?;
    let (public, admin) = (gateway.public_address()?, gateway.admin_address()?);
    tracing::info!(%public, %admin, replica = %gateway.replica(), "listening");
    gateway.run(signals).await
}
