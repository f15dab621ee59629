//! The text of `/metrics`, rendered once for all requests that wait at the same time.
//!
//! Owns the last rendering and when it began. Must not know its content. Invariant: a rendering that began before a request
//! is never its response, so that a client that has seen something happen finds it counted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

/// The last rendering.
#[derive(Debug, Default)]
pub struct RenderedMetrics(Mutex<Option<(Instant, Bytes)>>);

impl RenderedMetrics {
    /// Whether the last rendering began after `received`.
    pub(super) fn has_begun_since(&self, received: Instant) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|(began, _)| *began > received)
    }

    /// The last rendering if it began after `received`, else a new one.
    pub(super) fn since(&self, received: Instant, render: impl FnOnce() -> String) -> Bytes {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((began, text)) = &*last
            && *began > received
        {
            return text.clone();
        }
        let began = Instant::now();
        let text = Bytes::from(render());
        *last = Some((began, text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_serves_the_requests_before_it_and_no_later_one() {
        let rendered = RenderedMetrics::default();
        let (one, two) = (Instant::now(), Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert_eq!(rendered.since(one, || "first".into()), "first");
        assert_eq!(rendered.since(two, || "second".into()), "first");
        let three = Instant::now();
        assert_eq!(rendered.since(three, || "third".into()), "third");
    }
}
