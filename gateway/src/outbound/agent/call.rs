//! One call of an agent: sends a request, says what a status or an error means, reads the body.
//!
//! Takes a request and a deadline, gives what its visitor found in the answer, or why there is
//! none. A body is read while it comes, compressed or not, and never kept: one of any size up to
//! 256 MiB takes the same memory. Never lets the URL of an error out.

use std::io::Write as _;
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_ENCODING, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};
use tokio::time::{Instant, timeout_at};

use crate::outbound::agent::address::AddressRefused;
use crate::outbound::agent::answer::Failure;
use crate::outbound::agent::json::{Json, Unread, Visit};
use crate::outbound::agent::kept;
use crate::outbound::agent::room::Room;

/// Most bytes of an answer, when it is no longer compressed.
const LARGEST: u64 = 256 * 1024 * 1024;
/// What is handed to the reader at once.
const PIECE: usize = 8 * 1024;
/// The same of what is compressed: it may become a thousand times as long.
const SMALL_PIECE: usize = 64;
/// What is read, no longer compressed, before others have their turn.
const SLICE: u64 = 32 * 1024;
/// What a decoder holds besides.
const DECODER: usize = 80 * 1024;
/// Longest time that an agent may ask to be left alone.
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);
/// First byte of everything that gzip writes, and of no JSON.
const GZIP: u8 = 0x1f;

/// A request without a response.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// Its connection was kept and had been closed: all but certainly nobody read it.
    pub(crate) was_closed: bool,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// For the whole of it.
    pub(crate) deadline: Instant,
    /// For its next part, if there is such a limit.
    pub(crate) idle: Option<Duration>,
}

/// Sends a request that may be sent again, and does so when its connection had been closed.
pub(crate) async fn send(request: RequestBuilder, deadline: Instant) -> Result<Response, Failure> {
    let again = request.try_clone();
    match (send_once(request, deadline).await, again) {
        (Err(unanswered), Some(again)) if unanswered.was_closed => {
            send_once(again, deadline).await.map_err(|unanswered| unanswered.failure)
        }
        (sent, _) => sent.map_err(|unanswered| unanswered.failure),
    }
}

/// Sends a request.
pub(crate) async fn send_once(
    request: RequestBuilder,
    deadline: Instant,
) -> Result<Response, Unanswered> {
    match timeout_at(deadline, kept::send(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(kept::Broke { error, was_closed })) => {
            Err(Unanswered { failure: failure(&error), was_closed })
        }
        Err(_) => Err(Unanswered { failure: Failure::Deadline, was_closed: false }),
    }
}

/// What a status without an answer means: that the agent is busy, or that it failed.
pub(crate) fn refusal(response: &Response) -> Failure {
    let status = response.status().as_u16();
    match status {
        408 | 425 | 429 | 503 => {
            Failure::Busy { status, retry_after: retry_after(response.headers()) }
        }
        _ => Failure::Status(status),
    }
}

/// How long the other end asks to be left alone, in seconds or by a date. A date is taken against
/// the other end's own, so no two clocks have to agree.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let asked = text(RETRY_AFTER)?;
    let rest = match asked.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, now) = (date(asked)?, date(text(DATE)?)?);
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(rest.min(LONGEST_REST))
}

fn date(text: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(text).ok()?.timestamp())
}

/// Reads the body. What it waits for a place in memory is not taken from its time.
pub(crate) async fn read<V: Visit>(
    mut response: Response,
    visitor: &mut V,
    mut wait: Wait,
    mut room: Room<'_>,
) -> Result<(), Failure> {
    let encoded = is_encoded(response.headers());
    let mut body = Body::Fresh(Json::new(visitor, LARGEST));
    let (mut come, mut done, mut paused_at) = (0, 0, 0);
    while let Some(chunk) = next(&mut response, wait).await? {
        let chunk = chunk.as_ref();
        body = body.begin(chunk);
        come += chunk.len();
        // What is passed over has come all the same: it stands in the connection's buffer.
        wait.deadline += room.hold(come + body.decoder()).await?;
        for piece in chunk.chunks(body.piece()) {
            body.feed(piece).map_err(|unread| meaning(unread, encoded))?;
            // Compressed, it may also become nothing at all.
            done += piece.len() as u64;
            if body.read() + done - paused_at >= SLICE {
                paused_at = body.read() + done;
                tokio::task::yield_now().await;
            }
        }
    }
    body.finish().map_err(|unread| meaning(unread, encoded))
}

async fn next(response: &mut Response, wait: Wait) -> Result<Option<impl AsRef<[u8]>>, Failure> {
    let now = Instant::now();
    let until = wait.idle.map_or(wait.deadline, |idle| wait.deadline.min(now + idle));
    match timeout_at(until, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) if Instant::now() >= wait.deadline => Err(Failure::Deadline),
        Err(_) => Err(Failure::Broken),
    }
}

/// Whether the other end says that it compressed the body in a way that is not undone here.
fn is_encoded(headers: &HeaderMap) -> bool {
    let known = ["", "identity", "gzip", "x-gzip"];
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| {
        let word = encoding.to_str().unwrap_or("other").trim();
        !known.iter().any(|known| known.eq_ignore_ascii_case(word))
    })
}

fn meaning(unread: Unread, encoded: bool) -> Failure {
    match unread {
        Unread::TooLarge => Failure::TooLarge,
        Unread::Malformed if encoded => Failure::Encoded,
        Unread::Malformed => Failure::NotJson,
    }
}

/// What an error of the client means. The error itself names the URL, so it goes no further.
fn failure(error: &reqwest::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<AddressRefused>() {
            return Failure::Address;
        }
        source = cause.source();
    }
    if error.is_builder() {
        Failure::Url
    } else if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        Failure::Deadline
    } else {
        Failure::Broken
    }
}

/// A body that is being read. Compression is told by the first byte, whatever the headers say.
enum Body<'v, V: Visit> {
    Fresh(Json<'v, V>),
    Plain(Json<'v, V>),
    Gzip(Box<MultiGzDecoder<Json<'v, V>>>),
}

impl<V: Visit> Body<'_, V> {
    /// Looks at the first byte, when there is one.
    fn begin(self, bytes: &[u8]) -> Self {
        match (self, bytes.first()) {
            (Self::Fresh(json), Some(&GZIP)) => Self::Gzip(Box::new(MultiGzDecoder::new(json))),
            (Self::Fresh(json), Some(_)) => Self::Plain(json),
            (body, _) => body,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        match self {
            Self::Fresh(json) | Self::Plain(json) => json.feed(bytes),
            Self::Gzip(decoder) => {
                let written = decoder.write_all(bytes);
                match (written, decoder.get_ref().failed()) {
                    (Ok(()), None) => Ok(()),
                    (_, unread) => Err(unread.unwrap_or(Unread::Malformed)),
                }
            }
        }
    }

    /// How many bytes are handed on at once.
    fn piece(&self) -> usize {
        match self {
            Self::Fresh(_) | Self::Plain(_) => PIECE,
            Self::Gzip(_) => SMALL_PIECE,
        }
    }

    /// How many bytes were read, no longer compressed.
    fn read(&self) -> u64 {
        match self {
            Self::Fresh(json) | Self::Plain(json) => json.read(),
            Self::Gzip(decoder) => decoder.get_ref().read(),
        }
    }

    /// What the decoder holds.
    fn decoder(&self) -> usize {
        match self {
            Self::Fresh(_) | Self::Plain(_) => 0,
            Self::Gzip(_) => DECODER,
        }
    }

    fn finish(self) -> Result<(), Unread> {
        match self {
            Self::Fresh(mut json) | Self::Plain(mut json) => json.finish(),
            Self::Gzip(mut decoder) => {
                // Only what it has not handed on yet: a checksum that is missing or wrong leaves
                // whole JSON as readable as it is.
                let _ = decoder.try_finish();
                decoder.get_mut().finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;
    use std::time::Duration;

    use axum::http;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use reqwest::Response;
    use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
    use tokio::time::Instant;

    use super::{Body, Wait, read, refusal, retry_after};
    use crate::outbound::agent::answer::Failure;
    use crate::outbound::agent::json::{Json, Path, Unread, Visit};
    use crate::outbound::agent::room::Rooms;

    /// Keeps the last string, whole.
    #[derive(Debug, Default)]
    struct Last(String);

    impl Visit for Last {
        const KEYS: &'static [&'static str] = &[];

        fn room(&self, _: Path<'_>) -> Option<usize> {
            Some(100_000)
        }

        fn string(&mut self, _: Path<'_>, text: &str, _: bool) {
            text.clone_into(&mut self.0);
        }
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    async fn body(encoding: &str, body: Vec<u8>) -> Result<String, Failure> {
        let mut response = http::Response::builder();
        if !encoding.is_empty() {
            response = response.header("content-encoding", encoding);
        }
        let response = Response::from(response.body(body).unwrap());
        let (mut last, deadline) = (Last::default(), Instant::now() + Duration::from_secs(1));
        let (rooms, wait) = (Rooms::default(), Wait { deadline, idle: None });
        read(response, &mut last, wait, rooms.room("shop")).await?;
        Ok(last.0)
    }

    #[tokio::test]
    async fn a_body_is_read_compressed_or_not_whatever_its_header_says() {
        let (json, dag) = (r#"["Dag"]"#, Ok("Dag".to_owned()));
        for encoding in ["", "identity", "gzip", "x-gzip", "GZIP"] {
            assert_eq!(body(encoding, json.into()).await, dag, "{encoding}");
            assert_eq!(body(encoding, gzip(json)).await, dag, "{encoding}");
        }
        let members = [gzip(r#"["Da"#), gzip(r#"g"]"#)].concat();
        assert_eq!(body("gzip", members).await, dag);
        let mut damaged = gzip(json);
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert_eq!(body("gzip", damaged[..checksum].to_vec()).await, dag, "without a checksum");
    }

    #[tokio::test]
    async fn another_compression_says_so_and_half_a_body_is_no_json() {
        assert_eq!(body("br", vec![0x8b, 3]).await, Err(Failure::Encoded));
        assert_eq!(body("br", br#"["Dag"]"#.to_vec()).await, Ok("Dag".to_owned()));
        assert_eq!(body("", br#"["Dag"#.to_vec()).await, Err(Failure::NotJson));
        assert_eq!(body("", Vec::new()).await, Err(Failure::NotJson));
        let half = gzip(&format!("[{:?}]", "Dag".repeat(100)));
        assert_eq!(body("gzip", half[..20].to_vec()).await, Err(Failure::NotJson));
    }

    #[test]
    fn a_small_body_that_becomes_a_large_one_is_read_up_to_the_limit() {
        let bomb = gzip(&" ".repeat(4_000_000));
        assert!(bomb.len() < 8_000);
        let mut last = Last::default();
        let mut body = Body::Fresh(Json::new(&mut last, 1_000_000)).begin(&bomb);
        assert_eq!(body.feed(&bomb), Err(Unread::TooLarge));
    }

    #[tokio::test]
    async fn whatever_a_body_becomes_others_have_their_turn_while_it_is_read() {
        for body_of in [
            format!("[\"Dag\"{}]", " ".repeat(20_000_000)).into_bytes(),
            gzip(&format!("[\"Dag\"{}]", " ".repeat(20_000_000))),
        ] {
            let turns = Cell::new(0);
            let others = async {
                loop {
                    turns.set(turns.get() + 1);
                    tokio::task::yield_now().await;
                }
            };
            let read = tokio::select! {
                read = body("", body_of) => read,
                () = others => unreachable!(),
            };
            assert_eq!(read, Ok("Dag".to_owned()));
            assert!(turns.get() > 200, "{} turns", turns.get());
        }
    }

    #[tokio::test]
    async fn a_long_text_waits_for_its_place_in_memory() {
        let long = "a".repeat(60_000);
        assert_eq!(body("", format!("[\"{long}\"]").into()).await, Ok(long));
    }

    fn asked(retry_after_says: &str, date_says: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_says.parse().unwrap());
        if let Some(date) = date_says {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn a_rest_is_asked_for_in_seconds_or_by_a_date_and_is_an_hour_at_the_most() {
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(asked("20", None), seconds(20));
        assert_eq!(asked(" 0 ", None), seconds(0));
        assert_eq!(asked("86400", None), seconds(3_600));
        let (now, soon) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(asked(soon, Some(now)), seconds(30));
        assert_eq!(asked(now, Some(soon)), seconds(0));
        assert_eq!(asked("Tue, 08 Nov 1994 08:49:37 GMT", Some(now)), seconds(3_600));
        assert_eq!(asked(soon, None), None, "nobody knows what the other end's clock says");
        for other in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(asked(other, Some(now)), None, "{other}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn some_statuses_say_that_an_agent_is_busy() {
        let refused = |status: u16| {
            let response = http::Response::builder().status(status).header("retry-after", "7");
            refusal(&Response::from(response.body("").unwrap()))
        };
        let retry_after = Some(Duration::from_secs(7));
        for status in [408, 425, 429, 503] {
            assert_eq!(refused(status), Failure::Busy { status, retry_after });
        }
        for status in [302, 400, 404, 409, 500, 502, 504] {
            assert_eq!(refused(status), Failure::Status(status));
        }
    }
}
