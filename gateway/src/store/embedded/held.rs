//! Rows that the file may be a second behind with: the time of a shard, and whose turn it is there.
//!
//! Takes the rows that changed; gives those to write now. What a message depends on is never held back.
//! What is held is lost with the process: then time and turns are those of a second before.

use std::collections::BTreeMap;

use kanarie_queue::rows::Row;
use kanarie_words::Millis;

/// How far the file may be behind.
const BEHIND_MS: u64 = 1_000;

/// What is not written yet.
#[derive(Default)]
pub(super) struct Held {
    rows: BTreeMap<String, Option<Vec<u8>>>,
    /// When such rows were last written.
    written_at: Millis,
}

impl Held {
    /// The rows to write now, of those that changed and of those that are held: the latter go once a
    /// second, with others, and cost no commit of their own.
    pub(super) fn due(&mut self, changed: Vec<Row>, now: Millis) -> Vec<Row> {
        let (late, mut due): (Vec<Row>, Vec<Row>) =
            changed.into_iter().partition(|row| may_wait(&row.key));
        self.rows.extend(late.into_iter().map(|row| (row.key, row.value)));
        // Also when the clock stepped back.
        if !due.is_empty() && now.abs_diff(self.written_at) >= BEHIND_MS {
            self.written_at = now;
            due.extend(self.all());
        }
        due
    }

    /// All that is held.
    pub(super) fn all(&mut self) -> Vec<Row> {
        let rows = std::mem::take(&mut self.rows).into_iter();
        rows.map(|(key, value)| Row { key, value }).collect()
    }
}

/// `<SS>:meta` and `<SS>:vt:<channel>`.
fn may_wait(key: &str) -> bool {
    let (_, name) = key.split_once(':').unwrap_or_default();
    name == "meta" || name.starts_with("vt:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[&str]) -> Vec<Row> {
        keys.iter().map(|key| Row { key: (*key).to_owned(), value: Some(vec![1]) }).collect()
    }

    fn keys(rows: Vec<Row>) -> Vec<String> {
        rows.into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn time_and_turns_are_written_once_a_second_and_with_others() {
        let mut held = Held::default();
        let first = held.due(rows(&["00:conv:a", "00:meta", "00:vt:shop"]), 5_000);
        assert_eq!(keys(first), ["00:conv:a", "00:meta", "00:vt:shop"]);
        let within = held.due(rows(&["00:conv:a", "00:meta", "01:meta"]), 5_999);
        assert_eq!(keys(within), ["00:conv:a"]);
        assert_eq!(keys(held.due(rows(&["00:meta"]), 6_000)), Vec::<String>::new());
        let after = held.due(rows(&["01:int:a"]), 6_000);
        assert_eq!(keys(after), ["01:int:a", "00:meta", "01:meta"]);
        assert_eq!(keys(held.all()), Vec::<String>::new());
    }

    #[test]
    fn nothing_else_waits() {
        let mut held = Held::default();
        held.due(rows(&["00:conv:a"]), 5_000);
        let all = ["key", "00:conv:meta", "00:msg:a:0", "00:dl:1", "00:dd:SM1"];
        assert_eq!(keys(held.due(rows(&all), 5_001)), all);
    }

    #[test]
    fn what_changed_twice_is_written_as_it_is_now() {
        let mut held = Held::default();
        held.due(rows(&["00:conv:a"]), 5_000);
        held.due(vec![Row { key: "00:meta".to_owned(), value: Some(vec![7]) }], 5_100);
        held.due(vec![Row { key: "00:meta".to_owned(), value: Some(vec![8]) }], 5_200);
        let values: Vec<_> = held.all().into_iter().map(|row| row.value).collect();
        assert_eq!(values, [Some(vec![8])]);
    }

    #[test]
    fn a_clock_that_stepped_back_holds_nothing_back_for_long() {
        let mut held = Held::default();
        held.due(rows(&["00:conv:a"]), 900_000);
        assert_eq!(keys(held.due(rows(&["00:conv:a", "00:meta"]), 5_000)).len(), 2);
    }
}
