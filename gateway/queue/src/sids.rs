//! The SIDs of admitted messages: what a repetition is recognised by, in 24 bytes each.
//!
//! Takes dedup keys with the end of their memory; says whether one is remembered. A key is kept as 128
//! bits of its SHA-256 with its shard: two keys that share them would lose a message, which nobody lives
//! to see. Entries stand in short lists; when the lists are full on average, one of them is split, so
//! memory grows evenly and no count stands just after a doubling (linear hashing). What has outlived its
//! time goes a few lists at a time, whenever something is admitted. Of too many the oldest go early, by
//! the minute of their admission: never one that is younger than 300 s. None goes whose message waits.

use std::collections::BTreeMap;

use kanarie_words::Millis;
use kanarie_words::ids::DedupKey;
use sha2::{Digest as _, Sha256};

/// What is remembered of all shards.
#[derive(Default)]
pub(crate) struct Sids {
    lists: Vec<Vec<Entry>>,
    count: u64,
    /// Bytes of all lists, with the room that is not used.
    bytes: u64,
    /// How many there are of each minute of admission.
    minutes: BTreeMap<u64, u64>,
    /// Those admitted in an earlier minute go before their time.
    floor: u64,
    /// The list that is looked at next for what may go.
    next: usize,
    /// How many went before their time since this was last asked.
    forgotten: u64,
}

/// A dedup key of a shard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidKey([u64; 2]);

/// 44 bits of the end in milliseconds, 19 of the window in units of two seconds, one that says whether
/// the message waits.
#[derive(Clone, Copy)]
struct Facts(u64);

#[derive(Clone, Copy)]
struct Entry {
    key: SidKey,
    facts: Facts,
}

/// Entries of a list on average, from which on a list is split.
const PER_LIST: u64 = 32;
/// Lists that an admission looks at for what may go: it adds one entry and looks at a hundred.
const LISTS_AN_ADMISSION: usize = 2;
/// Lists that a sweep looks at, for a store where nothing is admitted.
const LISTS_A_SWEEP: usize = 128;
/// A clock that steps back by less than this meets all that it left.
pub(crate) const GRACE_MS: u64 = 60_000;
/// Nothing younger goes early.
const YOUNG_MS: u64 = 300_000;
const MINUTE_MS: u64 = 60_000;
/// The window of an entry that was read: rows do not tell theirs.
const USUAL_WINDOW_MS: u64 = 86_400_000;
/// More than an entry takes with all that is around it; what a bound in bytes is counted with.
pub(crate) const BYTES_A_SID: u64 = 32;

const ENTRY: usize = size_of::<Entry>();
const WINDOW_BITS: u32 = 19;
const UNTIL_BITS: u32 = 44;
const WINDOW_UNIT_MS: u64 = 2_000;

impl SidKey {
    /// The key of a dedup key in a shard.
    pub(crate) fn of(shard: u8, key: &DedupKey) -> Self {
        let digest = Sha256::new().chain_update([shard]).chain_update(key.as_str()).finalize();
        let mut halves = digest.chunks_exact(8).map(|half| half.try_into().map(u64::from_be_bytes));
        let mut half = || halves.next().and_then(Result::ok).unwrap_or_default();
        Self([half(), half()])
    }
}

impl Facts {
    fn new(until: Millis, window_ms: u64, waits: bool) -> Self {
        let until = until.min((1 << UNTIL_BITS) - 1);
        let window = (window_ms / WINDOW_UNIT_MS).min((1 << WINDOW_BITS) - 1);
        Self(until << (WINDOW_BITS + 1) | window << 1 | u64::from(waits))
    }

    fn until(self) -> Millis {
        self.0 >> (WINDOW_BITS + 1)
    }

    fn waits(self) -> bool {
        self.0 & 1 == 1
    }

    /// When it was admitted, to the minute; never before it was.
    fn minute(self) -> u64 {
        let window = self.0 >> 1 & ((1 << WINDOW_BITS) - 1);
        self.until().saturating_sub(window * WINDOW_UNIT_MS) / MINUTE_MS
    }

    fn waiting(self, waits: bool) -> Self {
        Self(self.0 & !1 | u64::from(waits))
    }
}

impl Sids {
    /// Whether a message with this key was admitted before.
    pub(crate) fn remembers(&self, key: SidKey, now: Millis) -> bool {
        self.until(key).is_some_and(|until| until > now)
    }

    /// When a key is forgotten, if it is known.
    pub(crate) fn until(&self, key: SidKey) -> Option<Millis> {
        let list = self.lists.get(self.list_of(key))?;
        list.iter().find(|entry| entry.key == key).map(|entry| entry.facts.until())
    }

    /// Remembers a message that waits from now on; gives the end of its memory.
    pub(crate) fn remember(&mut self, key: SidKey, now: Millis, window_ms: u64) -> Millis {
        let facts = Facts::new(now.saturating_add(window_ms), window_ms, true);
        self.put(key, facts);
        self.forget_some(now, LISTS_AN_ADMISSION);
        facts.until()
    }

    /// Takes one as its row tells it. Under a bound the oldest go while all are read.
    pub(crate) fn read(&mut self, key: SidKey, until: Millis, now: Millis, most: Option<u64>) {
        let facts = Facts::new(until, USUAL_WINDOW_MS, false);
        let waits = self.find(key).map(|entry| entry.facts.waits());
        if waits.is_none() && facts.minute() < self.floor {
            self.forgotten += 1;
            return;
        }
        self.put(key, facts.waiting(waits.unwrap_or_default()));
        if let Some(most) = most {
            self.keep_within(most, now);
            if self.floor > 0 {
                self.forget_some(now, LISTS_AN_ADMISSION);
            }
        }
    }

    /// Its message waits. One that is not known is as if it had just ended.
    pub(crate) fn wait(&mut self, key: SidKey, admitted_at: Millis) {
        match self.find(key) {
            Some(entry) => entry.facts = entry.facts.waiting(true),
            None => self.put(key, Facts::new(admitted_at, 0, true)),
        }
    }

    /// Its message waits no more.
    pub(crate) fn settle(&mut self, key: SidKey) {
        if let Some(entry) = self.find(key) {
            entry.facts = entry.facts.waiting(false);
        }
    }

    /// Lets the oldest go before their time while there are more than so many bytes of them, as far as
    /// they may go.
    pub(crate) fn keep_within(&mut self, most_bytes: u64, now: Millis) {
        let young = now.saturating_sub(YOUNG_MS) / MINUTE_MS;
        while self.kept() * BYTES_A_SID > most_bytes {
            let Some((minute, _)) = self.minutes.range(self.floor..).next() else { return };
            if *minute >= young {
                return;
            }
            self.floor = minute + 1;
        }
    }

    /// Drops what has outlived its time from some lists, as a sweep does.
    pub(crate) fn sweep(&mut self, now: Millis) {
        self.forget_some(now, LISTS_A_SWEEP);
    }

    /// Drops all at once that go early.
    pub(crate) fn drop_early(&mut self, now: Millis) {
        if self.floor > 0 {
            (0..self.lists.len()).for_each(|list| self.forget(list, now));
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + (self.lists.capacity() * size_of::<Vec<Entry>>()) as u64
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many went before their time since this was last asked.
    pub(crate) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// How many there are besides those that go early.
    fn kept(&self) -> u64 {
        let going = self.minutes.range(..self.floor).map(|(_, count)| count).sum();
        self.count.saturating_sub(going)
    }

    fn find(&mut self, key: SidKey) -> Option<&mut Entry> {
        let at = self.list_of(key);
        self.lists.get_mut(at)?.iter_mut().find(|entry| entry.key == key)
    }

    fn put(&mut self, key: SidKey, facts: Facts) {
        *self.minutes.entry(facts.minute()).or_default() += 1;
        if let Some(entry) = self.find(key) {
            let old = std::mem::replace(&mut entry.facts, facts);
            return leave(&mut self.minutes, old);
        }
        if self.count >= PER_LIST * self.lists.len() as u64 {
            self.split_one();
        }
        self.count += 1;
        let at = self.list_of(key);
        let Some(list) = self.lists.get_mut(at) else { return };
        let before = list.capacity();
        if list.len() == before {
            list.reserve_exact(room_for(before + 1) - before);
        }
        list.push(Entry { key, facts });
        self.bytes += ((list.capacity() - before) * ENTRY) as u64;
    }

    /// The list of a key: by as many low bits as there are lists, or one bit fewer where the list is not
    /// split yet.
    fn list_of(&self, key: SidKey) -> usize {
        let lists = self.lists.len().max(1);
        let within = lists.next_power_of_two();
        let at = usize::try_from(key.0[0] % within as u64).unwrap_or_default();
        if at < lists { at } else { at - within / 2 }
    }

    /// One list more: it takes its half of the list that it is split from.
    fn split_one(&mut self) {
        let new = self.lists.len();
        if new == self.lists.capacity() {
            self.lists.reserve_exact(new / 8 + 1);
        }
        self.lists.push(Vec::new());
        if new == 0 {
            return;
        }
        let from = origin_of(new);
        let Some(list) = self.lists.get_mut(from).map(std::mem::take) else { return };
        self.bytes -= (list.capacity() * ENTRY) as u64;
        let (going, staying): (Vec<Entry>, Vec<Entry>) =
            list.into_iter().partition(|entry| self.list_of(entry.key) == new);
        for (at, entries) in [(from, staying), (new, going)] {
            let list = fitted(&entries);
            self.bytes += (list.capacity() * ENTRY) as u64;
            self.lists[at] = list;
        }
    }

    /// One list less, while they are half as full as when they are split: the last one goes back into the
    /// list that it was split from.
    fn join_one(&mut self) {
        let last = self.lists.len().saturating_sub(1);
        if last == 0 || self.count >= PER_LIST / 2 * last as u64 {
            return;
        }
        let Some(list) = self.lists.pop() else { return };
        let into = &mut self.lists[origin_of(last)];
        self.bytes -= ((list.capacity() + into.capacity()) * ENTRY) as u64;
        *into = fitted(&[into.as_slice(), &list].concat());
        self.bytes += (into.capacity() * ENTRY) as u64;
        if self.lists.capacity() > 2 * last {
            self.lists.shrink_to(last + last / 8);
        }
    }

    /// Looks at the next lists, as many as are named.
    fn forget_some(&mut self, now: Millis, lists: usize) {
        for _ in 0..lists.min(self.lists.len()) {
            self.next = (self.next + 1) % self.lists.len();
            self.forget(self.next, now);
            self.join_one();
        }
    }

    fn forget(&mut self, at: usize, now: Millis) {
        let floor = self.floor;
        let list = &mut self.lists[at];
        let (before, capacity) = (list.len(), list.capacity());
        let (minutes, forgotten) = (&mut self.minutes, &mut self.forgotten);
        list.retain(|Entry { facts, .. }| {
            let ended = facts.until().saturating_add(GRACE_MS) <= now;
            let goes = !facts.waits() && (ended || facts.minute() < floor);
            if goes {
                *forgotten += u64::from(!ended && facts.until() > now);
                leave(minutes, *facts);
            }
            !goes
        });
        self.count -= (before - list.len()) as u64;
        if list.len() < before && room_for(list.len()) < capacity - capacity / 8 {
            *list = fitted(list);
            self.bytes -= ((capacity - list.capacity()) * ENTRY) as u64;
        }
    }
}

/// The list that a list is split from.
fn origin_of(list: usize) -> usize {
    list - (list + 1).next_power_of_two() / 2
}

/// One of that minute less.
fn leave(minutes: &mut BTreeMap<u64, u64>, facts: Facts) {
    let minute = facts.minute();
    if let Some(count) = minutes.get_mut(&minute) {
        *count -= 1;
        if *count == 0 {
            minutes.remove(&minute);
        }
    }
}

/// How many entries fit into the block of memory that so many need: allocators give blocks in steps of a
/// quarter of a power of two, so whatever is asked for in between is wasted.
fn room_for(entries: usize) -> usize {
    let bytes = entries * ENTRY;
    let step = (bytes.next_power_of_two() / 8).max(ENTRY);
    bytes.div_ceil(step) * step / ENTRY
}

/// The entries in a block that fits them.
fn fitted(entries: &[Entry]) -> Vec<Entry> {
    let mut list = Vec::with_capacity(room_for(entries.len()));
    list.extend_from_slice(entries);
    list
}

#[cfg(test)]
mod tests {
    use super::{BYTES_A_SID, Facts, LISTS_A_SWEEP, SidKey, Sids, USUAL_WINDOW_MS};

    const DAY: u64 = USUAL_WINDOW_MS;
    const MINUTE: u64 = 60_000;

    /// A key that nobody has to make a digest of.
    fn key(number: u64) -> SidKey {
        SidKey([number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number])
    }

    /// Every list looked at once.
    fn sweep_all(sids: &mut Sids, now: u64) {
        for _ in 0..=2 * sids.lists.len() / LISTS_A_SWEEP {
            sids.sweep(now);
        }
    }

    #[test]
    fn a_sid_takes_no_more_than_32_bytes_at_any_count() {
        let mut sids = Sids::default();
        for number in 0..1_500_000 {
            sids.remember(key(number), 1, DAY);
            let bytes = sids.bytes();
            assert!(number < 20_000 || bytes <= (number + 1) * BYTES_A_SID, "{bytes} for {number}");
        }
        assert!((0..1_500_000).all(|number| sids.remembers(key(number), DAY)));
        assert!(!(0..1_500_000).any(|number| sids.remembers(key(number), DAY + 1)));
    }

    #[test]
    fn what_a_night_leaves_takes_no_more_than_32_bytes_either() {
        let mut sids = Sids::default();
        for number in 0..400_000 {
            let window = if number % 8 == 0 { DAY } else { 300_000 };
            sids.remember(key(number), 0, window);
            sids.settle(key(number));
        }
        sweep_all(&mut sids, 10 * MINUTE);
        assert_eq!(sids.count(), 50_000);
        assert!(sids.bytes() <= 50_000 * BYTES_A_SID, "{}", sids.bytes());
    }

    #[test]
    fn what_has_outlived_its_time_goes_as_others_come() {
        let mut sids = Sids::default();
        for number in 0..100_000 {
            // Ten a second, so 3,000 at a time.
            sids.remember(key(number), number * 100, 300_000);
            sids.settle(key(number));
        }
        assert!(sids.count() < 3_000 + 600 + 200, "{}", sids.count());
        assert_eq!(sids.take_forgotten(), 0);
    }

    #[test]
    fn of_too_many_the_oldest_go_early_and_are_counted() {
        let mut sids = Sids::default();
        for number in 0..20_000 {
            let now = number * 1_000;
            sids.remember(key(number), now, DAY);
            sids.settle(key(number));
            sids.keep_within(10_000 * BYTES_A_SID, now);
        }
        sweep_all(&mut sids, 20_000_000);
        assert!((9_900..=10_000).contains(&sids.count()), "{}", sids.count());
        assert_eq!(sids.take_forgotten(), 20_000 - sids.count());
        assert!((10_100..20_000).all(|number| sids.remembers(key(number), 20_000_000)));
    }

    #[test]
    fn none_goes_early_that_is_young_or_whose_message_waits() {
        let mut sids = Sids::default();
        for number in 0..1_000 {
            sids.remember(key(number), number * 1_000, DAY);
            if number >= 10 {
                sids.settle(key(number));
            }
        }
        sids.keep_within(0, 1_000_000);
        sweep_all(&mut sids, 1_000_000);
        assert!((0..10).all(|number| sids.remembers(key(number), 1_000_000)), "they wait");
        assert!(!(10..600).any(|number| sids.remembers(key(number), 1_000_000)));
        assert!((700..1_000).all(|number| sids.remembers(key(number), 1_000_000)), "300 s old");
    }

    #[test]
    fn a_key_that_is_remembered_anew_counts_once() {
        let mut sids = Sids::default();
        sids.remember(key(1), 0, 300_000);
        sids.remember(key(1), 300_000, DAY);
        assert_eq!((sids.count(), sids.minutes.len()), (1, 1));
        assert_eq!(sids.until(key(1)), Some(300_000 + DAY));
    }

    #[test]
    fn the_same_key_in_another_shard_is_another_one() {
        let sid = kanarie_words::ids::DedupKey::parse("AC1:SM1").unwrap();
        assert!(SidKey::of(0, &sid) != SidKey::of(1, &sid));
    }

    #[test]
    fn facts_say_what_they_were_told() {
        let facts = Facts::new(1_767_315_683_317 + DAY, DAY, true);
        assert_eq!((facts.until(), facts.waits()), (1_767_315_683_317 + DAY, true));
        assert_eq!(facts.minute(), 1_767_315_683_317 / MINUTE);
        assert_eq!(Facts::new(u64::MAX, u64::MAX, false).until(), (1 << 44) - 1);
        let long = Facts::new(40 * DAY, 40 * DAY, false);
        assert!(long.minute() > 0, "a window that is too long to note makes it seem younger");
    }
}
