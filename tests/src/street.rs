//! A street: several channels at one gateway, each with an account and an agent of its own.
//!
//! Takes what each channel's manifest is to be; gives gateways that serve them all. Without
//! Kubernetes. Never starts an agent: the tests bring them.

use std::fs;

use anyhow::Result;
use kanarie_fakes::customer::{Account, Answer};
use kanarie_fakes::process;
use kanarie_fakes::twilio::{FakeTwilio, http_client};
use serde_json::Value;
use tempfile::TempDir;

use crate::manifest::ChannelManifest;
use crate::product::{GatewayOptions, Program, Routes};

/// Several channels and everything around the gateway but their agents.
#[derive(Debug)]
pub struct Street {
    /// The accounts, in the order of the agents.
    pub accounts: Vec<Account>,
    /// Where the replies arrive.
    pub twilio: FakeTwilio,
    /// For posting webhooks.
    pub client: reqwest::Client,
    folder: TempDir,
}

impl Street {
    /// A channel for each `spec.agent`, named `shop-0`, `shop-1`, ….
    ///
    /// # Errors
    /// There are no free ports, or the folder cannot be written.
    pub async fn new(agents: &[Value]) -> Result<Self> {
        let accounts: Vec<Account> = (1..).map(Account::new).take(agents.len()).collect();
        let known: Vec<&Account> = accounts.iter().collect();
        let twilio = FakeTwilio::start(&known).await?;
        let folder = process::folder("channels")?;
        for (number, (account, agent)) in accounts.iter().zip(agents).enumerate() {
            let name = format!("shop-{number}");
            let mut manifest = ChannelManifest::new(&name, account, "http://replaced.invalid/");
            manifest.agent = agent.clone();
            fs::write(folder.path().join(format!("{name}.yaml")), manifest.text())?;
        }
        Ok(Self { accounts, twilio, client: http_client()?, folder })
    }

    /// A ready gateway, to which status callbacks go from now on; without a store it has its own.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn gateway(&self, store: Option<String>) -> Result<Program> {
        self.gateway_with(store, &[]).await
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn gateway_with(&self, store: Option<String>, arguments: &[&str]) -> Result<Program> {
        let gateway = Program::gateway(&GatewayOptions {
            store,
            routes: Routes::Folder(self.folder.path().to_owned()),
            twilio: self.twilio.url(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        })
        .await?;
        let authority = gateway.authority();
        self.twilio.set(|settings| settings.callbacks_to = Some(authority));
        Ok(gateway)
    }

    /// A customer writes to a channel.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn say(
        &self,
        gateway: &Program,
        channel: usize,
        customer: &str,
        text: &str,
    ) -> Result<Answer> {
        let account = &self.accounts[channel];
        Ok(account.say(&self.client, &gateway.authority(), customer, text).await?.1)
    }

    /// What customers of a channel were told, in order: customer and text.
    pub fn told(&self, channel: usize) -> Vec<(String, String)> {
        let account = &self.accounts[channel].sid;
        let sent = self.twilio.sent().into_iter().filter(|sent| sent.account == *account);
        sent.map(|sent| (sent.to, sent.body)).collect()
    }
}
