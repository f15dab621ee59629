//! A connection that watches how a response arrives: whether it has begun, and the size of its head.
//!
//! Owns the limit of a head. Must not know HTTP. Invariant: of a response without end, such as a hundred thousand times
//! `100 Continue`, no more than [`MAX_HEAD`] and one read are received.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// The most bytes of the head of a response.
const MAX_HEAD: usize = 256 << 10;

/// How far a response has arrived. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct ResponseProgress(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    /// Bytes that the head may still have.
    left: AtomicUsize,
    begun: Notify,
}

impl Default for ResponseProgress {
    fn default() -> Self {
        Self(Arc::new(Progress {
            left: AtomicUsize::new(MAX_HEAD),
            begun: Notify::new(),
        }))
    }
}

impl ResponseProgress {
    /// Ends the limit of the head: the body has its own.
    pub(super) fn head_is_complete(&self) {
        self.0.left.store(usize::MAX, Ordering::Relaxed);
    }

    /// Completes when `time` has passed since the first byte.
    pub(super) async fn takes_longer_than(&self, time: Duration) {
        self.0.begun.notified().await;
        tokio::time::sleep(time).await;
    }

    fn received(&self, count: usize) {
        let left = self.0.left.load(Ordering::Relaxed);
        if left == MAX_HEAD && count > 0 {
            self.0.begun.notify_one();
        }
        if left != usize::MAX {
            self.0
                .left
                .store(left.saturating_sub(count), Ordering::Relaxed);
        }
    }
}

/// The head is too large.
#[derive(Debug)]
struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the head of the response does not end")
    }
}

impl std::error::Error for Endless {}

/// Whether the head was too large.
pub(super) fn is_endless(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    source
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Endless>)
}

/// A connection whose response is watched.
pub(super) struct WatchedStream<S> {
    stream: S,
    progress: ResponseProgress,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(stream: S, progress: &ResponseProgress) -> Self {
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
        self.progress.received(buffer.filled().len() - before);
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

    /// The error of a reload at a server that sends this again and again, with a pause in between.
    fn reload_from(sent: &'static [u8], pause: std::time::Duration) -> ClientError {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = AdminBind::Tcp(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(sent).is_ok() {
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
    fn an_endless_response_is_not_read_on_and_a_trickling_one_times_out() {
        let moment = std::time::Duration::from_millis(100);
        let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100).leak();
        let error = reload_from(flood, std::time::Duration::ZERO);
        assert!(
            matches!(error, ClientError::NotAdminListener(..)),
            "{error:?}"
        );
        let error = reload_from(b"H", moment);
        assert!(
            matches!(
                error,
                ClientError::NotAdminListener(..) | ClientError::TimedOut(_)
            ),
            "{error:?}"
        );
        let error = reload_from(b"HTTP/1.1 100 Continue\r\n\r\n", moment);
        assert!(
            matches!(
                error,
                ClientError::NotAdminListener(..) | ClientError::TimedOut(_)
            ),
            "{error:?}"
        );
    }
}
