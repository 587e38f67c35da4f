//! What the gateway is told: flags, their environment variables and the one source of routes.
//!
//! Takes the parsed flags and a look-up of variables, gives a [`Config`] or every problem at once,
//! by name. Reads the manifests of `--channels`, so that a wrong one is told before anything
//! starts. Never prints a value: a secret may stand in the wrong place.

mod amounts;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use kanarie_crds::route::SecretText;
use kanarie_process::base_url::base_url;
use url::Url;

use crate::config::amounts::{idle, quantity, store_memory};
use crate::loads::Bounds;
use crate::outbound::agent::address::Allow;
use crate::routes::Source;
use crate::store::redis::promise::Durability;
use crate::token;

/// Checks the flags and finds the source of routes.
///
/// # Errors
/// Every problem there is.
pub fn config(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let mut problems = Vec::new();
    let listen = address(&flags.listen, "--listen", "KANARIE_LISTEN", &mut problems);
    let admin_listen =
        address(&flags.admin_listen, "--admin-listen", "KANARIE_ADMIN_LISTEN", &mut problems);
    let idle = idle(&flags.idle_seconds, &mut problems);
    let store = store(flags, lookup, &mut problems);
    let durability = durability(&flags.store_durability, &mut problems);
    let store_memory = store_memory(&flags.store_memory, &mut problems);
    let twilio_api_url = twilio_api_url(&flags.twilio_api_url, &mut problems);
    let agent_allow = agent_allow(flags, &mut problems);
    let turns = turns(flags, &mut problems);
    let bounds = bounds(flags, &mut problems);
    if !matches!(flags.log_format.as_str(), "text" | "json") {
        problems.push("--log-format (KANARIE_LOG_FORMAT) must be text or json".to_owned());
    }
    let control_token = control_token(flags, &mut problems);
    let source = source(flags, lookup, &mut problems);
    match (listen, admin_listen, idle, store, store_memory, twilio_api_url, turns, bounds, source) {
        (
            Some(listen),
            Some(admin_listen),
            Some(idle),
            Some(store),
            Some(store_memory),
            Some(twilio_api_url),
            Some(turns),
            Some(bounds),
            Some(source),
        ) if problems.is_empty() => Ok(Config {
            listen,
            admin_listen,
            idle,
            store,
            durability,
            store_memory,
            turns,
            bounds,
            twilio_api_url,
            agent_allow,
            source,
            control_token,
            host: lookup("HOSTNAME").filter(|name| !name.is_empty()),
            warnings: warnings(flags),
        }),
        _ => Err(ConfigErrors(problems)),
    }
}

/// The source of routes alone, for the commands that need nothing else.
///
/// # Errors
/// Every problem there is with it.
pub fn source_only(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Source, ConfigErrors> {
    let mut problems = Vec::new();
    source(flags, lookup, &mut problems).ok_or(ConfigErrors(problems))
}

/// The flags of the gateway, as they were typed.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Address and port for Twilio's webhooks
    #[arg(
        long,
        global = true,
        env = "KANARIE_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    pub listen: String,
    /// Address and port for /livez, /readyz, /metrics and the operator; keep it off the internet
    #[arg(
        long,
        global = true,
        env = "KANARIE_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    pub admin_listen: String,
    /// Seconds that a client's connection to --listen is kept between two requests: longer than the
    /// balancer before it does, or Twilio gets a 502 now and then
    #[arg(
        long,
        global = true,
        env = "KANARIE_IDLE_SECONDS",
        default_value = "620",
        value_name = "SECONDS",
        hide_env_values = true
    )]
    pub idle_seconds: String,
    /// Where messages are kept: redis://… or rediss://… for a fleet, embedded:PATH for one machine
    /// [default: $REDIS_URL, or embedded:./kanarie-data]
    #[arg(long, global = true, env = "KANARIE_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    /// What is asked of a Redis server: strict refuses one that would lose accepted messages with its
    /// process or its memory; relaxed uses it and says so
    #[arg(
        long,
        global = true,
        env = "KANARIE_STORE_DURABILITY",
        default_value = "strict",
        value_name = "POLICY",
        hide_env_values = true
    )]
    pub store_durability: String,
    /// Memory that an embedded store may take for all that it keeps, as a number or with Ki, Mi or Gi. Above
    /// that messages are answered 503; SIDs get half of it at most, then the oldest are forgotten early
    #[arg(
        long,
        global = true,
        env = "KANARIE_STORE_MEMORY",
        default_value = "256Mi",
        value_name = "BYTES",
        hide_env_values = true
    )]
    pub store_memory: String,
    /// Conversations worked on at once, of which a channel gets at most half; 0 only receives
    /// [default: 2000]
    #[arg(
        long,
        global = true,
        env = "KANARIE_TURNS",
        value_name = "NUMBER",
        hide_env_values = true
    )]
    pub turns: Option<String>,
    /// The former name of --turns
    #[arg(
        long,
        global = true,
        env = "KANARIE_WORKERS",
        value_name = "NUMBER",
        hide_env_values = true,
        hide = true
    )]
    pub workers: Option<String>,
    /// Messages of one channel that may wait; above that it is answered 503, and no other channel
    #[arg(
        long,
        global = true,
        env = "KANARIE_CHANNEL_MESSAGES",
        default_value = "100000",
        value_name = "NUMBER",
        hide_env_values = true
    )]
    pub channel_messages: String,
    /// Bytes of the messages of one channel that may wait, as a number or with Ki, Mi or Gi
    #[arg(
        long,
        global = true,
        env = "KANARIE_CHANNEL_BYTES",
        default_value = "64Mi",
        value_name = "BYTES",
        hide_env_values = true
    )]
    pub channel_bytes: String,
    /// Dead letters of one channel that are kept; above that its failed messages wait
    #[arg(
        long,
        global = true,
        env = "KANARIE_CHANNEL_DEAD_LETTERS",
        default_value = "10000",
        value_name = "NUMBER",
        hide_env_values = true
    )]
    pub channel_dead_letters: String,
    /// Base URL of Twilio's API, for a stand-in or a proxy
    #[arg(
        long,
        global = true,
        env = "KANARIE_TWILIO_API_URL",
        default_value = "https://api.twilio.com",
        value_name = "URL",
        hide_env_values = true
    )]
    pub twilio_api_url: String,
    /// Ranges in which agents may be although they are loopback, link-local or metadata addresses,
    /// separated by commas: 127.0.0.0/8 for an agent on this machine
    #[arg(
        long,
        global = true,
        env = "KANARIE_AGENT_ALLOW",
        default_value = "",
        value_name = "CIDRS",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub agent_allow: String,
    /// Whether an agent's URL may lead to private addresses: allow or deny. An agent that a channel names
    /// by its Service always may
    #[arg(
        long,
        global = true,
        env = "KANARIE_AGENT_PRIVATE",
        default_value = "allow",
        value_name = "POLICY",
        hide_env_values = true
    )]
    pub agent_private: String,
    /// File with the token of the control endpoints of --admin-listen: for a gateway without operator,
    /// and for the commands that ask one
    #[arg(
        long,
        global = true,
        env = "KANARIE_CONTROL_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub control_token_file: Option<PathBuf>,
    /// Log lines for people or for machines: text or json
    #[arg(
        long,
        global = true,
        env = "KANARIE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_env_values = true
    )]
    pub log_format: String,
    /// Take channels from the operator: the namespace that holds its routes
    #[arg(
        long,
        global = true,
        env = "KANARIE_ROUTES_NAMESPACE",
        value_name = "NAMESPACE",
        hide_env_values = true
    )]
    pub routes_namespace: Option<String>,
    /// Take channels from manifests in a directory: WhatsAppChannel and Secret objects, read again
    /// when they change; all traffic goes to the channel as written
    #[arg(
        long,
        global = true,
        env = "KANARIE_CHANNELS",
        value_name = "DIRECTORY",
        hide_env_values = true
    )]
    pub channels: Option<PathBuf>,
}

/// Everything that is needed to start.
#[derive(Debug)]
pub struct Config {
    /// Where Twilio's webhooks arrive.
    pub listen: SocketAddr,
    /// Where health, metrics and the operator's questions arrive.
    pub admin_listen: SocketAddr,
    /// How long a client's connection is kept between two requests.
    pub idle: Duration,
    /// Where messages are kept.
    pub store: StoreChoice,
    /// What is asked of a Redis server.
    pub durability: Durability,
    /// Bytes of memory that an embedded store may take.
    pub store_memory: u64,
    /// Conversations at once; 0 only receives.
    pub turns: u32,
    /// What one channel may hold of the queue.
    pub bounds: Bounds,
    /// Base URL of Twilio's API.
    pub twilio_api_url: Url,
    /// Which addresses agents may have.
    pub agent_allow: Allow,
    /// Where routes come from.
    pub source: Source,
    /// The control token, where no operator makes it.
    pub control_token: Option<SecretText>,
    /// Name of the machine or pod, for the replica's own name.
    pub host: Option<String>,
    /// What is obeyed and should be written otherwise.
    pub warnings: Vec<&'static str>,
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// A Redis server, by its URL, which may hold a password.
    Redis(SecretText),
    /// A directory of this machine.
    Embedded(PathBuf),
}

/// Every problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not complete:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))?;
        f.write_str("\nkanarie-gateway --help tells every flag and variable.")
    }
}

impl std::error::Error for ConfigErrors {}

/// Conversations at once, when nobody says.
const TURNS: u32 = 2_000;
/// Beyond this a number of turns is a typing error.
const MAX_TURNS: u32 = 100_000;

fn address(
    text: &str,
    flag: &str,
    variable: &str,
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        problems
            .push(format!("{flag} ({variable}) must be an IP address and a port, 0.0.0.0:8080"));
    }
    address
}

fn store(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> Option<StoreChoice> {
    let set = |text: &String| !text.is_empty();
    let text = flags.store.clone().filter(set).or_else(|| lookup("REDIS_URL").filter(set));
    let text = text.unwrap_or_else(|| "embedded:./kanarie-data".to_owned());
    match text.split_once(':') {
        Some(("redis" | "rediss", _)) => Some(StoreChoice::Redis(SecretText::new(text))),
        Some(("embedded", path)) if !path.is_empty() => {
            Some(StoreChoice::Embedded(Path::new(path).to_owned()))
        }
        _ => {
            problems.push(
                "--store (KANARIE_STORE or REDIS_URL) must be redis://…, rediss://… or \
                 embedded:PATH"
                    .to_owned(),
            );
            None
        }
    }
}

fn durability(text: &str, problems: &mut Vec<String>) -> Durability {
    match text {
        "relaxed" => return Durability::Relaxed,
        "strict" => {}
        _ => problems.push(
            "--store-durability (KANARIE_STORE_DURABILITY) must be strict or relaxed".to_owned(),
        ),
    }
    Durability::Strict
}

fn turns(flags: &Flags, problems: &mut Vec<String>) -> Option<u32> {
    let set = |text: &&String| !text.is_empty();
    let named = [
        (&flags.turns, "--turns (KANARIE_TURNS)"),
        (&flags.workers, "--workers (KANARIE_WORKERS)"),
    ];
    let Some((text, name)) =
        named.into_iter().find_map(|(text, name)| Some((text.as_ref().filter(set)?, name)))
    else {
        return Some(TURNS);
    };
    let turns = text.parse().ok().filter(|turns| *turns <= MAX_TURNS);
    if turns.is_none() {
        problems.push(format!("{name} must be a number from 0 to {MAX_TURNS}"));
    }
    turns
}

fn warnings(flags: &Flags) -> Vec<&'static str> {
    let former = flags.workers.as_ref().is_some_and(|workers| !workers.is_empty());
    former
        .then_some("--workers (KANARIE_WORKERS) is now --turns (KANARIE_TURNS): write that")
        .into_iter()
        .collect()
}

fn bounds(flags: &Flags, problems: &mut Vec<String>) -> Option<Bounds> {
    let mut bound = |text: &str, name: &str| {
        let bound = quantity(text).filter(|bound| *bound > 0);
        if bound.is_none() {
            problems.push(format!("{name} must be a number over 0, or one with Ki, Mi or Gi"));
        }
        bound
    };
    let messages = bound(&flags.channel_messages, "--channel-messages (KANARIE_CHANNEL_MESSAGES)");
    let bytes = bound(&flags.channel_bytes, "--channel-bytes (KANARIE_CHANNEL_BYTES)");
    let dead_letters =
        bound(&flags.channel_dead_letters, "--channel-dead-letters (KANARIE_CHANNEL_DEAD_LETTERS)");
    Some(Bounds { messages: messages?, bytes: bytes?, dead_letters: dead_letters? })
}

fn twilio_api_url(text: &str, problems: &mut Vec<String>) -> Option<Url> {
    let url = base_url(text);
    if url.is_none() {
        problems.push(
            "--twilio-api-url (KANARIE_TWILIO_API_URL) must be an http or https URL with a host \
             and without user, query and fragment"
                .to_owned(),
        );
    }
    url
}

fn agent_allow(flags: &Flags, problems: &mut Vec<String>) -> Allow {
    let ranges = flags.agent_allow.split(',').map(str::trim).filter(|range| !range.is_empty());
    let parsed: Result<Vec<IpNet>, _> = ranges.map(str::parse).collect();
    let ranges = parsed.unwrap_or_else(|_| {
        problems.push(
            "--agent-allow (KANARIE_AGENT_ALLOW) must be ranges like 127.0.0.0/8, separated by \
             commas"
                .to_owned(),
        );
        Vec::new()
    });
    match flags.agent_private.as_str() {
        "deny" => return Allow::new(ranges).only_public(),
        "allow" => {}
        _ => problems
            .push("--agent-private (KANARIE_AGENT_PRIVATE) must be allow or deny".to_owned()),
    }
    Allow::new(ranges)
}

fn control_token(flags: &Flags, problems: &mut Vec<String>) -> Option<SecretText> {
    let path = flags.control_token_file.as_deref().filter(|path| !path.as_os_str().is_empty())?;
    if flags.routes_namespace.as_ref().is_some_and(|namespace| !namespace.is_empty()) {
        problems.push(
            "--control-token-file (KANARIE_CONTROL_TOKEN_FILE) is for gateways without operator: with \
             --routes-namespace the token is the Secret kanarie-control"
                .to_owned(),
        );
    }
    token::read(path).map_err(|error| problems.push(error.to_string())).ok()
}

fn source(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> Option<Source> {
    let namespace = flags.routes_namespace.as_deref().filter(|name| !name.is_empty());
    let channels = flags.channels.as_deref().filter(|path| !path.as_os_str().is_empty());
    let found = Source::choose(namespace, channels, lookup);
    found.map_err(|mut found| problems.append(&mut found)).ok()
}
