//! Flags and environment of `kanarie-operator run`.
//!
//! Takes the texts that clap collected, gives a `Config` or every mistake at once. Never reads a
//! Secret and never prints a value that could hold one.

use std::fmt;
use std::net::SocketAddr;

use clap::Args;
use kanarie_crds::channel::CHANNEL_CLASS;
use kanarie_process::base_url::base_url;
use reqwest::Url;

/// What `run` is started with, as written.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Base URL of the gateways' admin Service, for GET /control/v1/state
    #[arg(long, env = "KANARIE_GATEWAY_URL", default_value = "")]
    pub gateway_url: String,
    /// Namespace that holds the routes and the control token, and nothing else
    #[arg(long, env = "KANARIE_ROUTES_NAMESPACE", default_value = "")]
    pub routes_namespace: String,
    /// Namespaces with channels, separated by commas; empty watches all
    #[arg(long, env = "KANARIE_WATCH_NAMESPACES", default_value = "")]
    pub watch_namespaces: String,
    /// Class of the channels that this installation serves: those with this spec.className and no others
    #[arg(long, env = "KANARIE_CHANNEL_CLASS", default_value = CHANNEL_CLASS)]
    pub channel_class: String,
    /// Base URL of Twilio's API, where credentials are checked
    #[arg(long, env = "KANARIE_TWILIO_API_URL", default_value = "https://api.twilio.com")]
    pub twilio_api_url: String,
    /// Let only one of several replicas work, by a Lease in the operator's own namespace
    #[arg(long, env = "KANARIE_LEADER_ELECT", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "KANARIE_ADMIN_LISTEN", default_value = "127.0.0.1:9091")]
    pub admin_listen: String,
    /// Form of the log lines: text or json
    #[arg(long, env = "KANARIE_LOG_FORMAT", default_value = "text")]
    pub log_format: String,
}

/// What `run` works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Base URL of the gateways' admin Service, without a trailing slash.
    pub gateway_url: String,
    /// Namespace of the routes.
    pub routes_namespace: String,
    /// Namespaces with channels; empty means all but the routes namespace.
    pub watch_namespaces: Vec<String>,
    /// Class of the channels that are served.
    pub channel_class: String,
    /// Base URL of Twilio's API.
    pub twilio_api_url: Url,
    /// Whether a Lease decides who works.
    pub leader_elect: bool,
    /// Address of the admin server.
    pub admin_listen: SocketAddr,
    /// Form of the log lines.
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

impl Config {
    /// Reads the flags; every mistake is in the error, by the name of its flag.
    pub fn from_args(args: &RunArgs) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let gateway_url = gateway_url(&args.gateway_url, &mut errors);
        let routes_namespace = routes_namespace(&args.routes_namespace, &mut errors);
        let watch_namespaces = watch_namespaces(args, &mut errors);
        let channel_class = channel_class(&args.channel_class, &mut errors);
        let twilio_api_url = twilio_api_url(&args.twilio_api_url, &mut errors);
        let admin_listen = args.admin_listen.parse().unwrap_or_else(|_| {
            errors.push("--admin-listen must be an address and a port, as 127.0.0.1:9091".into());
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let log_format = match args.log_format.as_str() {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            _ => {
                errors.push("--log-format must be text or json".into());
                LogFormat::Text
            }
        };
        let Some(twilio_api_url) = twilio_api_url.filter(|_| errors.is_empty()) else {
            return Err(ConfigErrors(errors));
        };
        let leader_elect = args.leader_elect;
        Ok(Self {
            gateway_url,
            routes_namespace,
            watch_namespaces,
            channel_class,
            twilio_api_url,
            leader_elect,
            admin_listen,
            log_format,
        })
    }

    /// Whether the channels of this namespace are ours to reconcile.
    pub fn watches(&self, namespace: &str) -> bool {
        namespace != self.routes_namespace
            && (self.watch_namespaces.is_empty()
                || self.watch_namespaces.iter().any(|watched| watched == namespace))
    }
}

/// Every mistake of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has mistakes:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

fn gateway_url(text: &str, errors: &mut Vec<String>) -> String {
    let plausible = match Url::parse(text) {
        Ok(url) => matches!(url.scheme(), "http" | "https") && url.has_host(),
        Err(_) => false,
    };
    if !plausible {
        errors.push(
            "--gateway-url must be the http or https URL of the gateways' admin Service, \
             as http://kanarie-gateway-admin:9090"
                .into(),
        );
    }
    text.trim_end_matches('/').to_owned()
}

fn twilio_api_url(text: &str, errors: &mut Vec<String>) -> Option<Url> {
    let url = base_url(text);
    if url.is_none() {
        errors.push(
            "--twilio-api-url must be an http or https URL with a host and without user, query and fragment"
                .into(),
        );
    }
    url
}

fn routes_namespace(text: &str, errors: &mut Vec<String>) -> String {
    if !is_label(text) {
        errors.push("--routes-namespace must name the namespace that holds the routes".into());
    }
    text.to_owned()
}

fn watch_namespaces(args: &RunArgs, errors: &mut Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in args.watch_namespaces.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !is_label(name) {
            errors.push(format!("--watch-namespaces: `{name}` is not a namespace's name"));
        } else if name == args.routes_namespace {
            errors.push(format!(
                "--watch-namespaces: `{name}` is the routes namespace, which must not hold channels"
            ));
        } else if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn channel_class(text: &str, errors: &mut Vec<String>) -> String {
    if !is_label(text) {
        errors.push(
            "--channel-class must be lower-case letters, digits and `-`, as spec.className of the \
             channels to serve"
                .into(),
        );
    }
    text.to_owned()
}

/// What may name a namespace, and a class as well.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> RunArgs {
        RunArgs {
            gateway_url: "http://gateway:9090/".into(),
            routes_namespace: "kanarie-routes".into(),
            watch_namespaces: "shop, care,shop".into(),
            channel_class: "kanarie".into(),
            twilio_api_url: "https://api.twilio.com".into(),
            leader_elect: true,
            admin_listen: "127.0.0.1:9091".into(),
            log_format: "json".into(),
        }
    }

    #[test]
    fn a_complete_command_line_is_accepted() {
        let config = Config::from_args(&args()).unwrap();
        assert_eq!(config.gateway_url, "http://gateway:9090");
        assert_eq!(config.watch_namespaces, ["shop", "care"]);
        assert_eq!(config.log_format, LogFormat::Json);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let wrong = RunArgs {
            gateway_url: "gateway".into(),
            routes_namespace: "Routes".into(),
            watch_namespaces: "a_b".into(),
            channel_class: String::new(),
            twilio_api_url: "https://user@api.twilio.com".into(),
            leader_elect: false,
            admin_listen: "9091".into(),
            log_format: "xml".into(),
        };
        let errors = Config::from_args(&wrong).unwrap_err();
        assert_eq!(errors.0.len(), 7, "{errors}");
    }

    #[test]
    fn the_routes_namespace_is_refused_as_a_place_for_channels() {
        let wrong = RunArgs { watch_namespaces: "shop,kanarie-routes".into(), ..args() };
        let errors = Config::from_args(&wrong).unwrap_err();
        assert!(errors.to_string().contains("must not hold channels"), "{errors}");
    }

    #[test]
    fn watching_all_namespaces_leaves_the_routes_namespace_out() {
        let all = RunArgs { watch_namespaces: String::new(), ..args() };
        let config = Config::from_args(&all).unwrap();
        assert!(config.watches("shop"));
        assert!(!config.watches("kanarie-routes"));
    }
}
