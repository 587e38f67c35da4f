//! What the gateway is told: every problem at once, by name, and never a value.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser;
use kanarie_gateway::config::{Config, Flags, StoreChoice, config};
use kanarie_gateway::loads::Bounds;
use kanarie_gateway::routes::Source;
use kanarie_gateway::store::redis::promise::Durability;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

const CHANNEL: [(&str, &str); 5] = [
    ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
    ("TWILIO_AUTH_TOKEN", "hush-hush"),
    ("TWILIO_WHATSAPP_NUMBER", "+31201234567"),
    ("TWILIO_WEBHOOK_URL", "https://hooks.example.com/webhooks/twilio/whatsapp"),
    ("AGENT_URL", "https://agent.example.com/"),
];

#[test]
fn a_channel_in_the_environment_is_enough() {
    let config = read(&[], &CHANNEL).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.idle.as_secs(), 620, "longer than the balancers of clouds");
    let default = Path::new("./kanarie-data").to_owned();
    assert_eq!(config.store, StoreChoice::Embedded(default));
    assert_eq!(config.twilio_api_url.as_str(), "https://api.twilio.com/");
    assert!(matches!(config.source, Source::Environment(_)));
}

#[test]
fn a_namespace_is_enough() {
    let config = read(&["--routes-namespace", "routes"], &[]).unwrap();
    assert!(matches!(config.source, Source::Namespace(name) if name == "routes"));
}

#[test]
fn the_store_of_the_flag_wins_over_redis_url() {
    let flags = ["--routes-namespace", "r", "--store", "embedded:/data/q"];
    let config = read(&flags, &[("REDIS_URL", "redis://h")]).unwrap();
    assert_eq!(config.store, StoreChoice::Embedded(Path::new("/data/q").to_owned()));
    let config = read(&flags[..2], &[("REDIS_URL", "rediss://h")]).unwrap();
    assert!(matches!(config.store, StoreChoice::Redis(url) if url.expose() == "rediss://h"));
}

#[test]
fn every_problem_is_told_at_once_and_by_name() {
    let flags = [
        "--listen=here",
        "--admin-listen=there",
        "--idle-seconds=0",
        "--store=mysql:hush-hush",
        "--store-durability=hush-hush",
        "--store-memory=8Mi",
        "--turns=many",
        "--channel-messages=0",
        "--channel-bytes=64MB",
        "--channel-dead-letters=-1",
        "--twilio-api-url=ftp://hush-hush",
        "--agent-allow=hush-hush",
        "--agent-private=hush-hush",
        "--log-format=xml",
    ];
    let text = read(&flags, &[]).unwrap_err();
    for name in [
        "KANARIE_LISTEN",
        "KANARIE_ADMIN_LISTEN",
        "KANARIE_IDLE_SECONDS",
        "KANARIE_STORE",
        "KANARIE_STORE_DURABILITY",
        "KANARIE_STORE_MEMORY",
        "KANARIE_TURNS",
        "KANARIE_CHANNEL_MESSAGES",
        "KANARIE_CHANNEL_BYTES",
        "KANARIE_CHANNEL_DEAD_LETTERS",
        "KANARIE_TWILIO_API_URL",
        "KANARIE_AGENT_ALLOW",
        "KANARIE_AGENT_PRIVATE",
        "KANARIE_LOG_FORMAT",
        "there is no source of channels",
    ] {
        assert!(text.contains(name), "{name} in: {text}");
    }
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_replica_has_two_thousand_turns_and_a_channel_bounds_of_its_own() {
    let config = read(&[], &CHANNEL).unwrap();
    let bounds = Bounds { messages: 100_000, bytes: 64 << 20, dead_letters: 10_000 };
    assert_eq!((config.turns, config.bounds), (2_000, bounds));
    assert!(config.warnings.is_empty());
    let flags = ["--turns=0", "--channel-messages=7", "--channel-bytes=3Ki"];
    let config = read(&flags, &CHANNEL).unwrap();
    let bounds = Bounds { messages: 7, bytes: 3_072, dead_letters: 10_000 };
    assert_eq!((config.turns, config.bounds), (0, bounds));
}

#[test]
fn a_store_may_take_its_memory_and_lose_nothing_unless_it_is_said_otherwise() {
    let plain = read(&[], &CHANNEL).unwrap();
    assert_eq!((plain.store_memory, plain.durability), (256 << 20, Durability::Strict));
    let flags = ["--store-memory=64Mi", "--store-durability=relaxed"];
    let config = read(&flags, &CHANNEL).unwrap();
    assert_eq!((config.store_memory, config.durability), (64 << 20, Durability::Relaxed));
}

#[test]
fn urls_of_agents_lead_to_private_addresses_only_where_that_is_allowed() {
    let private = "10.0.0.1".parse().unwrap();
    for (policy, permitted) in [("allow", true), ("deny", false)] {
        let config = read(&["--agent-private", policy], &CHANNEL).unwrap();
        assert_eq!(config.agent_allow.permits(private), permitted, "{policy}");
    }
    let named = ["--agent-private=deny", "--agent-allow=10.0.0.0/24"];
    assert!(read(&named, &CHANNEL).unwrap().agent_allow.permits(private));
}

#[test]
fn bytes_are_a_number_or_one_with_a_binary_suffix() {
    for (text, bytes) in [("1", 1), ("2Ki", 2_048), ("1Mi", 1 << 20), ("4Gi", 1 << 32)] {
        let config = read(&["--channel-bytes", text], &CHANNEL).unwrap();
        assert_eq!(config.bounds.bytes, bytes, "{text}");
    }
    for text in ["", "Mi", "0", "+1", "1.5Mi", "64M", "64 Mi", "99999999999Gi"] {
        assert!(read(&["--channel-bytes", text], &CHANNEL).is_err(), "{text}");
    }
}

#[test]
fn workers_are_turns_by_their_former_name() {
    let config = read(&["--workers=64"], &CHANNEL).unwrap();
    assert_eq!(config.turns, 64);
    assert!(config.warnings[0].contains("--turns"), "{:?}", config.warnings);
    assert_eq!(read(&["--workers=64", "--turns=65"], &CHANNEL).unwrap().turns, 65);
    assert!(read(&["--workers=many"], &CHANNEL).unwrap_err().contains("KANARIE_WORKERS"));
}

#[test]
fn two_sources_are_an_error_that_names_both() {
    let two = ["--routes-namespace", "r", "--channels", "d"];
    let text = read(&two, &[]).unwrap_err();
    assert!(text.contains("--routes-namespace") && text.contains("--channels"), "{text}");
    let text = read(&two[..2], &CHANNEL).unwrap_err();
    assert!(text.contains("TWILIO_AUTH_TOKEN"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn half_a_channel_in_the_environment_names_what_is_missing() {
    let text = read(&[], &CHANNEL[..2]).unwrap_err();
    assert!(text.contains("TWILIO_WHATSAPP_NUMBER") && text.contains("AGENT_URL"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_directory_that_is_not_there_is_told_before_anything_starts() {
    let text = read(&["--channels", "/does/not/exist"], &[]).unwrap_err();
    assert!(text.contains("--channels"), "{text}");
}

#[test]
fn nothing_of_a_configuration_shows_a_secret() {
    let config = read(&["--store", "redis://u:hush-hush@h"], &CHANNEL).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn the_example_of_an_environment_is_complete_but_for_the_token() {
    let example = include_str!("../../../.env.example");
    let mut variables: Vec<(&str, &str)> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let text = read(&[], &variables).unwrap_err();
    assert!(text.contains("TWILIO_AUTH_TOKEN must be set"), "{text}");
    variables.push(("TWILIO_AUTH_TOKEN", "hush-hush"));
    assert!(read(&[], &variables).is_ok());
}

fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
    let line = Line::try_parse_from(["gateway"].iter().chain(flags)).unwrap();
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    config(&line.flags, &lookup).map_err(|errors| errors.to_string())
}
