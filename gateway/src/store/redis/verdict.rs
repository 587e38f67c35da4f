//! What was last said of a server that must not be used, so that it is said once.
//!
//! Takes what each connection finds of it; gives a line when the reason is another one, and when it is
//! well again. Never decides whether it may be used.

use std::sync::{Mutex, PoisonError};

use crate::store::redis::unfit::Unfit;

/// One for all connections to a server.
#[derive(Debug, Default)]
pub(super) struct Verdict(Mutex<Option<Unfit>>);

impl Verdict {
    /// It must not be used; true when that is said.
    pub(super) fn refuse(&self, unfit: Unfit) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = last.as_ref() != Some(&unfit);
        if is_news {
            tracing::error!("{unfit}");
            *last = Some(unfit);
        }
        is_news
    }

    /// It may be used; true when that is said.
    pub(super) fn accept(&self, server: &str) -> bool {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if before.is_some() {
            tracing::info!(%server, "the Redis server can be used again");
        }
        before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;
    use crate::store::redis::unfit::Unfit;

    #[test]
    fn a_server_that_must_not_be_used_is_told_of_once_for_each_reason_and_once_when_it_is_well() {
        let server = || "redis:6379".to_owned();
        let (forgets, cluster) =
            (|| Unfit::Forgets { server: server() }, || Unfit::Cluster { server: server() });
        let verdict = Verdict::default();
        assert!(!verdict.accept("redis:6379"));
        let said = [forgets(), forgets(), cluster(), cluster()].map(|unfit| verdict.refuse(unfit));
        assert_eq!(said, [true, false, true, false]);
        let accepted = [0, 1].map(|_| verdict.accept("redis:6379"));
        assert_eq!(accepted, [true, false]);
        assert!(verdict.refuse(cluster()));
    }
}
