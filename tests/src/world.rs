//! A world with Kubernetes: a namespace with a channel, an operator and gateways that run under
//! the service accounts and roles of the chart, two agents and a fake Twilio.
//!
//! Several worlds share one API server, kept apart by namespaces. Gives the channel as the API
//! server shows it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::{Account, Answer};
use kanarie_fakes::twilio::{FakeTwilio, http_client};
use kube::api::Api;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::manifest::ChannelManifest;
use crate::product::{GatewayOptions, OperatorOptions, Program, Routes};
use crate::roles::{self, Places};

/// Name of the channel of every world.
pub const CHANNEL: &str = "shop";

/// Everything around one channel.
#[derive(Debug)]
pub struct World {
    /// The API server.
    pub plane: &'static ControlPlane,
    /// Its namespaces.
    pub places: Places,
    /// The channel's account.
    pub account: Account,
    /// The first agent: answers with `oud: ` and the customer's own words.
    pub old: FakeAgent,
    /// The agent of the next revision: answers with `nieuw: ` and the customer's own words.
    pub new: FakeAgent,
    /// Where the replies arrive.
    pub twilio: FakeTwilio,
    /// The gateways, all on one store.
    pub gateways: Vec<Program>,
    /// The operator.
    pub operator: Program,
    /// For posting webhooks.
    pub client: reqwest::Client,
}

impl World {
    /// Starts one gateway with a store of its own, or `gateways` of them on a shared store.
    ///
    /// # Errors
    /// Something does not come up; the error carries its log.
    pub async fn start(
        plane: &'static ControlPlane,
        store: Option<String>,
        gateways: usize,
    ) -> Result<Self> {
        Self::start_in(plane, Places::make(plane).await?, store, gateways).await
    }

    /// The same in namespaces that are there already.
    ///
    /// # Errors
    /// Something does not come up; the error carries its log.
    pub async fn start_in(
        plane: &'static ControlPlane,
        places: Places,
        store: Option<String>,
        gateways: usize,
    ) -> Result<Self> {
        static ACCOUNTS: AtomicU32 = AtomicU32::new(100);
        let account = Account::new(ACCOUNTS.fetch_add(1, Ordering::Relaxed));
        plane.install_crd().await?;
        roles::apply(plane, &places).await?;
        let twilio = FakeTwilio::start(&[&account]).await?;
        let options = GatewayOptions {
            store,
            routes: Routes::Namespace(
                places.routes.clone(),
                plane.kubeconfig_for_service_account(&places.system, "kanarie-gateway").await?,
            ),
            twilio: twilio.url(),
            arguments: Vec::new(),
        };
        let mut running = Vec::new();
        for _ in 0..gateways {
            // Not ready before the operator has written the first complete list of routes.
            running.push(Program::gateway_unready(&options)?);
        }
        let first = running.first().context("a world has at least one gateway")?;
        let operator = Program::operator(&OperatorOptions {
            kubeconfig: plane
                .kubeconfig_for_service_account(&places.system, "kanarie-operator")
                .await?,
            routes_namespace: places.routes.clone(),
            watch_namespaces: places.channels.clone(),
            gateway_url: first.admin_url(),
            twilio: twilio.url(),
            arguments: Vec::new(),
        })
        .await?;
        twilio.set(|settings| settings.callbacks_to = Some(first.authority()));
        for gateway in &running {
            gateway.wait_until_ready().await?;
        }
        Ok(Self {
            plane,
            places,
            account,
            old: FakeAgent::start(Behaviour::Echo("oud: ".to_owned())).await?,
            new: FakeAgent::start(Behaviour::Echo("nieuw: ".to_owned())).await?,
            twilio,
            gateways: running,
            operator,
            client: http_client()?,
        })
    }

    /// The channel with the old agent.
    pub fn manifest(&self) -> ChannelManifest {
        ChannelManifest::new(CHANNEL, &self.account, &self.old.url())
    }

    /// Applies a channel.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, manifest: &ChannelManifest) -> Result<()> {
        self.plane.apply_yaml(&self.places.channels, &manifest.text()).await.map(drop)
    }

    /// Applies the channel with the old agent and waits until it is served.
    ///
    /// # Errors
    /// It is not served in time.
    pub async fn serve(&self, manifest: &ChannelManifest) -> Result<()> {
        self.apply(manifest).await?;
        self.wait_for("the channel is ready", Duration::from_secs(30), |channel| {
            condition(channel, "Ready") == Some("True")
        })
        .await
        .map(drop)
    }

    /// The channel as the API server shows it.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn channel(&self) -> Result<Value> {
        let api: Api<WhatsAppChannel> = Api::namespaced(self.plane.client(), &self.places.channels);
        Ok(serde_json::to_value(api.get(CHANNEL).await?)?)
    }

    /// Waits until the channel is as described, and gives it.
    ///
    /// # Errors
    /// It is not in time; the error carries its status and the operator's last lines.
    pub async fn wait_for(
        &self,
        what: &str,
        at_most: Duration,
        mut is: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + at_most;
        loop {
            let channel = self.channel().await?;
            if is(&channel) {
                return Ok(channel);
            }
            if Instant::now() > deadline {
                let log = self.operator.log();
                let lines: Vec<&str> = log.lines().rev().take(30).collect();
                let status = &channel["status"];
                bail!("not in time: {what}\n{status:#}\n{}", lines.join("\n"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A customer writes, to the gateway with this number.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn say(&self, gateway: usize, customer: &str, text: &str) -> Result<Answer> {
        let authority = self.gateways[gateway].authority();
        Ok(self.account.say(&self.client, &authority, customer, text).await?.1)
    }
}

/// Status of a condition of a channel.
pub fn condition<'a>(channel: &'a Value, kind: &str) -> Option<&'a str> {
    find_condition(channel, kind)?["status"].as_str()
}

/// Reason of a condition of a channel.
pub fn reason<'a>(channel: &'a Value, kind: &str) -> Option<&'a str> {
    find_condition(channel, kind)?["reason"].as_str()
}

fn find_condition<'a>(channel: &'a Value, kind: &str) -> Option<&'a Value> {
    channel["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}
