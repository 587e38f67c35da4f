//! What every reconcile of this process shares.

use std::sync::Arc;

use kube::Client;

use crate::cluster::key::ChannelKey;
use crate::cluster::secrets::SecretReader;
use crate::gateways::board::Board;
use crate::process::clock::ReconcileClock;
use crate::process::config::Config;
use crate::process::metrics::Metrics;
use crate::reconcile::notes::Notes;
use crate::twilio::checks::CredentialChecks;
use crate::watch::channels::Channels;
use crate::watch::claims::Claims;
use crate::watch::routes::SeenRoutes;

/// Clients, caches and notes.
pub struct Ctx {
    /// The cluster.
    pub client: Client,
    /// Flags.
    pub config: Config,
    /// What the gateways said.
    pub board: Arc<Board>,
    /// What the Secrets say.
    pub secrets: SecretReader,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The watched channels.
    pub channels: Arc<Channels>,
    /// The routes as their watch knows them.
    pub routes: SeenRoutes,
    /// Who waits for a sender of another.
    pub claims: Claims,
    /// What Twilio says of credentials.
    pub checks: CredentialChecks,
    /// Notes on channels, by uid: may be lost at any time.
    pub notes: Notes,
    /// Name of this process, for Events.
    pub instance: String,
    /// The time of decisions and of what is said about them.
    pub clock: ReconcileClock,
}

impl Ctx {
    /// Forgets a channel that is gone; one of the same name may be there again.
    pub fn forget(&self, key: &ChannelKey, uid: &str) {
        self.board.forget(uid);
        self.notes.forget(uid);
        if !self.channels.has(key) {
            self.secrets.forget(key);
            self.checks.forget(key);
            self.metrics.channels.forget(key);
        }
    }
}
