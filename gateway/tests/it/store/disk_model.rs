//! A disk that forgets what was not synced, fails when it is told to, and fills up.
//!
//! Takes what a database reads and writes, gives it back; gives the disk as it may be after a loss of
//! power. It is all memory.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// A sector is written whole or not at all.
const SECTOR: usize = 512;
/// The database's first page.
const HEAD: usize = 4_096;

/// A disk; its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// What it holds, and what is to happen to it.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// What a reader sees.
    pub(crate) seen: Vec<u8>,
    /// What survives a loss of power for certain.
    synced: Vec<u8>,
    /// Ranges written since the last sync: each of their sectors may survive or not.
    pending: Vec<(usize, usize)>,
    /// Lengths set since the last sync: each may be the one that survives.
    lengths: Vec<usize>,
    /// Syncs that are still done before the power goes; that sync and all later use fail.
    pub(crate) syncs_left: Option<u32>,
    /// Syncs that fail, the next ones first.
    pub(crate) failing_syncs: u32,
    /// Bytes that the disk holds at most.
    pub(crate) capacity: Option<usize>,
    /// Whether space is taken by writing (a sparse file) and not by growing.
    pub(crate) is_sparse: bool,
    /// Syncs after which nothing but the file's head can be written, as on a disk that overwrites nothing.
    pub(crate) full_after: Option<u32>,
}

impl Disk {
    /// What it holds, and what is to happen to it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A disk with a file on it.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let state = State { seen: bytes.clone(), synced: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The disk after the power went and came back: of what was not synced any length and any
    /// sectors may have survived; `seed` says which.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap()
        };
        let mut left = state.synced.clone();
        let length = draw() % (state.lengths.len() + 1);
        let length = state.lengths.get(length).copied().unwrap_or(left.len());
        resize(&mut left, length);
        for (start, end) in &state.pending {
            for sector in (start / SECTOR)..end.div_ceil(SECTOR) {
                let end = left.len().min(state.seen.len());
                let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(end));
                if draw().is_multiple_of(2) && from < to {
                    left[from..to].copy_from_slice(&state.seen[from..to]);
                }
            }
        }
        let seen = left.clone();
        Self(Arc::new(Mutex::new(State { seen, synced: left, ..State::default() })))
    }
}

/// Zeros at the end or less of it; byte by byte that would take minutes without optimisation.
fn resize(bytes: &mut Vec<u8>, length: usize) {
    bytes.truncate(length);
    bytes.extend_from_slice(&vec![0; length - bytes.len()]);
}

impl State {
    /// All that was written is there for certain.
    fn is_synced(&mut self) {
        // What was cut off and grew again is zeros.
        if let Some(least) = self.lengths.iter().min() {
            self.synced.truncate(*least);
        }
        resize(&mut self.synced, self.seen.len());
        for (from, to) in self.pending.drain(..) {
            let to = to.min(self.seen.len());
            if from < to {
                self.synced[from..to].copy_from_slice(&self.seen[from..to]);
            }
        }
        self.lengths.clear();
    }

    fn powered(&self) -> io::Result<()> {
        let is_off = self.syncs_left == Some(0);
        if is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn room(&self, end: usize, grows: bool) -> io::Result<()> {
        let takes_space = grows != self.is_sparse;
        let is_full = takes_space && self.capacity.is_some_and(|capacity| end > capacity);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.powered()?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        state.powered()?;
        let from = usize::try_from(offset).unwrap();
        let bytes = state.seen.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        let (old, new) = (state.seen.len(), usize::try_from(len).unwrap());
        if new > old {
            state.room(new, true)?;
        }
        resize(&mut state.seen, new);
        state.lengths.push(new);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        if let Some(left) = &mut state.syncs_left {
            *left -= 1;
            if *left == 0 {
                return Err(io::Error::other("the power went"));
            }
        }
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(if state.is_sparse {
                io::ErrorKind::StorageFull.into()
            } else {
                io::Error::other("the sync failed")
            });
        }
        state.is_synced();
        if let Some(left) = &mut state.full_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                (state.capacity, state.is_sparse) = (Some(HEAD), true);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        let from = usize::try_from(offset).unwrap();
        let to = from + data.len();
        state.room(to, false)?;
        state.seen[from..to].copy_from_slice(data);
        state.pending.push((from, to));
        Ok(())
    }
}
