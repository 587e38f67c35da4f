//! A walk over the dead letters of all shards, in steps that no shard feels.
//!
//! Takes where it begins and what is wanted; gives letters, a page of one shard at a time, and a cursor
//! from which another request goes on. What is buried in a shard after the walk came there is not met:
//! a letter that is replayed and fails again is not replayed twice.

use std::fmt;

use kanarie_queue::letters::{DeadLetterFilter, DeadLetterRead, ReadLetters};
use kanarie_words::ids::SHARDS;

use crate::store::SharedStore;
use crate::store::error::StoreError;

/// Stands for an end that is not known yet: no letter has this number.
const UNKNOWN: u64 = 999_999_999_999;

/// Where a walk stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    shard: u8,
    /// The number of the last letter that was met there.
    after: u64,
    /// The last one that will be, once the walk has come there.
    until: Option<u64>,
}

impl Cursor {
    /// Parses what [`fmt::Display`] wrote; anything else is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = || -> Option<u64> {
            let part = parts.next()?;
            let is_number = part.len() <= 12 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| is_number)
        };
        let (shard, after, until) = (number()?, number()?, number()?);
        let shard = u8::try_from(shard).ok().filter(|shard| *shard < SHARDS)?;
        let until = Some(until).filter(|until| *until != UNKNOWN);
        parts.next().is_none().then_some(Self { shard, after, until })
    }

    /// Whether every shard was looked through.
    pub(super) fn is_at_end(&self) -> bool {
        self.shard >= SHARDS
    }

    /// From where another request goes on; none at the end.
    pub(super) fn next(&self) -> Option<String> {
        (!self.is_at_end()).then(|| self.to_string())
    }

    /// The next letters, so many at most, all of one shard; maybe none although others follow.
    pub(super) async fn step(
        &mut self,
        store: &SharedStore,
        wanted: &DeadLetterFilter,
        limit: usize,
    ) -> Result<Vec<DeadLetterRead>, StoreError> {
        let Self { shard, after, until } = *self;
        let wanted = wanted.clone();
        let read = ReadLetters { shard, after, until, wanted, limit, with_text: false };
        let read = store.run(read).await?;
        *self = match read.next {
            Some(after) => Self { shard, after, until: until.or(Some(read.last)) },
            None => Self { shard: shard + 1, after: 0, until: None },
        };
        Ok(read.letters)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until.unwrap_or(UNKNOWN);
        write!(f, "{}.{}.{until}", self.shard, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        for until in [Some(9), None] {
            let cursor = Cursor { shard: 31, after: 7, until };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in
            ["", "1", "1.2", "32.1.1", "1.2.3.4", "-1.2.3", "1.+2.3", "1.2.", "1.2.1234567890123"]
        {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
