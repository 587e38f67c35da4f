//! Sixty scenarios that any controller of rollouts has to pass, each shown by tests that have its number.
//!
//! Takes every function whose name begins with `scenario_NN_` and the sentence of its first doc line,
//! `Scenario NN: …`; several tests may show one. Writes them as docs/scenarios.md. Fails when a number has
//! no test and no reason for that, when it has both, and when a test has no sentence. Never runs one.

use std::collections::BTreeMap;

use kanarie_fakes::golden;

use crate::{none, rust_files};

const LAST: u8 = 60;

/// Numbers that no test has, and what carries them instead.
const ELSEWHERE: [(u8, &str); 2] = [
    (
        51,
        "a gate that a person opens, with an expiry: steps wait for evidence here, and `promote` is a \
         command; what waits too long is told at its deadline",
    ),
    (
        53,
        "a window in which nothing goes forward: `rollout.state: Paused` is one that a person sets",
    ),
];

/// Numbers that are met in another way than their list has them, or in part, and why.
const OTHERWISE: [(u8, &str); 11] = [
    (9, "no finalizer: a channel that is deleted is not served, and its route goes with it"),
    (
        11,
        "a bound on customers instead of messages: a median of 6 at 10 %, as docs/judge.md has it",
    ),
    (16, "there is no state Inconclusive: the step waits, and says for how many messages"),
    (
        17,
        "the policy of a wait that is too long is to tell it: the weight stays until somebody acts",
    ),
    (
        27,
        "no quorum: the counts are in the store that all gateways share, so any of them tells all",
    ),
    (
        30,
        "the configured action is to hold; a gateway that nobody asks leaves a failing canary by itself",
    ),
    (
        47,
        "within a second of when the write is seen; a route is in force when each gateway says so",
    ),
    (49, "no condition WeightMismatch: Routed is False, NotAcknowledged, as long as they differ"),
    (54, "no alert of the operator's own: the Event and the metric are what an alert is made of"),
    (58, "no dry run: in mode Manual the verdict is told and a person moves the weight"),
    (59, "there is no sink: what may hang is the API for Events"),
];

/// What a file shows: number, name and sentence of each test.
struct Shown {
    number: u8,
    name: String,
    sentence: String,
}

#[test]
fn every_scenario_has_a_test_or_a_reason_and_stands_on_the_page() {
    let (shown, mut problems) = read(&rust_files());
    problems.extend(missing(&shown));
    none(&problems);
    golden::compare("docs/scenarios.md", &page(&shown));
}

#[test]
fn a_gap_and_a_test_without_its_sentence_are_found() {
    let file = |text: &str| vec![("a.rs".to_owned(), text.to_owned())];
    let good = "/// Scenario 07: it is\n/// refused.\n#[test]\nfn scenario_07_it() {";
    let (shown, problems) = read(&file(good));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((shown[0].number, shown[0].sentence.as_str()), (7, "it is refused."));
    for (text, wanted) in [
        ("fn scenario_07_it() {", "a.rs: scenario_07_it has no line `/// Scenario 07: …` above it"),
        (&good.replace("Scenario 07", "Scenario 08"), "a.rs: scenario_07_it has no line"),
        (&good.replace("fn scenario_07_it", "fn it"), "a.rs: Scenario 07 is said of no test"),
        (&good.replace("_07_", "_61_"), "a.rs: there is no scenario 61"),
    ] {
        let problems = read(&file(text)).1.join("\n");
        assert!(problems.contains(wanted), "{problems}");
    }
    let told = missing(&shown).join("\n");
    assert!(told.contains("no test shows scenario 08") && !told.contains("07"), "{told}");
    assert!(!told.contains("51"), "{told}");
}

fn read(files: &[(String, String)]) -> (Vec<Shown>, Vec<String>) {
    let (mut shown, mut problems) = (Vec::new(), Vec::new());
    for (path, text) in files.iter().filter(|(path, _)| !path.starts_with("tests/tests/tidy/")) {
        let mut said: Option<(u8, String)> = None;
        for line in text.lines().map(str::trim) {
            if let Some((number, begin)) = sentence(line) {
                said = Some((number, begin.to_owned()));
            } else if let Some(more) = line.strip_prefix("///") {
                if let Some((_, sentence)) = said.as_mut().filter(|(_, it)| !it.ends_with('.')) {
                    sentence.push_str(more);
                }
            } else if let Some((number, name)) = scenario(line) {
                match said.take().filter(|(of, _)| *of == number) {
                    _ if number == 0 || number > LAST => {
                        problems.push(format!("{path}: there is no scenario {number}"));
                    }
                    Some((_, sentence)) => shown.push(Shown { number, name, sentence }),
                    None => problems.push(format!(
                        "{path}: {name} has no line `/// Scenario {number:02}: …` above it"
                    )),
                }
            } else if !line.starts_with("#[")
                && let Some((number, _)) = said.take()
            {
                problems.push(format!("{path}: Scenario {number:02} is said of no test"));
            }
        }
    }
    (shown, problems)
}

/// `/// Scenario 07: what it says.`
fn sentence(line: &str) -> Option<(u8, &str)> {
    let (number, begin) = line.strip_prefix("/// Scenario ")?.split_once(": ")?;
    Some((number.parse().ok()?, begin))
}

/// `fn scenario_07_what_it_says(`
fn scenario(line: &str) -> Option<(u8, String)> {
    let name = line.trim_start_matches("async ").strip_prefix("fn ")?.split(['(', '<']).next()?;
    let number = name.strip_prefix("scenario_")?.get(..2)?.parse().ok()?;
    Some((number, name.to_owned()))
}

fn missing(shown: &[Shown]) -> Vec<String> {
    let has_test = |number: u8| shown.iter().any(|one| one.number == number);
    let why = |number: u8| ELSEWHERE.iter().any(|(of, _)| *of == number);
    let told = |number: u8| match (has_test(number), why(number)) {
        (false, false) => Some(format!("no test shows scenario {number:02}")),
        (true, true) => Some(format!("scenario {number:02} has tests, and a reason for none")),
        (true, false) | (false, true) => None,
    };
    (1..=LAST).filter_map(told).collect()
}

fn page(shown: &[Shown]) -> String {
    let mut page = "# Scenarios\n\n\
        Sixty scenarios that any controller of rollouts has to pass, and the tests that have their numbers.\n\
        Written by `make generated` from what the tests say of themselves. Do not edit it: \
        `tests/tests/tidy/scenarios.rs` has the rest.\n\n\
        | | what is shown | by |\n|---|---|---|\n"
        .to_owned();
    let mut rows: BTreeMap<(u8, &str), &str> = BTreeMap::new();
    rows.extend(shown.iter().map(|one| ((one.number, one.name.as_str()), one.sentence.as_str())));
    for ((number, name), sentence) in rows {
        page.push_str(&format!("| {number:02} | {sentence} | `{name}` |\n"));
    }
    let list = |title: &str, of: &[(u8, &str)]| {
        let lines = of.iter().map(|(number, why)| format!("- {number:02}: {why}.\n"));
        format!("\n## {title}\n\n{}", lines.collect::<String>())
    };
    page + &list("Met in another way, or in part", &OTHERWISE) + &list("Not here", &ELSEWHERE)
}
