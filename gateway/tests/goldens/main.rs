//! What people and machines read of a gateway stays as it is: names of metrics, lines of the log.
//!
//! `UPDATE=1 cargo test -p kanarie-gateway --test goldens` writes the files of this folder again.
#![expect(clippy::unwrap_used, reason = "a golden that cannot be read fails the test")]

mod lines;

use std::path::Path;

use kanarie_gateway::events;

/// Compares with a file of this folder, or writes it again.
fn is_golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{file}: UPDATE=1 writes it again; tell it in docs and CHANGELOG.md");
}

#[test]
fn the_metrics_have_the_names_kinds_and_labels_that_they_had() {
    is_golden("metrics.txt", &events::outline());
}
