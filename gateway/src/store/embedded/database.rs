//! The rows of the machine on disk: one table of an embedded database.
//!
//! Takes a directory or storage; gives the machine that wrote the rows in it, writes changed rows in one
//! durable transaction, and knows how many bytes all rows are. Refuses a directory that is in use, rows
//! that make no sense and rows of a newer version. Never panics: the database's own panics become errors
//! here.

use std::fs::{File, OpenOptions, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use kanarie_queue::load::Loading;
use kanarie_queue::queue::Queue;
use kanarie_queue::rows::Row;
use kanarie_words::ids::{Epoch, SHARDS, StoreKey};
use kanarie_words::{Millis, hex};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTableMetadata as _, StorageBackend,
    TableDefinition,
};

use crate::store::embedded::disk::{Disk, Length};
use crate::store::embedded::open_error::EmbeddedOpenError;
use crate::store::embedded::opening::Opening;
use crate::store::error::StoreError;

/// The rows, as `docs/queue.md` describes them.
pub(super) const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// One entry: the version of the rows.
const SCHEMA: TableDefinition<'_, &str, u64> = TableDefinition::new("schema");

/// The version of the rows that is written. Those before are read, and rewritten at the first start.
const VERSION: u64 = 3;

/// Rows are read once, at the start, so the database needs little memory for pages.
const CACHE_BYTES: usize = 16 << 20;

/// Rows that are read before it is said how far that is, and looked whether anybody waits for it.
const ROWS_BETWEEN_LOOKS: u64 = 1024;

/// Opens the database, again after each failure.
pub(super) struct Opener {
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    /// Of its file.
    pub(super) length: Length,
}

/// Random values for a store that has none yet.
#[derive(Clone)]
pub(super) struct Seed {
    key: StoreKey,
    epochs: Vec<Epoch>,
}

impl Seed {
    /// Takes 32 bytes for the key, then eight for each shard's epoch.
    pub(super) fn from_random(random: &[u8; 32 + 32 * 8]) -> Self {
        let (key, epochs) = random.split_at(32);
        let mut of = [0; 32];
        of.copy_from_slice(key);
        let epoch = |bytes| Epoch::parse(&hex::encode(bytes)).ok();
        Self { key: StoreKey::from_bytes(of), epochs: epochs.chunks(8).filter_map(epoch).collect() }
    }
}

/// A database in a directory, which nobody else can open as long as the opener lives.
pub(super) fn in_directory(
    directory: &Path,
    opening: &Arc<Opening>,
) -> Result<Opener, EmbeddedOpenError> {
    let unusable =
        |source| EmbeddedOpenError::Directory { directory: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let lock = File::create(directory.join("lock")).map_err(unusable)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => EmbeddedOpenError::InUse,
        TryLockError::Error(source) => unusable(source),
    })?;
    let (directory, opening) = (directory.to_owned(), Arc::clone(opening));
    Ok(Opener::new(move |length| {
        let _held = &lock;
        let file = directory.join("queue.redb");
        if !file.try_exists()? {
            create(&directory, &file)?;
        }
        let (mut builder, opening) = (builder(), Arc::clone(&opening));
        builder.set_repair_callback(move |repair| {
            opening.checking(repair.progress());
            if opening.is_stopped() {
                repair.abort();
            }
        });
        let file = OpenOptions::new().read(true).write(true).open(&file)?;
        // The database would begin anew in an empty file; ours are never made empty.
        if file.metadata()?.len() == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidData).into());
        }
        builder.create_with_backend(Disk::new(FileBackend::new(file)?, length))
    }))
}

/// Makes the file under another name first: a loss of power on the way leaves no half-made one.
fn create(directory: &Path, file: &Path) -> Result<(), DatabaseError> {
    let unfinished = directory.join("queue.redb.new");
    if unfinished.try_exists()? {
        std::fs::remove_file(&unfinished)?;
    }
    builder().create(&unfinished)?.close()?;
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    // A file whose name is not durable is no durable file.
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// A database over storage of the caller.
pub(super) fn over<B: StorageBackend>(storage: impl Fn() -> B + Send + 'static) -> Opener {
    Opener::new(move |length| builder().create_with_backend(Disk::new(storage(), length)))
}

impl Opener {
    fn new(open: impl Fn(&Length) -> Result<Database, DatabaseError> + Send + 'static) -> Self {
        let length = Length::default();
        let of = length.clone();
        Self { open: Box::new(move || open(&of)), length }
    }

    /// The database, when nobody else has it open and its file is sound.
    pub(super) fn database(&self) -> Result<Database, EmbeddedOpenError> {
        (self.open)().map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => EmbeddedOpenError::InUse,
            DatabaseError::RepairAborted => EmbeddedOpenError::Stopped,
            error => EmbeddedOpenError::Database(error.into()),
        })
    }
}

/// What a machine is read from, and how.
pub(super) struct Source {
    /// The database.
    pub(super) opener: Opener,
    /// For a new one.
    pub(super) seed: Seed,
    /// Bytes of memory that the machine may take, if that is bounded.
    pub(super) memory: Option<u64>,
    /// Who is told how far that is.
    pub(super) opening: Arc<Opening>,
}

/// The database, and the machine as its rows say.
pub(super) struct Opened {
    /// The database.
    pub(super) database: Database,
    /// The machine.
    pub(super) queue: Queue,
    /// Names and values of all rows.
    pub(super) bytes: u64,
}

/// Opens the database and reads the machine as it is now; writes what a new one needs.
pub(super) fn open(source: &Source, now: Millis) -> Result<Opened, EmbeddedOpenError> {
    guarded(|| {
        let database = source.opener.database()?;
        let (mut queue, version, bytes) =
            read(&database, Loading::at(now, source.memory), &source.opening)?;
        queue.start(source.seed.key, source.seed.epochs.iter().cloned());
        if version.is_some_and(|version| version < VERSION) {
            queue.rewrite();
        }
        // The version is written here or never: with the first rows of a new file, or with all.
        let version = (version != Some(VERSION)).then_some(VERSION);
        let more = commit(&database, &queue.take_changes(), version)?;
        Ok(Opened { database, queue, bytes: bytes.saturating_add_signed(more) })
    })
    .unwrap_or_else(|panic| Err(EmbeddedOpenError::Panicked(panic)))
}

/// Writes rows in one transaction, durable when this returns; gives by how many bytes all rows grew.
pub(super) fn write(database: &Database, rows: &[Row]) -> Result<i64, NotWritten> {
    guarded(|| commit(database, rows, None).map_err(NotWritten::from))
        .unwrap_or_else(|panic| Err(NotWritten::Refused(StoreError::Unavailable(panic))))
}

/// Why rows are not durable.
pub(super) enum NotWritten {
    /// The database refuses them, or its disk is full: what it reads is still what it wrote.
    Refused(StoreError),
    /// The disk failed. After a failed sync the system takes its pages for written, so what is read
    /// from them afterwards may be nowhere else.
    Disk(StoreError),
}

impl NotWritten {
    /// What is said to whoever waits.
    pub(super) fn error(&self) -> &StoreError {
        match self {
            Self::Refused(error) | Self::Disk(error) => error,
        }
    }
}

impl From<EmbeddedOpenError> for NotWritten {
    fn from(error: EmbeddedOpenError) -> Self {
        match error {
            EmbeddedOpenError::Database(error) => error.into(),
            error => Self::Refused(error.into()),
        }
    }
}

impl From<redb::Error> for NotWritten {
    fn from(error: redb::Error) -> Self {
        if is_disk_failure(&error) { Self::Disk(error.into()) } else { Self::Refused(error.into()) }
    }
}

/// Whether an error is the disk's own: it neither read nor wrote, and is not just full.
pub(super) fn is_disk_failure(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => error.kind() != std::io::ErrorKind::StorageFull,
        redb::Error::PreviousIo => true,
        _ => false,
    }
}

/// Runs what may panic; gives the panic's text.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
    })
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The machine, the version of its rows, none in a new file, and their bytes.
fn read(
    database: &Database,
    mut loading: Loading,
    opening: &Opening,
) -> Result<(Queue, Option<u64>, u64), EmbeddedOpenError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let Some(schema) = existing(transaction.open_table(SCHEMA))? else {
        return Ok((loading.finish()?, None, 0));
    };
    let version = schema.get("version").map_err(redb::Error::from)?;
    let found = version.map_or(0, |version| version.value());
    if found > VERSION {
        return Err(EmbeddedOpenError::Newer { found, reads: VERSION });
    }
    let table = transaction.open_table(ROWS).map_err(redb::Error::from)?;
    opening.begin(table.len().map_err(redb::Error::from)?);
    let (mut read, mut bytes) = (0, 0);
    for (from, to) in spans() {
        for row in table.range(from.as_str()..to.as_str()).map_err(redb::Error::from)? {
            let (name, value) = row.map_err(redb::Error::from)?;
            loading.read(name.value(), value.value().to_vec())?;
            bytes += size(name.value(), value.value()).unsigned_abs();
            read += 1;
            if read % ROWS_BETWEEN_LOOKS == 0 {
                opening.reached(read);
                if opening.is_stopped() {
                    return Err(EmbeddedOpenError::Stopped);
                }
            }
        }
    }
    opening.reached(read);
    Ok((loading.finish()?, Some(found), bytes))
}

/// The whole table in the order in which the machine reads it best: every shard, then their SIDs.
fn spans() -> Vec<(String, String)> {
    let (mut others, mut sids, mut from) = (Vec::new(), Vec::new(), String::new());
    for shard in 0..SHARDS {
        let (begin, end) = (format!("{shard:02}:dd:"), format!("{shard:02}:dd;"));
        others.push((from, begin.clone()));
        sids.push((begin, end.clone()));
        from = end;
    }
    // No name begins with this.
    others.push((from, char::MAX.to_string()));
    others.extend(sids);
    others
}

/// A table, if it is there: a new file has none.
pub(super) fn existing<T>(opened: Result<T, redb::TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn commit(database: &Database, rows: &[Row], version: Option<u64>) -> Result<i64, redb::Error> {
    if rows.is_empty() && version.is_none() {
        return Ok(0);
    }
    let transaction = database.begin_write()?;
    let mut more = 0;
    {
        if let Some(version) = version {
            transaction.open_table(SCHEMA)?.insert("version", version)?;
        }
        let mut table = transaction.open_table(ROWS)?;
        for row in rows {
            let name = row.key.as_str();
            let former = match &row.value {
                Some(value) => {
                    more += size(name, value);
                    table.insert(name, value.as_slice())?
                }
                None => table.remove(name)?,
            };
            more -= former.map_or(0, |former| size(name, former.value()));
        }
    }
    transaction.commit()?;
    Ok(more)
}

/// Bytes of a row.
fn size(name: &str, value: &[u8]) -> i64 {
    (name.len() + value.len()) as i64
}
