//! Requests that are ready to be written, and the connections that they go over.
//!
//! Takes forms and signatures; gives bytes as they stand on the wire, and for each exchange the
//! status of its answer. Everything is made before a timed part begins. Knows no more HTTP than the
//! answers of a webhook need: a status, a length, a body.

use anyhow::{Context as _, Result, bail};
use kanarie_fakes::signer::{self, Form};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A webhook as it goes over the wire.
pub(crate) struct Prepared {
    /// Who writes it.
    pub(crate) customer: String,
    bytes: Vec<u8>,
}

impl Prepared {
    /// A form with this signature, posted to the path of the public URL.
    pub(crate) fn new(public: &url::Url, customer: String, form: &Form, signature: &str) -> Self {
        let body = signer::encode(form);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: TwilioProxy/1.1\r\naccept: */*\r\n\
             content-type: application/x-www-form-urlencoded; charset=UTF-8\r\n\
             x-twilio-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
            public.path(),
            public.host_str().unwrap_or_default(),
            body.len(),
        );
        Self { customer, bytes: [head.into_bytes(), body.into_bytes()].concat() }
    }
}

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Writes a request and reads its answer to the end; gives the status.
    pub(crate) async fn exchange(&mut self, request: &Prepared) -> Result<u16> {
        self.stream.write_all(&request.bytes).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                bail!("the connection was closed before the answer");
            }
            if let Some(answer) = answer(&self.buffer)? {
                return Ok(answer);
            }
        }
    }
}

/// The status, once the whole answer is there.
fn answer(bytes: &[u8]) -> Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("the head of an answer is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let length: usize = length.context("an answer does not say how long it is")?;
    if bytes.len() < end + 4 + length {
        return Ok(None);
    }
    Ok(Some(status.context("an answer has no status")?))
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn an_answer_counts_when_its_last_byte_is_there() {
        let whole = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(answer(whole).unwrap(), Some(403));
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]).unwrap(), None, "{end} bytes");
        }
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
    }
}
