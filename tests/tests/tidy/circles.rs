//! No circle of files: what a file needs lies below it, so that a folder can be read from one end.
//!
//! Arrows are read from `use crate::…` and `use super::…` and from paths in the code; each points
//! to the deepest file of its path. `mod` lines are no arrows, and tests may use what they like.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Source, sources};
use crate::{PRODUCT, none};

/// File → file it needs → the names that tie it to that one.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn no_files_need_each_other_in_a_circle() {
    let problems: Vec<String> =
        PRODUCT.into_iter().flat_map(|folder| circles(&arrows(folder))).collect();
    none(&problems);
}

#[test]
fn a_circle_is_found_and_told_with_the_names_that_tie_it() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), code: text.to_owned() };
    let told = |sources: &[Source]| circles(&arrows_of("x/src", sources)).join("\n");
    let line = "    x/src/a.rs -> x/src/b.rs: B\n    x/src/b.rs -> x/src/a.rs: f\n";
    let circle = [
        source("x/src/a.rs", "use crate::b::{\n    B,\n};"),
        source("x/src/b.rs", "fn g() { crate::a::f() }"),
    ];
    assert_eq!(told(&circle), format!("2 files of x/src need each other:\n{line}"));
    let parent =
        [source("x/src/a.rs", "fn f() { c::g() }"), source("x/src/a/c.rs", "use super::T;")];
    assert!(told(&parent).contains("x/src/a/c.rs -> x/src/a.rs: T"));
    let none = [source("x/src/a.rs", "use crate::b::B;"), source("x/src/b.rs", "use crate::c::C;")];
    assert_eq!(told(&none), "");
}

fn arrows(folder: &str) -> Arrows {
    arrows_of(folder, &sources(folder))
}

fn arrows_of(folder: &str, sources: &[Source]) -> Arrows {
    let files: BTreeMap<Vec<String>, &str> = sources
        .iter()
        // A main is another crate, which nobody can need.
        .filter(|source| !source.path.ends_with("src/main.rs"))
        .map(|source| (module(folder, &source.path), source.path.as_str()))
        .collect();
    let mut arrows = Arrows::new();
    for (module, path) in &files {
        let Some(source) = sources.iter().find(|source| source.path == *path) else { continue };
        for needed in paths(module, &source.code, &files) {
            let Some((file, name)) = deepest(&needed, &files) else { continue };
            if file != *path {
                let needs = arrows.entry((*path).to_owned()).or_default();
                needs.entry(file.to_owned()).or_default().insert(name);
            }
        }
    }
    arrows
}

/// `gateway/src/routes/table.rs` is the module `routes`, `table`; `lib.rs` is the root.
fn module(folder: &str, path: &str) -> Vec<String> {
    let inner = path.trim_start_matches(folder).trim_start_matches('/').trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

/// The file of the longest part of a path that is one, and the rest of the path.
fn deepest<'a>(
    path: &[String],
    files: &BTreeMap<Vec<String>, &'a str>,
) -> Option<(&'a str, String)> {
    (0..=path.len()).rev().find_map(|length| {
        let file = files.get(&path[..length])?;
        let rest = &path[length..];
        let name = if rest.is_empty() { path.last().cloned() } else { Some(rest.join("::")) };
        Some((*file, name.unwrap_or_default()))
    })
}

/// Every path within the crate that a file names, from its root.
fn paths(module: &[String], code: &str, files: &BTreeMap<Vec<String>, &str>) -> Vec<Vec<String>> {
    let (imports, rest) = split_imports(code);
    let mut found: Vec<Vec<String>> = imports
        .iter()
        .flat_map(|import| expand(import))
        .filter_map(|path| absolute(module, &path))
        .collect();
    for path in words(&rest) {
        let child = [module, &path[..1]].concat();
        // A parent that names a child by its bare name needs it as well.
        match files.contains_key(&child) && path.len() > 1 {
            true => found.push([module, &path].concat()),
            false => found.extend(absolute(module, &path)),
        }
    }
    found
}

/// The `use` declarations of a file, and everything else.
fn split_imports(code: &str) -> (Vec<String>, String) {
    let (mut imports, mut rest, mut open) = (Vec::new(), String::new(), None::<String>);
    for line in code.lines() {
        let line = line.trim();
        let import =
            match (open.take(), line.strip_prefix("use ").or(line.strip_prefix("pub use "))) {
                (Some(begun), _) => begun + line,
                (None, Some(import)) => import.to_owned(),
                (None, None) => {
                    rest.push_str(line);
                    rest.push('\n');
                    continue;
                }
            };
        match import.split_once(';') {
            Some((import, _)) => imports.push(import.to_owned()),
            None => open = Some(import),
        }
    }
    (imports, rest)
}

/// `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn expand(import: &str) -> Vec<Vec<String>> {
    let Some((before, inner)) = import.split_once('{') else {
        let path = import.split(" as ").next().unwrap_or_default();
        let parts = path.split("::").map(|part| part.trim().to_owned());
        // `{self, …}` names what stands before the brackets.
        return vec![parts.filter(|part| !part.is_empty() && path.trim() != "self").collect()];
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let before: Vec<String> =
        before.split("::").map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner.get(start..at).unwrap_or_default().trim();
                if !part.is_empty() {
                    found
                        .extend(expand(part).into_iter().map(|path| [&before[..], &path].concat()));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Paths in the code: two words or more with `::` between them.
fn words(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_path(c))
        .filter(|word| word.contains("::") && !word.starts_with(':'))
        .map(|word| word.split("::").map(str::to_owned).collect())
        .collect()
}

/// The path from the root of the crate; none for a path that begins elsewhere.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let above = module.get(..module.len().checked_sub(ups)?)?;
            Some([above, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// Every set of files that reach each other, told once.
fn circles(arrows: &Arrows) -> Vec<String> {
    let mut told = BTreeSet::new();
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        arrows.keys().map(|file| (file, reachable(file, arrows))).collect();
    for (file, reached) in &reach {
        let circle: BTreeSet<&String> = reached
            .iter()
            .copied()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(*file)))
            .collect();
        if !circle.is_empty() {
            told.insert(tell(&circle, arrows));
        }
    }
    told.into_iter().collect()
}

fn reachable<'a>(file: &str, arrows: &'a Arrows) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for needed in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(needed) {
                open.push(needed);
            }
        }
    }
    found
}

fn tell(circle: &BTreeSet<&String>, arrows: &Arrows) -> String {
    let folder = circle.first().and_then(|file| file.split_once("src/"));
    let folder = folder.map_or("", |(folder, _)| folder);
    let mut text = format!("{} files of {folder}src need each other:\n", circle.len());
    for from in circle {
        for (to, names) in arrows.get(*from).into_iter().flatten() {
            if circle.contains(to) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                text.push_str(&format!("    {from} -> {to}: {}\n", names.join(", ")));
            }
        }
    }
    text
}
