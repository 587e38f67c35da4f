//! What people and machines read of a gateway stays as it is: names of metrics, lines of the log.
//!
//! Takes what a process shows after the same steps; `make generated` writes the files of this folder again.
#![expect(clippy::unwrap_used, reason = "a golden that cannot be read fails the test")]

mod lines;

use kanarie_fakes::golden;
use kanarie_gateway::events;

/// Compares with a file of this folder.
fn is_golden(file: &str, text: &str) {
    golden::compare(&format!("gateway/tests/goldens/{file}"), text);
}

#[test]
fn the_metrics_have_the_names_kinds_and_labels_that_they_had() {
    is_golden("metrics.txt", &events::outline());
}
