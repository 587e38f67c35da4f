//! Nothing is longer than one can read at once: files, functions, the drivers of the lines, and the
//! lines of scripts, which no formatter breaks.
//!
//! Functions are found by the indentation that rustfmt guarantees. Sizes are ratchets: they may
//! shrink.

use crate::code::sources;
use crate::{PRODUCT, files, none, rust_files};

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 60;
const LONGEST_DRIVER: usize = 39;
const LONGEST_LINE: usize = 100;

/// What lists the hops of a line, or starts and ends it.
const DRIVERS: [(&str, &str); 6] = [
    ("gateway/src/inbound.rs", "receive"),
    ("gateway/src/outbound.rs", "run"),
    ("gateway/src/outbound/turn.rs", "run"),
    ("gateway/src/outbound/turn.rs", "line"),
    ("operator/src/reconcile.rs", "line"),
    ("operator/rollout/src/decide.rs", "decide"),
];

/// A function: the line it begins in, its name, its length.
type Function = (usize, String, usize);

#[test]
fn no_file_is_longer_than_500_lines() {
    let long = rust_files().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > LONGEST_FILE);
    none(&long.map(|(path, lines)| format!("{path} has {lines} lines")).collect::<Vec<_>>());
}

#[test]
fn no_function_of_the_product_is_longer_than_60_lines() {
    let mut problems = Vec::new();
    for (path, text) in PRODUCT.iter().flat_map(|folder| files(folder)) {
        if path.ends_with(".rs") {
            let long = functions(&text).into_iter().filter(|found| found.2 > LONGEST_FUNCTION);
            problems.extend(long.map(|(at, name, long)| format!("{path}:{at} {name}: {long}")));
        }
    }
    none(&problems);
}

#[test]
fn a_driver_is_shorter_than_40_lines() {
    let mut problems = Vec::new();
    for (path, driver) in DRIVERS {
        let found = PRODUCT.iter().flat_map(|folder| sources(folder));
        let found = found.filter(|source| source.path == path);
        let found: Vec<Function> = found.flat_map(|source| functions(&source.code)).collect();
        match found.iter().find(|(_, name, _)| name == driver) {
            Some((_, _, long)) if *long <= LONGEST_DRIVER => {}
            Some((_, _, long)) => problems.push(format!("{path} {driver}: {long} lines")),
            None => problems.push(format!("{path} has no {driver}: correct the list")),
        }
    }
    none(&problems);
}

#[test]
fn no_line_of_a_script_is_longer_than_100_columns() {
    let mut problems = Vec::new();
    for (path, text) in files("").into_iter().filter(|(path, _)| path.ends_with(".lua")) {
        let lines = text.lines().enumerate();
        let long = lines.filter(|(_, line)| line.chars().count() > LONGEST_LINE);
        problems.extend(long.map(|(at, line)| format!("{path}:{}: {line}", at + 1)));
    }
    none(&problems);
}

/// The functions of a file.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = code.split("fn ").nth(1).filter(|_| is_function(code)) else { continue };
        let indent = line.len() - code.len();
        let closes = |l: &&str| l.starts_with(&format!("{}}}", " ".repeat(indent)));
        let Some(length) = lines[at..].iter().position(closes) else { continue };
        let name = name.split(['(', '<']).next().unwrap_or_default();
        found.push((at + 1, name.to_owned(), length + 1));
    }
    found
}

/// Whether a line begins a function of more than one line, whoever may call it.
fn is_function(code: &str) -> bool {
    let mut rest = code;
    if let Some(shown) = code.strip_prefix("pub") {
        let narrowed = shown.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        rest = narrowed.map_or(shown, |(_, rest)| rest).trim_start();
    }
    for word in ["const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    rest.starts_with("fn ") && !code.ends_with([';', '}'])
}

#[test]
fn a_function_is_found_whatever_stands_before_it() {
    let before = [
        "",
        "pub ",
        "pub(crate) ",
        "pub(super) ",
        "pub(in crate::store) ",
        "async ",
        "pub async ",
        "pub(crate) async ",
        "pub(super) async ",
        "pub(in crate::store) async ",
        "const ",
        "pub(crate) const ",
        "pub(crate) const unsafe ",
    ];
    for before in before {
        let text = format!("    {before}fn name<T>(\n        t: T,\n    ) {{\n        t\n    }}\n");
        assert_eq!(functions(&text), [(1, "name".to_owned(), 5)], "{before}");
    }
    for other in ["fn f();", "fn f() {}", "// fn f(", "let fn_name = (", "publish fn f("] {
        assert!(!is_function(other), "{other}");
    }
}
