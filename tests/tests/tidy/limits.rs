//! The memory that the chart gives the operator follows from what ten thousand channels were seen to take.
//!
//! Takes the table of docs/operations.md and the values of the chart; says which of them is to be changed.

use std::fs;

use crate::{none, root};

/// How the row of the table begins, whose last column is of ten thousand channels.
const ROW: &str = "| at rest: resident memory |";

#[test]
fn the_chart_gives_the_operator_a_third_more_than_ten_thousand_channels_take() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    none(&problems(&read("docs/operations.md"), &read("charts/kanarie/values.yaml")));
}

#[test]
fn a_limit_below_what_was_measured_is_found() {
    let values =
        "operator:\n  resources:\n    limits: {memory: 100Mi}\ngateway:\n  limits: {memory: 9Mi}\n";
    let table = |mib: u32| format!("{ROW} 1 MiB | {mib} MiB |\n");
    assert!(problems(&table(75), values).is_empty());
    assert_eq!(problems(&table(76), values).len(), 1);
    assert_eq!(problems("", values).len(), 1);
}

fn problems(papers: &str, values: &str) -> Vec<String> {
    let row = papers.lines().find_map(|line| line.strip_prefix(ROW));
    let cells = row.into_iter().flat_map(|row| row.split('|')).map(str::trim);
    let seen = cells.filter_map(|cell| cell.strip_suffix(" MiB")?.parse::<u32>().ok()).next_back();
    let mut operator = values.lines().skip_while(|line| !line.starts_with("operator:"));
    let given = operator.find_map(|line| line.trim().strip_prefix("limits: {memory: "));
    let given = given.and_then(|text| text.strip_suffix("Mi}")?.parse::<u32>().ok());
    match (seen, given) {
        (Some(seen), Some(given)) if seen * 4 <= given * 3 => Vec::new(),
        found => {
            vec![format!("seen and given, in MiB: {found:?}; the limit is to be a third more")]
        }
    }
}
