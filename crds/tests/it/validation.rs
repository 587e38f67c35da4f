//! Manifests are accepted and refused by the Rust rules as their comments say.
//!
//! The same manifests are given to a real API server by `tests/tests/it/api.rs`.
#![expect(clippy::unwrap_used, reason = "a test may stop at a manifest that it cannot read")]

use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::validate::validate;
use kanarie_fakes::samples::manifests;

#[test]
fn every_example_is_valid() {
    let mut seen = 0;
    for (name, text) in manifests("examples").unwrap() {
        let channel: WhatsAppChannel = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(validate(&channel), [], "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn every_bad_manifest_has_exactly_the_problem_that_it_names() {
    let bad = manifests("tests/bad").unwrap();
    assert!(bad.len() >= 40, "{} bad manifests", bad.len());
    for (name, text) in bad {
        let comment = |key: &str| {
            let prefix = format!("# {key}: ");
            text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
        };
        let channel: WhatsAppChannel = serde_saphyr::from_str(&text).unwrap();
        let problems: Vec<String> = validate(&channel).iter().map(ToString::to_string).collect();
        assert_eq!(problems, [format!("{}: {}", comment("path"), comment("message"))], "{name}");
    }
}

#[test]
fn every_rule_of_the_schema_has_a_bad_manifest() {
    let yaml = kanarie_crds::schema::yaml();
    let bad: String = manifests("tests/bad").unwrap().into_iter().map(|(_, text)| text).collect();
    let definition = kanarie_crds::schema::definition();
    let schema = serde_json::to_value(definition).unwrap();
    let mut messages = Vec::new();
    collect_messages(&schema, &mut messages);
    assert!(messages.len() > 15 && yaml.contains("x-kubernetes-validations"));
    for message in messages {
        // What changes an object is tested where there is an object: at the API server.
        let transition = message.contains("must stay as it is");
        assert!(transition || bad.contains(&message), "no bad manifest for: {message}");
    }
}

#[test]
fn all_problems_of_a_manifest_are_told_at_once() {
    let (_, minimal) =
        manifests("examples").unwrap().into_iter().find(|(n, _)| n == "minimal.yaml").unwrap();
    let broken = minimal.replace("AC0123", "XX0123").replace("https:", "http:");
    let channel: WhatsAppChannel = serde_saphyr::from_str(&broken).unwrap();
    let paths: Vec<String> = validate(&channel).into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["spec.twilio.accountSid", "spec.webhook.url"]);
}

fn collect_messages(schema: &serde_json::Value, messages: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(|r| r.as_array())
                .into_iter()
                .flatten()
            {
                messages.push(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|child| collect_messages(child, messages));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| collect_messages(item, messages))
        }
        _ => {}
    }
}
