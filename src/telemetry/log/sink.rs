//! The output of the log: a buffer of limited size, and the thread that writes it.
//!
//! Owns the buffer, the thread and the number of lost lines. Must not know the content of lines. Invariants: `Sink::push`
//! never waits for the reader: the lock is held to copy a line or to swap two buffers, never during a system call; a busy
//! sink costs one wake-up and one write for each batch, an idle one none.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use metrics::Counter;
use rustix::event::{PollFd, PollFlags, poll};
use tracing::Level;

use super::journal;
use super::line::Line;
use crate::config::model::LogFormat;
use crate::types::timestamp::Timestamp;

/// The size of the buffer. The batch that is being written is not part of it, so twice as much can be in memory.
const BUFFER_SIZE: usize = 4 << 20;

/// How long the writer collects lines after the first one.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// How long the reader may take for the rest when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The capacity that an empty buffer keeps.
const KEPT_CAPACITY: usize = 256 << 10;

/// The input of the buffer. Clones share one buffer.
#[derive(Clone)]
pub struct Sink {
    shared: Arc<SharedSink>,
}

struct SharedSink {
    queue: Mutex<Queue>,
    /// Notifies the idle writer of a line, and of the end.
    wake: Condvar,
    /// The format of the sink's own lines.
    format: Mutex<LogFormat>,
    /// The reader is the journal: lines begin with their priority.
    journal: bool,
    lost: Counter,
}

/// The reader of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogReader {
    Journal,
    Other,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines lost after those in `lines`.
    lost: u64,
    /// The writer waits for a line.
    idle: bool,
    closing: bool,
}

/// Owns the writing thread. Dropping it writes the remaining lines, for a second at most, and ends the thread.
pub struct Writer {
    shared: Arc<SharedSink>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Sink {
    /// A sink that writes to `output`. `format` is the format of its own lines; `lost` counts lost lines.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(output: OwnedFd, format: LogFormat, lost: Counter) -> io::Result<(Self, Writer)> {
        Self::start_for(LogReader::Other, output, format, lost)
    }

    fn start_for(
        reader: LogReader,
        output: OwnedFd,
        format: LogFormat,
        lost: Counter,
    ) -> io::Result<(Self, Writer)> {
        let shared = Arc::new(SharedSink {
            queue: Mutex::default(),
            wake: Condvar::new(),
            format: Mutex::new(format),
            journal: reader == LogReader::Journal,
            lost,
        });
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = std::thread::Builder::new().name("log".into()).spawn({
            let (shared, ended) = (shared.clone(), ended.clone());
            move || {
                shared.write_to(&File::from(output));
                *lock(&ended.0) = true;
                ended.1.notify_all();
            }
        })?;
        let writer = Writer {
            shared: shared.clone(),
            thread: Some(thread),
            ended,
        };
        Ok((Self { shared }, writer))
    }

    /// A sink that writes to standard error; with priorities if that is the journal.
    ///
    /// # Errors
    ///
    /// When standard error is closed or the thread cannot be started.
    pub fn stderr(format: LogFormat, lost: Counter) -> io::Result<(Self, Writer)> {
        let output = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0)?;
        let reader = if journal::is_standard_error() {
            LogReader::Journal
        } else {
            LogReader::Other
        };
        Self::start_for(reader, output, format, lost)
    }

    /// Whether the reader is the journal, so that lines have to begin with their priority.
    pub(super) fn is_journal(&self) -> bool {
        self.shared.journal
    }

    /// Adds a whole line with its line break, or loses it if the buffer is full.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = lock(&self.shared.queue);
        if queue.lines.len() + line.len() > BUFFER_SIZE {
            queue.lost += 1;
            drop(queue);
            self.shared.lost.increment(1);
            return;
        }
        queue.lines.extend_from_slice(line);
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.shared.wake.notify_one();
        }
    }

    /// Sets the format of the sink's own lines.
    pub(super) fn set_format(&self, format: LogFormat) {
        *lock(&self.shared.format) = format;
    }

    /// Counts a line that could not be formatted.
    pub(super) fn count_lost_line(&self) {
        lock(&self.shared.queue).lost += 1;
        self.shared.lost.increment(1);
    }
}

impl SharedSink {
    fn write_to(&self, output: &File) {
        let mut batch = Vec::new();
        while let Some(lost) = self.next(&mut batch) {
            if write_all(output, &batch).is_err() {
                // The reader is gone; only the metric can report it.
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.lost.increment(lines as u64);
            }
            batch.clear();
            batch.shrink_to(KEPT_CAPACITY);
            if lost > 0 {
                if self.journal {
                    batch.extend_from_slice(journal::prefix(Level::WARN));
                }
                report_lost(&mut batch, *lock(&self.format), lost);
                // If that fails, the metric has counted them.
                let _ = write_all(output, &batch);
                batch.clear();
            }
        }
    }

    /// Waits for lines and swaps them into `batch`, which is empty. Returns how many were lost after them, or `None` at the
    /// end.
    fn next(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut queue = lock(&self.queue);
        while queue.lines.is_empty() && queue.lost == 0 {
            if queue.closing {
                return None;
            }
            queue.idle = true;
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        let collect = |queue: &mut Queue| !queue.closing;
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, BATCH_TIME, collect)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(batch, &mut queue.lines);
        Some(std::mem::take(&mut queue.lost))
    }
}

fn report_lost(out: &mut Vec<u8>, format: LogFormat, lost: u64) {
    let mut line = Line::begin(format, out);
    line.plain("time", &Timestamp(SystemTime::now()).ascii());
    line.plain("level", b"warn");
    line.text("target", module_path!());
    line.text("message", "log lines were lost because the reader stalled");
    line.number("lost", lost);
    line.end();
}

/// Writes everything, even if another process has made the descriptor non-blocking: standard error is shared.
fn write_all(mut output: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(output, PollFlags::OUT)];
                match poll(&mut ready, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.wake.notify_one();
        let (ended, changed) = &*self.ended;
        let (ended, _) = changed
            .wait_timeout_while(lock(ended), FLUSH_TIMEOUT, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        if *ended && let Some(thread) = self.thread.take() {
            // The thread has finished: it sets `ended` last.
            let _ = thread.join();
        }
        // If the reader has stalled, the thread is blocked in its write, and ends with the process.
    }
}

/// The queue is consistent even if a holder of the lock panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::time::Instant;

    use metrics::Key;
    use metrics_util::registry::{AtomicStorage, Registry};

    use super::*;

    const LINE: &[u8] = &[b'x'; 1023];

    fn push(sink: &Sink, number: u64) {
        let mut line = format!("{number} ").into_bytes();
        line.extend_from_slice(LINE);
        line.push(b'\n');
        sink.push(&line);
    }

    fn counter() -> (Counter, Arc<std::sync::atomic::AtomicU64>) {
        let registry = Registry::new(AtomicStorage);
        registry.get_or_create_counter(&Key::from_name("lost"), |cell| {
            (cell.clone().into(), cell.clone())
        })
    }

    #[test]
    fn lines_are_written_whole_and_in_order_and_the_rest_at_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Text, Counter::noop()).unwrap();
        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines();
            lines.map(|line| line.unwrap()).collect::<Vec<_>>()
        });
        for number in 0..3000 {
            push(&sink, number);
        }
        drop(guard);
        let lines = reading.join().unwrap();
        assert_eq!(lines.len(), 3000);
        for (number, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("{number} ")), "{number}: {line}");
        }
    }

    #[test]
    fn a_stalled_reader_blocks_no_thread_and_lost_lines_are_counted_and_reported() {
        let (reader, writer) = io::pipe().unwrap();
        let (lost, cell) = counter();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Json, lost).unwrap();
        let begun = Instant::now();
        let pushed = 12_000;
        for number in 0..pushed {
            push(&sink, number);
        }
        // Twelve megabytes into a pipe without a reader.
        assert!(begun.elapsed() < Duration::from_secs(5));
        let lost = cell.load(std::sync::atomic::Ordering::Relaxed);
        assert!(lost > 0 && lost < pushed, "{lost}");

        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines();
            lines.map(|line| line.unwrap()).collect::<Vec<_>>()
        });
        drop(guard);
        let lines = reading.join().unwrap();
        let (reports, whole): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| line.starts_with('{'));
        assert_eq!(whole.len() as u64, pushed - lost);
        let reported = reports.iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["lost"].as_u64().unwrap()
        });
        assert_eq!(reported.sum::<u64>(), lost);
    }

    #[test]
    fn the_end_does_not_wait_for_a_stalled_reader() {
        let (reader, writer) = io::pipe().unwrap();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Text, Counter::noop()).unwrap();
        for number in 0..200 {
            push(&sink, number);
        }
        let begun = Instant::now();
        drop(guard);
        assert!(begun.elapsed() >= FLUSH_TIMEOUT && begun.elapsed() < FLUSH_TIMEOUT * 5);
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        let (lost, cell) = counter();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Text, lost).unwrap();
        drop(reader);
        push(&sink, 1);
        push(&sink, 2);
        drop(guard);
        assert_eq!(cell.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[test]
    fn a_non_blocking_output_is_written_too() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Text, Counter::noop()).unwrap();
        for number in 0..500 {
            push(&sink, number);
        }
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        drop(guard);
        assert_eq!(reading.join().unwrap().lines().count(), 500);
    }
}
