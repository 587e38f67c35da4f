//! What a Redis server promises about the messages that it is given, and what is asked of it.
//!
//! Takes what each connection finds; gives the server leave to be used, or why it must not be. Strict is
//! for messages that must not be lost with the server's process or its memory; relaxed lets every
//! server be used, and says what it lacks as long as it lacks it. Never asks the server itself.

use std::sync::{Mutex, PoisonError};

use crate::events::{Event, emit};
use crate::store::redis::unfit::Unfit;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// That it keeps what it is told: an append-only file, and no key that it drops by itself.
    #[default]
    Strict,
    /// Nothing; what it lacks is told.
    Relaxed,
}

/// What a server said of itself. None stands for what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    /// Whether it has an append-only file.
    pub(super) has_file: Option<bool>,
    /// When it brings that file to the disk: `appendfsync`.
    pub(super) fsync: Option<String>,
    /// Whether it drops keys when its memory is full, and by which policy.
    pub(super) evicts: Option<Option<String>>,
}

/// What is asked, and what was last heard.
#[derive(Debug, Default)]
pub(super) struct Promises {
    asked: Durability,
    heard: Mutex<Option<Promise>>,
}

impl Promises {
    /// Nothing is heard yet.
    pub(super) fn asked(asked: Durability) -> Self {
        Self { asked, heard: Mutex::default() }
    }

    /// Takes what a new connection found. What changed is told once, however many find it.
    pub(super) fn hear(&self, server: &str, promise: Promise) -> Result<(), Unfit> {
        if self.asked == Durability::Strict {
            promise.is_kept(server)?;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.as_ref() != Some(&promise) {
            promise.tell(server);
            promise.lacks().into_iter().for_each(|lacks| emit(Event::StoreLacks { lacks }));
            *heard = Some(promise);
        }
        Ok(())
    }

    /// What the server lacks, in words.
    pub(super) fn lacks(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.lacks()
    }
}

impl Promise {
    fn is_kept(&self, server: &str) -> Result<(), Unfit> {
        let server = server.to_owned();
        if let Some(policy) = self.evicts.clone().flatten() {
            return Err(Unfit::Evicts { server, policy });
        }
        if self.has_file == Some(false) { Err(Unfit::Forgets { server }) } else { Ok(()) }
    }

    fn lacks(&self) -> Option<String> {
        let evicts = self.evicts.clone().flatten().map(|policy| {
            format!("it drops messages when its memory is full (maxmemory-policy {policy})")
        });
        let forgets = (self.has_file == Some(false))
            .then(|| "it has no append-only file (appendonly no)".to_owned());
        let lacks: Vec<String> = forgets.into_iter().chain(evicts).collect();
        (!lacks.is_empty()).then(|| {
            format!("the Redis server may lose what it accepted: {}", lacks.join(", and "))
        })
    }

    /// What nobody could ask, and what a loss of power costs; what is lacking is an event.
    fn tell(&self, server: &str) {
        if self.has_file.is_none() {
            tracing::warn!(
                %server,
                "the server does not say whether it has an append-only file: make sure that it has \
                 (appendonly yes), or accepted messages are lost with its process"
            );
        }
        if self.evicts.is_none() {
            tracing::warn!(
                %server,
                "the server does not say whether it drops keys when its memory is full: make sure \
                 that maxmemory-policy is noeviction, or accepted messages are dropped then"
            );
        }
        let fsync = self.fsync.as_deref().filter(|_| self.has_file != Some(false));
        if let Some(fsync) = fsync.filter(|fsync| *fsync != "always") {
            tracing::info!(
                %server,
                appendfsync = fsync,
                "the server does not bring every write to the disk at once: should its machine \
                 lose power, what it accepted last is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Durability, Promise, Promises};

    fn kept() -> Promise {
        let fsync = Some("always".to_owned());
        Promise { has_file: Some(true), fsync, evicts: Some(None) }
    }

    #[test]
    fn a_server_that_forgets_is_used_only_where_that_is_allowed() {
        let without = || Promise { has_file: Some(false), ..kept() };
        let strict = Promises::default();
        let refused = strict.hear("redis:6379", without()).unwrap_err().to_string();
        assert!(refused.contains("appendonly yes"), "{refused}");
        let relaxed = Promises::asked(Durability::Relaxed);
        assert_eq!(relaxed.hear("redis:6379", without()), Ok(()));
        assert!(relaxed.lacks().unwrap().contains("appendonly no"));
    }

    #[test]
    fn what_is_lacking_is_told_until_it_is_there() {
        let relaxed = Promises::asked(Durability::Relaxed);
        let evicts = Some(Some("allkeys-lru".to_owned()));
        relaxed.hear("redis:6379", Promise { evicts, ..kept() }).unwrap();
        assert!(relaxed.lacks().unwrap().contains("allkeys-lru"));
        relaxed.hear("redis:6379", kept()).unwrap();
        assert_eq!(relaxed.lacks(), None);
    }

    #[test]
    fn what_a_server_does_not_say_is_held_against_nobody() {
        let strict = Promises::default();
        assert_eq!(strict.hear("redis:6379", Promise::default()), Ok(()));
        assert_eq!(strict.lacks(), None);
    }
}
