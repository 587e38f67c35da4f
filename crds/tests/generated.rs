//! The files that are generated from the types are what the types say.
//!
//! `UPDATE=1 cargo test -p kanarie-crds --test generated` writes them.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it cannot write")]

#[test]
fn the_committed_crd_is_what_the_types_say() {
    compare("crds/whatsappchannels.yaml", &kanarie_crds::schema::yaml());
}

/// Compares a file of the repository, or writes it when `UPDATE` is set.
fn compare(path: &str, wanted: &str) {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not what the types say; write it again by `UPDATE=1 cargo test -p kanarie-crds \
         --test generated`"
    );
}
