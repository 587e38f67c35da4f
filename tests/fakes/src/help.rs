//! What a program says for `--help`, and each of its commands, however deep they lie.
//!
//! Takes the path of a program; gives one text. Runs it without any variable of the environment, so
//! nothing of the machine stands in it.

use std::path::Path;
use std::process::Command;

/// The help of a program and of all its commands.
///
/// # Panics
/// The program cannot be run, or ends with an error.
pub fn of(program: &Path) -> String {
    let mut text = String::new();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    add(program, &name, &[], &mut text);
    text
}

fn add(program: &Path, name: &str, commands: &[String], text: &mut String) {
    let output = Command::new(program).args(commands).arg("--help").env_clear().output();
    let help = match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        other => unreachable!("{name} says no help: {other:?}"),
    };
    let called = commands.iter().fold(name.to_owned(), |called, command| called + " " + command);
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    text.push_str(&format!("$ {called} --help\n{}\n\n", lines.join("\n")));
    for command in listed(&help) {
        add(program, name, &[commands, &[command]].concat(), text);
    }
}

/// The commands that a help lists, but `help` itself.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_a_help_and_their_second_lines_are_none() {
        let help =
            "Usage: x\n\nCommands:\n  send-test  Send\n             more\n  help  Print\n\n  no";
        assert_eq!(listed(help), ["send-test"]);
        assert_eq!(listed("Usage: x\n"), Vec::<String>::new());
    }
}
