//! The storage under the database: as it is, but for the errors of a sync; and its length.
//!
//! Takes the database's reads, writes and syncs, gives them to the storage, and the length of its file to
//! whoever asks. A sync that fails is a disk that failed, whatever the system calls it: one that says "no
//! space" at a sync has taken the pages for written, and they may be nowhere. A write that says so has
//! written nothing.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

/// Storage whose syncs fail as what they are.
#[derive(Debug)]
pub(super) struct Disk<B> {
    storage: B,
    length: Length,
}

/// How long the file is that the database has open.
#[derive(Clone, Debug, Default)]
pub(super) struct Length(Arc<AtomicU64>);

impl<B: StorageBackend> Disk<B> {
    /// Storage, and who is to know its length.
    pub(super) fn new(storage: B, length: &Length) -> Self {
        Self { storage, length: length.clone() }
    }
}

impl Length {
    /// In bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl<B: StorageBackend> StorageBackend for Disk<B> {
    fn len(&self) -> io::Result<u64> {
        self.storage.len().inspect(|length| self.length.is(*length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len).inspect(|()| self.length.is(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage
            .sync_data()
            .map_err(|error| io::Error::other(format!("a sync failed: {error}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}
