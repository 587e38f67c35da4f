//! `docs/judge.md`: the words of `page.md` with the figures in their places, and the examples, which need no
//! long run and so can be held against the page on every test.

use std::path::{Path, PathBuf};

use crate::simulation::cells::{
    HORIZON_MS, Kind, LEVELS, PROMISED, SECONDS_OF_A_HANG, SECONDS_OF_A_LOOK, SECONDS_OF_A_RESCUE,
};
use crate::simulation::game::play;
use crate::simulation::noise::{RATE, WEIGHT, messages};
use crate::simulation::product::{STEEP, STEPS, policy};
use crate::simulation::run::{pilot, seed, setting};
use crate::simulation::setting::{HOUR_MS, MINUTE_MS};
use crate::simulation::table::{Replicates, Row};
use crate::simulation::traffic::Towns;
use crate::simulation::world::{BEGINS_MS, TIMEOUT_MS};

const TEMPLATE: &str = include_str!("page.md");

/// The page, of all rows.
pub(crate) fn page(rows: &[Row], all: Replicates) -> String {
    let lines = |lines: Vec<String>| lines.join("\n");
    let broken: Vec<String> = rows.iter().flat_map(Row::broken_bounds).collect();
    let verdict = if broken.is_empty() {
        "**Every bound holds.**".to_owned()
    } else {
        format!("**Bounds that do not hold:**\n\n- {}", broken.join("\n- "))
    };
    let of_steps = |steps: [(u8, u32); 3]| {
        steps.map(|(weight, seconds)| format!("{weight} % for {} h", seconds / 3_600)).join(", ")
    };
    let promised = PROMISED.map(|(weight, most)| format!("{most} at {weight} %"));
    let item = |what: String| format!("- {what}");
    let busiest = LEVELS[LEVELS.len() - 1];
    let places = [
        ("replicates", all.of_product(LEVELS[0]).to_string()),
        ("fewer", all.of_product(busiest).to_string()),
        ("busiest", busiest.to_string()),
        ("others", all.of_others().to_string()),
        ("verdict", verdict),
        ("unpromised", lines(rows.iter().filter_map(Row::unpromised).map(item).collect())),
        ("noise", noise()),
        ("promised", promised.join(", ")),
        ("look", SECONDS_OF_A_LOOK.to_string()),
        ("rescue", SECONDS_OF_A_RESCUE.to_string()),
        ("hang", SECONDS_OF_A_HANG.to_string()),
        ("steps", of_steps(STEPS)),
        ("steep", of_steps(STEEP)),
        ("horizon", (HORIZON_MS / HOUR_MS).to_string()),
        ("endings", lines(rows.iter().map(Row::ending).collect())),
        ("harms", lines(rows.iter().filter_map(Row::harm).collect())),
        ("examples", examples()),
    ];
    places
        .iter()
        .fold(TEMPLATE.to_owned(), |page, (name, text)| page.replace(&format!("{{{name}}}"), text))
}

/// What a step costs that passes by the comparison alone.
pub(crate) fn noise() -> String {
    let messages = messages(&policy(STEPS, TIMEOUT_MS));
    format!("a median of {messages} messages at {WEIGHT} % if {} % fail on both", RATE * 100.0)
}

/// A rollout a traffic level, told in the product's own sentences.
pub(crate) fn examples() -> String {
    let kinds = [
        Kind::Bad { share: 0.2 },
        Kind::Healthy { base: 0.005 },
        Kind::Dies { hangs: false, once: false },
        Kind::Outage { share: 1.0, step: 1 },
        Kind::Dies { hangs: true, once: false },
    ];
    let told = LEVELS.into_iter().zip(kinds).map(|(level, kind)| example(kind, level));
    told.collect::<Vec<_>>().join("\n\n")
}

/// Where the page is.
pub(crate) fn path() -> PathBuf {
    docs("judge.md")
}

/// Where a page of the documentation is.
pub(crate) fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// The page up to its examples, and the examples.
pub(crate) fn parts(page: &str) -> Option<(&str, &str)> {
    let begins = page.find(&format!("**{} a minute: ", LEVELS[0]))?;
    Some((&page[..begins], page[begins..].trim_end()))
}

/// What was decided in examples, and when, without the sentences.
pub(crate) fn decisions(examples: &str) -> Vec<&str> {
    examples.lines().map(|line| line.split(": ").next().unwrap_or(line)).collect()
}

fn example(kind: Kind, per_minute: u32) -> String {
    let towns = Towns::of(seed(per_minute, 0));
    let setting = setting(kind, per_minute, &towns, &kind.steps(), pilot);
    let mut pilot = pilot(&setting, towns.seed).telling();
    play(&setting, &towns, &mut pilot);
    let mut lines = vec![format!("**{per_minute} a minute: {}**", kind.name()), String::new()];
    lines.extend(pilot.told.unwrap_or_default().into_iter().map(|(at, said)| {
        let minutes = (at - BEGINS_MS) as f64 / MINUTE_MS as f64;
        format!("- {minutes:.1} {said}")
    }));
    lines.join("\n")
}
