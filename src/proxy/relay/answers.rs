//! Whether the peer of a socket still answers while bytes wait for it.
//!
//! Owns the looks at what the kernel knows of it. Must not know what was sent. Invariants: a peer that answers is never
//! given up, however long it takes nothing (RFC 1122, 4.2.2.17); a socket to which nothing was written since all was
//! acknowledged is not looked at, nor is one more often than every `tcp_user`, unless its peer is in doubt.
//!
//! A peer to which nothing is said is the business of the kernel's keepalive probes, which rest while bytes wait.

use std::task::Poll;
use std::time::{Duration, Instant};

use crate::net::event_loop::Stream;
use crate::net::socket::{self, Outgoing};

/// Between two looks at least.
const LEAST: Duration = Duration::from_secs(1);
/// How long a peer that is in doubt has for an answer to what was asked last: it may be on its way.
const DOUBT: Duration = Duration::from_secs(2);

/// What is known of one peer.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How many bytes the socket had taken when all of them were known to be acknowledged.
    acknowledged: u64,
    /// `None` where the peer owes no answer. Boxed, as most connections rest.
    owed: Option<Box<Owed>>,
    /// The kernel probes it more often than usual.
    hurried: bool,
    /// The kernel tells nothing.
    blind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    /// It answered then, or owed nothing.
    since: Instant,
    look: Instant,
    doubted: bool,
}

impl Owed {
    fn begin(now: Instant, bound: Duration) -> Self {
        Self {
            since: now,
            look: now + bound,
            doubted: false,
        }
    }

    /// Takes in what a look has shown; `None` where the peer is gone.
    fn after(self, seen: Outgoing, now: Instant, bound: Duration) -> Option<Self> {
        let answered = now.checked_sub(seen.silence).unwrap_or(self.since);
        let since = self.since.max(answered);
        let is_late = now.saturating_duration_since(since) >= bound;
        let next = |look: Instant, doubted| {
            Some(Self {
                since,
                look,
                doubted,
            })
        };
        match (is_late && seen.is_unanswered, self.doubted) {
            (true, true) => None,
            (true, false) => next(now + DOUBT, true),
            // Late and asked nothing yet: older kernels let minutes pass between two probes.
            (false, _) if is_late => next(now + (bound / 4).max(LEAST), false),
            (false, _) => next((since + bound).max(now + LEAST), false),
        }
    }
}

impl Answers {
    /// Ready when the peer of `to`, which has taken `moved` bytes so far, has answered nothing for `user`.
    pub(super) fn poll(&mut self, to: &Stream, moved: u64, user: Duration) -> Poll<()> {
        if self.blind || (self.owed.is_none() && moved == self.acknowledged) {
            return Poll::Pending;
        }
        let (reactor, bound) = (to.reactor(), user.max(LEAST));
        let now = reactor.now();
        let begin = || Box::new(Owed::begin(now, bound));
        let owed = **self.owed.get_or_insert_with(begin);
        if reactor.poll_deadline(owed.look).is_pending() {
            return Poll::Pending;
        }
        let Ok(seen) = socket::outgoing(to) else {
            self.blind = true;
            socket::give_up_after(to, user);
            return Poll::Pending;
        };
        if !seen.waits {
            (self.acknowledged, self.owed) = (moved, None);
            return Poll::Pending;
        }
        if seen.is_blocked && !self.hurried {
            self.hurried = true;
            socket::probe_within(to, bound / 2);
        }
        let Some(owed) = owed.after(seen, now, bound) else {
            return Poll::Ready(());
        };
        self.owed = Some(Box::new(owed));
        // In the future: it only has the task looked at then.
        let _ = reactor.poll_deadline(owed.look);
        Poll::Pending
    }

    /// The relay is over; what `to` has not sent yet, the kernel goes on with.
    pub(super) fn leave(&self, to: &Stream) {
        if self.hurried {
            socket::probe_as_usual(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(60);
    const NOTHING: Duration = Duration::ZERO;

    fn seen(is_unanswered: bool, silence: Duration) -> Outgoing {
        Outgoing {
            waits: true,
            is_blocked: true,
            is_unanswered,
            silence,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_answers_is_never_given_up() {
        let start = Instant::now();
        let (mut owed, mut now) = (Owed::begin(start, BOUND), start);
        for silence in [NOTHING, seconds(1), seconds(30), seconds(59)].repeat(50) {
            now = now.max(owed.look);
            // The last probe may be on its way.
            owed = owed.after(seen(true, silence), now, BOUND).unwrap();
            assert!(owed.look >= now + LEAST);
            assert_eq!(owed.since + silence, now.max(start + silence));
        }
    }

    #[test]
    fn who_answers_in_the_last_moment_is_doubted_no_more() {
        let start = Instant::now();
        let owed = Owed::begin(start, BOUND);
        let owed = owed.after(seen(true, BOUND), start + BOUND, BOUND).unwrap();
        assert!(owed.doubted);
        let owed = owed.after(seen(true, NOTHING), owed.look, BOUND).unwrap();
        assert!(!owed.doubted);
        let owed = owed.after(seen(true, BOUND), owed.look, BOUND).unwrap();
        assert!(owed.doubted);
    }

    #[test]
    fn who_has_gone_is_given_up_after_the_bound_and_a_doubt() {
        let start = Instant::now();
        let owed = Owed::begin(start, BOUND);
        // It was last heard of long before anything was sent to it: that is no fault of its.
        let owed = owed.after(seen(true, seconds(600)), start + seconds(30), BOUND);
        let owed = owed.unwrap();
        assert_eq!((owed.since, owed.look), (start, start + BOUND));
        let owed = owed.after(seen(true, seconds(630)), owed.look, BOUND);
        let owed = owed.unwrap();
        assert_eq!(owed.look, start + BOUND + DOUBT);
        assert!(
            owed.after(seen(true, seconds(632)), owed.look, BOUND)
                .is_none()
        );
    }

    #[test]
    fn who_was_not_asked_is_not_given_up() {
        let start = Instant::now();
        let (mut owed, mut now) = (Owed::begin(start, BOUND), start);
        for _ in 0..10 {
            now = now.max(owed.look);
            owed = owed.after(seen(false, now - start), now, BOUND).unwrap();
        }
        assert!(now - start > BOUND);
        let owed = owed.after(seen(true, now - start), now, BOUND).unwrap();
        assert!(owed.doubted);
    }
}
