//! Has Twilio asked about the credentials of all channels, for ever.
//!
//! Takes what is to be asked, asks it at a pace that no account feels, and has the channels reconciled for which the
//! answer is news. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::process::context::Ctx;
use crate::twilio::api::TwilioApi;

/// Between two channels' credentials, each of which is up to three requests.
const APART: Duration = Duration::from_millis(200);

/// Asks for ever.
pub async fn run(ctx: Arc<Ctx>, api: TwilioApi) {
    loop {
        let question = ctx.checks.next().await;
        let state = api.check(&question.account, &question.credentials).await.state();
        let said = state.map_or("nothing", |state| state.reason().as_str());
        ctx.metrics.credential_checks.inc([said]);
        let news = ctx.checks.answered(&question, state, Instant::now());
        news.iter().for_each(|key| ctx.channels.ask(key));
        sleep(APART).await;
    }
}
