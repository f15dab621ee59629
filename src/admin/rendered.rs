//! What `/metrics` answers, rendered once for all who ask at the same time.
//!
//! Owns the last rendering and when it began. Must not know what is in it. Invariant: nobody gets one that began before the
//! question came, so that who has seen something happen finds it counted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

/// The last rendering.
#[derive(Debug, Default)]
pub struct RenderedMetrics(Mutex<Option<(Instant, Bytes)>>);

impl RenderedMetrics {
    /// What there is, if it began after `asked`.
    pub(super) fn known_since(&self, asked: Instant) -> Option<Bytes> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, text) = last.as_ref()?;
        (*began > asked).then(|| text.clone())
    }

    /// What `render` gives, or gave since `asked`.
    pub(super) fn since(&self, asked: Instant, render: impl FnOnce() -> String) -> Bytes {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((began, text)) = &*last
            && *began > asked
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
    fn one_rendering_is_for_all_who_asked_before_it_and_for_nobody_after() {
        let rendered = RenderedMetrics::default();
        let (one, two) = (Instant::now(), Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert_eq!(rendered.since(one, || "first".into()), "first");
        assert_eq!(rendered.since(two, || "second".into()), "first");
        let three = Instant::now();
        assert_eq!(rendered.since(three, || "third".into()), "third");
    }
}
