//! What replicas call to each other over the server's channel.
//!
//! Takes shards or channels, gives the text that is published, and reads it back. The first version
//! knew a number only, and passes over everything else: so does this one over what it does not know.

use kanarie_words::ids::ChannelUid;

/// A call to the other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hail {
    /// Something is ready in these shards, a bit each.
    Shards(u32),
    /// Something urgent was counted for these channels; for any, if there is none.
    Counted(Vec<ChannelUid>),
}

/// Begins a call about what was counted.
const COUNTED: &str = "counted";

impl Hail {
    /// As it is published.
    pub fn text(&self) -> String {
        match self {
            Self::Shards(shards) => shards.to_string(),
            Self::Counted(channels) => {
                let words = channels.iter().map(ChannelUid::as_str);
                std::iter::once(COUNTED).chain(words).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Reads it back; none for what a later version says.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(shards) = text.parse() {
            return Some(Self::Shards(shards));
        }
        let mut words = text.split(' ');
        if words.next() != Some(COUNTED) {
            return None;
        }
        // One that cannot be read may be anybody's.
        let channels = words.map(ChannelUid::parse).collect::<Result<_, _>>();
        Some(Self::Counted(channels.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::Hail;

    #[test]
    fn a_call_reads_back_as_it_was_published() {
        let channels = ["a-1", "b-2"].map(|uid| uid.parse().unwrap()).to_vec();
        for (hail, text) in [
            (Hail::Shards(33), "33"),
            (Hail::Counted(Vec::new()), "counted"),
            (Hail::Counted(channels), "counted a-1 b-2"),
        ] {
            assert_eq!(hail.text(), text);
            assert_eq!(Hail::parse(text), Some(hail));
        }
    }

    #[test]
    fn what_cannot_be_read_of_the_counted_is_about_everybody_and_other_words_are_nothing() {
        assert_eq!(Hail::parse("counted a  b"), Some(Hail::Counted(Vec::new())));
        for text in ["", "later", "counted2 a", "-1"] {
            assert_eq!(Hail::parse(text), None, "{text}");
        }
    }
}
