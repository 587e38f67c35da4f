//! `kanarie-gateway dead-letters`: messages that could not be answered, listed, shown, sent again, erased.
//!
//! Takes ids or a filter, asks the admin port of a running gateway, prints a table or JSON. Many letters are
//! asked for in as many requests as the port wants. Prints what a customer wrote only for `show
//! --text`.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;

use crate::admin::letters::PATH;
use crate::admin::told::{EraseReport, LettersPage, ReplayReport, ToldLetter};
use crate::clock::system_clock;
use crate::commands::control_port::{ControlPort, Output, PortFlags, print_json};
use crate::config::Flags;

/// What to do with dead letters.
#[derive(Args, Debug)]
pub struct DeadLettersCommand {
    /// Which of the four
    #[command(subcommand)]
    pub act: LettersAct,
}

/// What can be done with dead letters.
#[derive(Subcommand, Debug)]
pub enum LettersAct {
    /// List them, by shard and in each the oldest first
    List(ListLetters),
    /// Show one of them
    Show(ShowLetter),
    /// Send them again: each waits behind all that waits in its conversation
    Replay(SomeLetters),
    /// Erase them
    Erase(SomeLetters),
}

/// Which letters.
#[derive(Args, Clone, Debug, Default)]
pub struct LetterFilter {
    /// Those of one channel: NAMESPACE/NAME or its UID
    #[arg(long)]
    pub channel: Option<String>,
    /// Those that ended for one reason: http, timeout, permanent, …
    #[arg(long)]
    pub class: Option<String>,
    /// Those of one conversation, by the 32 digits that `show` prints
    #[arg(long, value_name = "DIGITS")]
    pub conversation: Option<String>,
}

/// Lists letters.
#[derive(Args, Debug)]
pub struct ListLetters {
    /// Which ones.
    #[command(flatten)]
    pub filter: LetterFilter,
    /// How many at most, 1 to 1000
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Where to go on, as an earlier list said
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Where it asks.
    #[command(flatten)]
    pub port: PortFlags,
}

/// Shows one letter.
#[derive(Args, Debug)]
pub struct ShowLetter {
    /// Its id, as the list has it
    pub id: String,
    /// With what the customer wrote, and who that is; the gateway logs that it was read
    #[arg(long)]
    pub text: bool,
    /// Where it asks.
    #[command(flatten)]
    pub port: PortFlags,
}

/// Some letters, by id or by filter.
#[derive(Args, Debug)]
pub struct SomeLetters {
    /// Their ids, as the list has them
    #[arg(
        required_unless_present_any = ["channel", "class", "conversation", "all"],
        conflicts_with_all = ["channel", "class", "conversation", "all"]
    )]
    pub ids: Vec<String>,
    /// Which ones.
    #[command(flatten)]
    pub filter: LetterFilter,
    /// All there are
    #[arg(long, conflicts_with_all = ["channel", "class", "conversation"])]
    pub all: bool,
    /// Where it asks.
    #[command(flatten)]
    pub port: PortFlags,
}

/// Does what is asked.
///
/// # Errors
/// When the admin port does not answer, or does not do it.
pub async fn run(command: &DeadLettersCommand, flags: &Flags) -> anyhow::Result<()> {
    match &command.act {
        LettersAct::List(list) => print_list(list, flags).await,
        LettersAct::Show(show) => print_one(show, flags).await,
        LettersAct::Replay(some) => replay(some, flags).await,
        LettersAct::Erase(some) => erase(some, flags).await,
    }
}

async fn print_list(list: &ListLetters, flags: &Flags) -> anyhow::Result<()> {
    let port = ControlPort::open(&list.port, flags)?;
    let limit = list.limit as usize;
    let mut page = LettersPage { next: list.after.clone(), ..LettersPage::default() };
    // A page may come early and be short: many others may lie between those that are wanted.
    loop {
        let mut query = list.filter.query();
        query.push(("limit", (limit - page.dead_letters.len()).to_string()));
        query.extend(page.next.take().map(|next| ("after", next)));
        let more: LettersPage = port.ask(Method::GET, PATH, &query).await?;
        page.dead_letters.extend(more.dead_letters);
        page.next = more.next;
        if page.next.is_none() || page.dead_letters.len() >= limit {
            break;
        }
    }
    if list.port.output == Output::Json {
        return print_json(&page);
    }
    print_table(&page.dead_letters);
    if let Some(next) = &page.next {
        println!("There may be more: --after {next}");
    }
    Ok(())
}

async fn print_one(show: &ShowLetter, flags: &Flags) -> anyhow::Result<()> {
    let port = ControlPort::open(&show.port, flags)?;
    let query: Vec<_> = show.text.then(|| ("text", true.to_string())).into_iter().collect();
    let letter: ToldLetter = port.ask(Method::GET, &one(&show.id, ""), &query).await?;
    if show.port.output == Output::Json {
        return print_json(&letter);
    }
    let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("id", letter.id.clone()),
        ("channel", format!("{} ({})", of(&letter.channel), letter.channel_uid)),
        ("class", letter.class.clone()),
        ("message", of(&letter.message_sid)),
        (
            "conversation",
            letter.conversation_id.as_ref().map_or_else(String::new, |id| id.to_string()),
        ),
        (
            "admitted",
            letter.admitted_at_ms.map_or_else(String::new, |at| format!("{} ago", age(at))),
        ),
        ("ended", format!("{} ago", age(letter.ended_at_ms))),
        (
            "text",
            letter.bytes.map_or_else(|| "gone".to_owned(), |bytes| format!("{bytes} bytes kept")),
        ),
    ];
    lines.iter().for_each(|(name, value)| println!("{name:<14}{value}"));
    letter.message.iter().for_each(|message| println!("{message:#}"));
    Ok(())
}

async fn replay(some: &SomeLetters, flags: &Flags) -> anyhow::Result<()> {
    let port = ControlPort::open(&some.port, flags)?;
    let mut sum = ReplayReport::default();
    let mut failed = 0;
    for id in &some.ids {
        match port.ask::<ReplayReport>(Method::POST, &one(id, "/replay"), &[]).await {
            Ok(report) => add(&mut sum, report),
            Err(error) => failed += tell(&error),
        }
    }
    let mut after = some.ids.is_empty().then(|| some.query());
    while let Some(query) = after {
        let path = format!("{PATH}/replay");
        let mut report: ReplayReport = port.ask(Method::POST, &path, &query).await?;
        after = report.next.take().map(|next| some.query_after(next));
        add(&mut sum, report);
    }
    match some.port.output {
        Output::Json => print_json(&sum)?,
        Output::Table => print_replayed(&sum),
    }
    all_well(failed, some)
}

async fn erase(some: &SomeLetters, flags: &Flags) -> anyhow::Result<()> {
    let port = ControlPort::open(&some.port, flags)?;
    let mut sum = EraseReport::default();
    let mut failed = 0;
    for id in &some.ids {
        match port.ask::<EraseReport>(Method::DELETE, &one(id, ""), &[]).await {
            Ok(report) => sum.erased += report.erased,
            Err(error) => failed += tell(&error),
        }
    }
    let mut after = some.ids.is_empty().then(|| some.query());
    while let Some(query) = after {
        let report: EraseReport = port.ask(Method::DELETE, PATH, &query).await?;
        sum.erased += report.erased;
        after = report.next.map(|next| some.query_after(next));
    }
    match some.port.output {
        Output::Json => print_json(&sum)?,
        Output::Table => println!("{} erased.", sum.erased),
    }
    all_well(failed, some)
}

impl LetterFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let filters = [
            ("channel", &self.channel),
            ("class", &self.class),
            ("conversation", &self.conversation),
        ];
        let set = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        set.collect()
    }
}

impl SomeLetters {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = self.filter.query();
        query.extend(self.all.then(|| ("all", true.to_string())));
        query
    }

    fn query_after(&self, next: String) -> Vec<(&'static str, String)> {
        let mut query = self.query();
        query.push(("after", next));
        query
    }
}

/// The path of a letter. What is no id stays within its segment.
fn one(id: &str, act: &str) -> String {
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{PATH}/{id}{act}")
}

fn add(sum: &mut ReplayReport, report: ReplayReport) {
    sum.replayed += report.replayed;
    sum.already_waiting += report.already_waiting;
    for (why, count) in report.left {
        *sum.left.entry(why).or_default() += count;
    }
}

/// Tells why one letter failed; the others go on.
fn tell(error: &anyhow::Error) -> usize {
    eprintln!("kanarie-gateway: {error:#}");
    1
}

fn all_well(failed: usize, some: &SomeLetters) -> anyhow::Result<()> {
    if failed > 0 {
        bail!("{failed} of {} failed", some.ids.len());
    }
    Ok(())
}

fn print_replayed(sum: &ReplayReport) {
    println!("{} wait again.", sum.replayed);
    if sum.already_waiting > 0 {
        println!("{} were waiting already: their letters are gone.", sum.already_waiting);
    }
    let reasons = BTreeMap::from([
        ("full", "their conversation, channel or queue is full: try again later"),
        ("no-text", "their text is gone after 24 hours"),
        ("no-channel", "no channel has a route for their sender"),
        ("maybe-sent", "their replies may have arrived: name --class unknown to send them again"),
    ]);
    for (why, count) in &sum.left {
        println!("{count} stay: {}.", reasons.get(why.as_str()).unwrap_or(&why.as_str()));
    }
}

fn print_table(letters: &[ToldLetter]) {
    let head = ["ID", "CHANNEL", "CLASS", "ENDED", "TEXT", "MESSAGE", "CONVERSATION"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        [
            letter.id.clone(),
            letter.channel.clone().unwrap_or_else(|| letter.channel_uid.to_string()),
            letter.class.clone(),
            format!("{} ago", age(letter.ended_at_ms)),
            letter.bytes.map_or_else(|| "gone".to_owned(), |bytes| format!("{bytes} B")),
            of(&letter.message_sid),
            of(&letter.conversation),
        ]
    }));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// How long ago a time was, in its greatest unit. The store's clock may be ahead of ours.
fn age(at_ms: u64) -> String {
    let seconds = system_clock()().saturating_sub(at_ms) / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
