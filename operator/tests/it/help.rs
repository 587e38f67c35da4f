//! The operator's `--help`, word for word: whoever changes a flag sees what users will read.

use std::path::Path;

use kanarie_fakes::{golden, help};

#[test]
fn the_help_of_the_operator_and_of_its_commands_is_as_it_was() {
    let help = help::of(Path::new(env!("CARGO_BIN_EXE_kanarie-operator")));
    golden::compare("operator/tests/goldens/help.txt", &help);
}
