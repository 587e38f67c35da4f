//! What the demo shows: titles, steps, a conversation, one live line.
//!
//! Takes words; writes them to standard output, with colours and a rewritten line only on a
//! terminal. Decides nothing.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

/// Where the demo writes to.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    begun: Instant,
    live: RefCell<Option<(String, Instant)>>,
}

impl Screen {
    /// Standard output; colours only if it is a terminal.
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, begun: Instant::now(), live: RefCell::new(None) }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// A new part of the story.
    pub fn title(&self, text: &str) {
        self.line("");
        self.line(&self.paint("1;33", text));
    }

    /// Something begins.
    pub fn step(&self, text: &str) {
        self.line(&format!("  {} {text}", self.paint("2", &format!("{:3} s", self.seconds()))));
    }

    /// Something is done.
    pub fn done(&self, text: &str) {
        self.step(&format!("{} {text}", self.paint("32", "✓")));
    }

    /// A customer's words.
    pub fn customer(&self, text: &str) {
        self.step(&format!("👤 {text}"));
    }

    /// The reply to a customer.
    pub fn reply(&self, text: &str) {
        self.step(&format!("   {}", self.paint("36", &format!("🐤 {text}"))));
    }

    /// Output of a command.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("      {}", self.paint("2", line)));
        }
    }

    /// Whether something held.
    pub fn check(&self, text: &str, held: bool) {
        let mark = if held { self.paint("32", "✓") } else { self.paint("31", "✗ not so:") };
        self.line(&format!("  {mark} {text}"));
    }

    /// What went wrong.
    pub fn problem(&self, text: &str) {
        self.live_end();
        self.line(&format!("{} {text}", self.paint("31", "The story ends early:")));
    }

    /// The present state: rewritten in place on a terminal; elsewhere a line when `head` changes
    /// and every two seconds.
    pub fn live(&self, head: &str, rest: &str) {
        let mut live = self.live.borrow_mut();
        let line = format!("  {:3} s {}  {rest}", self.seconds(), self.paint("1", head));
        if self.terminal {
            let _ = write!(io::stdout(), "\r\x1b[K{}", cut(&line, 150));
            let _ = io::stdout().flush();
            *live = Some((head.to_owned(), Instant::now()));
            return;
        }
        let due = live
            .as_ref()
            .is_none_or(|(last, at)| last != head || at.elapsed() >= Duration::from_secs(2));
        if due {
            self.line(&line);
            *live = Some((head.to_owned(), Instant::now()));
        }
    }

    /// The live line is over.
    pub fn live_end(&self) {
        if self.live.borrow_mut().take().is_some() && self.terminal {
            self.line("");
        }
    }

    fn line(&self, text: &str) {
        // Nobody listens any more: the story goes on, its exit code counts.
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

fn cut(line: &str, characters: usize) -> String {
    line.chars().take(characters).collect()
}
