//! Waiting during a stop.
//!
//! Owns the order to stop immediately, which a second signal gives. Knows no step of the stop. Invariant: after that order
//! no step is waited for longer than [`LAST_LINES`].

use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

use super::LAST_LINES;

/// Waits for the steps of a stop until the order to stop immediately comes.
pub(in crate::server) struct StopDeadline<'a> {
    at_once: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// The order has come.
    is_over: bool,
    /// The time for each step from then on.
    last_steps: Duration,
}

impl<'a> StopDeadline<'a> {
    pub(in crate::server) fn new(at_once: impl Future<Output = ()> + 'a) -> Self {
        Self {
            at_once: Box::pin(at_once),
            is_over: false,
            last_steps: LAST_LINES,
        }
    }

    /// Waits for `work`, for at most `at_most`; `None` if that was not enough.
    pub(in crate::server) async fn wait<T>(
        &mut self,
        at_most: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        if self.is_over {
            return timeout(at_most.min(self.last_steps), work).await.ok();
        }
        tokio::select! {
            biased;
            done = timeout(at_most, work) => done.ok(),
            () = &mut self.at_once => {
                self.is_over = true;
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
    async fn an_immediate_stop_cuts_every_wait_short() {
        let (order, given) = tokio::sync::oneshot::channel();
        let at_once = async {
            let _: Result<(), _> = given.await;
        };
        let mut deadline = StopDeadline {
            last_steps: MOMENT,
            ..StopDeadline::new(at_once)
        };
        assert_eq!(deadline.wait(LONG, ready(7)).await, Some(7));
        assert_eq!(deadline.wait(MOMENT, pending::<()>()).await, None);
        order.send(()).unwrap();
        // Each of these would take an hour.
        assert_eq!(deadline.wait(LONG, pending::<()>()).await, None);
        assert_eq!(deadline.wait(LONG, ready(7)).await, Some(7));
        assert_eq!(deadline.wait(LONG, pending::<()>()).await, None);
    }
}
