//! What the client of the agents reads, waits for and finds again: without a store, in real time.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::FutureExt as _;
use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute};
use kanarie_gateway::envelope::{InboundMessage, MessageKind};
use kanarie_gateway::outbound::agent::Agents;
use kanarie_gateway::outbound::agent::address::Allow;
use kanarie_gateway::outbound::agent::answer::{Answer, Attempt, Failure, Question};
use kanarie_gateway::outbound::agent::interrupt::Interrupt;
use kanarie_gateway::outbound::agent::langgraph::Run;
use kanarie_words::ids::ConversationId;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::worker::agents::{HttpAgent, LangGraph, Next, NextRun};
use crate::worker::world::{graph, http, revision};

/// Asks, and remembers what is kept with the head.
struct Asker {
    agents: Agents,
    revision: RevisionRoute,
    kept: Mutex<Vec<Run>>,
}

impl Asker {
    fn new(agent: AgentRoute) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agents = Agents::new(Allow::new(vec!["127.0.0.0/8".parse().unwrap()])).unwrap();
        Self { agents, revision: revision("one", agent), kept: Mutex::default() }
    }

    async fn graph() -> (Self, LangGraph) {
        let server = LangGraph::start().await;
        (Self::new(graph(&server.url, "agent")), server)
    }

    async fn http() -> (Self, HttpAgent) {
        let agent = HttpAgent::start("agent").await;
        (Self::new(http(&agent.url)), agent)
    }

    fn within(mut self, millis: u64) -> Self {
        self.revision.timeout_ms = millis;
        self
    }

    async fn attempt(
        &self,
        sid: &str,
        text: &str,
        interrupt: Option<&Interrupt>,
        resume: Option<&Run>,
    ) -> Attempt {
        let message = InboundMessage {
            sid: sid.parse().unwrap(),
            account: "AC1".parse().unwrap(),
            sender: "whatsapp:+14155238886".parse().unwrap(),
            customer: "whatsapp:+14017122661".parse().unwrap(),
            text: text.to_owned(),
            media: Vec::new(),
            location: None,
            button: None,
            kind: MessageKind::Text,
            received_at: 1_763_460_000_000,
            namespace: None,
        };
        let channel = ChannelRef {
            namespace: "shop".to_owned(),
            name: "cars".to_owned(),
            uid: "uid-1".parse().unwrap(),
        };
        let conversation = ConversationId::from_bytes([1; 16]);
        let question = Question {
            channel: &channel,
            conversation: &conversation,
            message: &message,
            interrupt,
            may_have_begun: false,
        };
        let keep = |run: String| {
            self.kept.lock().unwrap().push(Run::parse(&run).unwrap());
            async { true }.boxed()
        };
        self.agents.ask(question, &self.revision, resume, &keep).await
    }

    async fn ask(&self, sid: &str, text: &str) -> Result<Answer, Failure> {
        self.attempt(sid, text, None, None).await.outcome
    }

    /// Asks about the message that comes after a question.
    async fn answer(&self, interrupt: &Interrupt, text: &str) -> Result<Answer, Failure> {
        self.attempt("SM2", text, Some(interrupt), None).await.outcome
    }

    /// The question that a graph stops to ask about the first message.
    async fn question(&self) -> (String, Interrupt) {
        match self.ask("SM1", "Hallo").await {
            Ok(Answer::Interrupted { text, interrupt }) => (text, interrupt),
            other => panic!("{other:?}"),
        }
    }

    fn kept(&self) -> Vec<Run> {
        self.kept.lock().unwrap().clone()
    }
}

fn text(text: &str) -> Result<Answer, Failure> {
    Ok(Answer::Text(text.to_owned()))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_answer_is_asked_for_uncompressed_and_read_compressed() {
    let (asker, agent) = Asker::http().await;
    agent.next(Next::Bytes("gzip", gzip(r#"{"text": "Goed"}"#)));
    assert_eq!(asker.ask("SM1", "Hallo").await, text("Goed"));
    assert_eq!(agent.asked()[0].accept_encoding.as_deref(), Some("identity"));
    agent.next(Next::Bytes("br", vec![0x8b, 0x03]));
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::Encoded));
}

#[tokio::test]
async fn half_a_character_of_an_answer_is_replaced() {
    let (asker, agent) = Asker::http().await;
    agent.next(Next::Body(r#"{"text": "Goed \ud83d"}"#.to_owned()));
    assert_eq!(asker.ask("SM1", "Hallo").await, text("Goed \u{fffd}"));
    agent.next(Next::Bytes("", b"\xef\xbb\xbf{\"text\": \"Go\xffed\"}".to_vec()));
    assert_eq!(asker.ask("SM1", "Hallo").await, text("Go\u{fffd}ed"));
}

#[tokio::test]
async fn a_busy_agent_says_for_how_long() {
    let (asker, agent) = Asker::http().await;
    for status in [408, 425, 429, 503] {
        agent.next(Next::Busy(status, 20));
        let retry_after = Some(Duration::from_secs(20));
        assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::Busy { status, retry_after }));
    }
    agent.next(Next::Busy(409, 20));
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::Status(409)));
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Refuse(409));
    let retry_after = Some(Duration::from_secs(7));
    let busy = Failure::Busy { status: 409, retry_after };
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(busy), "its thread has another run");
}

#[tokio::test]
async fn two_states_of_40_mib_are_read_at_once() {
    let (asker, server) = Asker::graph().await;
    let picture = "QUJD".repeat(10 * 1024 * 1024);
    let block = json!([{ "type": "image_url", "image_url": { "url": picture } }]);
    for sid in ["SM1", "SM2"] {
        server.next(NextRun::Values(json!({ "messages": [
            { "type": "human", "id": "SM0", "content": block },
            { "type": "ai", "id": "a0", "content": "Oud" },
            { "type": "human", "id": sid, "content": "Hallo" },
            { "type": "ai", "id": "a1", "content": "Dag" },
        ] })));
    }
    let asker = asker.within(60_000);
    let both = tokio::join!(asker.ask("SM1", "Hallo"), asker.ask("SM2", "Hoi"));
    assert_eq!(both, (text("Dag"), text("Dag")));
}

#[tokio::test]
async fn a_text_that_no_reply_can_have_is_too_long() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Values(json!({ "messages": [
        { "type": "human", "id": "SM1", "content": "Hallo" },
        { "type": "ai", "id": "a1", "content": "a".repeat(200_000) },
    ] })));
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::TooLong));
}

#[tokio::test]
async fn the_new_text_of_a_trimmed_history_is_the_answer() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Trim);
    assert_eq!(asker.ask("SM1", "Hallo").await, text("agent answers"));
    assert_eq!(server.calls(), ["wait agent", "history r0"]);
}

#[tokio::test]
async fn an_earlier_answer_is_not_repeated_from_a_trimmed_history() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::TrimSilently);
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::NoText));
    assert_eq!(server.calls(), ["wait agent", "history r0"]);
}

#[tokio::test]
async fn a_history_with_the_own_message_is_not_asked_for_more() {
    let (asker, server) = Asker::graph().await;
    assert_eq!(asker.ask("SM1", "Hallo").await, text("agent answers"));
    assert_eq!(server.calls(), ["wait agent"]);
}

#[tokio::test]
async fn a_question_of_a_graph_is_answered_by_the_next_message() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Which colour?")));
    let (asked, interrupt) = asker.question().await;
    assert_eq!(asked, "Which colour?");
    let kept = Interrupt::parse(&interrupt.kept()).unwrap();
    assert_eq!(asker.answer(&kept, "Blauw").await, text("agent heard \"Blauw\""));
    assert_eq!(server.calls(), ["wait agent", "state", "resume agent \"Blauw\"", "state c1"]);
}

#[tokio::test]
async fn one_of_two_questions_is_answered_by_its_id() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::AskTwice(json!({ "n": 1, "question": "Colour?" }), json!("Size?")));
    let (asked, interrupt) = asker.question().await;
    assert_eq!(asked, "Colour?");
    let answer = asker.answer(&interrupt, "Blauw").await;
    assert_eq!(answer, text(r#"agent heard {"q0 SM1":"Blauw"}"#));
}

#[tokio::test]
async fn a_graph_may_ask_again() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    server.next(NextRun::Ask(json!({ "message": "Colour, please?" })));
    let (_, interrupt) = asker.question().await;
    let again = asker.answer(&interrupt, "Eh").await;
    assert!(matches!(again, Ok(Answer::Interrupted { text, .. }) if text == "Colour, please?"));
}

#[tokio::test]
async fn a_question_that_somebody_else_answered_makes_a_plain_message() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    let (_, interrupt) = asker.question().await;
    server.answer_elsewhere();
    assert_eq!(asker.answer(&interrupt, "Blauw").await, text("agent answers"));
    assert_eq!(server.calls(), ["wait agent", "state", "wait agent"]);
}

#[tokio::test]
async fn a_question_of_a_thread_that_is_gone_makes_a_plain_message() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    let (_, interrupt) = asker.question().await;
    server.forget();
    assert_eq!(asker.answer(&interrupt, "Blauw").await, text("agent answers"));
    let calls = ["wait agent", "state", "resume agent \"Blauw\"", "wait agent"];
    assert_eq!(server.calls(), calls);
}

#[tokio::test]
async fn a_question_of_another_assistant_or_of_yesterday_is_not_answered() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    let (_, interrupt) = asker.question().await;
    let other = Interrupt { assistant: "other".to_owned(), ..interrupt.clone() };
    let old = Interrupt { at: interrupt.at - 25 * 60 * 60 * 1_000, ..interrupt };
    for interrupt in [other, old] {
        assert_eq!(asker.answer(&interrupt, "Blauw").await, text("agent answers"));
    }
    assert_eq!(server.calls(), ["wait agent", "wait agent", "wait agent"]);
}

#[tokio::test]
async fn a_resumed_run_that_says_nothing_new_repeats_nothing() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    server.next(NextRun::TrimSilently);
    let (_, interrupt) = asker.question().await;
    assert_eq!(asker.answer(&interrupt, "Blauw").await, Err(Failure::NoText));
}

#[tokio::test]
async fn whoever_takes_a_resumed_run_over_knows_what_was_there_before() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::Ask(json!("Colour?")));
    let (_, interrupt) = asker.question().await;
    asker.answer(&interrupt, "Blauw").await.unwrap();
    let run = asker.kept().pop().unwrap();
    let attempt = asker.attempt("SM2", "Blauw", Some(&interrupt), Some(&run)).await;
    assert_eq!(attempt.outcome, text("agent heard \"Blauw\""));
    assert_eq!(server.calls()[4..], ["join r1", "state c1"]);
}

#[tokio::test]
async fn a_run_that_was_begun_unheard_is_cancelled_at_the_deadline() {
    let (asker, server) = Asker::graph().await;
    server.next(NextRun::HangUnheard);
    let asker = asker.within(300);
    assert_eq!(asker.ask("SM1", "Hallo").await, Err(Failure::Deadline));
    assert_eq!(server.calls(), ["wait agent", "runs", "cancel r0"]);
    assert_eq!(asker.kept()[0].run, "r0", "whoever takes the message over knows it too");
}

/// When a server closes a connection that it kept.
#[derive(Clone)]
enum Closes {
    /// When the next one is used again after this was set, and unread. It is taken back then.
    Unread(Arc<AtomicBool>),
    /// After so much idle time.
    After(Duration),
}

/// Hands every request on to `behind` and its answer back; counts them.
async fn proxy(behind: &str, closes: Closes) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (count, counted) = (Arc::new(AtomicUsize::new(0)), behind.replace("http://", ""));
    let requests = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (count, behind) = (Arc::clone(&requests), counted.clone());
            let closes = closes.clone();
            tokio::spawn(async move {
                while let Some(request) = read_message(&mut stream).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut onward = TcpStream::connect(&behind).await.unwrap();
                    onward.write_all(&request).await.unwrap();
                    let answer = read_message(&mut onward).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                    let mut first = [0];
                    let next = stream.peek(&mut first).map(drop);
                    let is_over = match &closes {
                        Closes::Unread(now) => {
                            next.await;
                            now.swap(false, Ordering::SeqCst)
                        }
                        Closes::After(idle) => timeout(*idle, next).await.is_err(),
                    };
                    if is_over {
                        return;
                    }
                }
            });
        }
    });
    (url, count)
}

/// The bytes of a request or an answer; none at the end of the connection.
async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes.clone()).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).map(|rest| rest.split("\r\n").next());
    let length = length.flatten().map_or(0, |length| length.parse().unwrap());
    let begin = bytes.len();
    bytes.resize(begin + length, 0);
    stream.read_exact(&mut bytes[begin..]).await.ok()?;
    Some(bytes)
}

#[tokio::test]
async fn a_kept_connection_that_the_other_end_closed_costs_no_try_and_no_doubled_question() {
    let agent = HttpAgent::start("agent").await;
    let closed = Arc::new(AtomicBool::new(false));
    let (url, requests) = proxy(&agent.url, Closes::Unread(Arc::clone(&closed))).await;
    let asker = Asker::new(http(&url));
    for _ in 0..4 {
        closed.store(true, Ordering::SeqCst);
        assert_eq!(asker.ask("SM1", "Hallo").await, text("agent: Hallo"));
    }
    assert_eq!((agent.asked().len(), requests.load(Ordering::SeqCst)), (4, 4));
}

#[tokio::test]
async fn a_run_on_a_connection_that_the_other_end_closed_is_begun_once() {
    let server = LangGraph::start().await;
    let closed = Arc::new(AtomicBool::new(false));
    let (url, _) = proxy(&server.url, Closes::Unread(Arc::clone(&closed))).await;
    let asker = Asker::new(graph(&url, "agent"));
    assert_eq!(asker.ask("SM1", "Hallo").await, text("agent answers"));
    closed.store(true, Ordering::SeqCst);
    assert_eq!(asker.ask("SM2", "Hallo").await, text("agent answers"));
    assert_eq!(server.calls(), ["wait agent", "runs", "wait agent"], "it was looked for first");
    assert!(!closed.load(Ordering::SeqCst), "a connection was closed");
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_just_then_is_asked_once_each_time() {
    let agent = HttpAgent::start("agent").await;
    let (url, requests) = proxy(&agent.url, Closes::After(Duration::from_millis(20))).await;
    let asker = Asker::new(http(&url));
    for pause in [0, 10, 18, 19, 20, 21, 22, 30, 60] {
        sleep(Duration::from_millis(pause)).await;
        assert_eq!(asker.ask("SM1", "Hallo").await, text("agent: Hallo"));
    }
    assert_eq!((agent.asked().len(), requests.load(Ordering::SeqCst)), (9, 9));
}

#[tokio::test]
async fn a_connection_that_breaks_on_its_first_question_is_a_failure_and_not_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let asker = Asker::new(http(&format!("http://{}", listener.local_addr().unwrap())));
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_message(&mut stream).await;
    };
    let (outcome, ()) = tokio::join!(asker.ask("SM1", "Hallo"), accept);
    assert_eq!(outcome, Err(Failure::Broken));
    let again = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(again.is_err(), "it was asked once");
}

#[tokio::test]
async fn a_url_to_a_private_address_is_refused_where_that_is_denied_and_a_service_is_not() {
    for (service_ref, refused) in [(Some(false), true), (Some(true), false), (None, false)] {
        let url = "http://10.255.255.1:9/".to_owned();
        let http = AgentRoute::Http { url: url.clone(), service_ref, token: None };
        let assistant_id = "care".to_owned();
        let graph = AgentRoute::LangGraph { url, service_ref, assistant_id, api_key: None };
        for agent in [http, graph] {
            let mut asker = Asker::new(agent).within(50);
            asker.agents = Agents::new(Allow::default().only_public()).unwrap();
            let outcome = asker.attempt("SM1", "Hallo", None, None).await.outcome;
            assert_eq!(outcome == Err(Failure::Address), refused, "{service_ref:?}: {outcome:?}");
        }
    }
}
