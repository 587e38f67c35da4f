//! The machine has nothing to read a clock, a file, a socket or a random number with.

/// Everything that the machine may depend on.
const PURE: [&str; 3] = ["serde", "serde_json", "thiserror"];

#[test]
fn the_manifest_names_no_crate_for_io_time_or_randomness() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let manifest = manifest.unwrap();
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    let lines = dependencies.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', '=', ' ']).next());
    let names = names.filter(|name| !name.is_empty()).collect::<Vec<_>>();
    assert_eq!(names, PURE);
}

/// Hash maps among them: their order is random.
#[test]
fn no_source_file_names_a_part_of_the_standard_library_that_is_not_pure() {
    let banned = [
        "std::fs",
        "std::net",
        "std::time",
        "std::thread",
        "std::env",
        "std::io",
        "HashMap",
        "HashSet",
    ];
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for name in banned {
            assert!(!text.contains(name), "{} uses {name}", path.display());
        }
    }
}
