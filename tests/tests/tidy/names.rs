//! A public name of a type stands once in the product: who reads it knows which one is meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::sources;
use crate::{PRODUCT, none};

/// Names that may stand more than once, and why.
const SHARED: [(&str, &str); 2] = [
    ("Config", "each process has flags of its own"),
    ("ConfigErrors", "each process tells what is wrong with its flags"),
];

#[test]
fn a_public_type_name_stands_once() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in PRODUCT.iter().flat_map(|folder| sources(folder)) {
        for name in source.code.lines().filter_map(|line| declared(line.trim_start())) {
            places.entry(name).or_default().insert(source.path.clone());
        }
    }
    let shared: BTreeSet<&str> = SHARED.map(|(name, _)| name).into();
    let (doubled, single): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|(_, places)| places.len() > 1);
    let mut problems: Vec<String> = doubled
        .iter()
        .filter(|(name, _)| !shared.contains(name.as_str()))
        .map(|(name, places)| {
            let places: Vec<&str> = places.iter().map(String::as_str).collect();
            format!("{name} stands in {}", places.join(" and "))
        })
        .collect();
    let single = single.iter().filter(|(name, _)| shared.contains(name.as_str()));
    problems.extend(single.map(|(name, _)| format!("{name} stands once: take it off the list")));
    none(&problems);
}

/// The name of the public type that a line declares.
pub(crate) fn declared(line: &str) -> Option<String> {
    let item = line.strip_prefix("pub ")?;
    let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|k| item.strip_prefix(k))?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(name[..end].to_owned())
}
