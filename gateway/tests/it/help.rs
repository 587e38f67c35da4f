//! The gateway's `--help`, word for word: whoever changes a flag sees what users will read.

use std::path::Path;

use kanarie_fakes::{golden, help};

#[test]
fn the_help_of_the_gateway_and_of_its_commands_is_as_it_was() {
    let help = help::of(Path::new(env!("CARGO_BIN_EXE_kanarie-gateway")));
    golden::compare("gateway/tests/goldens/help.txt", &help);
}
