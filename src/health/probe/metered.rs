//! Owns how much a server may make a check read.
//!
//! Knows nothing of what is read. Invariant: whatever a server sends, and however it cuts it, a check ends after some
//! thousand reads at most.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a whole check may read: a TLS handshake, the largest head and as much of a body as is read.
const MOST: usize = 256 * 1024;
/// What a read costs at least, so that it is no use to send single bytes.
const A_READ: usize = 128;

/// A connection to a server under check.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    left: usize,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, left: MOST }
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
        self.left = self.left.saturating_sub(read.max(A_READ));
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

    async fn read(at_once: usize) -> usize {
        let mut metered = Metered::new(tokio::io::repeat(0));
        let mut buffer = vec![0; at_once];
        let mut total = 0;
        while let Ok(read) = metered.read(&mut buffer).await {
            total += read;
        }
        total
    }

    #[tokio::test]
    async fn reading_ends_after_so_many_bytes_and_sooner_for_single_ones() {
        assert_eq!(read(4096).await, MOST);
        assert_eq!(read(1).await, MOST / A_READ);
    }
}
