//! Room on the disk: a reserve is kept for what is owed.
//!
//! Takes the free bytes of the directory's disk, once a second at most; gives whether messages may be
//! admitted. The reserve is for completions, whose rows are written before older ones are free. A disk
//! that does not say how full it is has room.

use std::path::Path;

use kanarie_words::Millis;

/// What is kept free, or a sixteenth of a small disk.
const RESERVE: u64 = 64 << 20;
const EVERY_MS: u64 = 1_000;

/// What a disk says of itself.
#[derive(Clone, Copy)]
pub(super) struct Free {
    /// Bytes that can be written still.
    pub(super) bytes: u64,
    /// Bytes of the whole disk.
    pub(super) of: u64,
}

/// Asks the disk; nothing when it does not say.
pub(super) type Measure = Box<dyn Fn() -> Option<Free> + Send>;

/// Whether there is room.
pub(super) struct Room {
    measure: Measure,
    asked_at: Option<Millis>,
    is_short: bool,
}

impl Room {
    /// Room of a disk that is asked like this.
    pub(super) fn new(measure: Measure) -> Self {
        Self { measure, asked_at: None, is_short: false }
    }

    /// Whether there is none for messages. Short at the reserve, and until there is a quarter more.
    pub(super) fn is_short(&mut self, now: Millis) -> bool {
        // Also when the clock stepped back.
        if self.asked_at.is_none_or(|at| now.abs_diff(at) >= EVERY_MS) {
            self.asked_at = Some(now);
            self.is_short = (self.measure)().is_some_and(|free| {
                let reserve = RESERVE.min(free.of / 16);
                free.bytes < if self.is_short { reserve + reserve / 4 } else { reserve }
            });
        }
        self.is_short
    }
}

/// The disk of a directory.
pub(super) fn of_directory(directory: &Path) -> Measure {
    let directory = directory.to_owned();
    Box::new(move || {
        let disk = rustix::fs::statvfs(&directory).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Free { bytes: bytes(disk.f_bavail), of: bytes(disk.f_blocks) })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Free, Room};

    const MIB: u64 = 1 << 20;

    /// Whether there is no room with so many MiB free, second by second.
    fn short(of: u64, free: &[u64]) -> Vec<bool> {
        let now = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&now);
        let mut room = Room::new(Box::new(move || {
            Some(Free { bytes: asked.load(Ordering::Relaxed) * MIB, of: of * MIB })
        }));
        let looks = (0..).zip(free);
        looks
            .map(|(second, free)| {
                now.store(*free, Ordering::Relaxed);
                room.is_short(second * 1_000)
            })
            .collect()
    }

    #[test]
    fn a_disk_is_short_at_the_reserve_and_until_there_is_more() {
        assert_eq!(
            short(4_096, &[64, 63, 64, 79, 80, 64]),
            [false, true, true, true, false, false]
        );
    }

    #[test]
    fn a_small_disk_keeps_a_sixteenth() {
        assert_eq!(short(160, &[10, 9]), [false, true]);
    }

    #[test]
    fn a_disk_is_asked_once_a_second_and_believed_when_it_does_not_say() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let mut room = Room::new(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            None
        }));
        assert!(![0, 999, 1_000, 1_001].into_iter().any(|now| room.is_short(now)));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
