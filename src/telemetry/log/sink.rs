//! The way out of the process for lines: a bounded buffer and the one thread that writes it.
//!
//! Owns the buffer, the thread and the count of lines that were lost. Knows nothing of what a line says. Invariant:
//! `Sink::push` never waits for the reader: its lock is held for a copy or an exchange of two buffers, never across
//! a system call but the waking of an idle thread. An idle sink wakes nobody; a busy one makes one wake-up and one
//! write a batch.

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

/// What may wait for the reader. A batch that is being written is not part of it, so twice as much can be held.
const BOUND: usize = 4 << 20;

/// How long the writer lets lines gather once there is one.
const GATHER: Duration = Duration::from_millis(10);

/// What the reader gets to take the rest when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// Capacity that a buffer keeps when it is empty.
const KEPT: usize = 256 << 10;

/// Where lines are put. Clones share one buffer.
#[derive(Clone)]
pub struct Sink {
    shared: Arc<SharedSink>,
}

struct SharedSink {
    queue: Mutex<Queue>,
    /// Tells the writer of the first line after a rest, and of the end.
    wake: Condvar,
    /// Of its own lines.
    format: Mutex<LogFormat>,
    /// The journal reads, so that lines begin with their priority.
    journal: bool,
    lost: Counter,
}

/// Who reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogReader {
    Journal,
    Other,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lost since the writer last took the lines, that is, after all that is in `lines`.
    lost: u64,
    /// The writer waits for a line.
    idle: bool,
    closing: bool,
}

/// Owns the writing thread. Dropping it writes what is left, for as long as a second, and ends the thread.
pub struct Writer {
    shared: Arc<SharedSink>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Sink {
    /// A sink that writes to `output`. `format` is for its own lines; `lost` counts those that found no room.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(output: OwnedFd, format: LogFormat, lost: Counter) -> io::Result<(Self, Writer)> {
        Self::start_before(LogReader::Other, output, format, lost)
    }

    fn start_before(
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

    /// A sink that writes to this process's standard error; where that is the journal, with priorities.
    ///
    /// # Errors
    ///
    /// When standard error is closed or the thread cannot be started.
    pub fn stderr(format: LogFormat, lost: Counter) -> io::Result<(Self, Writer)> {
        let output = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0)?;
        let reader = if journal::is_stderr() {
            LogReader::Journal
        } else {
            LogReader::Other
        };
        Self::start_before(reader, output, format, lost)
    }

    /// Whether the journal reads, so that lines are to begin with their priority.
    pub(super) fn is_journal(&self) -> bool {
        self.shared.journal
    }

    /// Puts a whole line, its end included, or loses it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = lock(&self.shared.queue);
        if queue.lines.len() + line.len() > BOUND {
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

    /// Its own lines have this form from now on.
    pub(super) fn set_format(&self, format: LogFormat) {
        *lock(&self.shared.format) = format;
    }

    /// Counts a line that could not even be formed.
    pub(super) fn lose_one(&self) {
        lock(&self.shared.queue).lost += 1;
        self.shared.lost.increment(1);
    }
}

impl SharedSink {
    fn write_to(&self, output: &File) {
        let mut batch = Vec::new();
        while let Some(lost) = self.next(&mut batch) {
            if write_all(output, &batch).is_err() {
                // The reader is gone. There is nobody to tell but the metric.
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.lost.increment(lines as u64);
            }
            batch.clear();
            batch.shrink_to(KEPT);
            if lost > 0 {
                if self.journal {
                    batch.extend_from_slice(journal::prefix(Level::WARN));
                }
                tell_lost(&mut batch, *lock(&self.format), lost);
                // Failing that, the metric has counted them.
                let _ = write_all(output, &batch);
                batch.clear();
            }
        }
    }

    /// Waits for lines and takes them into `batch`, which is empty; says how many were lost after them. `None` at the
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
        let gather = |queue: &mut Queue| !queue.closing;
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, GATHER, gather)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(batch, &mut queue.lines);
        Some(std::mem::take(&mut queue.lost))
    }
}

fn tell_lost(out: &mut Vec<u8>, format: LogFormat, lost: u64) {
    let mut line = Line::begin(format, out);
    line.plain("time", &Timestamp(SystemTime::now()).ascii());
    line.plain("level", b"warn");
    line.text("target", module_path!());
    line.text("message", "log lines were lost because the reader stalled");
    line.number("lost", lost);
    line.end();
}

/// Writes all of it, also where the other end has made the descriptor non-blocking: standard error is shared.
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
        let (ended, told) = &*self.ended;
        let (ended, _) = told
            .wait_timeout_while(lock(ended), FLUSH, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        if *ended && let Some(thread) = self.thread.take() {
            // It has nothing more to do; had it panicked, `ended` would not stand.
            let _ = thread.join();
        }
        // A reader that has stalled keeps the thread in its write; it ends with the process.
    }
}

/// A queue behind a lock whose holder panicked is still whole: at worst a line is cut, which cannot happen either.
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
    fn lines_come_out_whole_and_in_order_and_the_rest_at_the_end() {
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
    fn a_stalled_reader_blocks_nobody_and_its_lost_lines_are_counted_and_told() {
        let (reader, writer) = io::pipe().unwrap();
        let (lost, cell) = counter();
        let (sink, guard) = Sink::start(writer.into(), LogFormat::Json, lost).unwrap();
        let begun = Instant::now();
        let pushed = 12_000;
        for number in 0..pushed {
            push(&sink, number);
        }
        // Twelve megabytes into a pipe that nobody reads.
        assert!(begun.elapsed() < Duration::from_secs(5));
        let lost = cell.load(std::sync::atomic::Ordering::Relaxed);
        assert!(lost > 0 && lost < pushed, "{lost}");

        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines();
            lines.map(|line| line.unwrap()).collect::<Vec<_>>()
        });
        drop(guard);
        let lines = reading.join().unwrap();
        let (told, whole): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with('{'));
        assert_eq!(whole.len() as u64, pushed - lost);
        let told = told.iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["lost"].as_u64().unwrap()
        });
        assert_eq!(told.sum::<u64>(), lost);
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
        assert!(begun.elapsed() >= FLUSH && begun.elapsed() < FLUSH * 5);
        drop(reader);
    }

    #[test]
    fn a_reader_that_has_gone_costs_lines_alone() {
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
    fn a_non_blocking_output_is_waited_for() {
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
