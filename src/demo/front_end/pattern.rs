//! A response body of any length, generated while it is sent.
//!
//! Pure: holds only a count. Must not know connections. Invariant: byte `i` depends on `i` alone, so that the receiver can
//! detect gaps and repetitions.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Byte `i` is `i % 251`: a prime, so that the loss of a power of two bytes is always detected.
static PATTERN: [u8; 251 * 256] = {
    let mut pattern = [0; 251 * 256];
    let (mut index, mut value) = (0, 0);
    while index < pattern.len() {
        pattern[index] = value;
        value = if value == 250 { 0 } else { value + 1 };
        index += 1;
    }
    pattern
};

/// [`PATTERN`], repeated until the given number of bytes is sent.
pub(super) struct Pattern {
    left: u64,
}

impl Pattern {
    pub(super) fn new(length: u64) -> Self {
        Self { left: length }
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(PATTERN.len());
        self.left -= count as u64;
        let frame = (count > 0).then(|| Ok(Frame::data(Bytes::from_static(&PATTERN[..count]))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
