//! The file is made shorter when most of it is free, as after a backlog.
//!
//! Takes the open database, gives it back over a file about as long as its rows need. The database moves
//! pages in transactions of its own, each as durable as any other: whatever ends that leaves every row
//! where it is. No verb is answered meanwhile, so while somebody may wait it begins only when the rows
//! are so few that it takes part of a second. A disk without room for it means "not now"; a disk that
//! failed is a failed disk. Never changes a row.

use kanarie_words::Millis;
use tokio::time::Instant;

use crate::events::emit;
use crate::events::store::StoreEvent;
use crate::store::embedded::database::{self, Opened, Source};
use crate::store::embedded::open_error::EmbeddedOpenError;

/// A shorter file is left as it is.
const LEAST: u64 = 16 << 20;
/// A file is mostly free when it is so many times as long as its rows: pages may be two thirds empty,
/// and a file that has no page left becomes twice as long.
const TIMES: u64 = 8;
/// Bytes of rows that are moved while somebody may wait: 0.6 s of a processor.
const MOST: u64 = 16 << 20;
/// Bytes of rows that are moved at the start: ten seconds, and a list of their pages in memory.
const MOST_AT_THE_START: u64 = 256 << 20;
/// Between two tries.
const EVERY_MS: u64 = 3_600_000;

/// When it was last tried.
#[derive(Default)]
pub(super) struct Compaction {
    tried_at: Option<Millis>,
}

impl Compaction {
    /// Makes the file shorter, if that is worth it, before any verb is taken.
    pub(super) fn at_the_start(
        &mut self,
        opened: Opened,
        source: &Source,
        now: Millis,
    ) -> Result<Opened, EmbeddedOpenError> {
        self.run(opened, source, MOST_AT_THE_START, now)
    }

    /// Makes the file shorter, if that is worth it, while verbs may come.
    pub(super) fn between_verbs(
        &mut self,
        opened: Opened,
        source: &Source,
        now: Millis,
    ) -> Result<Opened, EmbeddedOpenError> {
        self.run(opened, source, MOST, now)
    }

    fn run(
        &mut self,
        opened: Opened,
        source: &Source,
        most: u64,
        now: Millis,
    ) -> Result<Opened, EmbeddedOpenError> {
        // Also when the clock stepped back.
        let is_time = self.tried_at.is_none_or(|at| now.abs_diff(at) >= EVERY_MS);
        let (file, rows) = (source.opener.length.bytes(), opened.bytes);
        if !is_time || rows > most || file < LEAST.max(rows * TIMES) {
            return Ok(opened);
        }
        self.tried_at = Some(now);
        source.opening.compacting();
        compacted(opened, source)
    }
}

fn compacted(opened: Opened, source: &Source) -> Result<Opened, EmbeddedOpenError> {
    let Opened { mut database, queue, bytes } = opened;
    let (from, began) = (source.opener.length.bytes(), Instant::now());
    let done = database::guarded(|| database.compact().map_err(redb::Error::from));
    let error = match done {
        Ok(Ok(_)) => {
            let to = source.opener.length.bytes();
            emit(StoreEvent::Compacted { from, to, took: began.elapsed() });
            return Ok(Opened { database, queue, bytes });
        }
        Ok(Err(error)) if database::is_disk_failure(&error) => {
            let _ = database::guarded(move || drop(database));
            return Err(EmbeddedOpenError::Database(error));
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    emit(StoreEvent::NotCompacted { error });
    // After an error it answers nothing more. Its rows are what they were, and so is the machine.
    let _ = database::guarded(move || drop(database));
    let database = database::guarded(|| source.opener.database())
        .unwrap_or_else(|panic| Err(EmbeddedOpenError::Panicked(panic)))?;
    Ok(Opened { database, queue, bytes })
}
