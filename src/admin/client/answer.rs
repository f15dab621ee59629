//! How an answer comes: whether it has begun, and how much its head takes.
//!
//! Owns the bound of a head. Knows no HTTP. Invariant: of what answers without an end, such as a hundred thousand times
//! `100 Continue`, no more than [`MOST`] and one read are taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// The most bytes before the head of the answer is whole.
const MOST: usize = 256 << 10;

/// How far the answer is; clones tell of the same one.
#[derive(Debug, Clone)]
pub(super) struct AnswerProgress(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    /// Bytes that may still come before the head is whole.
    left: AtomicUsize,
    begun: Notify,
}

impl Default for AnswerProgress {
    fn default() -> Self {
        Self(Arc::new(Progress {
            left: AtomicUsize::new(MOST),
            begun: Notify::new(),
        }))
    }
}

impl AnswerProgress {
    /// The head is whole: what follows has a bound of its own.
    pub(super) fn has_head(&self) {
        self.0.left.store(usize::MAX, Ordering::Relaxed);
    }

    /// Completes so long after the first byte.
    pub(super) async fn takes_longer_than(&self, time: Duration) {
        self.0.begun.notified().await;
        tokio::time::sleep(time).await;
    }

    fn has_read(&self, count: usize) {
        let left = self.0.left.load(Ordering::Relaxed);
        if left == MOST && count > 0 {
            self.0.begun.notify_one();
        }
        if left != usize::MAX {
            self.0
                .left
                .store(left.saturating_sub(count), Ordering::Relaxed);
        }
    }
}

/// Why the answer is read no further.
#[derive(Debug)]
struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the head of the answer has no end")
    }
}

impl std::error::Error for Endless {}

/// Whether that is why.
pub(super) fn is_endless(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    source
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Endless>)
}

/// A connection whose answer is watched.
pub(super) struct WatchedStream<S> {
    stream: S,
    progress: AnswerProgress,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(stream: S, progress: &AnswerProgress) -> Self {
        let progress = progress.clone();
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.0.left.load(Ordering::Relaxed) == 0 {
            return Poll::Ready(Err(io::Error::other(Endless)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.progress.has_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Instant;

    use crate::admin::client::{Client, ClientError};
    use crate::config::model::AdminBind;

    /// What a reload gets from one that says this again and again, after each `pause`.
    fn reload_from(said: &'static [u8], pause: std::time::Duration) -> ClientError {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = AdminBind::Tcp(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(said).is_ok() {
                std::thread::sleep(pause);
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let begun = Instant::now();
        let error = runtime
            .block_on(Client::new(&at, None).reload())
            .unwrap_err();
        assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
        drop(runtime);
        server.join().unwrap();
        error
    }

    #[test]
    fn an_answer_without_an_end_is_read_no_further_and_one_that_drips_is_late() {
        let moment = std::time::Duration::from_millis(100);
        let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100).leak();
        let error = reload_from(flood, std::time::Duration::ZERO);
        assert!(matches!(error, ClientError::Strange(..)), "{error:?}");
        let error = reload_from(b"H", moment);
        assert!(
            matches!(error, ClientError::Strange(..) | ClientError::Late(_)),
            "{error:?}"
        );
        let error = reload_from(b"HTTP/1.1 100 Continue\r\n\r\n", moment);
        assert!(
            matches!(error, ClientError::Strange(..) | ClientError::Late(_)),
            "{error:?}"
        );
    }
}
