//! The repository keeps its own rules: sizes, headers, words, and what the pure cores may use.
//!
//! Each test names the file and the line that breaks a rule.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

mod binaries;
mod circles;
mod code;
mod contributing;
mod decisions;
mod limits;
mod metrics;
mod names;
mod scenarios;
mod sizes;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// Where the product's own sources are.
const PRODUCT: [&str; 8] = [
    "crds/src",
    "crds/metrics/src",
    "crds/process/src",
    "crds/words/src",
    "gateway/src",
    "gateway/queue/src",
    "operator/src",
    "operator/rollout/src",
];

/// What the decision cores and the words below them may depend on: data, errors and a digest, and nothing
/// that is there by a feature only.
const CORE_DEPENDENCIES: [&str; 7] =
    ["serde", "serde_json", "sha2", "thiserror", "kanarie-words", "proptest", "stateright"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files below a folder, with their text, by their path from the root; binary ones are left out.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git") {
                collect(&path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
}

fn rust_files() -> Vec<(String, String)> {
    files("").into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_source_file_begins_with_its_contract() {
    let bare = rust_files().into_iter().filter(|(_, text)| {
        !text.lines().next().is_some_and(|line| line.len() > 10 && line.starts_with("//! "))
    });
    none(&bare.map(|(path, _)| format!("{path} does not begin with //!")).collect::<Vec<_>>());
}

#[test]
fn a_contract_of_the_message_line_is_more_than_a_title() {
    let folders = [
        "crds/metrics/src",
        "crds/process/src",
        "crds/words/src",
        "gateway/src",
        "gateway/queue/src",
    ];
    let thin = folders.into_iter().flat_map(files).filter(|(path, text)| {
        let mut header = text.lines().take_while(|line| line.starts_with("//!"));
        path.ends_with(".rs") && !header.any(|line| line == "//!")
    });
    none(&thin.map(|(path, _)| format!("{path} says only what it is")).collect::<Vec<_>>());
}

#[test]
fn modules_are_imported_by_name_and_exported_once() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        if path.ends_with("mod.rs") {
            problems.push(format!("{path}: a module is a file of its own name"));
        }
        for (at, line) in text.lines().enumerate() {
            let code = line.trim();
            let glob =
                code.starts_with("use ") && code.ends_with("::*;") && code != "use super::*;";
            let export = code.starts_with("pub use ") || code.starts_with("pub(crate) use ");
            if glob || export {
                problems.push(format!("{path}:{}: {code}", at + 1));
            }
        }
    }
    none(&problems);
}

#[test]
fn names_say_what_things_are() {
    let banned = ["Manager", "Helper", "mod utils", "mod util;", "mod common", "mod helpers"];
    none(&lines_with(&rust_files(), &banned));
}

#[test]
fn no_file_names_a_path_of_one_machine_or_a_host_of_a_registry() {
    let banned =
        ["/root/.", "/home/", "index.crates.io", "proxy.golang.org", "files.pythonhosted.org"];
    none(&lines_with(&files(""), &banned));
}

fn lines_with(files: &[(String, String)], banned: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !path.starts_with("tests/tests/tidy/")) {
        for (at, line) in text.lines().enumerate() {
            let words = banned.iter().filter(|word| line.contains(**word));
            problems.extend(words.map(|word| format!("{path}:{}: {word}", at + 1)));
        }
    }
    problems
}

#[test]
fn the_cores_have_nothing_to_call() {
    let mut problems = Vec::new();
    for core in ["gateway/queue", "operator/rollout", "crds/words"] {
        let manifest = fs::read_to_string(root().join(core).join("Cargo.toml")).unwrap();
        let sections = manifest.split("\n[").filter(|section| section.contains("dependencies]"));
        for line in sections.flat_map(|section| section.lines().skip(1)) {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let counts = !name.is_empty() && !line.starts_with('#') && !line.contains("optional");
            if counts && !CORE_DEPENDENCIES.contains(&name) {
                problems.push(format!("{core} depends on {name}"));
            }
        }
        let calls = [
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "Instant",
            "SystemTime",
            "RandomState",
            "println!",
            "async ",
        ];
        let sources = files(&format!("{core}/src"));
        problems.extend(lines_with(&sources, &calls).into_iter().filter(|l| !l.contains("///")));
    }
    none(&problems);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let silent = section.lines().filter(|line| line.contains('=') && !line.contains(" # "));
    none(&silent.map(|line| format!("no reason: {line}")).collect::<Vec<_>>());
}

#[test]
fn there_is_one_tls_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for other in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{other}\"")), "{other} came in");
    }
}

#[test]
fn every_member_obeys_the_lints_of_the_workspace() {
    let members = [
        "crds",
        "crds/metrics",
        "crds/process",
        "crds/words",
        "gateway",
        "gateway/queue",
        "operator",
        "operator/rollout",
        "tests",
        "tests/fakes",
    ];
    for member in members {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} has lints of its own");
    }
}
