//! What becomes of replies, taken beside the messages' way and told to the store by the batch.
//!
//! Takes status callbacks that were verified, without waiting; tells the store of up to 64 of them at
//! once, 200 ms after the first at the latest, and counts and logs what its answer calls a change: so
//! one change counts once over a whole fleet. What the store is known to have costs it nothing. Holds so
//! many while the store is away, and of one channel never more than places are left to the others; what
//! comes beyond is dropped and counted. Never delays a callback's answer, and never wakes or ends a
//! turn: `reports.rs` does.

mod told;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::route::ChannelRef;
use kanarie_queue::deliveries::NoteDeliveries;
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_words::ids::ChannelUid;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::callback::SegmentId;
use crate::deliveries::told::Told;
use crate::events::deliveries::DeliveryEvent;
use crate::events::emit;
use crate::outbound::twilio::classify::classify_code;
use crate::recent::Recent;
use crate::stop::stopped;
use crate::store::SharedStore;
use crate::store::error::StoreError;

/// Tells the store of what was taken until `ending` says true, and then of what is left.
pub async fn tell(deliveries: Deliveries, store: SharedStore, mut ending: watch::Receiver<bool>) {
    let mut teller = Teller { deliveries, store, told: Told::default() };
    while !*ending.borrow() {
        tokio::select! {
            () = teller.deliveries.batch() => teller.tell(Some(&mut ending)).await,
            () = until(teller.told.next()) => {}
            () = stopped(&mut ending) => {}
        }
        teller.say_what_is_over();
    }
    while !teller.deliveries.is_empty() {
        teller.tell(None).await;
    }
}

/// Reports that the store is told at once.
const BATCH: usize = 64;
/// Longest that a report waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// Reports that wait at most, a megabyte.
const MOST: usize = 4_096;
/// Between two tries while the store gives no answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Where callbacks leave what they say of a reply. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    reports: Mutex<Reports>,
    /// The first of a batch came, or the last.
    came: Notify,
    /// What the store has of the last segments, so that nothing settled costs it a trip.
    known: Recent<Delivery, 16_384>,
}

/// Reports that wait, in the order in which they came.
#[derive(Debug, Default)]
struct Reports {
    all: VecDeque<Taken>,
    /// How many are of each channel.
    of: BTreeMap<ChannelUid, usize>,
}

/// A report and its channel as people name it.
#[derive(Clone, Debug)]
struct Taken {
    channel: String,
    report: SegmentReport,
}

impl Deliveries {
    /// Takes a callback of a segment, with status and error code as Twilio says them.
    pub fn note(&self, channel: &ChannelRef, id: &SegmentId, status: &str, code: Option<u32>) {
        let name = channel.to_string();
        let Some(delivery) = Delivery::reported(status, code) else {
            return emit(DeliveryEvent::UnknownStatus { channel: name });
        };
        if self.0.known.get(id).is_some_and(|known| delivery <= known) {
            return;
        }
        let SegmentId { conversation, intent, segment } = id.clone();
        let channel = channel.uid.clone();
        let report = SegmentReport { channel, conversation, intent, segment, delivery };
        let waiting = self.reports(|reports| reports.take_in(Taken { channel: name, report }));
        match waiting {
            None => emit(DeliveryEvent::Dropped { reports: 1 }),
            Some(1 | BATCH) => self.0.came.notify_one(),
            Some(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.reports(|reports| reports.all.len())
    }

    /// Waits for a batch: for the first report, and then for others until the batch is full or late.
    async fn batch(&self) {
        while self.is_empty() {
            self.0.came.notified().await;
        }
        let late = Instant::now() + LINGER;
        while self.len() < BATCH && Instant::now() < late {
            tokio::select! {
                () = self.0.came.notified() => {}
                () = sleep_until(late) => {}
            }
        }
    }

    fn take(&self) -> Vec<Taken> {
        self.reports(Reports::batch)
    }

    fn reports<T>(&self, with: impl FnOnce(&mut Reports) -> T) -> T {
        with(&mut self.0.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reports {
    /// Takes one in and gives how many wait then; none when there is no place for it. Whoever holds a
    /// channel's token can sign as many callbacks as he likes, so each channel leaves to all others as
    /// many places as it has.
    fn take_in(&mut self, taken: Taken) -> Option<usize> {
        let free = MOST.saturating_sub(self.all.len());
        let own = self.of.get(&taken.report.channel).copied().unwrap_or_default();
        if own >= free {
            return None;
        }
        self.of.insert(taken.report.channel.clone(), own + 1);
        self.all.push_back(taken);
        Some(self.all.len())
    }

    fn batch(&mut self) -> Vec<Taken> {
        let batch: Vec<Taken> = self.all.drain(..self.all.len().min(BATCH)).collect();
        for taken in &batch {
            let Some(own) = self.of.get_mut(&taken.report.channel) else { continue };
            *own -= 1;
            if *own == 0 {
                self.of.remove(&taken.report.channel);
            }
        }
        batch
    }
}

/// Who tells the store.
struct Teller {
    deliveries: Deliveries,
    store: SharedStore,
    told: Told,
}

impl Teller {
    /// Tells the store of one batch, again until there is an answer or the end. Told in vain at the end,
    /// or with an answer that makes no sense, it is dropped and counted.
    async fn tell(&mut self, mut ending: Option<&mut watch::Receiver<bool>>) {
        let batch = self.deliveries.take();
        let reports: Vec<SegmentReport> = batch.iter().map(|taken| taken.report.clone()).collect();
        loop {
            match self.store.run(NoteDeliveries { reports: reports.clone() }).await {
                Ok(changed) => return self.learn(&batch, &changed),
                Err(StoreError::Corrupt(_)) => break,
                // The store itself says that it is away, and when it is back.
                Err(StoreError::Unavailable(_) | StoreError::OutOfSpace(_)) => {}
            }
            let Some(ending) = ending.as_mut() else { break };
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = stopped(ending) => {}
            }
            if *ending.borrow() {
                break;
            }
        }
        emit(DeliveryEvent::Dropped { reports: reports.len() as u64 });
    }

    fn learn(&mut self, batch: &[Taken], changed: &[bool]) {
        for (Taken { channel, report }, is_change) in batch.iter().zip(changed) {
            let SegmentReport { conversation, intent, segment, delivery, .. } = report.clone();
            let id = SegmentId { conversation, intent, segment };
            self.deliveries.0.known.note(&id, delivery);
            if *is_change {
                self.say(channel, report);
            }
        }
    }

    fn say(&mut self, channel: &str, report: &SegmentReport) {
        let (delivery, channel) = (report.delivery, channel.to_owned());
        let class = delivery.code().and_then(classify_code);
        if delivery.is_undelivered()
            && self.told.is_first(&channel, delivery.code(), Instant::now())
        {
            emit(DeliveryEvent::UndeliveredBegan {
                channel: channel.clone(),
                code: delivery.code(),
                class,
                conversation: report.conversation.clone(),
            });
        }
        emit(DeliveryEvent::Changed { channel, delivery, known: class.is_some() });
    }

    fn say_what_is_over(&mut self) {
        for over in self.told.over(Instant::now()) {
            let told::Over { channel, code, replies, lasted } = over;
            emit(DeliveryEvent::UndeliveredEnded { channel, code, replies, lasted });
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use kanarie_crds::route::ChannelRef;
    use kanarie_queue::deliveries::{SumUndelivered, Undelivered};
    use kanarie_words::ids::ConversationId;
    use tokio::sync::watch;
    use tokio::time::{Instant, sleep};

    use super::{BATCH, Deliveries, LINGER, MOST, tell};
    use crate::callback::SegmentId;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{SharedStore, Store};

    fn channel() -> ChannelRef {
        channel_of(1)
    }

    fn channel_of(uid: u32) -> ChannelRef {
        let uid = format!("u-{uid}").parse().unwrap();
        ChannelRef { namespace: "shop".to_owned(), name: "care".to_owned(), uid }
    }

    fn id(segment: u32) -> SegmentId {
        let conversation = ConversationId::from_bytes([7; 16]);
        SegmentId { conversation, intent: "a1".parse().unwrap(), segment }
    }

    fn store() -> SharedStore {
        Arc::new(Store::Embedded(EmbeddedStore::in_memory(Arc::new(|| 1_000)).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_full_or_late() {
        let (deliveries, began) = (Deliveries::default(), Instant::now());
        deliveries.note(&channel(), &id(0), "sent", None);
        deliveries.batch().await;
        assert_eq!((began.elapsed(), deliveries.take().len()), (LINGER, 1));

        let many = u32::try_from(BATCH).unwrap() + 3;
        (0..many).for_each(|nth| deliveries.note(&channel(), &id(nth), "sent", None));
        let began = Instant::now();
        deliveries.batch().await;
        assert_eq!((began.elapsed(), deliveries.take().len()), (Duration::ZERO, BATCH));
        deliveries.batch().await;
        assert_eq!(deliveries.take().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let deliveries = Deliveries::default();
        let many = u32::try_from(MOST).unwrap() + 10;
        for uid in 0..20 {
            (0..many).for_each(|nth| deliveries.note(&channel_of(uid), &id(nth), "sent", None));
        }
        assert_eq!(deliveries.len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_reports_without_end_leaves_places_to_all_others() {
        let deliveries = Deliveries::default();
        let many = u32::try_from(2 * MOST).unwrap();
        (0..many).for_each(|nth| deliveries.note(&channel_of(1), &id(nth), "sent", None));
        assert_eq!(deliveries.len(), MOST / 2);
        (0..100).for_each(|nth| deliveries.note(&channel_of(2), &id(nth), "sent", None));
        assert_eq!(deliveries.len(), MOST / 2 + 100);
        while !deliveries.is_empty() {
            deliveries.take();
        }
        (0..many).for_each(|nth| deliveries.note(&channel_of(1), &id(nth), "sent", None));
        assert_eq!(deliveries.len(), MOST / 2, "what was told takes no place");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_at_the_end_is_told_and_what_was_told_is_no_news() {
        let (deliveries, store) = (Deliveries::default(), store());
        let (end, ending) = watch::channel(false);
        let told = tokio::spawn(tell(deliveries.clone(), Arc::clone(&store), ending));
        deliveries.note(&channel(), &id(0), "undelivered", Some(63_016));
        end.send_replace(true);
        told.await.unwrap();
        let expected = Undelivered {
            channel: channel().uid,
            count: 1,
            last_code: Some(63_016),
            last_at: 1_000,
        };
        assert_eq!(store.run(SumUndelivered).await.unwrap(), [expected]);
        for (status, code) in [("undelivered", Some(63_016)), ("sent", None), ("melted", None)] {
            deliveries.note(&channel(), &id(0), status, code);
        }
        assert!(deliveries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_told_though_no_other_comes() {
        let (deliveries, store) = (Deliveries::default(), store());
        let (_end, ending) = watch::channel(false);
        tokio::spawn(tell(deliveries.clone(), Arc::clone(&store), ending));
        for nth in 0..3 {
            deliveries.note(&channel(), &id(nth), "failed", None);
            while !deliveries.is_empty() {
                sleep(LINGER).await;
            }
        }
        while store.run(SumUndelivered).await.unwrap().first().is_none_or(|of| of.count < 3) {
            sleep(LINGER).await;
        }
    }
}
