//! `kanarie-gateway`: runs the gateway, or one of the commands beside it.
//!
//! Takes flags and environment, gives an exit code: 0 for a clean end, 1 for anything else, 2 for
//! flags that do not parse. Never prints a secret.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kanarie_gateway::commands::{check_signature, dead_letters, erase, send_test};
use kanarie_gateway::config::{Flags, config};
use kanarie_gateway::stop::Signals;
use kanarie_gateway::{events, log, subject};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Receives WhatsApp messages from Twilio, keeps them safe, asks your agent, sends the replies.
///
/// Channels come from exactly one source: --routes-namespace (with the Kanarie operator),
/// --channels (a directory of manifests), or these variables for a single channel:
///
///   TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN   the account and its auth token
///   TWILIO_WHATSAPP_NUMBER                  the sender, +31201234567
///   TWILIO_WEBHOOK_URL                      the URL exactly as it stands in Twilio's console
///   TWILIO_WEBHOOK_SECRET                   optional: a shared key for signatures
///   TWILIO_WEBHOOK_KEY_ID                   optional: the id of that key
///   LANGGRAPH_URL, LANGGRAPH_ASSISTANT_ID   a LangGraph server as the agent, or
///   AGENT_URL                               any HTTP service as the agent
#[derive(Parser)]
#[command(
    name = "kanarie-gateway",
    version,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = false
)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say why a request of Twilio is accepted or refused: the URLs that are tried, and which secret
    /// fits
    CheckSignature(check_signature::Request),
    /// Send a signed message to a running gateway and wait for its end
    SendTest(send_test::Test),
    /// List, show, replay or erase messages that could not be answered
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Erase everything that is kept of one customer
    Erase(erase::EraseCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before any client: rustls refuses to choose a provider by itself.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let flags = &arguments.flags;
    let variable = |name: &str| std::env::var(name).ok();
    let done = match &arguments.command {
        None => {
            log_panics();
            // Dropped, it writes the last lines.
            let _lines = log_to_stderr(&flags.log_format);
            serve(flags, &variable).await
        }
        Some(Command::CheckSignature(request)) => {
            check_signature::run(request, flags, &variable).await
        }
        Some(Command::SendTest(test)) => send_test::run(test, flags, &variable).await,
        Some(Command::DeadLetters(command)) => dead_letters::run(command, flags).await,
        Some(Command::Erase(command)) => erase::run(command, flags).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kanarie-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: &Flags, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let config = config(flags, variable)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let (stop, stopping) = watch::channel(false);
    let (hurry, hurrying) = watch::channel(false);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let mut told = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        told().await;
        stop.send_replace(true);
        // Whoever asks twice does not want to wait for what runs: it is given back at once.
        told().await;
        hurry.send_replace(true);
        told().await;
        std::process::exit(1);
    });
    kanarie_gateway::run(config, Signals { stop: stopping, hurry: hurrying }).await
}

/// Says where something panicked, and what a literal said: text that was put together may hold a
/// customer's words.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let said = panic.payload().downcast_ref::<&'static str>();
        let _subject = subject::entered();
        tracing::error!(at, said, "a task panicked");
    }));
}

/// A format that is none is told with the other problems of the configuration.
fn log_to_stderr(format: &str) -> WorkerGuard {
    let (out, guard) = log::start(std::io::stderr());
    events::count_dropped(out.error_counter());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(out);
    if format == "json" {
        // A line has one span at most.
        lines.json().with_span_list(false).init()
    } else {
        lines.init()
    }
    guard
}
