//! Rows that have outlived their time, found in the file a few at a time.
//!
//! Takes the database, gives rows to delete: neighbours in the file, so that few of its pages change. No
//! step reads more than it names, and no verb waits for more than one step. Decides nothing: the machine
//! says what is over, and has forgotten it by itself.

use kanarie_queue::rows::{AGEING, Row, is_over};
use kanarie_words::Millis;
use kanarie_words::ids::SHARDS;
use redb::{Database, ReadableDatabase as _};

use crate::store::embedded::database::{self, ROWS};

/// Rows that a step looks at. Nine million are looked through in an hour.
const ROWS_A_STEP: usize = 256;
/// Kinds of rows that a step goes through, when there are few of each.
const SPANS_A_STEP: usize = 16;
/// Between two steps.
const EVERY_MS: u64 = 100;

/// Where the search stands.
#[derive(Default)]
pub(super) struct Ageing {
    span: usize,
    /// The last name that was looked at in that span.
    after: Option<String>,
    looked_at: Millis,
}

impl Ageing {
    /// Rows to delete, when it is time to look for some.
    pub(super) fn over(
        &mut self,
        database: &Database,
        now: Millis,
    ) -> Result<Vec<Row>, redb::Error> {
        // Also when the clock stepped back.
        if now.abs_diff(self.looked_at) < EVERY_MS {
            return Ok(Vec::new());
        }
        self.looked_at = now;
        let transaction = database.begin_read()?;
        let Some(table) = database::existing(transaction.open_table(ROWS))? else {
            return Ok(Vec::new());
        };
        let (mut over, mut left) = (Vec::new(), ROWS_A_STEP);
        for _ in 0..SPANS_A_STEP {
            let (from, to) = span(self.span);
            let from = self.after.take().unwrap_or(from);
            let mut last = None;
            for row in table.range(from.as_str()..to.as_str())?.take(left) {
                let (name, value) = row?;
                left -= 1;
                if is_over(name.value(), value.value(), now) {
                    over.push(Row { key: name.value().to_owned(), value: None });
                }
                last = Some(name.value().to_owned());
            }
            if left == 0 {
                // The next step begins behind it.
                self.after = last.map(|last| last + "\0");
                break;
            }
            self.span += 1;
        }
        Ok(over)
    }
}

/// The names of one kind in one shard; they follow each other for ever.
fn span(number: usize) -> (String, String) {
    let shard = number / AGEING.len() % usize::from(SHARDS);
    let kind = AGEING[number % AGEING.len()];
    (format!("{shard:02}:{kind}:"), format!("{shard:02}:{kind};"))
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn every_kind_of_every_shard_is_looked_through_in_turn() {
        assert_eq!(span(0), ("00:at:".to_owned(), "00:at;".to_owned()));
        assert_eq!(span(5), ("01:dd:".to_owned(), "01:dd;".to_owned()));
        assert_eq!(span(127).0, "31:rl:");
        assert_eq!(span(128), span(0));
    }
}
