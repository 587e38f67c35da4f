//! The product as processes: the real binaries, started, killed and started again.
//!
//! Takes options, gives a handle per process. Each keeps its ports and its log through restarts,
//! so that callers need not notice. Never configures anything but by flags and environment.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::programs::progress;
use kanarie_fakes::server::free_port;
use kanarie_fakes::twilio::http_client;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Where a gateway finds its routes.
#[derive(Clone, Debug)]
pub enum Routes {
    /// Manifests in a folder.
    Folder(PathBuf),
    /// Secrets in a namespace, read with a kubeconfig.
    Namespace(String, PathBuf),
}

/// How a gateway is started.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// `--store`; none is an embedded store in a folder of the process.
    pub store: Option<String>,
    /// Where the routes come from.
    pub routes: Routes,
    /// `--twilio-api-url`.
    pub twilio: String,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// How an operator is started.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Kubeconfig of its service account.
    pub kubeconfig: PathBuf,
    /// `--routes-namespace`.
    pub routes_namespace: String,
    /// `--watch-namespaces`.
    pub watch_namespaces: String,
    /// `--gateway-url`: the admin address of a gateway.
    pub gateway_url: String,
    /// `--twilio-api-url`.
    pub twilio: String,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// A process of the product, running or not.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    listen: SocketAddr,
    admin: SocketAddr,
    process: Mutex<Option<Process>>,
    folder: TempDir,
}

impl Program {
    /// Starts a gateway and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be built or does not become ready; the error carries its log.
    pub async fn gateway(options: &GatewayOptions) -> Result<Self> {
        let gateway = Self::gateway_unready(options)?;
        gateway.wait_until_ready().await?;
        Ok(gateway)
    }

    /// Starts a gateway whose log has more lines than by default, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be built or does not become ready; the error carries its log.
    pub async fn gateway_telling(options: &GatewayOptions, filter: &str) -> Result<Self> {
        let mut gateway = Self::arranged(options)?;
        gateway.environment.push(("RUST_LOG".to_owned(), filter.into()));
        gateway.spawn()?;
        gateway.wait_until_ready().await?;
        Ok(gateway)
    }

    /// Starts a gateway without waiting.
    ///
    /// # Errors
    /// It cannot be built or started.
    pub fn gateway_unready(options: &GatewayOptions) -> Result<Self> {
        let gateway = Self::arranged(options)?;
        gateway.spawn()?;
        Ok(gateway)
    }

    /// A gateway that is not started yet.
    fn arranged(options: &GatewayOptions) -> Result<Self> {
        let mut gateway = Self::new("kanarie-gateway")?;
        let own = format!("embedded:{}", gateway.folder.path().join("store").display());
        let store = options.store.clone().unwrap_or(own);
        gateway.argue("--listen", gateway.listen.to_string());
        gateway.argue("--admin-listen", gateway.admin.to_string());
        gateway.argue("--store", store);
        gateway.argue("--twilio-api-url", options.twilio.clone());
        gateway.argue("--agent-allow", "127.0.0.0/8".to_owned());
        match &options.routes {
            Routes::Folder(folder) => gateway.argue("--channels", folder.display().to_string()),
            Routes::Namespace(namespace, kubeconfig) => {
                gateway.argue("--routes-namespace", namespace.clone());
                gateway.environment.push(("KUBECONFIG".to_owned(), kubeconfig.clone()));
            }
        }
        gateway.arguments.extend(options.arguments.iter().cloned());
        Ok(gateway)
    }

    /// Starts an operator and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be built or does not become ready; the error carries its log.
    pub async fn operator(options: &OperatorOptions) -> Result<Self> {
        let mut operator = Self::new("kanarie-operator")?;
        operator.arguments.push("run".to_owned());
        operator.argue("--admin-listen", operator.admin.to_string());
        operator.argue("--gateway-url", options.gateway_url.clone());
        operator.argue("--twilio-api-url", options.twilio.clone());
        operator.argue("--routes-namespace", options.routes_namespace.clone());
        operator.argue("--watch-namespaces", options.watch_namespaces.clone());
        operator.arguments.extend(options.arguments.iter().cloned());
        operator.environment.push(("KUBECONFIG".to_owned(), options.kubeconfig.clone()));
        operator.start().await?;
        Ok(operator)
    }

    /// Where customers' messages go, host and port.
    pub fn authority(&self) -> String {
        self.listen.to_string()
    }

    /// The id of its process, to measure it by.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running().as_ref().context("it is not running")?.id())
    }

    /// Base URL of the admin port.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Starts it, again with the same ports and store, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready; the error carries its log.
    pub async fn start(&self) -> Result<()> {
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self) -> Result<()> {
        let mut command = Command::new(binary(self.name)?);
        command.args(&self.arguments).env_remove("KUBECONFIG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        *self.running() = Some(Process::spawn(self.name, &mut command, &self.log_file())?);
        Ok(())
    }

    /// `kill -9`, as a power cut would.
    pub fn kill(&self) {
        *self.running() = None;
    }

    /// SIGTERM, and waits until it has drained.
    ///
    /// # Errors
    /// The system does not tell, or it ended with an error.
    pub fn stop(&self) -> Result<()> {
        let Some(mut process) = self.running().take() else { return Ok(()) };
        process.signal(Signal::TERM);
        let status = process.wait()?;
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, process.log_tail());
        }
        Ok(())
    }

    /// Freezes it, as a virtual machine that is paused.
    pub fn freeze(&self) {
        if let Some(process) = self.running().as_mut() {
            process.signal(Signal::STOP);
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(process) = self.running().as_mut() {
            process.signal(Signal::CONT);
        }
    }

    /// Everything that it has logged, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.admin_url());
        Ok(http_client()?.get(url).send().await?.error_for_status()?.text().await?)
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// It ends, or is not ready in time; the error carries its log.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let client = http_client()?;
        let url = format!("{}/readyz", self.admin_url());
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut said = String::new();
        loop {
            if let Ok(response) = client.get(&url).send().await {
                if response.status().is_success() {
                    return Ok(());
                }
                said = response.text().await.unwrap_or_default();
            }
            if let Some(process) = self.running().as_mut()
                && (process.ended()?.is_some() || Instant::now() > deadline)
            {
                bail!("{} is not ready: {said}\n{}", self.name, process.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn new(name: &'static str) -> Result<Self> {
        let port = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            name,
            arguments: Vec::new(),
            environment: Vec::new(),
            listen: port(free_port()?),
            admin: port(free_port()?),
            process: Mutex::new(None),
            folder: process::folder(name)?,
        })
    }

    fn argue(&mut self, flag: &str, value: String) {
        self.arguments.extend([flag.to_owned(), value]);
    }

    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Path of a binary of the workspace, of the same profile as this process, built if it is stale.
///
/// # Errors
/// It does not build.
pub fn binary(name: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match folder {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => bail!("{error}"),
    }
}

fn build() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    let folder = exe
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"))
        .context("this program does not stand in a target folder of cargo")?;
    // Without cargo around us, somebody has put the binaries beside us.
    if let Some(cargo) = env::var_os("CARGO") {
        let begun = Instant::now();
        let mut command = Command::new(cargo);
        // Build scripts watch the variables that cargo sets for the package it runs: with ours
        // around them, they and all that stands on them would be built anew each time.
        for (name, _) in env::vars_os() {
            let own = name.to_string_lossy();
            if own.starts_with("CARGO_PKG_") || own.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .args(["build", "--quiet", "--workspace"])
            .args(["--bin", "kanarie-gateway", "--bin", "kanarie-operator"]);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().context("run cargo")?;
        if !status.success() {
            bail!("cargo build of the product ended with {status}");
        }
        if begun.elapsed() > Duration::from_secs(5) {
            progress(&format!("built the product in {} s", begun.elapsed().as_secs()));
        }
    }
    Ok(folder.to_owned())
}
