//! A stage without Kubernetes: one channel in a folder of manifests, its agent, a fake Twilio.
//!
//! Gives gateways that serve that channel, on a store of their own or on a shared one.

use std::fs;

use anyhow::Result;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::{Account, Answer};
use kanarie_fakes::process;
use kanarie_fakes::twilio::{FakeTwilio, http_client};
use tempfile::TempDir;

use crate::manifest::ChannelManifest;
use crate::product::{GatewayOptions, Program, Routes};

/// One channel and everything around the gateway.
#[derive(Debug)]
pub struct Stage {
    /// The channel's account.
    pub account: Account,
    /// The channel's agent.
    pub agent: FakeAgent,
    /// Where the replies arrive.
    pub twilio: FakeTwilio,
    /// For posting webhooks.
    pub client: reqwest::Client,
    folder: TempDir,
}

impl Stage {
    /// A channel whose agent answers with `re: ` and the customer's own words.
    ///
    /// # Errors
    /// There are no free ports.
    pub async fn new() -> Result<Self> {
        Self::of(Account::new(1)).await
    }

    /// The same, of this account.
    ///
    /// # Errors
    /// There are no free ports.
    pub async fn of(account: Account) -> Result<Self> {
        let agent = FakeAgent::start(Behaviour::Echo("re: ".to_owned())).await?;
        let stage = Self {
            twilio: FakeTwilio::start(&[&account]).await?,
            client: http_client()?,
            folder: process::folder("channels")?,
            account,
            agent,
        };
        stage.apply(&stage.manifest())?;
        Ok(stage)
    }

    /// The channel as it is at first.
    pub fn manifest(&self) -> ChannelManifest {
        ChannelManifest::new("shop", &self.account, &self.agent.url())
    }

    /// Writes the channel's manifests; a running gateway takes them up within a second.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn apply(&self, manifest: &ChannelManifest) -> Result<()> {
        let file = self.folder.path().join("channel.yaml");
        let unfinished = self.folder.path().join("channel.unfinished");
        fs::write(&unfinished, manifest.text())?;
        Ok(fs::rename(unfinished, file)?)
    }

    /// What a gateway of this stage is started with; without a store it has its own.
    pub fn options(&self, store: Option<String>) -> GatewayOptions {
        GatewayOptions {
            store,
            routes: Routes::Folder(self.folder.path().to_owned()),
            twilio: self.twilio.url(),
            arguments: Vec::new(),
        }
    }

    /// A ready gateway, to which status callbacks go from now on.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn gateway(&self, store: Option<String>) -> Result<Program> {
        let gateway = Program::gateway(&self.options(store)).await?;
        let authority = gateway.authority();
        self.twilio.set(|settings| settings.callbacks_to = Some(authority));
        Ok(gateway)
    }

    /// A customer writes.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn say(&self, gateway: &Program, customer: &str, text: &str) -> Result<Answer> {
        let said = self.account.say(&self.client, &gateway.authority(), customer, text).await?;
        Ok(said.1)
    }
}
