//! The control token, from a file.
//!
//! Takes a path; gives what stands there without the white space around it. A gateway without operator
//! takes its token so, and so do the commands that ask an admin port. Never shows it.

use std::fmt;
use std::path::{Path, PathBuf};

use kanarie_crds::route::SecretText;

/// Reads the token.
///
/// # Errors
/// When the file cannot be read or holds no token.
pub fn read(path: &Path) -> Result<SecretText, TokenError> {
    let fail = |why| TokenError { path: path.to_owned(), why };
    let text =
        std::fs::read_to_string(path).map_err(|error| fail(Why::Unreadable(error.kind())))?;
    let token = text.trim();
    let fits =
        (1..=MAX_BYTES).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(SecretText::new(token)) } else { Err(fail(Why::NoToken)) }
}

/// Longest token; it travels in a header.
const MAX_BYTES: usize = 1_024;

/// Why a file gives no token.
#[derive(Debug)]
pub struct TokenError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(std::io::ErrorKind),
    NoToken,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.why {
            Why::Unreadable(kind) => {
                write!(f, "the control token's file {path} cannot be read: {kind}")
            }
            Why::NoToken => write!(
                f,
                "the control token's file {path} must hold 1 to {MAX_BYTES} printable ASCII characters \
                 and no space between them"
            ),
        }
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_token_is_what_stands_in_the_file_without_the_white_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "se-cret\n").unwrap();
        assert_eq!(read(&path).unwrap().expose(), "se-cret");
    }

    #[test]
    fn a_file_without_a_token_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(read(&path).unwrap_err().to_string().contains("cannot be read"));
        for text in ["", " \n", "two se-crets", "se-cr\u{e9}t", &"x".repeat(1_025)] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("must hold") && !error.contains("se-cr"), "{error}");
        }
    }
}
