//! Elsewhere: channels that another installation of the same class serves. First come, first served: status names the
//! installation that wrote it, and no other one touches the channel until a person takes that name away.
//!
//! Takes a channel; gives the time to the next look if it is another one's. Writes nothing of it but an Event.

use std::time::Duration;

use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::events::tell_of_another;
use crate::reconcile::validate::Channel;

/// When to look again at a channel that another one serves, should the watch not tell.
const LATER: Duration = Duration::from_secs(10 * 60);

/// Leaves a channel that another installation serves alone, and says so.
pub async fn elsewhere(ctx: &Ctx, channel: &Channel) -> Option<Duration> {
    let own = &ctx.config.routes_namespace;
    let named = channel.status.as_ref().and_then(|status| status.installation.as_ref());
    let other = named.filter(|named| *named != own)?;
    ctx.board.forget(&channel.identity.uid);
    ctx.metrics.channels.forget(&channel.identity.key);
    // Created once for each two; when it has expired it is created again, so that it is always there.
    if let Err(error) = tell_of_another(ctx, &channel.identity, other).await {
        let (namespace, name) = (&channel.identity.key.namespace, &channel.identity.key.name);
        tracing::warn!(namespace, channel = name, error = %chain(&error),
            "another installation serves the channel; the Event about that could not be created");
    }
    Some(LATER)
}
