//! Log lines on their way out: written by a thread of their own, dropped when it cannot keep up.
//!
//! Takes lines, gives them to a writer in order. A pipe that nobody reads would stop every thread that
//! logs, and so the gateway; here it costs lines, and the next one that gets through says how many.
//! Never blocks whoever logs, and never holds more lines than its bound.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the thread that writes to `out`; `notice` makes the line about so many that were dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start(out: impl Write + Send + 'static, notice: fn(u64) -> String) -> io::Result<LogLines> {
    let (sender, waiting) = sync_channel(MOST_WAITING);
    let dropped = Arc::new(AtomicU64::new(0));
    let missing = Arc::clone(&dropped);
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(move || write(out, notice, &waiting, &missing))?;
    Ok(LogLines { sender, dropped })
}

/// Where lines go; clones go to the same place.
#[derive(Clone, Debug)]
pub struct LogLines {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Lines that wait at most.
const MOST_WAITING: usize = 4_096;
/// Longest that the end of the process waits for its last lines.
const LAST: Duration = Duration::from_secs(1);

/// What waits for the thread.
#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Says that everything before it is written.
    Written(oneshot::Sender<()>),
}

impl LogLines {
    /// Waits for what was logged until now, a second at most: before the process ends.
    pub async fn settle(&self) {
        // Whoever reads nothing within that time reads nothing.
        let _ = tokio::time::timeout(LAST, self.written()).await;
    }

    async fn written(&self) {
        let (told, written) = oneshot::channel();
        let mut entry = Entry::Written(told);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(entry) {
            entry = back;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = written.await;
    }
}

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// There is nobody to tell of a log that cannot be written.
fn write(
    mut out: impl Write,
    notice: fn(u64) -> String,
    waiting: &Receiver<Entry>,
    dropped: &AtomicU64,
) {
    while let Ok(entry) = waiting.recv() {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{}", notice(missing));
        }
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Written(told) => drop(told.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::{MOST_WAITING, start};

    /// A pipe that takes its first line when it is told to.
    struct Pipe {
        opens: Option<Receiver<()>>,
        taken: SyncSender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(opens) = self.opens.take() {
                opens.recv().unwrap();
            }
            self.taken.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_costs_lines_and_stops_nobody() {
        // Room for every line that can wait, and for the notice.
        let ((open, opens), (taken, lines)) = (sync_channel(1), sync_channel(2 * MOST_WAITING));
        let pipe = Pipe { opens: Some(opens), taken };
        let mut log = start(pipe, |missing| format!("{missing} are missing")).unwrap();
        for _ in 0..MOST_WAITING + 1_000 {
            log.write_all(b"line\n").unwrap();
        }
        open.send(()).unwrap();
        log.settle().await;
        let all: String = lines.try_iter().collect();
        let written = all.matches("line\n").count();
        assert!((MOST_WAITING..=MOST_WAITING + 1).contains(&written), "{written}");
        let missing = MOST_WAITING + 1_000 - written;
        assert!(all.contains(&format!("{missing} are missing\n")), "{missing}");
    }
}
