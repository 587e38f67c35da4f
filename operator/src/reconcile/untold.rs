//! Untold: the news of a channel that nobody was told of yet, oldest first. A plain value with a bound; it may be
//! lost at any time, and then the news of the last minutes are found again in status.

use std::collections::VecDeque;

use kanarie_words::reason::Reason;

/// Most that is kept of one channel; with more the oldest goes.
const MOST: usize = 16;

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelNews {
    /// What makes it this one and no other.
    pub name: String,
    /// Its word.
    pub reason: Reason,
    /// Its sentence.
    pub note: String,
}

/// What is to be told.
#[derive(Clone, Debug, Default)]
pub struct Untold(VecDeque<ChannelNews>);

impl Untold {
    /// Takes more; what is there already is not taken twice.
    pub fn add(&mut self, news: Vec<ChannelNews>) {
        for one in news {
            if self.0.iter().all(|known| known.name != one.name) {
                self.0.push_back(one);
            }
        }
        let excess = self.0.len().saturating_sub(MOST);
        self.0.drain(..excess);
    }

    /// What is to be told next.
    pub fn first(&self) -> Option<&ChannelNews> {
        self.0.front()
    }

    /// It was told.
    pub fn told(&mut self, name: &str) {
        self.0.retain(|one| one.name != name);
    }

    /// It could not be told: the others go first, since it may be refused for what it says.
    pub fn put_off(&mut self, name: &str) {
        if self.0.front().is_some_and(|first| first.name == name) {
            self.0.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str) -> ChannelNews {
        ChannelNews { name: name.to_owned(), reason: Reason::CommandRefused, note: String::new() }
    }

    fn first(untold: &Untold) -> &str {
        untold.first().map_or("none", |one| one.name.as_str())
    }

    #[test]
    fn what_could_not_be_told_comes_again_after_the_others() {
        let mut untold = Untold::default();
        untold.add(vec![news("a"), news("b"), news("a")]);
        untold.put_off("a");
        assert_eq!(first(&untold), "b");
        untold.told("b");
        assert_eq!(first(&untold), "a");
        untold.told("a");
        assert_eq!(first(&untold), "none");
    }

    #[test]
    fn of_too_many_the_oldest_goes() {
        let mut untold = Untold::default();
        untold.add((0..40).map(|at| news(&at.to_string())).collect());
        assert_eq!(first(&untold), (40 - MOST).to_string());
    }
}
