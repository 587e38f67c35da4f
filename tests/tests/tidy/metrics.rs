//! The papers name every metric, and no metric that is not there.

use std::collections::BTreeSet;
use std::fs;

use crate::{files, none, root};

/// What both processes show, as their goldens list it.
const GOLDENS: [&str; 2] =
    ["gateway/tests/goldens/metrics.txt", "operator/tests/goldens/metrics.txt"];

#[test]
fn every_metric_stands_in_the_papers_and_every_one_in_them_is_shown() {
    let shown = shown();
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let told = names(&operations);
    let mut problems: Vec<String> =
        shown.difference(&told).map(|name| format!("docs/operations.md lacks {name}")).collect();
    let papers = ["docs", "charts"].into_iter().flat_map(files);
    for (path, text) in papers.chain(files("README.md")) {
        let unknown: Vec<String> = names(&text).difference(&shown).cloned().collect();
        problems.extend(unknown.into_iter().map(|name| format!("{path}: nothing shows {name}")));
    }
    none(&problems);
}

fn shown() -> BTreeSet<String> {
    let text = GOLDENS.map(|path| fs::read_to_string(root().join(path)).unwrap()).concat();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    text.lines().map(first).collect()
}

/// Words that begin as our metrics and those of a process do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_part(c));
    let ours = words.filter(|word| {
        (word.starts_with("kanarie_") || word.starts_with("process_")) && !word.ends_with('_')
    });
    ours.map(str::to_owned).collect()
}
