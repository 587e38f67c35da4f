//! A channel and its Secrets become a route, or an error that names Secret and key.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it set up itself")]

use kanarie_crds::channel::{RevisionContent, WhatsAppChannelSpec};
use kanarie_crds::compile::{
    CompileError, Secrets, compile_channel, compile_revision, secret_names,
};
use kanarie_crds::route::{AgentRoute, ChannelRef, Route, SecretText};
use kanarie_words::ids::RevisionName;
use serde_json::{Value, json};

#[test]
fn a_service_becomes_a_url_in_the_channels_namespace() {
    let http = json!({"http": {"serviceRef": {"name": "bot", "port": 8080, "path": "/in?x=1"}}});
    assert_eq!(agent_url(http), "http://bot.web.svc:8080/in?x=1");
    let service = json!({"name": "graph", "port": 8000});
    let graph = json!({"langGraph": {"serviceRef": service, "assistantId": "care"}});
    assert_eq!(agent_url(graph), "http://graph.web.svc:8000");
}

#[test]
fn a_url_is_taken_as_it_is_written() {
    let http = json!({"http": {"url": "https://agent.example.com/a%2Fb?q=1"}});
    assert_eq!(agent_url(http), "https://agent.example.com/a%2Fb?q=1");
}

#[test]
fn a_route_says_whether_its_agent_is_a_service_and_one_of_an_older_operator_is_read() {
    let service = json!({"serviceRef": {"name": "bot", "port": 8080}});
    let url = json!({"url": "http://bot.other.svc:8080"});
    for (address, is_service) in [(service, true), (url, false)] {
        let mut graph = address.clone();
        graph["assistantId"] = json!("care");
        for agent in [json!({"http": address}), json!({"langGraph": graph})] {
            let agent = compile_revision("web", &revision(), &content(agent), &Secrets::new());
            let mut written = serde_json::to_value(agent.unwrap().agent).unwrap();
            let kind = if written.get("http").is_some() { "http" } else { "langGraph" };
            assert_eq!(written[kind]["serviceRef"], json!(is_service), "{written}");
            written[kind].as_object_mut().unwrap().remove("serviceRef");
            let (AgentRoute::Http { service_ref, .. } | AgentRoute::LangGraph { service_ref, .. }) =
                serde_json::from_value(written).unwrap();
            assert_eq!(service_ref, None, "an older operator does not say");
        }
    }
}

#[test]
fn every_secret_that_is_referred_to_is_named_once() {
    let spec = spec(&full());
    let content = spec.revision_content();
    let names: Vec<String> = secret_names(&spec, &[&content, &content]).into_iter().collect();
    assert_eq!(names, ["agent", "api", "keys", "twilio"]);
}

#[test]
fn every_secret_value_is_found_under_its_key() {
    let route = compiled(&full(), &secrets()).unwrap();
    let credentials = &route.credentials;
    assert_eq!(credentials.auth_token, SecretText::new("auth"));
    assert_eq!(credentials.auth_token_secondary, Some(SecretText::new("second")));
    let api_key = credentials.api_key.as_ref().unwrap();
    assert_eq!((api_key.sid.as_str(), api_key.secret.expose()), ("SK1", "api-secret"));
    assert_eq!(credentials.signing_keys[0].secret.expose(), "shared");
    assert!(matches!(&route.stable.agent, AgentRoute::Http { token: Some(token), .. }
        if token.expose() == "bearer"));
}

#[test]
fn patience_is_live_and_a_route_of_an_older_operator_has_fifteen_minutes_of_it() {
    let mut value = full();
    value["limits"] = json!({"patienceSeconds": 45});
    let route = compiled(&value, &secrets()).unwrap();
    assert_eq!(route.limits.patience_ms, 45_000);
    let mut older = serde_json::to_value(&route).unwrap();
    older["limits"].as_object_mut().unwrap().remove("patienceMs");
    let route: Route = serde_json::from_value(older).unwrap();
    assert_eq!(route.limits.patience_ms, 900_000);
}

#[test]
fn a_second_auth_token_is_there_only_while_a_rotation_lasts() {
    let mut secrets = secrets();
    secrets.get_mut("twilio").unwrap().remove("authTokenSecondary");
    let route = compiled(&full(), &secrets).unwrap();
    assert_eq!(route.credentials.auth_token_secondary, None);
}

#[test]
fn the_line_end_that_a_file_leaves_behind_a_value_is_no_part_of_it() {
    let mut secrets = secrets();
    set(&mut secrets, "twilio", "authToken", b"auth\r\n");
    let route = compiled(&full(), &secrets).unwrap();
    assert_eq!(route.credentials.auth_token.expose(), "auth");
}

#[test]
fn a_missing_secret_a_missing_key_and_a_value_that_cannot_be_used_are_told_apart() {
    let error = |change: &dyn Fn(&mut Secrets)| {
        let mut secrets = secrets();
        change(&mut secrets);
        compiled(&full(), &secrets).unwrap_err()
    };
    let (secret, key) = ("twilio".to_owned(), "authToken");
    assert_eq!(
        error(&|s| drop(s.remove("twilio"))),
        CompileError::SecretNotFound { secret: secret.clone(), key }
    );
    assert_eq!(
        error(&|s| set(s, "twilio", "authToken", b"\n")),
        CompileError::KeyMissing { secret: secret.clone(), key }
    );
    assert_eq!(
        error(&|s| set(s, "twilio", "authToken", &[b'a'; 4097])),
        CompileError::ValueTooLong { secret: secret.clone(), key }
    );
    assert_eq!(
        error(&|s| set(s, "twilio", "authToken", &[0xff])),
        CompileError::NotText { secret: secret.clone(), key }
    );
    assert_eq!(
        error(&|s| set(s, "twilio", "authToken", b"two\nlines")),
        CompileError::NotText { secret, key }
    );
}

#[test]
fn no_error_shows_a_value() {
    let mut secrets = secrets();
    set(&mut secrets, "twilio", "authToken", &[b'x'; 5000]);
    let error = compiled(&full(), &secrets).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("xxx"), "{error}");
}

#[test]
fn former_urls_come_after_the_present_one() {
    let route = compiled(&full(), &secrets()).unwrap();
    assert_eq!(route.webhook_urls, ["https://new.example.com/", "https://old.example.com/"]);
}

#[test]
fn a_route_survives_its_own_json() {
    let route = compiled(&full(), &secrets()).unwrap();
    let bytes = serde_json::to_vec(&route).unwrap();
    assert_eq!(serde_json::from_slice::<Route>(&bytes).unwrap(), route);
}

#[test]
fn a_revision_without_an_agent_is_an_error_and_no_panic() {
    let content = content(json!({}));
    let error = compile_revision("web", &revision(), &content, &secrets()).unwrap_err();
    assert_eq!(error, CompileError::NoAgent { revision: revision() });
}

#[test]
fn a_written_default_makes_no_other_revision() {
    let plain = spec(&minimal()).revision_content();
    let mut written = minimal();
    written["reply"] = json!({"validitySeconds": 600});
    written["agent"]["timeoutSeconds"] = json!(60);
    let written = spec(&written).revision_content();
    assert_eq!((plain.name(), &plain), (written.name(), &written));
}

#[test]
fn another_agent_is_another_revision_and_another_limit_is_not() {
    let plain = spec(&minimal()).revision_content();
    let mut limits = minimal();
    limits["limits"] = json!({"inboundMessages": 5});
    assert_eq!(spec(&limits).revision_content(), plain);
    let mut agent = minimal();
    agent["agent"]["http"]["url"] = json!("https://other.example.com/");
    assert_ne!(spec(&agent).revision_content().name(), plain.name());
}

fn minimal() -> Value {
    json!({
        "twilio": {
            "accountSid": "AC0123456789abcdef0123456789abcdef",
            "authTokenSecretRef": {"name": "twilio"},
        },
        "sender": {"address": "whatsapp:+31201234567"},
        "webhook": {"url": "https://new.example.com/"},
        "agent": {"http": {"url": "https://agent.example.com/"}},
    })
}

fn full() -> Value {
    let mut spec = minimal();
    spec["twilio"]["apiKeySecretRef"] = json!({"name": "api"});
    spec["twilio"]["signingKeys"] = json!([{"keyId": "k1", "secretRef": {"name": "keys"}}]);
    spec["webhook"]["previousURLs"] = json!(["https://old.example.com/"]);
    spec["agent"]["http"]["tokenSecretRef"] = json!({"name": "agent"});
    spec
}

fn secrets() -> Secrets {
    let mut secrets = Secrets::new();
    for (secret, key, value) in [
        ("twilio", "authToken", "auth"),
        ("twilio", "authTokenSecondary", "second"),
        ("api", "apiKeySid", "SK1"),
        ("api", "apiKeySecret", "api-secret"),
        ("keys", "signingKey", "shared"),
        ("agent", "token", "bearer"),
    ] {
        set(&mut secrets, secret, key, value.as_bytes());
    }
    secrets
}

fn set(secrets: &mut Secrets, secret: &str, key: &str, value: &[u8]) {
    secrets.entry(secret.to_owned()).or_default().insert(key.to_owned(), value.to_vec());
}

fn revision() -> RevisionName {
    "r1".parse().unwrap()
}

fn spec(value: &Value) -> WhatsAppChannelSpec {
    serde_json::from_value(value.clone()).unwrap()
}

fn content(agent: Value) -> RevisionContent {
    serde_json::from_value(json!({"agent": agent})).unwrap()
}

fn compiled(value: &Value, secrets: &Secrets) -> Result<Route, CompileError> {
    let spec = spec(value);
    let stable = compile_revision("web", &revision(), &spec.revision_content(), secrets)?;
    let (namespace, name) = ("web".to_owned(), "shop".to_owned());
    let channel = ChannelRef { namespace, name, uid: "u-1".parse().unwrap() };
    compile_channel(channel, &spec, stable, secrets)
}

fn agent_url(agent: Value) -> String {
    match compile_revision("web", &revision(), &content(agent), &Secrets::new()).unwrap().agent {
        AgentRoute::LangGraph { url, .. } | AgentRoute::Http { url, .. } => url,
    }
}
