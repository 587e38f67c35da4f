//! The index of the decisions is whole, and each decision is shown by a test that exists.
//!
//! Takes the pages of docs/decisions and the rows of their README: number and title as the page's own
//! first line, a date, a status, and the names of tests. A page that says `replaced by` names a page
//! that is there. Never reads what a page decides.

use std::collections::BTreeSet;

use crate::{files, none, rust_files};

const FOLDER: &str = "docs/decisions/";

#[test]
fn every_decision_stands_in_the_index_and_names_a_test_that_exists() {
    let pages = files(FOLDER);
    let (index, pages): (Vec<_>, Vec<_>) =
        pages.into_iter().partition(|(path, _)| path.ends_with("README.md"));
    let index = index.first().map_or("", |(_, text)| text.as_str());
    let pages: Vec<(String, String)> = pages
        .iter()
        .map(|(path, text)| {
            let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            (path.trim_start_matches(FOLDER).to_owned(), title.to_owned())
        })
        .collect();
    none(&problems(index, &pages, &tests()));
}

#[test]
fn a_page_that_is_missing_and_a_test_that_is_gone_are_found() {
    let pages =
        [("1-a.md".to_owned(), "1: A".to_owned()), ("2-b.md".to_owned(), "2: B".to_owned())];
    let tests = BTreeSet::from(["it_holds".to_owned()]);
    let told = |index: &str| problems(index, &pages, &tests).join("\n");
    let good = "| [1: A](1-a.md) | 2026-01-02 | replaced by 2 | `it_holds` |\n";
    let second = "| [2: B](2-b.md) | 2026-01-02 | in force | `it_holds` |\n";
    assert_eq!(told(&format!("{good}{second}")), "");
    assert_eq!(told(good), "2-b.md has no row");
    for (row, says) in [
        ("| [2: C](2-b.md) | 2026-01-02 | in force | `it_holds` |", "is called 2: B"),
        ("| [2: B](2-b.md) | lately | in force | `it_holds` |", "no date"),
        ("| [2: B](2-b.md) | 2026-01-02 | forgotten | `it_holds` |", "no status"),
        ("| [2: B](2-b.md) | 2026-01-02 | replaced by 7 | `it_holds` |", "no status"),
        ("| [2: B](2-b.md) | 2026-01-02 | in force | `it_held` |", "no test it_held"),
        ("| [2: B](2-b.md) | 2026-01-02 | in force | by thought |", "shown by nothing"),
    ] {
        assert!(told(&format!("{good}{row}")).contains(says), "{row}");
    }
}

/// What is wrong with an index of these pages (file and title), where these tests exist.
fn problems(index: &str, pages: &[(String, String)], tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, title) in pages {
        let link = format!("]({file})");
        let rows: Vec<&str> = index.lines().filter(|line| line.contains(&link)).collect();
        let [row] = rows[..] else {
            let rows = if rows.is_empty() { "no row" } else { "several rows" };
            found.push(format!("{file} has {rows}"));
            continue;
        };
        let cells: Vec<&str> = row.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let [page, since, status, shown] = cells[..] else {
            found.push(format!("{file}: a row has page, since, status and shown by"));
            continue;
        };
        if page != format!("[{title}{link}") {
            found.push(format!("{file} is called {title}"));
        }
        if since.len() != 10 || !since.chars().all(|c| c.is_ascii_digit() || c == '-') {
            found.push(format!("{file}: {since} is no date"));
        }
        let replaces = |(file, _): &(String, String)| {
            let number = status.strip_prefix("replaced by ");
            number.is_some_and(|number| file.starts_with(&format!("{number}-")))
        };
        if status != "in force" && !pages.iter().any(replaces) {
            found.push(format!("{file}: {status} is no status"));
        }
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            found.push(format!("{file} is shown by nothing"));
        }
        let gone = named.into_iter().filter(|name| !tests.contains(*name));
        found.extend(gone.map(|name| format!("{file}: there is no test {name}")));
    }
    found
}

/// The names of all tests: functions with a test's attribute, and rules that run on both stores.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in rust_files() {
        let (mut test, mut rules) = (false, false);
        for line in text.lines().map(str::trim) {
            rules = (rules || line.starts_with("on_both_stores!")) && !line.starts_with('}');
            if rules {
                found.extend(line.split(',').map(|name| name.trim().to_owned()));
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                test = true;
            } else if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ")
                && test
            {
                found.insert(name.split(['(', '<']).next().unwrap_or_default().to_owned());
                test = false;
            }
        }
    }
    found
}
