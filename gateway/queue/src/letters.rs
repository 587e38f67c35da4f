//! Dead letters, read: one shard's, oldest first, a page at a time.
//!
//! Takes where a page begins and what is wanted; gives those letters and where the next page begins.
//! A number is given once and grows, so a page stays where it is while letters come and go.
//! Looks at a bounded number of letters a call, gives a text only when it is asked for, and never
//! changes anything.

use std::fmt;
use std::ops::RangeInclusive;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId, DedupKey, SHARDS};

use crate::queue::Queue;
use crate::shard::{DeadLetter, Shard};
use crate::verb::Verb;

/// Letters that one call looks at most, wanted or not.
pub const LOOKED: usize = 500;

/// Reads a page of the dead letters of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLetters {
    /// The shard, below 32.
    pub shard: u8,
    /// The number that the page begins after.
    pub after: u64,
    /// The last number that is of interest; none for the shard's last.
    pub until: Option<u64>,
    /// Which of them.
    pub wanted: DeadLetterFilter,
    /// How many at most.
    pub limit: usize,
    /// Whether their texts are wanted.
    pub with_text: bool,
}

/// Which letters are wanted; what is none matters not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Those of this channel.
    pub channel: Option<ChannelUid>,
    /// Those of this class.
    pub class: Option<String>,
    /// Those of this conversation.
    pub conversation: Option<ConversationId>,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersRead {
    /// Oldest first.
    pub letters: Vec<DeadLetterRead>,
    /// The number that the next page begins after; none when there can be no other.
    pub next: Option<u64>,
    /// The number that the shard gave last.
    pub last: u64,
}

/// Names a dead letter for ever: `<shard>-<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId {
    /// Its shard, below 32.
    pub shard: u8,
    /// Its number in that shard.
    pub number: u64,
}

/// A dead letter, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRead {
    /// Its name.
    pub id: DeadLetterId,
    /// UID of the channel.
    pub channel: ChannelUid,
    /// Why it ended.
    pub class: String,
    /// The conversation; none for a letter of layout 1, or for one that cannot be read.
    pub conversation: Option<ConversationId>,
    /// What a repetition is recognised by.
    pub dedup_key: Option<DedupKey>,
    /// When the message was admitted.
    pub admitted_at: Option<Millis>,
    /// When it ended.
    pub at: Millis,
    /// Whether it counted as evidence.
    pub counted: bool,
    /// Bytes of its text while that is kept.
    pub bytes: Option<u64>,
    /// Its text, if that was asked for and is kept.
    pub text: Option<String>,
}

impl Verb for ReadLetters {
    type Answer = LettersRead;

    fn apply(self, queue: &mut Queue, _: Millis) -> LettersRead {
        let mut read = LettersRead { letters: Vec::new(), next: None, last: 0 };
        let Some(shard) = queue.shards.get(usize::from(self.shard)) else { return read };
        read.last = shard.last_dead;
        let until = self.until.unwrap_or(u64::MAX);
        let from = self.after.saturating_add(1);
        if from > until {
            return read;
        }
        for (looked, number) in
            (1..).zip(numbers(shard, self.wanted.channel.as_ref(), from..=until))
        {
            let wanted = shard.dead.get(&number).filter(|letter| self.wanted.takes(letter));
            read.letters.extend(wanted.map(|letter| self.tell(number, letter)));
            if looked == LOOKED || read.letters.len() >= self.limit {
                read.next = Some(number);
                break;
            }
        }
        read
    }
}

/// The numbers of a channel's letters, or of all.
fn numbers<'a>(
    shard: &'a Shard,
    channel: Option<&ChannelUid>,
    range: RangeInclusive<u64>,
) -> Box<dyn Iterator<Item = u64> + 'a> {
    match channel {
        Some(channel) => {
            let of = shard.dead_of.get(channel).into_iter();
            Box::new(of.flat_map(move |numbers| numbers.range(range.clone())).copied())
        }
        None => Box::new(shard.dead.range(range).map(|(number, _)| *number)),
    }
}

impl ReadLetters {
    fn tell(&self, number: u64, letter: &DeadLetter) -> DeadLetterRead {
        let envelope = letter.envelope.as_ref();
        DeadLetterRead {
            id: DeadLetterId { shard: self.shard, number },
            channel: letter.channel.clone(),
            class: letter.class.as_ref().to_owned(),
            conversation: letter.conversation.clone(),
            dedup_key: Some(letter.dedup_key.clone()),
            admitted_at: letter.admitted_at,
            at: letter.at,
            counted: letter.counted,
            bytes: envelope.map(|text| text.len() as u64),
            text: envelope.filter(|_| self.with_text).cloned(),
        }
    }
}

impl DeadLetterFilter {
    /// Whether class and conversation are the wanted ones.
    fn takes(&self, letter: &DeadLetter) -> bool {
        self.class.as_deref().is_none_or(|class| class == letter.class.as_ref())
            && (self.conversation.is_none() || self.conversation == letter.conversation)
    }
}

impl DeadLetterId {
    /// Greatest number: twelve digits sort as text.
    const MOST: u64 = 999_999_999_999;

    /// Parses the name; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (shard, number) = text.split_once('-')?;
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = shard.len() == 2 && number.len() <= 12 && is_digits(shard) && is_digits(number);
        let (shard, number) = (shard.parse().ok()?, number.parse().ok()?);
        let is_known = shard < SHARDS && (1..=Self::MOST).contains(&number);
        (fits && is_known).then_some(Self { shard, number })
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{}", self.shard, self.number)
    }
}
