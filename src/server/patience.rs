//! Waiting during a stop.
//!
//! Owns the order to end at once, which a second signal gives. Knows nothing of what is waited for. Invariant: once it has
//! come, nothing is waited for longer than a moment.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

/// Waits until it is told to end at once.
pub(super) struct Patience<'a> {
    at_once: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// It has come.
    over: bool,
    /// What each step gets from then on.
    moment: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(at_once: impl Future<Output = ()> + 'a, moment: Duration) -> Self {
        Self {
            at_once: Box::pin(at_once),
            over: false,
            moment,
        }
    }

    /// Waits for `work`, at most so long; `None` where that was not enough.
    pub(super) async fn wait<T>(
        &mut self,
        at_most: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        if self.over {
            return timeout(at_most.min(self.moment), work).await.ok();
        }
        tokio::select! {
            biased;
            done = timeout(at_most, work) => done.ok(),
            () = &mut self.at_once => {
                self.over = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn an_order_to_end_at_once_cuts_every_wait_short() {
        let (order, given) = tokio::sync::oneshot::channel();
        let at_once = async {
            let _: Result<(), _> = given.await;
        };
        let mut patience = Patience::new(at_once, MOMENT);
        assert_eq!(patience.wait(LONG, ready(7)).await, Some(7));
        assert_eq!(patience.wait(MOMENT, pending::<()>()).await, None);
        order.send(()).unwrap();
        // Each of these would take an hour.
        assert_eq!(patience.wait(LONG, pending::<()>()).await, None);
        assert_eq!(patience.wait(LONG, ready(7)).await, Some(7));
        assert_eq!(patience.wait(LONG, pending::<()>()).await, None);
    }
}
