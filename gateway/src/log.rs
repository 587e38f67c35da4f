//! Log lines on their way out: written by a thread of their own, dropped when it cannot keep up.
//!
//! Takes where they go, gives a writer that never blocks and a guard that writes the last ones when it
//! is dropped. A pipe that nobody reads would stop every thread that logs, and so the gateway; here it
//! costs lines, which are counted. Never holds more lines than its bound.

use std::io::Write;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait at most.
const MOST_WAITING: usize = 4_096;

/// Starts the thread that writes to `out`.
pub fn start(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_WAITING);
    lines.thread_name("log").finish(out)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::{MOST_WAITING, start};

    /// A pipe that takes nothing until it is told to.
    struct Pipe(Receiver<()>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error says that it takes everything from now on.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_stops_nobody() {
        let (open, opens) = sync_channel(1);
        let (mut lines, guard) = start(Pipe(opens));
        for _ in 0..MOST_WAITING + 1_000 {
            lines.write_all(b"line\n").unwrap();
        }
        // One may be in the pipe already.
        assert!((999..=1_000).contains(&lines.error_counter().dropped_lines()));
        drop(open);
        drop(guard);
    }
}
