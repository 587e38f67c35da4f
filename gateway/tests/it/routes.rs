//! Where routes come from without a cluster, and what the table does with them.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it set up itself")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kanarie_crds::route::{AgentRoute, Route};
use kanarie_fakes::signer::sign_sha256;
use kanarie_gateway::inbound::signature::{NotVerified, Presented, UnverifiedBody};
use kanarie_gateway::routes::table::{GONE_FOR, RouteTable, Sighting};
use kanarie_gateway::routes::{directory, environment};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const SENDER: &str = "whatsapp:+31201234567";

const CHANNEL: &str = "
apiVersion: kanarie.dev/v1alpha1
kind: WhatsAppChannel
metadata: {name: shop, namespace: web}
spec:
  twilio:
    accountSid: AC0123456789abcdef0123456789abcdef
    authTokenSecretRef: {name: twilio}
  sender: {address: 'whatsapp:+31201234567'}
  webhook: {url: 'https://hooks.example.com/webhooks/twilio/whatsapp'}
  agent: {http: {serviceRef: {name: agent, port: 8080, path: /messages}}}
";
const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: twilio, namespace: web}
stringData: {authToken: very-secret}
";

#[test]
fn a_directory_with_a_channel_and_its_secret_gives_its_route() {
    let route = only_route(&[("all.yaml", &format!("{CHANNEL}---{SECRET}"))]);
    assert_eq!((route.account_sid.as_str(), route.sender.as_str()), (ACCOUNT, SENDER));
    assert_eq!(route.credentials.auth_token.expose(), "very-secret");
    let url = "http://agent.web.svc:8080/messages".to_owned();
    assert_eq!(route.stable.agent, AgentRoute::Http { url, service_ref: Some(true), token: None });
}

#[test]
fn a_channel_of_a_directory_has_all_traffic_on_one_revision() {
    let route = only_route(&[("all.yaml", &format!("{CHANNEL}---{SECRET}"))]);
    assert_eq!((route.weight.percent(), route.canary), (0, None));
}

#[test]
fn manifests_may_be_json_several_files_and_base64() {
    let secret = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "twilio",
        "namespace": "web"}, "data": {"authToken": "dmVyeS1zZWNyZXQ="}}"#;
    let route = only_route(&[("channel.yml", CHANNEL), ("secret.json", secret)]);
    assert_eq!(route.credentials.auth_token.expose(), "very-secret");
}

#[test]
fn a_channel_keeps_its_uid_from_one_start_to_the_next() {
    let files = [("all.yaml", format!("{CHANNEL}---{SECRET}"))];
    let uid = |files: &[(&str, &str)]| only_route(files).channel.uid;
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    assert_eq!(uid(&files), uid(&files));
}

#[test]
fn every_problem_of_a_directory_is_told_at_once_with_file_and_field() {
    let bad = CHANNEL.replace("AC0123", "XX0123").replace("/messages", "messages");
    let error = load_error(&[("bad.yaml", &format!("{bad}---{SECRET}")), ("worse.yaml", "a: [")]);
    for part in ["bad.yaml", "spec.twilio.accountSid", "serviceRef.path", "worse.yaml: line"] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}

#[test]
fn a_missing_secret_is_named() {
    let error = load_error(&[("all.yaml", CHANNEL)]);
    assert!(error.contains("Secret `twilio` does not exist"), "{error}");
}

#[test]
fn an_error_in_a_secret_shows_no_value_of_it() {
    let secrets = [
        SECRET.replace("authToken: very-secret", "authToken: 'very-secret"),
        SECRET.replace("authToken: very-secret", "authToken: [very-secret]"),
        SECRET.replace("stringData", "data"),
        SECRET.replace("authToken: very-secret", "authToken: very-secret, authToken: again"),
    ];
    for secret in secrets {
        let error = load_error(&[("all.yaml", CHANNEL), ("secret.yaml", &secret)]);
        assert!(error.contains("secret.yaml") && !error.contains("very-secret"), "{error}");
    }
}

#[test]
fn a_misspelt_field_is_an_error_and_not_ignored() {
    let bad = CHANNEL.replace("agent: {http", "agent: {timoutSeconds: 5, http");
    let error = load_error(&[("all.yaml", &format!("{bad}---{SECRET}"))]);
    assert!(error.contains("unknown field spec.agent.timoutSeconds"), "{error}");
}

#[test]
fn a_misspelt_kind_of_ours_is_an_error_and_other_kinds_are_left_out() {
    let typo = CHANNEL.replace("kind: WhatsAppChannel", "kind: WhatsappChannel");
    assert!(load_error(&[("all.yaml", &typo)]).contains("WhatsappChannel is not known"));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: agent}\n";
    only_route(&[("all.yaml", &format!("{CHANNEL}---{SECRET}---\n{service}"))]);
}

#[test]
fn two_channels_with_one_sender_are_an_error() {
    let other = CHANNEL.replace("name: shop", "name: care");
    let error = load_error(&[("all.yaml", &format!("{CHANNEL}---{other}---{SECRET}"))]);
    assert!(error.contains("a sender belongs to one channel"), "{error}");
}

#[test]
fn a_directory_without_a_channel_is_an_error() {
    assert!(load_error(&[("notes.txt", "hello")]).contains("no WhatsAppChannel"));
}

#[test]
fn former_versions_in_hidden_places_of_a_mounted_volume_are_left_out() {
    only_route(&[("all.yaml", &format!("{CHANNEL}---{SECRET}")), ("..old.yaml", "a: [")]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_in_force_and_a_broken_one_is_not() {
    let directory = written(&[("all.yaml", &format!("{CHANNEL}---{SECRET}"))]);
    let table = Arc::new(RouteTable::default());
    let (stop, shutdown) = watch::channel(false);
    let loaded = directory::load(directory.path()).unwrap();
    let task = tokio::spawn(directory::follow(loaded, Arc::clone(&table), shutdown));
    let mut changes = table.changes();
    let token = || table.find(ACCOUNT, SENDER).unwrap().route.credentials.auth_token.clone();
    changes.changed().await.unwrap();
    assert!(table.ready() && token().expose() == "very-secret");

    let file = directory.path().join("all.yaml");
    std::fs::write(&file, "a: [").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(token().expose(), "very-secret");
    let may_have_another = || table.may_have(ACCOUNT, "whatsapp:+1", Instant::now());
    assert!(may_have_another(), "the broken file may hold another channel");

    std::fs::write(&file, format!("{CHANNEL}---{}", SECRET.replace("very", "new"))).unwrap();
    changes.changed().await.unwrap();
    assert_eq!(token().expose(), "new-secret");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!may_have_another());
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[test]
fn the_environment_of_a_single_channel_gives_its_route() {
    let route = environment(&[]).unwrap();
    assert_eq!((route.account_sid.as_str(), route.sender.as_str()), (ACCOUNT, SENDER));
    let url = "https://agent.example.com/messages".to_owned();
    assert_eq!(route.stable.agent, AgentRoute::Http { url, service_ref: Some(false), token: None });
    assert_eq!(route.credentials.signing_keys, []);
}

#[test]
fn a_shared_key_and_a_graph_may_come_from_the_environment() {
    let route = environment(&[
        ("TWILIO_WEBHOOK_SECRET", "shared"),
        ("TWILIO_WEBHOOK_KEY_ID", "webhooks_sharedkey_01"),
        ("AGENT_URL", ""),
        ("LANGGRAPH_URL", "http://127.0.0.1:2024"),
        ("LANGGRAPH_ASSISTANT_ID", "care"),
    ])
    .unwrap();
    assert_eq!(route.credentials.signing_keys[0].key_id, "webhooks_sharedkey_01");
    assert!(matches!(route.stable.agent, AgentRoute::LangGraph { .. }));
}

#[test]
fn a_shared_key_without_its_id_verifies_whatever_id_twilio_names() {
    let route = environment(&[("TWILIO_WEBHOOK_SECRET", "shared")]).unwrap();
    let signature = sign_sha256("shared", &route.webhook_urls[0], &Vec::new());
    let verify = |signature: &str| {
        let settings = Some("key=webhooks_sharedkey_01,algorithm=HMAC_SHA256");
        let presented = Presented { query: None, signature: Some(signature), settings };
        let body = UnverifiedBody::form(b"");
        body.verify(&presented, &route.webhook_urls, &route.credentials).err()
    };
    assert_eq!(verify(&signature), None);
    let another = STANDARD.encode([0; 32]);
    assert_eq!(verify(&another), Some(NotVerified::Mismatch));
}

#[test]
fn every_missing_variable_is_named_at_once() {
    let problems = environment(&[("TWILIO_AUTH_TOKEN", ""), ("AGENT_URL", "")]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("TWILIO_AUTH_TOKEN") && problems[1].contains("LANGGRAPH_URL"));
}

#[test]
fn a_wrong_variable_is_named_by_its_own_name() {
    let problems = environment(&[("TWILIO_ACCOUNT_SID", "AC12")]).unwrap_err();
    assert!(problems[0].starts_with("TWILIO_ACCOUNT_SID: must be AC"), "{problems:?}");
}

#[test]
fn two_agents_in_the_environment_are_an_error() {
    let both = [("LANGGRAPH_URL", "http://g.example.com"), ("LANGGRAPH_ASSISTANT_ID", "a")];
    assert!(environment(&both).unwrap_err()[0].contains("only one agent"));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_vanishes_is_known_for_a_minute_and_then_forgotten() {
    let table = table();
    let now = Instant::now();
    table.replace(Vec::new(), now);
    assert_eq!(table.find(ACCOUNT, SENDER).unwrap().gone_since, Some(now));
    table.forget_gone(now + GONE_FOR - Duration::from_millis(1));
    assert!(table.find(ACCOUNT, SENDER).is_some());
    table.forget_gone(now + GONE_FOR);
    assert!(table.find(ACCOUNT, SENDER).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_comes_back_is_in_force_again() {
    let table = table();
    let uid = environment(&[]).unwrap().channel.uid;
    table.replace(Vec::new(), Instant::now());
    table.replace(vec![seen()], Instant::now());
    assert_eq!(table.find_channel(uid.as_str()).unwrap().gone_since, None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_leaves_the_last_good_route_in_force() {
    let table = table();
    table.replace(vec![(seen().0, Sighting::Unreadable)], Instant::now());
    assert_eq!(table.find(ACCOUNT, SENDER).unwrap().gone_since, None);
}

#[tokio::test(start_paused = true)]
async fn what_could_never_be_read_is_known_by_its_name_until_it_is_gone_for_a_minute() {
    let table = RouteTable::default();
    let (name, seen) = seen();
    table.replace(vec![(name.clone(), Sighting::Unreadable)], Instant::now());
    let may_have = || table.may_have(ACCOUNT, SENDER, Instant::now());
    assert!(table.find(ACCOUNT, SENDER).is_none() && may_have());
    table.update(vec![(name.clone(), Sighting::Gone)], Instant::now());
    tokio::time::advance(GONE_FOR - Duration::from_millis(1)).await;
    table.forget_gone(Instant::now());
    assert!(may_have());
    tokio::time::advance(Duration::from_millis(1)).await;
    table.forget_gone(Instant::now());
    assert!(!may_have());
    table.update(vec![(name.clone(), Sighting::Unreadable)], Instant::now());
    table.update(vec![(name, seen)], Instant::now());
    assert!(table.find(ACCOUNT, SENDER).is_some() && !may_have());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_comes_back_unreadable_is_not_forgotten() {
    let table = table();
    let name = seen().0;
    table.update(vec![(name.clone(), Sighting::Gone)], Instant::now());
    table.update(vec![(name, Sighting::Unreadable)], Instant::now());
    tokio::time::advance(GONE_FOR).await;
    table.forget_gone(Instant::now());
    assert!(table.find(ACCOUNT, SENDER).is_none());
    assert!(table.may_have(ACCOUNT, SENDER, Instant::now()));
}

#[test]
fn a_table_is_not_ready_before_the_first_complete_list() {
    assert!(!RouteTable::default().ready());
}

#[test]
fn a_webhook_url_whose_path_is_not_answered_is_refused_by_name() {
    let checked = |url: &str| environment(&[("TWILIO_WEBHOOK_URL", url)]);
    for path in ["/webhooks/twilio/whatsapp/", "/webhooks/twilio/Whatsapp", "/", "", "/twilio?x"] {
        let problems = checked(&format!("https://hooks.example.com{path}")).unwrap_err();
        assert!(problems[0].contains("the path of TWILIO_WEBHOOK_URL"), "{path}: {problems:?}");
    }
    for path in ["/webhooks/twilio/whatsapp?tenant=a/", "/eu/webhooks/twilio/whatsapp"] {
        assert!(checked(&format!("https://hooks.example.com{path}")).is_ok(), "{path}");
    }
}

fn table() -> RouteTable {
    let table = RouteTable::default();
    table.replace(vec![seen()], Instant::now());
    table
}

fn seen() -> (String, Sighting) {
    directory::seen(&environment(&[]).unwrap())
}

fn environment(changes: &[(&str, &str)]) -> Result<Route, Vec<String>> {
    let usual = [
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", "very-secret"),
        ("TWILIO_WHATSAPP_NUMBER", "+31201234567"),
        ("TWILIO_WEBHOOK_URL", "https://hooks.example.com/webhooks/twilio/whatsapp"),
        ("AGENT_URL", "https://agent.example.com/messages"),
    ];
    environment::route(&|name| {
        let value = |pair: &&(&str, &str)| pair.0 == name;
        changes.iter().find(value).or_else(|| usual.iter().find(value)).map(|p| p.1.to_owned())
    })
}

fn only_route(files: &[(&str, &str)]) -> Route {
    let directory = written(files);
    directory::load(directory.path()).unwrap().routes().first().unwrap().clone()
}

fn load_error(files: &[(&str, &str)]) -> String {
    let directory = written(files);
    directory::load(directory.path()).unwrap_err().to_string()
}

fn written(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}
