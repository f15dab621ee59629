//! Owns how much a server can make a check read.
//!
//! Must not know what is read. Invariant: whatever a server sends, and in whatever pieces, a check ends after some thousand
//! reads at most.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that a check reads: a TLS handshake, the largest head and the part of a body that is read.
const MAX_BYTES: usize = 256 * 1024;
/// The least that one read counts, so that sending single bytes has no advantage.
const MIN_COST: usize = 128;

/// A connection to a server under check.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    left: usize,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            left: MAX_BYTES,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server sends too much")));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.left = self.left.saturating_sub(read.max(MIN_COST));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(size: usize) -> usize {
        let mut metered = Metered::new(tokio::io::repeat(0));
        let mut buffer = vec![0; size];
        let mut total = 0;
        while let Ok(read) = metered.read(&mut buffer).await {
            total += read;
        }
        total
    }

    #[tokio::test]
    async fn reading_ends_after_the_limit_and_sooner_for_single_bytes() {
        assert_eq!(read(4096).await, MAX_BYTES);
        assert_eq!(read(1).await, MAX_BYTES / MIN_COST);
    }
}
