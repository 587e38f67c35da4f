//! The files that are generated from the types are what the types say.
//!
//! `make generated` writes them.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it cannot read or write")]

mod reference;

use kanarie_fakes::fields::each_field;
use kanarie_fakes::golden;
use kanarie_words::conditions::ConditionType;
use kanarie_words::reason::Reason;

#[test]
fn the_committed_crd_is_what_the_types_say() {
    golden::compare("crds/whatsappchannels.yaml", &kanarie_crds::schema::yaml());
}

#[test]
fn the_page_of_the_api_is_what_the_types_say() {
    golden::compare("docs/api.md", &reference::page());
}

#[test]
fn the_page_for_operators_explains_reasons_that_exist() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(root).unwrap();
    let (_, table) = page.split_once("| RolledOut reason |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut explained = 0;
    for word in rows.flat_map(|row| row.split('|').nth(1).unwrap().split(',')) {
        let reason = Reason::parse(word.trim()).unwrap_or_else(|| panic!("no reason `{word}`"));
        let stands = reason.conditions().iter().any(|(kind, _)| *kind == ConditionType::RolledOut);
        assert!(stands, "{reason} never stands under RolledOut");
        explained += 1;
    }
    assert!(explained > 10, "{explained} rows");
}

#[test]
fn the_crd_is_small_enough_for_kubectl_apply() {
    let bytes = kanarie_crds::schema::yaml().len();
    assert!(bytes < 100 * 1024, "{bytes} bytes; kubectl keeps a copy in an annotation");
}

#[test]
fn every_string_list_and_number_of_the_crd_has_a_bound() {
    let crd = serde_json::to_value(kanarie_crds::schema::definition()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut unbounded = Vec::new();
    for part in ["spec", "status"] {
        each_field(part, &schema[part], &mut |path, field, _| {
            let has = |key: &str| !field[key].is_null();
            let bounded = match field["type"].as_str().unwrap() {
                "string" => has("maxLength") || has("enum") || has("format"),
                "array" => has("maxItems"),
                "integer" => has("minimum") && (has("maximum") || part == "status"),
                _ => true,
            };
            // A generation is Kubernetes' own, and -1 before the first look.
            if !bounded && !path.ends_with("observedGeneration") {
                unbounded.push(path.to_owned());
            }
        });
    }
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_documented() {
    let crd = serde_json::to_value(kanarie_crds::schema::definition()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for part in ["spec", "status"] {
        each_field(part, &schema[part], &mut |path, field, _| {
            let known = path.starts_with("status.conditions[]");
            assert!(known || field["description"].is_string(), "{path} has no description");
        });
    }
}
