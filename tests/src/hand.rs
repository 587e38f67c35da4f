//! A gateway that obeys a route written by hand, exactly as the operator would write it.
//!
//! For what no operator holds still for: a canary at a weight that stays, under the eyes of the
//! control endpoint. Takes the two agents; gives the gateway's counts. There is no operator.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, COMPONENT_LABEL, COMPONENT_ROUTE, CONTROL_SECRET, CONTROL_TOKEN_KEY,
    ROUTE_KEY, route_name,
};
use kanarie_fakes::customer::{Account, Answer};
use kanarie_fakes::samples;
use kanarie_fakes::twilio::{FakeTwilio, http_client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::product::{GatewayOptions, Program, Routes};
use crate::roles::{self, Places};

/// UID of the channel.
const UID: &str = "0f0e0d0c-0b0a-4000-8000-000000000001";
/// The token of the control endpoint.
const TOKEN: &str = "a-control-token-of-the-tests";

/// One channel with two revisions at one gateway.
#[derive(Debug)]
pub struct Hand {
    /// The channel's account.
    pub account: Account,
    /// Where the replies arrive.
    pub twilio: FakeTwilio,
    /// The gateway.
    pub gateway: Program,
    plane: &'static ControlPlane,
    places: Places,
    client: reqwest::Client,
}

impl Hand {
    /// Starts a gateway, with a store of its own or on a shared one, and without a route.
    ///
    /// # Errors
    /// Something does not come up; the error carries its log.
    pub async fn start(plane: &'static ControlPlane, store: Option<String>) -> Result<Self> {
        static ACCOUNTS: AtomicU32 = AtomicU32::new(70_000);
        let account = Account::new(ACCOUNTS.fetch_add(1, Ordering::Relaxed));
        plane.install_crd().await?;
        let places = Places::make(plane).await?;
        roles::apply(plane, &places).await?;
        let control = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": CONTROL_SECRET},
            "stringData": {CONTROL_TOKEN_KEY: TOKEN},
        });
        plane.apply_yaml(&places.routes, &control.to_string()).await?;
        let twilio = FakeTwilio::start(&[&account]).await?;
        let kubeconfig = plane.kubeconfig_for_service_account(&places.system, "kanarie-gateway");
        let gateway = Program::gateway(&GatewayOptions {
            store,
            routes: Routes::Namespace(places.routes.clone(), kubeconfig.await?),
            twilio: twilio.url(),
            arguments: Vec::new(),
        })
        .await?;
        let authority = gateway.authority();
        twilio.set(|settings| settings.callbacks_to = Some(authority));
        Ok(Self { account, twilio, gateway, plane, places, client: http_client()? })
    }

    /// Writes the route, `agent` of both revisions in the form that routes have, and waits until the
    /// gateway says that it obeys.
    ///
    /// # Errors
    /// The API server refuses it, or the gateway does not take it up.
    pub async fn write(
        &self,
        serving: u64,
        weight: u8,
        stable: Value,
        canary: Value,
    ) -> Result<()> {
        let mut route = samples::route(&self.account);
        route["channel"] = json!({"namespace": self.places.channels, "name": "shop", "uid": UID});
        (route["serving"], route["weight"]) = (serving.into(), weight.into());
        route["stable"] = samples::revision("shop-stable", stable);
        route["canary"] = samples::revision("shop-canary", canary);
        route["limits"]["inboundMessages"] = 1_000.into();
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": route_name(&self.account.sid.parse()?, &self.account.sender.parse()?),
                "labels": {COMPONENT_LABEL: COMPONENT_ROUTE, CHANNEL_UID_LABEL: UID},
            },
            "stringData": {ROUTE_KEY: route.to_string()},
        });
        self.plane.apply_yaml(&self.places.routes, &object.to_string()).await?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let obeyed = |state: &Value| state.pointer("/acknowledged/0/serving").cloned();
        while obeyed(&self.state().await?) != Some(serving.into()) {
            if Instant::now() > deadline {
                bail!("the gateway does not take up the route:\n{}", self.gateway.log());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What the control endpoint says about the channel; null before it knows it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn state(&self) -> Result<Value> {
        let url = format!("{}/control/v1/state?channels={UID}", self.gateway.admin_url());
        let answer = self.client.get(url).bearer_auth(TOKEN).send().await?;
        let answer = answer.error_for_status().context("the control endpoint")?;
        let state: Value = answer.json().await?;
        Ok(state.pointer("/channels/0").cloned().unwrap_or_default())
    }

    /// A customer writes.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn say(&self, customer: &str, text: &str) -> Result<Answer> {
        let authority = self.gateway.authority();
        Ok(self.account.say(&self.client, &authority, customer, text).await?.1)
    }
}

/// The agent of a revision in the form that routes have.
pub fn http_route(url: &str) -> Value {
    json!({"http": {"url": url}})
}

/// The same for a LangGraph assistant.
pub fn lang_graph_route(url: &str) -> Value {
    json!({"langGraph": {"url": url, "assistantId": "agent"}})
}
