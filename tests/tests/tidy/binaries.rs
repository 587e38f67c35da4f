//! A crate has one test binary, and no file of tests is left out of it.
//!
//! Takes the `tests/` folders of all crates. Every file there lies below `it/`, or below `tidy/` which links
//! nothing of the product, is named by a `mod` of the file above it, and by no `#[path]`. Never looks at
//! what a test tests.

use crate::{files, none};

/// Where crates keep their tests.
const FOLDERS: [&str; 10] = [
    "crds/tests",
    "crds/metrics/tests",
    "crds/process/tests",
    "crds/words/tests",
    "gateway/tests",
    "gateway/queue/tests",
    "operator/tests",
    "operator/rollout/tests",
    "tests/fakes/tests",
    "tests/tests",
];
/// The rules of the repository, which are asked every minute.
const TIDY: &str = "tests/tests/tidy/";

#[test]
fn every_file_of_tests_is_a_module_of_the_one_binary() {
    let mut problems = Vec::new();
    for folder in FOLDERS {
        let found = files(folder).into_iter().filter(|(path, _)| path.ends_with(".rs"));
        let (tidy, others): (Vec<_>, Vec<_>) = found.partition(|(path, _)| path.starts_with(TIDY));
        problems.extend(left_out(&format!("{folder}/tidy"), &tidy));
        problems.extend(left_out(&format!("{folder}/it"), &others));
    }
    none(&problems);
}

#[test]
fn a_file_that_nobody_names_and_one_of_another_binary_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let main = file("x/tests/it/main.rs", "mod a;\n");
    let good = [main.clone(), file("x/tests/it/a.rs", "mod b;"), file("x/tests/it/a/b.rs", "")];
    assert_eq!(left_out("x/tests/it", &good), Vec::<String>::new());
    let unnamed = [main.clone(), file("x/tests/it/a.rs", ""), file("x/tests/it/a/b.rs", "")];
    let told = ["x/tests/it/a/b.rs is no module of x/tests/it/a.rs"];
    assert_eq!(left_out("x/tests/it", &unnamed), told);
    let other = [main.clone(), file("x/tests/it/a.rs", ""), file("x/tests/c.rs", "")];
    assert_eq!(left_out("x/tests/it", &other), ["x/tests/c.rs is not below x/tests/it"]);
    let by_path = [main, file("x/tests/it/a.rs", "#[path = \"../b.rs\"]\nmod b;")];
    assert_eq!(left_out("x/tests/it", &by_path), ["x/tests/it/a.rs names a file by its path"]);
}

/// What is no module of the binary in a folder.
fn left_out(binary: &str, found: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in found {
        if text.lines().any(|line| line.trim_start().starts_with("#[path")) {
            problems.push(format!("{path} names a file by its path"));
        }
        let Some(inner) = path.strip_prefix(&format!("{binary}/")) else {
            problems.push(format!("{path} is not below {binary}"));
            continue;
        };
        let (above, name) = match inner.trim_end_matches(".rs").rsplit_once('/') {
            Some((above, name)) => (format!("{binary}/{above}.rs"), name),
            None if inner == "main.rs" => continue,
            None => (format!("{binary}/main.rs"), inner.trim_end_matches(".rs")),
        };
        let module = format!("mod {name};");
        let named = found.iter().any(|(other, text)| {
            *other == above && text.lines().any(|line| line.trim().ends_with(&module))
        });
        if !named {
            problems.push(format!("{path} is no module of {above}"));
        }
    }
    problems
}
