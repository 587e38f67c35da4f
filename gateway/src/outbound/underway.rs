//! What is under way, so that a stop can wait for it.
//!
//! Takes beginnings, gives a token each; waits until every token is dropped. Never stops anything.

use tokio::sync::watch;

/// Things of one kind that are under way.
#[derive(Debug)]
pub(crate) struct Underway(watch::Sender<()>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct OneUnderway(#[expect(dead_code, reason = "dropped")] watch::Receiver<()>);

impl Default for Underway {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Underway {
    /// One more, from now on.
    pub(crate) fn begin(&self) -> OneUnderway {
        OneUnderway(self.0.subscribe())
    }

    /// Waits until nothing is under way.
    pub(crate) async fn none(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Underway;

    #[test]
    fn nothing_is_under_way_once_everything_is_dropped() {
        let underway = Underway::default();
        assert_eq!(underway.none().now_or_never(), Some(()));
        let (one, other) = (underway.begin(), underway.begin());
        drop(one);
        assert_eq!(underway.none().now_or_never(), None);
        drop(other);
        assert_eq!(underway.none().now_or_never(), Some(()));
    }
}
