//! The product's own code as these tests read it: without comments and without unit tests.

use crate::files;

/// One file.
pub(crate) struct Source {
    /// Its path from the root of the repository.
    pub(crate) path: String,
    /// Its code.
    pub(crate) code: String,
}

/// Every source file below a folder.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    files(folder)
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| Source { path, code: code(&text) })
        .collect()
}

/// Leaves out comments and every item that is there for tests only, by the indentation that
/// rustfmt guarantees.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let item = line.trim_start();
        if item == "#[cfg(test)]" {
            let indent = &line[..line.len() - item.len()];
            let ends = |line: &str| {
                let rest = line.strip_prefix(indent).unwrap_or_default();
                !rest.is_empty() && !rest.starts_with([' ', '#', '/'])
            };
            // The item's first line, then all of it up to where its block closes.
            let Some(first) = lines.by_ref().find(|line| ends(line)) else { break };
            if first.ends_with('{') {
                lines.by_ref().find(|line| ends(line));
            }
        } else if !item.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn comments_and_unit_tests_are_no_code() {
    let text =
        "use a;\n// use b;\n#[cfg(test)]\nmod tests {\n    use c;\n\n    fn d() {}\n}\nuse e;\n";
    assert_eq!(code(text), "use a;\nuse e;\n");
}
