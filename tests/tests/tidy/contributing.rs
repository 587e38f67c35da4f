//! What CONTRIBUTING.md names is there: files and folders, crates and their test binaries.
//!
//! Takes what stands between back quotes, and the commands of its blocks. A path counts when it has a
//! slash and nothing to fill in. Never runs a command.

use std::path::Path;

use crate::{files, none, root};

#[test]
fn every_file_and_every_test_that_contributing_names_is_there() {
    let page = files("").into_iter().find(|(path, _)| path == "CONTRIBUTING.md");
    let page = page.map(|(_, text)| text).unwrap_or_default();
    assert!(page.len() > 1000, "CONTRIBUTING.md is there");
    none(&missing(&page, &root()));
}

#[test]
fn a_file_that_is_gone_and_a_test_that_is_none_are_found() {
    let told = |page: &str| missing(page, &root()).join("\n");
    assert_eq!(told("`crds/src/lib.rs`, `tests/`, `a/<b>.rs`, `a_word`"), "");
    assert_eq!(told("`crds/src/gone.rs`"), "crds/src/gone.rs is not there");
    assert_eq!(told("cargo test -p kanarie-tests --test tidy x\n"), "");
    assert_eq!(told("`cargo test -p kanarie-crds --test tidy`"), "kanarie-crds has no test tidy");
    assert_eq!(told("`cargo test -p kanarie-nobody`"), "there is no crate kanarie-nobody");
}

fn missing(page: &str, root: &Path) -> Vec<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| text.contains('/') && !text.contains([' ', '<', '*', '!']);
    let paths = quoted.filter(is_path);
    let gone = paths.filter(|path| !root.join(path).exists());
    let mut found: Vec<String> = gone.map(|path| format!("{path} is not there")).collect();
    for command in page.split("cargo ").skip(1) {
        let command = command.split(['`', '\n']).next().unwrap_or_default();
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag);
            at.and_then(|at| words.get(at + 1)).copied()
        };
        let Some(package) = after("-p") else { continue };
        let Some(folder) = folder(package) else {
            found.push(format!("there is no crate {package}"));
            continue;
        };
        let is_test = |test: &str| {
            let tests = root.join(folder).join("tests");
            tests.join(format!("{test}.rs")).exists() || tests.join(test).join("main.rs").exists()
        };
        if let Some(test) = after("--test").filter(|test| !is_test(test)) {
            found.push(format!("{package} has no test {test}"));
        }
    }
    found
}

/// Where a crate lies.
fn folder(package: &str) -> Option<&'static str> {
    const CRATES: [(&str, &str); 10] = [
        ("kanarie-crds", "crds"),
        ("kanarie-words", "crds/words"),
        ("kanarie-metrics", "crds/metrics"),
        ("kanarie-process", "crds/process"),
        ("kanarie-gateway", "gateway"),
        ("kanarie-queue", "gateway/queue"),
        ("kanarie-operator", "operator"),
        ("kanarie-rollout", "operator/rollout"),
        ("kanarie-tests", "tests"),
        ("kanarie-fakes", "tests/fakes"),
    ];
    CRATES.iter().find(|(name, _)| *name == package).map(|(_, folder)| *folder)
}
