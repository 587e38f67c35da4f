//! docs/words.md is the vocabulary: its words stand in the code, and the code uses no others for them.
//!
//! Takes the rows of the page and the public types of the product. Four things can fail. A word has
//! two rows. A row names a type, or a field of one, that is not in the file it names. A public type of the product uses a word
//! that the page says is never used. A public type of the crates that others share (`crds`, `words`, `metrics`,
//! `queue`, `rollout`) has none of the words in its name, is not what a row stands as, no verb of the
//! queue or its answer, no error, and not in `EVERYDAY` below. Never reads what a word means.

use std::collections::BTreeSet;

use crate::code::{Source, sources};
use crate::names::declared;
use crate::{PRODUCT, files, none};

/// Crates whose types several processes or files share.
const SHARED: [&str; 5] =
    ["crds/src", "crds/words/src", "crds/metrics/src", "gateway/queue/src", "operator/rollout/src"];

/// Types of those that need no word of the page, and why.
const EVERYDAY: [(&str, &[&str]); 9] = [
    (
        "parts of a manifest, named as users write them",
        &[
            "TwilioSpec",
            "WebhookSpec",
            "LimitsSpec",
            "RolloutSpec",
            "RolloutMode",
            "AnalysisSpec",
            "Registration",
            "LangGraphService",
            "HttpService",
            "SecretRef",
            "SigningKey",
            "OnFailure",
        ],
    ),
    (
        "parts of a status, named as users read them",
        &[
            "RolloutStatus",
            "AnalysisStatus",
            "GatewayStatus",
            "RollbackStatus",
            "CommandStatus",
            "HistoryEntry",
        ],
    ),
    ("words of Kubernetes", &["ConditionType", "ConditionStatus", "EventType"]),
    (
        "secrets, keys and ids of others",
        &[
            "Secrets",
            "Credentials",
            "ApiKey",
            "SharedKey",
            "SecretText",
            "StoreKey",
            "AccountSid",
            "DedupKey",
        ],
    ),
    ("what is wrong with a manifest or an id", &["Rule", "Problem", "InvalidId"]),
    (
        "times and sums",
        &[
            "Millis",
            "Timestamp",
            "Timer",
            "Count",
            "Counts",
            "Counters",
            "Counted",
            "Tally",
            "Sum",
            "Loads",
            "DeadSums",
            "Numbers",
        ],
    ),
    (
        "words of Prometheus, and what stands behind one",
        &[
            "Counter",
            "Gauge",
            "Timing",
            "CounterBy",
            "CounterBy2",
            "TimingBy",
            "TimingBy2",
            "CounterOfWords",
            "MetricsPage",
            "Label",
        ],
    ),
    (
        "what only the queue and its stores speak of",
        &[
            "Queue",
            "Row",
            "Loading",
            "Sending",
            "Memo",
            "Park",
            "Holder",
            "Nonce",
            "Epoch",
            "EpochDigest",
            "UrgentDigest",
        ],
    ),
    (
        "what only the rollout and whoever asks it speak of",
        &[
            "Case",
            "Finding",
            "Observation",
            "Mode",
            "Command",
            "CommandAnswer",
            "CommandResult",
            "StoreAnswer",
            "Remains",
            "Phase",
            "Promotion",
            "Rolling",
            "Stage",
            "Split",
            "Transition",
            "Why",
        ],
    ),
];

/// A row of the page.
struct Word {
    word: String,
    stands_as: String,
    file: String,
    never: Vec<String>,
}

#[test]
fn a_word_has_one_row() {
    none(&twice(&words(&page())));
}

#[test]
fn every_word_stands_as_the_type_that_the_page_names() {
    let types: Vec<Source> = PRODUCT.iter().flat_map(|folder| sources(folder)).collect();
    none(&lost(&words(&page()), &types));
}

#[test]
fn no_public_type_uses_a_word_that_is_never_used() {
    let never: BTreeSet<String> = words(&page()).into_iter().flat_map(|word| word.never).collect();
    let types = PRODUCT.iter().flat_map(|folder| sources(folder));
    let types: Vec<(String, String)> = types.flat_map(|source| types_of(&source)).collect();
    none(&forbidden(&never, &types));
}

#[test]
fn a_type_that_others_share_is_a_word_of_the_page_or_made_of_one() {
    let rows = words(&page());
    let stands: BTreeSet<&str> = rows.iter().map(|word| word.stands_as.as_str()).collect();
    let words: Vec<String> = rows.iter().map(|word| word.word.clone()).collect();
    let sources: Vec<Source> = SHARED.iter().flat_map(|folder| sources(folder)).collect();
    let mut problems = Vec::new();
    let mut everyday: BTreeSet<&str> =
        EVERYDAY.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let verbs = verbs(&sources);
    for (path, name) in sources.iter().flat_map(types_of) {
        let named = stands.contains(name.as_str()) || has_word(&name, &words);
        let said = named || verbs.contains(&name) || name.ends_with("Error");
        if !everyday.remove(name.as_str()) && !said {
            problems.push(format!("{path}: {name} is made of no word of docs/words.md"));
        }
    }
    problems.extend(everyday.iter().map(|name| format!("{name} is gone: take it off the list")));
    none(&problems);
}

#[test]
fn each_rule_of_words_can_fail() {
    let page = "| word | what | stands as | in | never |\n|---|---|---|---|---|\n\
                | dead letter | Gone. | `Route.serving` | `a.rs` | lock, big mutex |\n";
    let words = words(page);
    assert_eq!(twice(&words), Vec::<String>::new());
    let again = format!("{page}| dead letter | Again. | `Route` | `a.rs` | bin |\n");
    assert_eq!(twice(&self::words(&again)), ["dead letter has two rows"]);
    let code = "pub struct Route {\n    pub serving: u64,\n}\npub struct DeadLetters;\n".to_owned();
    let source = |path: &str| [Source { path: path.to_owned(), code: code.clone() }];
    assert_eq!(lost(&words, &source("a.rs")), Vec::<String>::new());
    assert_eq!(lost(&words, &source("b.rs")), ["dead letter: no `Route.serving` in a.rs"]);
    let never = words.iter().flat_map(|word| word.never.clone()).collect();
    let told = |name: &str| forbidden(&never, &[("a.rs".to_owned(), name.to_owned())]).len();
    assert_eq!(["Locks", "HeldLock", "BigMutex", "Block", "Mutex"].map(told), [1, 1, 1, 0, 0]);
    let names = ["DeadLetters", "DeadLetter", "DeadSum", "Deadletter"];
    let list = ["dead letter".to_owned()];
    assert_eq!(names.map(|name| has_word(name, &list)), [true, true, false, false]);
}

fn page() -> String {
    let page = files("docs").into_iter().find(|(path, _)| path == "docs/words.md");
    page.map(|(_, text)| text).unwrap_or_default()
}

fn words(page: &str) -> Vec<Word> {
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [word, _, stands_as, file, never] = cells[..] else { return None };
        Some(Word {
            word: word.to_owned(),
            stands_as: stands_as.trim_matches('`').to_owned(),
            file: file.trim_matches('`').to_owned(),
            never: never.split(", ").map(str::to_owned).collect(),
        })
    })
    .collect()
}

/// Words with more than one row.
fn twice(words: &[Word]) -> Vec<String> {
    let mut met = BTreeSet::new();
    let again = words.iter().filter(|word| !met.insert(word.word.as_str()));
    again.map(|word| format!("{} has two rows", word.word)).collect()
}

/// Words whose type, or the field of whose type, is not where the page says.
fn lost(words: &[Word], sources: &[Source]) -> Vec<String> {
    let stands = |word: &Word| {
        let (name, field) = word.stands_as.split_once('.').unwrap_or((&word.stands_as, ""));
        let here = sources.iter().filter(|source| source.path == word.file);
        here.into_iter().any(|source| {
            types_of(source).iter().any(|(_, found)| found == name)
                && (field.is_empty() || source.code.contains(&format!("pub {field}: ")))
        })
    };
    let lost = words.iter().filter(|word| !stands(word));
    lost.map(|word| format!("{}: no `{}` in {}", word.word, word.stands_as, word.file)).collect()
}

/// Types (file and name) with a word that is never used.
fn forbidden(never: &BTreeSet<String>, types: &[(String, String)]) -> Vec<String> {
    let used = |name: &str| {
        never
            .iter()
            .filter(|word| has_word(name, std::slice::from_ref(*word)))
            .cloned()
            .collect::<Vec<_>>()
    };
    let told = |(path, name): &(String, String)| {
        used(name).into_iter().map(|word| format!("{path}: {name} says {word}")).collect::<Vec<_>>()
    };
    types.iter().flat_map(told).collect()
}

/// The public types of a file, those that a macro of ids declares among them.
fn types_of(source: &Source) -> Vec<(String, String)> {
    let id = |line: &str| {
        let name = line.split_once(", \"").map(|(name, _)| name.to_owned())?;
        let is_name =
            name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
        is_name.then_some(name)
    };
    let lines = source.code.lines().map(str::trim_start);
    lines
        .filter_map(|line| declared(line).or_else(|| id(line)))
        .filter(|name| !name.is_empty())
        .map(|name| (source.path.clone(), name))
        .collect()
}

/// The verbs of the queue and their answers.
fn verbs(sources: &[Source]) -> BTreeSet<String> {
    let lines = sources.iter().flat_map(|source| source.code.lines()).map(str::trim);
    let mut found = BTreeSet::new();
    for line in lines {
        let verb = line.strip_prefix("impl Verb for ");
        let answer = line.strip_prefix("type Answer = ");
        for name in verb.into_iter().chain(answer) {
            let parts = name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
            found.extend(parts.map(str::to_owned));
        }
    }
    found
}

/// Whether a name is one of the words or a compound of one, in its plural or as what was done too.
fn has_word(name: &str, words: &[String]) -> bool {
    let mut parts: Vec<String> = Vec::new();
    for c in name.chars() {
        match parts.last_mut() {
            Some(part) if !c.is_uppercase() => part.push(c),
            _ => parts.push(c.to_lowercase().collect()),
        }
    }
    let is = |part: &str, word: &str| {
        part.strip_prefix(word).is_some_and(|rest| matches!(rest, "" | "s" | "d" | "ed" | "ment"))
    };
    words.iter().any(|word| {
        let word: Vec<&str> = word.split(' ').collect();
        parts.windows(word.len()).any(|found| found.iter().zip(&word).all(|(part, w)| is(part, w)))
    })
}
