//! Dead letters read, replayed and erased, and a conversation erased, as calls.
//!
//! Takes numbers of one shard, or a conversation; gives the calls and reads what became of each. A
//! letter that cannot be read is told without what cannot. Never shows a text in an error.

use std::sync::LazyLock;

use kanarie_queue::erase::{EraseConversation, EraseLetters, Erased};
use kanarie_queue::letters::{DeadLetterId, DeadLetterRead, LettersRead, ReadLetters};
use kanarie_queue::replay::{Replay, Replayed};
use kanarie_words::ids::{ConversationId, DedupKey};
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, flag, id, keys, number, only, plain, script,
};
use crate::store::redis::verbs::dead::DEAD;
use crate::store::redis::verbs::deliveries;

static READ: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "named_letters.lua", "read_letters.lua");
static REPLAY: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "named_letters.lua", "replay.lua");
static ERASE_LETTERS: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "named_letters.lua", "erase_letters.lua");
static ERASE_CONVERSATION: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "erase_conversation.lua");

impl Scripted for ReadLetters {
    fn calls(&self) -> Vec<Call> {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let wanted = &self.wanted;
        let arguments = vec![
            self.after.to_string(),
            self.until.map(|until| until.to_string()).unwrap_or_default(),
            self.limit.to_string(),
            text(wanted.channel.as_ref().map(|channel| channel.as_str())),
            text(wanted.class.as_deref()),
            text(wanted.conversation.as_ref().map(ConversationId::as_str)),
            u8::from(self.with_text).to_string(),
        ];
        vec![Call { script: &READ, keys: keys(self.shard, &DEAD), arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<LettersRead> {
        let mut parts = plain::<Vec<Value>>(only(values))?.into_iter();
        let mut head = || plain::<String>(parts.next().unwrap_or_default());
        let last = number(Some(&head()?))?;
        let next = optional(head()?).map(|next| number(Some(&next))).transpose()?;
        let letters =
            parts.filter_map(|letter| tell(self.shard, self.with_text, letter).transpose());
        Ok(LettersRead { letters: letters.collect::<Decoded<_>>()?, next, last })
    }
}

impl Scripted for Replay {
    // Repeated, it finds nothing: whoever asks must know.
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let dedup_keys = self.letters.iter().map(|again| format!("dd:{}", again.dedup_key));
        let dedup_keys: Vec<String> = dedup_keys.collect();
        let own: Vec<&str> =
            DEAD.into_iter().chain(dedup_keys.iter().map(String::as_str)).collect();
        let arguments = self.letters.iter().flat_map(|again| {
            let (number, dedup_ms) = (again.number.to_string(), again.dedup_ms.to_string());
            [number, again.dedup_key.to_string(), again.channel.to_string(), dedup_ms]
        });
        let arguments = arguments.collect();
        vec![Call { script: &REPLAY, keys: keys(self.shard, &own), arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<Replayed>> {
        let replayed = plain::<Vec<i64>>(only(values))?.into_iter().map(|said| match said {
            1 => Ok(Replayed::Done),
            2 => Ok(Replayed::Waits),
            0 => Ok(Replayed::Gone),
            -1 => Ok(Replayed::NoText),
            -2 => Ok(Replayed::Full),
            _ => Err(corrupt("a replay")),
        });
        replayed.collect()
    }
}

impl Scripted for EraseLetters {
    // Repeated, it finds nothing: whoever asks must know.
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let arguments = self.numbers.iter().map(u64::to_string).collect();
        vec![Call { script: &ERASE_LETTERS, keys: keys(self.shard, &DEAD), arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<u64> {
        plain(only(values))
    }
}

impl Scripted for EraseConversation {
    // Repeated, it finds nothing: whoever asks must know.
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let id = &self.conversation;
        let mut own =
            vec![format!("rl:{id}"), format!("at:{id}"), "me".to_owned(), "mez".to_owned()];
        for channel in &self.channels {
            own.extend([format!("ev:{channel}"), format!("cu:{channel}")]);
        }
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let arguments = vec![id.to_string()];
        let keys = keys(id.shard(), &own);
        vec![Call { script: &ERASE_CONVERSATION, keys, arguments }, deliveries::erase(id)]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Erased> {
        let (messages, was_leased, channel): (u64, Value, String) = plain(only(values))?;
        let channel = optional(channel).map(|channel| id(&channel)).transpose()?;
        Ok(Erased { messages, was_leased: flag(was_leased)?, channel })
    }
}

/// "" is none.
fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// One letter as `read_letters.lua` tells it; none when its name makes no sense.
fn tell(shard: u8, with_text: bool, letter: Value) -> Decoded<Option<DeadLetterRead>> {
    let parts: [String; 10] =
        plain::<Vec<String>>(letter)?.try_into().map_err(|_| corrupt("a dead letter"))?;
    let [of, channel, class, at, conversation, key, admitted_at, counted, bytes, text] = parts;
    let told = |value: String| optional(value).map(|value| number(Some(&value))).transpose();
    let bytes = told(bytes)?;
    let Ok(channel) = channel.parse() else { return Ok(None) };
    Ok(Some(DeadLetterRead {
        id: DeadLetterId { shard, number: number(Some(&of))? },
        channel,
        class,
        conversation: ConversationId::parse(&conversation),
        dedup_key: DedupKey::parse(&key).ok(),
        admitted_at: told(admitted_at)?,
        at: number(Some(&at))?,
        counted: counted == "1",
        bytes,
        text: bytes.filter(|_| with_text).map(|_| text),
    }))
}
