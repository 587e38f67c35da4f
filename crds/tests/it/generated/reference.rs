//! `docs/api.md` from the types: fields, rules, conditions, reasons, commands.
//!
//! Takes nothing, gives the page. Never says anything that is not in the schema or in the words of
//! `conditions`, apart from what a change of a field does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kanarie_crds::{ACTOR_ANNOTATION, COMMAND_ANNOTATION, COMMAND_ID_ANNOTATION, schema, secrets};
use kanarie_fakes::fields::{at, beyond, each_field};
use kanarie_fakes::samples::manifests;
use kanarie_words::conditions::{ConditionType, EventType};
use kanarie_words::reason::Reason;
use serde_json::Value;

const HEAD: &str = "\
<!-- Generated from crds/src by `make generated`. -->
# WhatsAppChannel, `kanarie.dev/v1alpha1`

Short name `wach`, category `messaging`, namespaced. `kubectl explain wach.spec` shows the same.
What a change of a field does stands in the column *change*:

- **fixed**: it is refused; create another channel.
- **live**: in force at once, on both tracks; it starts nothing. So are the contents of every Secret.
- **revision**: it makes a new revision and starts a rollout.
- **policy**: it is taken when the next rollout starts; a running one keeps its own.

In the column *refused* stands an example of what the API server does not take.

";

/// The page.
pub(crate) fn page() -> String {
    let crd = serde_json::to_value(schema::definition()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let properties = &version["schema"]["openAPIV3Schema"]["properties"];
    let mut page = HEAD.to_owned();
    page += "## Spec\n\n| field | type | default | bounds | refused | change | what it is |\n|---|---|---|---|---|---|---|\n";
    let bad = bad_values();
    each_field("spec", &properties["spec"], &mut |path, field, required| {
        let row = [
            format!("`{path}`"),
            kind(field),
            default(field, required),
            bounds(field),
            refused(path, field, &bad),
            change(path, field).to_owned(),
            text(field),
        ];
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    });
    page += "\n## Rules\n\nWhat the API server refuses besides, and what it says.\n\n| field | sentence |\n|---|---|\n";
    rules(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut page);
    page += SECRETS_HEAD;
    for (key, what) in SECRET_KEYS {
        writeln!(page, "| `{key}` | {what} |").unwrap();
    }
    page += "\n## Status\n\n| field | type | what it is |\n|---|---|---|\n";
    each_field("status", &properties["status"], &mut |path, field, _| {
        writeln!(page, "| `{path}` | {} | {} |", kind(field), text(field)).unwrap();
    });
    conditions(&mut page);
    page += "\n## Columns\n\n| column | shows |\n|---|---|\n";
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let wide = if column["priority"] == 1 { " (`-o wide`)" } else { "" };
        let path = column["jsonPath"].as_str().unwrap_or_default();
        let name = column["name"].as_str().unwrap_or_default();
        writeln!(page, "| {name}{wide} | `{path}` |").unwrap();
    }
    commands(&mut page);
    page
}

const SECRETS_HEAD: &str = "
## Secrets

In the channel's namespace, each value at most 4,096 bytes of text. A line end behind a value is
left out. No other key is read.

| key | what it is |
|---|---|
";

const SECRET_KEYS: [(&str, &str); 7] = [
    (
        secrets::AUTH_TOKEN,
        "Auth token of the account: webhooks are checked with it, and calls made without an API key",
    ),
    (
        secrets::AUTH_TOKEN_SECONDARY,
        "The other auth token while a rotation lasts: webhooks signed with either are accepted",
    ),
    (secrets::API_KEY_SID, "SID of an API key for calls to Twilio"),
    (secrets::API_KEY_SECRET, "Secret of that API key"),
    (secrets::SIGNING_KEY, "Shared key of webhooks signed with HMAC-SHA256"),
    (secrets::AGENT_API_KEY, "Key of a LangGraph server, sent as `x-api-key`"),
    (secrets::AGENT_TOKEN, "Bearer token of an HTTP agent"),
];

fn conditions(page: &mut String) {
    *page += "\n## Conditions\n\nEach with `observedGeneration`. \
        `kubectl wait --for=condition=RolledOut wach/NAME` waits until a change has landed; tools \
        that read kstatus see Reconciling as in progress and Stalled as failed.\n\n\
        | type | True means |\n|---|---|\n";
    for condition in ConditionType::ALL {
        writeln!(page, "| `{condition}` | {} |", condition.meaning()).unwrap();
    }
    *page += "\n## Reasons\n\nOf conditions, Events, the history and metrics alike.\n\n\
        | reason | conditions | Event | meaning |\n|---|---|---|---|\n";
    for reason in Reason::ALL {
        let under: Vec<String> = reason
            .conditions()
            .iter()
            .map(|(condition, status)| format!("{condition}={}", status.as_str()))
            .collect();
        let event = match reason.event() {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        writeln!(page, "| `{reason}` | {} | {event} | {} |", under.join(", "), reason.meaning())
            .unwrap();
    }
}

fn commands(page: &mut String) {
    write!(
        page,
        "\n## Commands\n\nOne annotation on the channel, `{COMMAND_ANNOTATION}: \"<verb> [revision] \
         [#token]\"`. The same text is the same command and is executed once; another token makes it \
         another one. The answer stands in `status.lastCommand`, a refusal is an Event \
         (`CommandRefused`) as well, and so is anything that is no command. `{ACTOR_ANNOTATION}` says \
         who wrote it, and is recorded with it:\n\n```\nkubectl annotate wach NAME --overwrite \
         {COMMAND_ANNOTATION}=\"abort #1\" {ACTOR_ANNOTATION}=$(whoami)\n```\n\n\
         | command | what it does |\n|---|---|\n\
         | `retry [revision]` | The rejected revision that the spec asks for, or the named one, may be \
         tried again, from the first step |\n\
         | `abort [canary]` | The canary goes to weight 0 and is rejected |\n\
         | `promote <canary>` | The next step, without the hold and the evidence of the present one; \
         refused at the last step |\n\
         | `promote-full <canary>` | The canary becomes stable at once, without the remaining steps |\n\
         | `undo <stable>` | The revision before the last promotion serves everybody again, within \
         `rollout.rollbackWindowSeconds` of it; the named one, which it leaves, is rejected |\n\n\
         A command that names another revision than that is refused with both names. The former pair \
         with `{COMMAND_ID_ANNOTATION}` is refused as well, as long as that one stands.\n"
    )
    .unwrap();
}

fn kind(field: &Value) -> String {
    match (field["type"].as_str(), field["enum"].as_array()) {
        (_, Some(values)) => values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", "),
        (Some("array"), _) => {
            format!("list of {}s", field["items"]["type"].as_str().unwrap_or("value"))
        }
        (Some("string"), _) if field["format"] == "date-time" => "time".to_owned(),
        (kind, _) => kind.unwrap_or_default().to_owned(),
    }
}

fn default(field: &Value, required: bool) -> String {
    match &field["default"] {
        Value::Object(_) => "as below".to_owned(),
        Value::Null if required => "required".to_owned(),
        Value::Null => "none".to_owned(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|step| format!("{} % for {} s", step["weight"], step["holdSeconds"]))
            .collect::<Vec<_>>()
            .join(", "),
        value => format!("`{value}`"),
    }
}

fn bounds(field: &Value) -> String {
    let number = |key: &str| field[key].as_f64();
    let range = |low: &str, high: &str, unit: &str| {
        number(high).map(|high| match number(low) {
            Some(low) => format!("{low} to {high}{unit}"),
            None => format!("at most {high}{unit}"),
        })
    };
    range("minimum", "maximum", "")
        .or_else(|| range("minLength", "maxLength", " characters"))
        .or_else(|| range("minItems", "maxItems", " items"))
        .unwrap_or_default()
}

/// What the manifests that break one rule each have at the field of that rule.
fn bad_values() -> BTreeMap<String, Value> {
    let mut bad = BTreeMap::new();
    for (_, text) in manifests("tests/bad").unwrap() {
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("# path: "));
        let path = path.expect("every bad manifest says which field breaks its rule");
        if let Some(value) = at(&manifest, path) {
            bad.entry(path.replace("[0]", "[]")).or_insert_with(|| value.clone());
        }
    }
    bad
}

/// A value that the field refuses: one that somebody might write, else the nearest beyond its bounds.
fn refused(path: &str, field: &Value, bad: &BTreeMap<String, Value>) -> String {
    let written = bad.get(path).filter(|value| value.is_string() || value.is_u64());
    let short = |value: &&Value| value.as_str().is_none_or(|text| text.len() <= 60);
    match (written.filter(short), beyond(field)) {
        (Some(value), _) => format!("`{value}`"),
        (None, Some((_, shown))) => shown,
        (None, None) => String::new(),
    }
}

/// What a change of the field does.
fn change(path: &str, field: &Value) -> &'static str {
    const FIXED: [&str; 3] = ["spec.className", "spec.twilio.accountSid", "spec.sender.address"];
    const REVISION: [&str; 3] = ["spec.agent", "spec.reply", "spec.sender.messagingServiceSid"];
    const LIVE: [&str; 8] = [
        "spec.twilio",
        "spec.webhook",
        "spec.limits",
        "spec.rollout.mode",
        "spec.rollout.weight",
        "spec.rollout.state",
        "spec.rollout.rollbackWindowSeconds",
        "spec.rollout.revisionHistoryLimit",
    ];
    let under = |all: &[&str]| all.iter().any(|start| path.starts_with(start));
    let of_kind =
        [("fixed", under(&FIXED)), ("revision", under(&REVISION)), ("live", under(&LIVE))];
    let policy = path.starts_with("spec.rollout.").then_some("policy");
    // Objects whose fields differ say nothing themselves.
    let mixed = (field["type"] == "object").then_some("");
    of_kind
        .into_iter()
        .find_map(|(word, holds)| holds.then_some(word))
        .or(policy)
        .or(mixed)
        .expect("every field below spec is fixed, live, revision or policy")
}

/// The field's description in one cell.
fn text(field: &Value) -> String {
    field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn rules(schema: &Value, path: &str, page: &mut String) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let path = if path.is_empty() { "the object" } else { path.trim_start_matches('.') };
        let message = rule["message"].as_str().unwrap_or_default();
        writeln!(page, "| `{path}` | {message} |").unwrap();
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        rules(field, &format!("{path}.{name}"), page);
    }
    if !schema["items"].is_null() {
        rules(&schema["items"], &format!("{path}[]"), page);
    }
}
