//! Goldens: texts that people read or scripts depend on, kept in the repository as they are.
//!
//! Takes the path of such a file from the root of the repository and the text as it is now; fails with
//! the first line that is another. `make generated`, or `UPDATE=1` before any test, writes the file
//! instead. Never decides which text is right: whoever reads the diff does.

use std::fs;
use std::path::Path;

/// Compares a file of the repository with the text that it is to be.
///
/// # Panics
/// The file is another, or cannot be written.
pub fn compare(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE").is_some() {
        let folder = file.parent().unwrap_or(&file);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
        assert!(written.is_ok(), "{path} cannot be written: {written:?}");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let difference = first_difference(&kept, text);
    assert!(
        difference.is_none(),
        "{path} is another than it was; where that is meant, `make generated` writes it\n{}",
        difference.unwrap_or_default()
    );
}

/// The first line in which two texts differ, from both.
fn first_difference(kept: &str, text: &str) -> Option<String> {
    let (mut kept, mut text) = (kept.split('\n'), text.split('\n'));
    let mut line = 0;
    loop {
        line += 1;
        match (kept.next(), text.next()) {
            (None, None) => return None,
            (was, is) if was == is => {}
            (was, is) => {
                let said = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return Some(format!("line {line}\n  was: {}\n  is:  {}", said(was), said(is)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_is_another_is_told_from_both() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let told = first_difference("a\nb\n", "a\nc\n");
        assert_eq!(told.as_deref(), Some("line 2\n  was: b\n  is:  c"));
        let told = first_difference("a\n", "a");
        assert_eq!(told.as_deref(), Some("line 2\n  was: \n  is:  (the end)"));
    }
}
