//! What was counted and should not wait to be read: a failed first attempt, a rescued customer.
//!
//! Takes channels, wakes whoever listens for one of them here, and keeps which of them other replicas
//! are to be told of. What is lost is read a little later: nobody listens for ever. Never says what
//! was counted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use kanarie_words::ids::ChannelUid;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

/// Who may listen at once.
const LISTENERS: usize = 64;
/// News that a listener may be behind; then all that it missed is about everybody.
const BEHIND: usize = 256;
/// Most channels that a call to others names; more are about everybody.
const NAMED: usize = 200;

/// News of this replica and of others.
#[derive(Debug)]
pub struct News {
    /// No channel is any of them.
    told: Sender<Arc<[ChannelUid]>>,
    untold: Mutex<BTreeSet<ChannelUid>>,
}

/// Somebody who waits for news.
#[derive(Debug)]
pub struct Listener(Receiver<Arc<[ChannelUid]>>);

impl Default for News {
    fn default() -> Self {
        Self { told: Sender::new(BEHIND), untold: Mutex::default() }
    }
}

impl News {
    /// Something was counted here.
    pub fn counted(&self, channel: &ChannelUid) {
        self.hear(vec![channel.clone()]);
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.clone());
    }

    /// Something was counted somewhere for these channels; for any, if there is none.
    pub fn hear(&self, channels: Vec<ChannelUid>) {
        // Mostly nobody listens.
        let _ = self.told.send(channels.into());
    }

    /// Hears what comes from now on; none when too many listen already.
    pub fn listen(&self) -> Option<Listener> {
        let is_room = self.told.receiver_count() < LISTENERS;
        is_room.then(|| Listener(self.told.subscribe()))
    }

    /// The channels that others are to be told of now, none for any; absent when there is nothing to
    /// tell.
    pub fn take_untold(&self) -> Option<Vec<ChannelUid>> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *untold);
        match taken.len() {
            0 => None,
            1..=NAMED => Some(taken.into_iter().collect()),
            _ => Some(Vec::new()),
        }
    }
}

impl Listener {
    /// Waits for news of one of these channels.
    pub async fn of(&mut self, channels: &[ChannelUid]) {
        loop {
            match self.0.recv().await {
                Ok(told) if told.is_empty() || told.iter().any(|uid| channels.contains(uid)) => {
                    return;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Passes over everything that was told until now.
    pub fn forget(&mut self) {
        self.0 = self.0.resubscribe();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use kanarie_words::ids::ChannelUid;

    use super::{LISTENERS, NAMED, News};

    fn uid(text: &str) -> ChannelUid {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_listens_is_woken_by_news_of_his_channels_or_of_any_and_of_no_other() {
        let news = News::default();
        news.counted(&uid("a"));
        let mut listener = news.listen().unwrap();
        let channels = [uid("a"), uid("b")];
        let mut heard = || listener.of(&channels).now_or_never().is_some();
        assert!(!heard(), "what was told before");
        news.counted(&uid("c"));
        assert!(!heard());
        news.counted(&uid("b"));
        assert!(heard() && !heard());
        news.hear(Vec::new());
        assert!(heard());
    }

    #[test]
    fn a_listener_that_is_far_behind_is_woken() {
        let news = News::default();
        let mut listener = news.listen().unwrap();
        (0..1_000).for_each(|_| news.counted(&uid("c")));
        assert!(listener.of(&[uid("a")]).now_or_never().is_some());
        listener.forget();
        assert!(listener.of(&[uid("a")]).now_or_never().is_none());
    }

    #[test]
    fn others_are_told_once_of_each_channel_and_of_any_when_they_are_many() {
        let news = News::default();
        assert_eq!(news.take_untold(), None);
        ["b", "a", "b"].into_iter().for_each(|channel| news.counted(&uid(channel)));
        assert_eq!(news.take_untold(), Some(vec![uid("a"), uid("b")]));
        news.hear(vec![uid("a")]);
        assert_eq!(news.take_untold(), None, "they were told by whoever counted it");
        (0..=NAMED).for_each(|at| news.counted(&uid(&format!("u{at}"))));
        assert_eq!(news.take_untold(), Some(Vec::new()));
    }

    #[test]
    fn no_more_than_a_bounded_number_listen() {
        let news = News::default();
        let mut listeners: Vec<_> = (0..LISTENERS).map(|_| news.listen().unwrap()).collect();
        assert!(news.listen().is_none());
        listeners.pop();
        assert!(news.listen().is_some());
    }
}
