//! A body of any length that is made while it is sent.
//!
//! Pure: holds no more than a count. Must not know who asks. Invariant: byte `i` depends on `i` alone, so that whoever
//! receives it can tell a gap or a repetition.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Byte `i` is `i % 251`: a prime, so that no power of two bytes can go missing unseen.
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

/// [`PATTERN`] over and over, until so many bytes are sent.
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
