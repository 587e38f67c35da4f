//! The pace of a watch: how long a connection may be silent, and how soon a broken one is tried again.
//!
//! Takes nothing; gives what every watch of both processes is made with. Each watch has one of its
//! own, so that none waits because another is broken.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use tokio::time::Instant;

/// After this the API server ends a watch, and a silent one is given up five seconds later.
const WATCH_SECONDS: u32 = 60;
/// First pause after something broke.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// Without an error for so long it begins anew.
const AFRESH: Duration = Duration::from_secs(30);

/// A watch that ends after a minute and is begun again where it was.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Pauses of one watch that is broken.
#[derive(Debug, Default)]
pub struct WatchPace {
    last: Option<(Instant, Duration)>,
}

impl Iterator for WatchPace {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let step = match self.last {
            Some((at, step)) if now.duration_since(at) < AFRESH => (step * 2).min(LONGEST),
            Some(_) | None => FIRST,
        };
        self.last = Some((now, step));
        // Up to half of it less, so that a fleet does not come back all at once.
        let mut random = [0u8; 1];
        let share = getrandom::fill(&mut random).map_or(0, |()| u32::from(random[0]));
        Some(step - step / 512 * share)
    }
}

impl Backoff for WatchPace {
    /// A watch begins with a word of its own, before the API server has said anything: only time
    /// without an error begins anew.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_stays_broken_is_tried_every_five_seconds_at_the_least() {
        let mut pace = WatchPace::default();
        let pauses: Vec<Duration> = (0..20)
            .filter_map(|_| {
                pace.reset();
                pace.next()
            })
            .collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2, "{pauses:?}");
        assert!(pauses[19] <= LONGEST && pauses[19] >= LONGEST / 2, "{pauses:?}");
    }
}
