//! A real LangGraph server, `langgraph dev`, with the graphs of `tests/langgraph`.
//!
//! Takes Python 3.11 or newer from `PATH`; its packages are installed once into our cache folder,
//! pinned. Each server has a folder of its own, so no thread outlives its test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::programs::{installed, progress};
use kanarie_fakes::server::free_port;
use kanarie_fakes::twilio::http_client;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::tools::cache_folder;

/// A running server with the graphs `agent`, `hanging`, `failing`, `asking` and `trimming`.
#[derive(Debug)]
pub struct LangGraphServer {
    url: String,
    process: Process,
    _folder: TempDir,
}

impl LangGraphServer {
    /// Installs it if need be, starts it and waits until it answers.
    ///
    /// # Errors
    /// Python is missing, the installation fails, or the server does not come up.
    pub async fn start() -> Result<Self> {
        let environment = tokio::task::spawn_blocking(environment).await??;
        let folder = process::folder("langgraph")?;
        for file in ["langgraph.json", "graph.py"] {
            fs::copy(sources().join(file), folder.path().join(file))?;
        }
        let port = free_port()?;
        let mut command = Command::new(environment.join("bin/langgraph"));
        command
            .current_dir(folder.path())
            .args(["dev", "--no-browser", "--no-reload", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--n-jobs-per-worker", "10"])
            .env("PATH", format!("{}:/usr/bin:/bin", environment.join("bin").display()))
            .env("LANGSMITH_TRACING", "false")
            .env("LANGCHAIN_TRACING_V2", "false")
            .env("LANGGRAPH_CLI_NO_ANALYTICS", "1");
        let process = Process::spawn("langgraph", &mut command, &folder.path().join("log"))?;
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Self { url, process, _folder: folder };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// The URL for a channel's `agent.langGraph.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The messages of a thread: role (`human` or `ai`) and text, in order.
    ///
    /// # Errors
    /// The server does not answer, or does not know the thread.
    pub async fn thread(&self, thread: &str) -> Result<Vec<(String, String)>> {
        let url = format!("{}/threads/{thread}/state", self.url);
        let response = http_client()?.get(url).send().await?.error_for_status()?;
        let state: Value = response.json().await?;
        let messages = state["values"]["messages"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(messages.iter().map(|m| (text(&m["type"]), text(&m["content"]))).collect())
    }

    /// Waits until a run of a thread is under way.
    ///
    /// # Errors
    /// None is before the time is up.
    pub async fn wait_until_running(&self, thread: &str, within: Duration) -> Result<()> {
        let (client, deadline) = (http_client()?, Instant::now() + within);
        let url = format!("{}/threads/{thread}/runs", self.url);
        loop {
            let runs: Value = match client.get(&url).send().await?.error_for_status() {
                Ok(response) => response.json().await?,
                // The thread is made with its first run.
                Err(_) => Value::Null,
            };
            let mut runs = runs.as_array().into_iter().flatten();
            if runs.any(|run| run["status"] == "running") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("no run of thread {thread} is under way:\n{}", self.process.log_tail());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let client = http_client()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ok = client.get(format!("{}/ok", self.url)).send().await;
            if ok.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if self.process.ended()?.is_some() || Instant::now() > deadline {
                bail!("langgraph dev does not come up:\n{}", self.process.log_tail());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The virtual environment with the pinned packages, made once.
///
/// # Errors
/// Python is missing, or the installation fails.
pub fn environment() -> Result<PathBuf> {
    let requirements = sources().join("requirements.txt");
    let digest = Sha256::digest(fs::read(&requirements)?);
    let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = cache_folder()?.join(format!("langgraph-{name}"));
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock().context("wait for whoever installs it")?;
    let done = folder.join("installed");
    if !done.exists() {
        install(&folder, &requirements)?;
        File::create(done)?;
    }
    Ok(folder)
}

fn install(folder: &Path, requirements: &Path) -> Result<()> {
    progress("installing langgraph dev into a virtual environment, once (about a minute)");
    let python = python()?;
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))
        .context("python3 cannot make virtual environments: install the package python3-venv")?;
    let pip = folder.join("bin/pip");
    run(Command::new(pip)
        .args(["install", "-q", "--disable-pip-version-check", "-r"])
        .arg(requirements))
}

/// Python, installing it when that is allowed.
fn python() -> Result<PathBuf> {
    if let Some(found) = installed("python3") {
        return Ok(found);
    }
    if !rustix::process::geteuid().is_root() || installed("apt-get").is_none() {
        bail!("python3 is not in PATH: install the packages python3 and python3-venv");
    }
    progress("installing the packages python3 and python3-venv");
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends", "python3", "python3-venv"])
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    installed("python3").context("the package python3 brought no python3")
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("run {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("langgraph")
}
