//! A crate has one test binary, and no file of tests is left out of it.
//!
//! Takes the `tests/` folders of all crates. Every file there lies below `it/`, is named by a `mod` of the
//! file above it, and by no `#[path]`. Never looks at what a test tests.

use crate::{files, none};

/// Where crates keep their tests.
const FOLDERS: [&str; 6] = [
    "crds/tests",
    "crds/words/tests",
    "gateway/tests",
    "gateway/queue/tests",
    "operator/tests",
    "operator/rollout/tests",
];

#[test]
fn every_file_of_tests_is_a_module_of_the_one_binary() {
    let mut problems = Vec::new();
    for folder in FOLDERS {
        let found = files(folder).into_iter().filter(|(path, _)| path.ends_with(".rs"));
        problems.extend(left_out(folder, &found.collect::<Vec<_>>()));
    }
    none(&problems);
}

#[test]
fn a_file_that_nobody_names_and_one_of_another_binary_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let main = file("x/tests/it/main.rs", "mod a;\n");
    let good = [main.clone(), file("x/tests/it/a.rs", "mod b;"), file("x/tests/it/a/b.rs", "")];
    assert_eq!(left_out("x/tests", &good), Vec::<String>::new());
    let unnamed = [main.clone(), file("x/tests/it/a.rs", ""), file("x/tests/it/a/b.rs", "")];
    let told = ["x/tests/it/a/b.rs is no module of x/tests/it/a.rs"];
    assert_eq!(left_out("x/tests", &unnamed), told);
    let other = [main.clone(), file("x/tests/it/a.rs", ""), file("x/tests/c.rs", "")];
    assert_eq!(left_out("x/tests", &other), ["x/tests/c.rs is not below x/tests/it"]);
    let by_path = [main, file("x/tests/it/a.rs", "#[path = \"../b.rs\"]\nmod b;")];
    assert_eq!(left_out("x/tests", &by_path), ["x/tests/it/a.rs names a file by its path"]);
}

fn left_out(folder: &str, found: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in found {
        if text.lines().any(|line| line.trim_start().starts_with("#[path")) {
            problems.push(format!("{path} names a file by its path"));
        }
        let Some(inner) = path.strip_prefix(&format!("{folder}/it/")) else {
            problems.push(format!("{path} is not below {folder}/it"));
            continue;
        };
        let (above, name) = match inner.trim_end_matches(".rs").rsplit_once('/') {
            Some((above, name)) => (format!("{folder}/it/{above}.rs"), name),
            None if inner == "main.rs" => continue,
            None => (format!("{folder}/it/main.rs"), inner.trim_end_matches(".rs")),
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
