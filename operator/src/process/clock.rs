//! The wall clock, read here and nowhere else in the operator.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The clock that reconciles go by, which a test moves.
pub type ReconcileClock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "the one place of the operator that reads the clock")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A moment given in Unix milliseconds, as Kubernetes writes it: whole seconds.
pub fn time_of(millis: u64) -> Time {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

/// Unix milliseconds of a moment; zero before 1970.
pub fn millis_of(moment: jiff::Timestamp) -> u64 {
    u64::try_from(moment.as_millisecond()).unwrap_or(0)
}

/// Whole seconds from a time of status until now; zero for one that is still to come.
pub fn seconds_since(at: &Time, now: jiff::Timestamp) -> u64 {
    millis_of(now).saturating_sub(millis_of(at.0)) / 1000
}

/// Some share of a time, by chance: what is done for ten thousand channels is not done for all at once.
pub fn share(of: Duration) -> Duration {
    let mut random = [0u8; 2];
    let share = getrandom::fill(&mut random).map_or(0, |()| u32::from(u16::from_be_bytes(random)));
    of / 65_536 * share
}
