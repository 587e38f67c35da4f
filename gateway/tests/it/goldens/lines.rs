//! A line of each event, as text and as JSON: what it says, and what it says it about.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kanarie_gateway::events::control::ControlEvent;
use kanarie_gateway::events::deliveries::DeliveryEvent;
use kanarie_gateway::events::outbound::OutboundEvent;
use kanarie_gateway::events::routes::RoutesEvent;
use kanarie_gateway::events::store::StoreEvent;
use kanarie_gateway::events::{Event, Unanswered, emit};
use kanarie_gateway::labels::{
    Bound, Caller, CloseReason, ControlAct, DeadLetterClass, Endpoint, LifecycleChange, ReplyOf,
    RoutesTrouble, SendClass, WebhookOutcome,
};
use kanarie_gateway::subject::{self, Subject};
use kanarie_queue::delivery::Delivery;
use kanarie_words::class::Class;
use kanarie_words::ids::ConversationId;
use kanarie_words::track::Track;
use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;

use crate::goldens::is_golden;

#[test]
fn the_lines_of_a_turn_name_its_channel_conversation_and_message() {
    let told = lines(false, outbound().into_iter().map(Event::Outbound), Some(turn()));
    for line in told.lines() {
        let subject = "turn{channel=uid-1 conversation=abababab message_sid=SM7}: ";
        assert!(line.contains(subject), "{line}");
    }
    is_golden("lines-of-turns.txt", &told);
    let told = lines(true, outbound().into_iter().map(Event::Outbound), Some(turn()));
    is_golden("lines-of-turns.jsonl", &told);
}

#[test]
fn the_lines_of_a_webhook_name_what_it_has_learned() {
    let events = || webhooks().into_iter();
    is_golden("lines-of-webhooks.txt", &lines(false, events(), Some(Subject::webhook())));
    is_golden("lines-of-webhooks.jsonl", &lines(true, events(), Some(Subject::webhook())));
}

#[test]
fn all_other_lines_are_about_the_gateway() {
    let events = || gateway().into_iter().chain(deliveries());
    is_golden("lines-of-the-gateway.txt", &lines(false, events(), None));
    is_golden("lines-of-the-gateway.jsonl", &lines(true, events(), None));
}

#[test]
fn every_event_is_among_them() {
    let mut seen = [false; EVENTS];
    let turns = outbound().into_iter().map(Event::Outbound);
    let others = webhooks().into_iter().chain(gateway()).chain(deliveries());
    others.chain(turns).for_each(|e| seen[place(&e)] = true);
    assert_eq!(seen, [true; EVENTS]);
}

fn turn() -> Subject {
    Subject::turn(&"uid-1".parse().unwrap(), None, &conversation())
}

fn conversation() -> ConversationId {
    ConversationId::from_bytes([0xab; 16])
}

fn webhooks() -> Vec<Event> {
    let took = Duration::from_micros(1_500);
    vec![
        Event::Webhook { endpoint: Endpoint::Message, outcome: WebhookOutcome::Queued, took },
        Event::StoreFailed { error: "the store is away".to_owned() },
    ]
}

fn outbound() -> Vec<OutboundEvent> {
    let (error, channel) = ("the store is away".to_owned(), "shop/cars".to_owned());
    let took = Duration::from_millis(1_500);
    let asked = |class, failure: Option<&str>| OutboundEvent::Asked {
        channel: channel.clone(),
        track: Track::Canary,
        class,
        took,
        failure: failure.map(str::to_owned),
    };
    vec![
        OutboundEvent::StoreFailed { error: error.clone() },
        OutboundEvent::LeaseLost,
        OutboundEvent::LeftForNewer,
        asked(Class::Success, None),
        asked(Class::Http, Some("the agent answered 500")),
        OutboundEvent::Rescued,
        OutboundEvent::Posted { refused: None, code: None, known: false },
        OutboundEvent::Posted { refused: Some(SendClass::OptOut), code: Some(63_024), known: true },
        OutboundEvent::ListFailed { error },
        OutboundEvent::CredentialsRefused { channel: channel.clone(), code: Some(20_003) },
        OutboundEvent::Answered { channel, of: ReplyOf::Canary, took },
        OutboundEvent::DeadLetter { class: DeadLetterClass::Timeout },
    ]
}

fn gateway() -> Vec<Event> {
    let error = || "an error".to_owned();
    let channel = || "shop/cars".to_owned();
    let line = |method, path: &str| Some(Unanswered { method, path: path.to_owned(), requests: 7 });
    let trouble = |kind| Event::Routes(RoutesEvent::Trouble { kind, error: error() });
    vec![
        Event::Unanswered { caller: Caller::Signed, line: line("POST", "/webhooks/_") },
        Event::Unanswered { caller: Caller::Unsigned, line: line("GET", "/_") },
        Event::StoreOutageBegan { error: error() },
        Event::StoreOutageEnded { failures: 12, lasted: Duration::from_secs(3) },
        Event::StoreLacks { lacks: "the store may lose messages".to_owned() },
        Event::ChannelFull { channel: channel(), bound: Bound::Messages },
        Event::ChannelHasRoom { channel: channel(), bound: Bound::Messages },
        Event::WithoutIpv6 { instead: "0.0.0.0:8080".parse().unwrap() },
        Event::FewFiles { files: 1_024, connections: 512 },
        Event::AcceptFailed { error: error() },
        Event::ConnectionClosed { reason: CloseReason::SlowHeader },
        Event::Lifecycle { change: LifecycleChange::Started },
        Event::TaskEnded { error: error() },
        Event::Outbound(OutboundEvent::TakenOver { replica: "gateway-2".to_owned(), leases: 3 }),
        Event::Store(StoreEvent::Opened { rows: 9, took: Duration::from_millis(7) }),
        Event::Store(StoreEvent::MemoryFull { bytes: 9, sids: 7 }),
        Event::Store(StoreEvent::MemoryHasRoom { bytes: 8, sids: 7 }),
        Event::Store(StoreEvent::DiskShort),
        Event::Store(StoreEvent::DiskHasRoom),
        Event::Store(StoreEvent::Compacted { from: 9, to: 7, took: Duration::from_millis(5) }),
        Event::Store(StoreEvent::NotCompacted { error: error() }),
        Event::Store(StoreEvent::SidsForgotten { count: 7, begins: true }),
        Event::Store(StoreEvent::SidsForgotten { count: 7, begins: false }),
        Event::Routes(RoutesEvent::Alone { channels: 2 }),
        Event::Routes(RoutesEvent::ReadAgain { channels: 3 }),
        Event::Routes(RoutesEvent::OtherKey),
        trouble(RoutesTrouble::Unreadable),
        trouble(RoutesTrouble::Unavailable),
        trouble(RoutesTrouble::Refused),
        trouble(RoutesTrouble::Heartbeat),
        Event::Control(replayed(false)),
        Event::Control(replayed(true)),
    ]
}

/// One dead letter, or many.
fn replayed(many: bool) -> ControlEvent {
    ControlEvent {
        act: ControlAct::Replay,
        peer: Some("10.0.0.7:40000".to_owned()),
        letter: (!many).then(|| "07-42".to_owned()),
        channel: Some("shop/cars".to_owned()),
        class: Some("http".to_owned()),
        conversation: (!many).then(|| subject::short(&conversation()).to_owned()),
        letters: if many { 12 } else { 1 },
        messages: 0,
        is_whole: true,
    }
}

fn deliveries() -> Vec<Event> {
    let channel = || "shop/cars".to_owned();
    let changed = |status, code, known| {
        let delivery = Delivery::reported(status, code).unwrap();
        DeliveryEvent::Changed { channel: channel(), delivery, known }
    };
    let events = [
        changed("delivered", None, false),
        changed("failed", Some(63_016), true),
        DeliveryEvent::UnknownStatus { channel: channel() },
        DeliveryEvent::Dropped { reports: 64 },
        DeliveryEvent::UndeliveredBegan {
            channel: channel(),
            code: Some(63_016),
            class: Some(SendClass::NeedsTemplate),
            conversation: conversation(),
        },
        DeliveryEvent::UndeliveredBegan {
            channel: channel(),
            code: None,
            class: None,
            conversation: conversation(),
        },
        DeliveryEvent::UndeliveredEnded {
            channel: channel(),
            code: Some(63_016),
            replies: 10_000,
            lasted: Duration::from_secs(90),
        },
    ];
    events.into_iter().map(Event::Delivery).collect()
}

/// How many kinds of events there are: whoever adds one adds a line above.
const EVENTS: usize = 43;

fn place(event: &Event) -> usize {
    match event {
        Event::Webhook { .. } => 0,
        Event::Unanswered { .. } => 1,
        Event::StoreFailed { .. } => 2,
        Event::StoreOutageBegan { .. } => 3,
        Event::StoreOutageEnded { .. } => 4,
        Event::ChannelFull { .. } => 5,
        Event::ChannelHasRoom { .. } => 6,
        Event::WithoutIpv6 { .. } => 7,
        Event::AcceptFailed { .. } => 8,
        Event::ConnectionClosed { .. } => 9,
        Event::Lifecycle { .. } => 10,
        Event::TaskEnded { .. } => 11,
        Event::FewFiles { .. } => 40,
        Event::Routes(RoutesEvent::Alone { .. }) => 12,
        Event::Routes(RoutesEvent::ReadAgain { .. }) => 13,
        Event::Routes(RoutesEvent::OtherKey) => 14,
        Event::Routes(RoutesEvent::Trouble { .. }) => 15,
        Event::Store(StoreEvent::Opened { .. }) => 34,
        Event::Store(StoreEvent::MemoryFull { .. }) => 35,
        Event::Store(StoreEvent::MemoryHasRoom { .. }) => 36,
        Event::Store(StoreEvent::DiskShort) => 37,
        Event::Store(StoreEvent::DiskHasRoom) => 38,
        Event::Store(StoreEvent::SidsForgotten { .. }) => 39,
        Event::Store(StoreEvent::Compacted { .. }) => 41,
        Event::Store(StoreEvent::NotCompacted { .. }) => 42,
        Event::Outbound(event) => match event {
            OutboundEvent::StoreFailed { .. } => 16,
            OutboundEvent::TakenOver { .. } => 17,
            OutboundEvent::LeaseLost => 18,
            OutboundEvent::LeftForNewer => 19,
            OutboundEvent::Asked { .. } => 20,
            OutboundEvent::Rescued => 21,
            OutboundEvent::Posted { .. } => 22,
            OutboundEvent::ListFailed { .. } => 23,
            OutboundEvent::CredentialsRefused { .. } => 24,
            OutboundEvent::Answered { .. } => 25,
            OutboundEvent::DeadLetter { .. } => 26,
        },
        Event::Delivery(event) => match event {
            DeliveryEvent::Changed { .. } => 27,
            DeliveryEvent::UnknownStatus { .. } => 28,
            DeliveryEvent::Dropped { .. } => 29,
            DeliveryEvent::UndeliveredBegan { .. } => 30,
            DeliveryEvent::UndeliveredEnded { .. } => 31,
        },
        Event::StoreLacks { .. } => 32,
        Event::Control(_) => 33,
    }
}

/// What is written when these happen to somebody who works on `subject`.
fn lines(json: bool, events: impl Iterator<Item = Event>, subject: Option<Subject>) -> String {
    let written = Written::default();
    let format = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(written.clone())
        .without_time();
    let subscriber: Box<dyn Subscriber + Send + Sync> = if json {
        Box::new(format.json().with_span_list(false).finish())
    } else {
        Box::new(format.finish())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let told = async {
        subject::of(&conversation());
        subject::about(&"SM7".parse().unwrap());
        events.for_each(emit);
    };
    tracing::subscriber::with_default(subscriber, || match subject {
        Some(subject) => runtime.block_on(subject.within(told)),
        None => runtime.block_on(told),
    });
    String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
}

/// Lines in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
