//! The Tiltfile, evaluated by a Starlark interpreter whose builtins only record their calls.
//!
//! Takes the Tiltfile of this repository; starts nothing.
//!
//! The interpreter is Tilt's own; Tilt itself is not built, which would take longer than all other
//! tests together and a patched copy of its module. The recorder finds what breaks in practice:
//! names before assignment, dependencies that do not exist, files that were moved, ports used
//! twice. It would also record a builtin that Tilt does not have, if it lists one: the list is
//! short and each name is Tilt's. A run of `tilt ci -- --local` stays a step before a release.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kanarie_tests::tools::{Tool, find};
use serde_json::Value;

#[test]
fn the_contexts_are_guarded_before_anything_is_applied() {
    let calls = evaluate(&[]);
    let first = |name: &str| calls.iter().position(|call| call["name"] == name).unwrap();
    assert!(first("allow_k8s_contexts") < first("k8s_yaml"));
}

#[test]
fn the_local_mode_needs_no_cluster_and_no_engine() {
    for call in evaluate(&["--local"]) {
        let name = call["name"].as_str().unwrap();
        assert!(!name.starts_with("k8s_") && !name.ends_with("_build") && name != "helm", "{name}");
    }
}

#[test]
fn every_dependency_exists_and_comes_before_its_dependant() {
    for flags in [&[][..], &["--local"]] {
        let mut seen = BTreeSet::new();
        for call in evaluate(flags) {
            let Some(name) = resource(&call) else { continue };
            for dependency in strings(&call["set"]["resource_deps"]) {
                assert!(seen.contains(&dependency), "{name} waits for {dependency}");
            }
            seen.insert(name);
        }
        assert!(seen.contains("check"), "{flags:?}");
    }
}

#[test]
fn every_image_that_is_built_is_one_that_the_objects_use() {
    let values = fs::read_to_string(root().join("charts/kanarie/values.yaml")).unwrap();
    let objects = fs::read_to_string(root().join("tilt/fakes.yaml")).unwrap();
    for call in evaluate(&[]).iter().filter(|call| call["name"] == "custom_build") {
        let image = call["args"][0].as_str().unwrap();
        assert!(
            values.contains(&format!("repository: {image},"))
                || objects.contains(&format!("image: {image}")),
            "{image}"
        );
    }
}

#[test]
fn every_file_that_is_named_exists_and_nothing_generated_is_watched() {
    for flags in [&[][..], &["--local"]] {
        for call in evaluate(flags) {
            for path in strings(&call["set"]["deps"]) {
                assert!(root().join(&path).exists(), "{path}");
                assert!(!path.starts_with("target") && !path.starts_with(".cache"), "{path}");
            }
            if call["name"] == "k8s_yaml" {
                for path in strings(&call["args"][0]) {
                    assert!(root().join(&path).exists(), "{path}");
                }
            }
        }
    }
}

#[test]
fn the_local_processes_have_ports_of_their_own() {
    let mut users: BTreeMap<String, String> = BTreeMap::new();
    for call in evaluate(&["--local"]) {
        let Some(name) = resource(&call) else { continue };
        let arguments = strings(&call["set"]["serve_cmd"]);
        let environment = call["set"]["serve_env"].as_object().cloned().unwrap_or_default();
        let listens = arguments
            .windows(2)
            .filter(|pair| pair[0].ends_with("listen"))
            .map(|pair| pair[1].clone());
        let listens = listens.chain(
            environment
                .iter()
                .filter(|(key, _)| key.ends_with("LISTEN"))
                .map(|(_, value)| value.as_str().unwrap().to_owned()),
        );
        for address in listens {
            if let Some(other) = users.insert(address.clone(), name.clone()) {
                unreachable!("{other} and {name} both listen on {address}");
            }
        }
    }
    assert!(users.len() >= 6, "{users:?}");
}

fn resource(call: &Value) -> Option<String> {
    match call["name"].as_str()? {
        "local_resource" => call["args"][0].as_str().map(str::to_owned),
        "k8s_resource" => {
            let name = call["args"].get(0).or_else(|| call["set"].get("new_name"))?;
            name.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn evaluate(flags: &[&str]) -> Vec<Value> {
    let output = Command::new(find(Tool::Starlark).unwrap())
        .arg(root().join("Tiltfile"))
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
