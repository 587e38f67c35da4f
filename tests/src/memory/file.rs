//! Files of the embedded store with many rows, as the gateway would have written them.
//!
//! Takes counts, writes rows through the database; those of messages are made by the machine itself. All
//! are of the account that [`crate::memory::account`] gives.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use kanarie_queue::admit::Admit;
use kanarie_queue::queue::Queue;
use kanarie_words::ids::{ConversationId, Epoch, StoreKey};
use redb::{Database, TableDefinition};
use sha2::{Digest as _, Sha256};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const SCHEMA: TableDefinition<'_, &str, u64> = TableDefinition::new("schema");
const DAY: u64 = 86_400_000;
/// Rows of a transaction.
const BATCH: u64 = 250_000;

/// Adds SIDs with these numbers, admitted one after another within the last twenty hours.
///
/// # Errors
/// The file cannot be written.
pub fn write_sids(directory: &Path, numbers: Range<u64>) -> Result<()> {
    let (database, now) = (open(directory)?, now()?);
    let mut from = numbers.start;
    while from < numbers.end {
        let to = numbers.end.min(from + BATCH);
        let mut rows: Vec<(String, String)> =
            (from..to).map(|number| sid_row(number, now)).collect();
        // As neighbours they fill the pages of the file.
        rows.sort_unstable();
        insert(&database, &rows)?;
        from = to;
    }
    Ok(database.close()?)
}

/// Adds SIDs that were admitted so many seconds ago, in every shard: whoever writes with one meets it.
///
/// # Errors
/// The file cannot be written.
pub fn write_known<'a>(
    directory: &Path,
    sids: impl Iterator<Item = &'a str>,
    age_seconds: u64,
) -> Result<()> {
    let (database, until) = (open(directory)?, now()? + DAY - age_seconds * 1_000);
    let everywhere = sids.flat_map(|sid| (0..32).map(move |shard| row_name(shard, sid)));
    let rows: Vec<_> = everywhere.map(|name| (name, until.to_string())).collect();
    insert(&database, &rows)?;
    Ok(database.close()?)
}

fn insert(database: &Database, rows: &[(String, String)]) -> Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ROWS)?;
        for (name, until) in rows {
            table.insert(name.as_str(), until.as_bytes())?;
        }
    }
    Ok(transaction.commit()?)
}

fn sid_row(number: u64, now: u64) -> (String, String) {
    let age = (number % 72_000) * 1_000;
    (row_name(number % 32, &format!("SM{}", digits(number))), (now + DAY - age).to_string())
}

fn row_name(shard: u64, sid: &str) -> String {
    format!("{shard:02}:dd:AC{:032x}:{sid}", 1)
}

/// Adds messages that wait, each of a customer of its own, a third of a kilobyte long.
///
/// # Errors
/// The file cannot be written.
pub fn write_waiting(directory: &Path, count: u64) -> Result<()> {
    let (database, now) = (open(directory)?, now()?);
    let mut queue = Queue::load([])?;
    let epochs = (0..32).filter_map(|shard| Epoch::parse(&format!("epoch-{shard}")).ok());
    queue.start(StoreKey::from_bytes([7; 32]), epochs);
    for number in 0..count {
        queue.run(now, message(number)?);
        if number % BATCH == BATCH - 1 || number == count - 1 {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ROWS)?;
                for row in queue.take_changes() {
                    let value = row.value.unwrap_or_default();
                    table.insert(row.key.as_str(), value.as_slice())?;
                }
            }
            transaction.commit()?;
        }
    }
    Ok(database.close()?)
}

fn message(number: u64) -> Result<Admit> {
    let hash = Sha256::digest(number.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    Ok(Admit {
        channel: "6f1c2a9e-0f00-4000-8000-0000000000a1".parse()?,
        // None of those that `write_sids` writes.
        dedup_key: format!("AC{:032x}:SM{}", 1, digits(u64::MAX - number)).parse()?,
        conversation: ConversationId::from_bytes(id),
        envelope: "x".repeat(340),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: DAY,
        lease: None,
    })
}

/// The digits of a SID, as random as Twilio's.
fn digits(number: u64) -> String {
    let hash = Sha256::digest(number.to_le_bytes());
    hash[..16].iter().fold(String::new(), |mut digits, byte| {
        // Writing to memory does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The database in a directory, with a version like the gateway's.
fn open(directory: &Path) -> Result<Database> {
    std::fs::create_dir_all(directory)?;
    let database = Database::create(directory.join("queue.redb"))?;
    let transaction = database.begin_write()?;
    transaction.open_table(SCHEMA)?.insert("version", 3)?;
    transaction.commit()?;
    Ok(database)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gateway reads these times by the system's clock"
)]
fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}
