//! Wakes what waits for an agent: after its first answer, or when another revision is stable.
//!
//! Takes a channel and a revision; makes all that waits for it ready, in every shard, and rings for
//! it. No turn waits for that: what is not woken is let try by itself. Never knows whether an agent
//! is well.

use std::collections::HashMap;
use std::sync::Arc;

use kanarie_queue::lease::Park;
use kanarie_queue::park::{WOKEN, WakeParked};
use kanarie_words::ids::{ChannelUid, RevisionName, SHARDS};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::context::{Context, Worker};
use crate::routes::table::{Entry, RouteTable};

/// Makes all ready that waits for an agent.
pub(crate) async fn all(ctx: &Context, park: Park) {
    loop {
        let woken = ctx.store.run(WakeParked { park: park.clone() }).await;
        for shard in 0..SHARDS {
            ctx.doorbell.ring(shard);
            // They are many perhaps, and others have places too.
            ctx.doorbell.call_others(shard);
        }
        match woken {
            Ok(woken) if woken >= WOKEN as u64 => {}
            Ok(_) => return,
            Err(error) => {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
                return;
            }
        }
    }
}

/// For ever: wakes what waits for a revision as soon as its channel's stable is another one. Nobody
/// asks the former one any more, so no answer of it would.
pub(crate) async fn follow(worker: Arc<Worker>) {
    let mut changes = worker.ctx.routes.changes();
    let mut before = stables(&worker.ctx.routes);
    // The table outlives this loop, so its sender does too.
    while changes.changed().await.is_ok() {
        let now = stables(&worker.ctx.routes);
        for (channel, revision) in before {
            // Of a channel that is gone as well: another one may have its sender.
            if now.get(&channel) != Some(&revision) {
                all(&worker.ctx, Park { channel, revision }).await;
            }
        }
        before = now;
    }
}

fn stables(routes: &RouteTable) -> HashMap<ChannelUid, RevisionName> {
    let pair =
        |entry: &Arc<Entry>| (entry.route.channel.uid.clone(), entry.route.stable.revision.clone());
    routes.all().iter().map(pair).collect()
}
