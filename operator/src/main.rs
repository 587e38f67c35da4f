//! `kanarie-operator run | crd`: flags, signals and exit codes.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kanarie_operator::process::config::{Config, LogFormat, RunArgs};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reconciles WhatsAppChannel: rolls revisions of a channel out by canary and takes bad ones back
#[derive(Parser)]
#[command(name = "kanarie-operator", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch the channels of a cluster and write their routes
    Run(RunArgs),
    /// Print the CustomResourceDefinition
    Crd,
}

fn main() -> ExitCode {
    // One TLS provider for every client of this process, before the first is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match Cli::parse().command {
        Command::Crd => {
            print!("{}", kanarie_crds::schema::yaml());
            Ok(())
        }
        Command::Run(args) => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kanarie-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let config = Config::from_args(args)?;
    start_log(config.log_format);
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        let client = kanarie_process::cluster::connect()
            .await
            .context("there is no way to an API server; run in a pod or set KUBECONFIG")?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(kanarie_operator::run(config, client, shutdown).await?)
    })
}

fn start_log(format: LogFormat) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=error"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
