//! How many connections may live at once, and how fast one source may come.
//!
//! Owns the counts behind `limits`. Knows no listener. Invariants: each [`Admission`] is counted once and given back
//! by `Drop`; a source takes memory only while it has connections or has just come.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::affinity::shard::source_bits;
use crate::config::model::SourcePrefix;
use crate::types::outcome::Outcome;

/// What counts as one source: an IPv4 address, and an IPv6 /64, which is what one site or phone has.
const SOURCE: SourcePrefix = SourcePrefix { ipv4: 32, ipv6: 64 };
const SHARDS: usize = 16;

type Sources = HashMap<[u8; 16], ClientSource>;

#[derive(Debug)]
struct ClientSource {
    connections: u32,
    /// When the source has paid for all that it has opened (the theoretical arrival time of GCRA, ITU-T I.371).
    paid: Instant,
}

/// The limits in force and what counts against them.
#[derive(Debug)]
pub struct ConnectionLimits {
    most: AtomicU32,
    /// [`u32::MAX`] is no bound.
    per_source: AtomicU32,
    /// Nanoseconds that one new connection of a source costs; 0 is nothing.
    cost: AtomicU64,
    connections: AtomicU32,
    hasher: RandomState,
    sources: [Mutex<Sources>; SHARDS],
}

impl ConnectionLimits {
    /// At most `most` connections at once, of each source `per_source` at once and `rate` new ones a second.
    #[must_use]
    pub fn new(most: u32, per_source: Option<u32>, rate: Option<u32>) -> Self {
        let limits = Self {
            most: AtomicU32::new(most),
            per_source: AtomicU32::new(u32::MAX),
            cost: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            hasher: RandomState::new(),
            sources: Default::default(),
        };
        limits.set(most, per_source, rate);
        limits
    }

    /// From now on as [`ConnectionLimits::new`] says. No connection that lives is ended for it, and where sources were not counted
    /// before, it counts against none.
    pub fn set(&self, most: u32, per_source: Option<u32>, rate: Option<u32>) {
        let rate = rate.filter(|&rate| rate > 0).map(u64::from);
        let cost = rate.map_or(0, |rate| 1_000_000_000 / rate);
        self.most.store(most, Ordering::Relaxed);
        self.per_source
            .store(per_source.unwrap_or(u32::MAX), Ordering::Relaxed);
        self.cost.store(cost, Ordering::Relaxed);
    }

    fn per_source(&self) -> Option<u32> {
        let bound = self.per_source.load(Ordering::Relaxed);
        (bound != u32::MAX).then_some(bound)
    }

    fn cost(&self) -> Option<Duration> {
        let cost = self.cost.load(Ordering::Relaxed);
        (cost != 0).then_some(Duration::from_nanos(cost))
    }

    /// The bound of connections at once.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// Connections that live now.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection from `source`.
    ///
    /// # Errors
    ///
    /// The limit that it would pass.
    pub fn admit(self: &Arc<Self>, source: IpAddr, now: Instant) -> Result<Admission, Outcome> {
        let grown = |connections: u32| (connections < self.most()).then(|| connections + 1);
        let counted = self
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, grown);
        counted.map_err(|_| Outcome::LimitConnections)?;
        let mut admission = Admission {
            limits: self.clone(),
            source: None,
        };
        if self.per_source().is_some() || self.cost().is_some() {
            let source = source_bits(source, SOURCE);
            self.admit_source(source, now)?;
            admission.source = Some(source);
        }
        Ok(admission)
    }

    fn admit_source(&self, source: [u8; 16], now: Instant) -> Result<(), Outcome> {
        let mut sources = self.shard(&source);
        let known = sources.entry(source).or_insert(ClientSource {
            connections: 0,
            paid: now,
        });
        if self
            .per_source()
            .is_some_and(|most| known.connections >= most)
        {
            return Err(Outcome::LimitPerSource);
        }
        if let Some(cost) = self.cost() {
            let paid = known.paid.max(now) + cost;
            // One second's worth may come at once.
            if paid > now + Duration::from_secs(1) {
                return Err(Outcome::LimitRate);
            }
            known.paid = paid;
        }
        known.connections += 1;
        Ok(())
    }

    /// Forgets sources that have no connections and owe nothing; to be called now and then.
    pub fn sweep(&self, now: Instant) {
        for sources in &self.sources {
            lock(sources).retain(|_, source| source.connections > 0 || source.paid > now);
        }
    }

    fn shard(&self, source: &[u8; 16]) -> MutexGuard<'_, Sources> {
        let hash = usize::try_from(self.hasher.hash_one(source) & 0xffff).unwrap_or(0);
        lock(&self.sources[hash % SHARDS])
    }
}

/// A connection that counts; given back by `Drop`.
#[derive(Debug)]
pub struct Admission {
    limits: Arc<ConnectionLimits>,
    source: Option<[u8; 16]>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limits.connections.fetch_sub(1, Ordering::AcqRel);
        let Some(source) = self.source else { return };
        let mut sources = self.limits.shard(&source);
        if let Some(known) = sources.get_mut(&source) {
            known.connections -= 1;
            if known.connections == 0 && self.limits.cost().is_none() {
                sources.remove(&source);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn refusal(limits: &Arc<ConnectionLimits>, source: IpAddr, now: Instant) -> Option<Outcome> {
        limits.admit(source, now).err()
    }

    #[test]
    fn the_bound_of_all_connections_is_reached_and_given_back() {
        let limits = Arc::new(ConnectionLimits::new(2, None, None));
        let now = Instant::now();
        let held = [
            limits.admit(ONE, now).unwrap(),
            limits.admit(ONE, now).unwrap(),
        ];
        assert_eq!(
            refusal(&limits, OTHER, now),
            Some(Outcome::LimitConnections)
        );
        drop(held);
        assert_eq!(
            (refusal(&limits, OTHER, now), limits.connections()),
            (None, 0)
        );
    }

    #[test]
    fn one_source_does_not_take_the_place_of_another() {
        let limits = Arc::new(ConnectionLimits::new(100, Some(1), None));
        let now = Instant::now();
        let held = limits.admit(ONE, now).unwrap();
        assert_eq!(refusal(&limits, ONE, now), Some(Outcome::LimitPerSource));
        assert_eq!(refusal(&limits, OTHER, now), None);
        drop(held);
        assert_eq!(refusal(&limits, ONE, now), None);
        assert!(
            limits
                .sources
                .iter()
                .all(|sources| lock(sources).is_empty())
        );
    }

    #[test]
    fn a_source_that_comes_too_fast_waits_for_its_next_turn() {
        let limits = Arc::new(ConnectionLimits::new(100, None, Some(10)));
        let start = Instant::now();
        assert!((0..10).all(|_| refusal(&limits, ONE, start).is_none()));
        assert_eq!(refusal(&limits, ONE, start), Some(Outcome::LimitRate));
        assert_eq!(refusal(&limits, OTHER, start), None);
        assert_eq!(
            refusal(&limits, ONE, start + Duration::from_millis(100)),
            None
        );
        assert_eq!(
            refusal(&limits, ONE, start + Duration::from_millis(150)),
            Some(Outcome::LimitRate)
        );
        limits.sweep(start + Duration::from_secs(5));
        assert!(
            limits
                .sources
                .iter()
                .all(|sources| lock(sources).is_empty())
        );
    }

    #[test]
    fn other_limits_hold_from_now_on_and_end_no_connection() {
        let limits = Arc::new(ConnectionLimits::new(100, None, None));
        let now = Instant::now();
        let before: Vec<Admission> = (0..3).map(|_| limits.admit(ONE, now).unwrap()).collect();
        limits.set(100, Some(1), None);
        let counted = limits.admit(ONE, now).unwrap();
        assert_eq!(refusal(&limits, ONE, now), Some(Outcome::LimitPerSource));
        limits.set(4, None, None);
        assert_eq!(refusal(&limits, ONE, now), Some(Outcome::LimitConnections));
        drop((before, counted));
        assert_eq!(
            (refusal(&limits, ONE, now), limits.connections()),
            (None, 0)
        );
    }

    #[test]
    fn what_is_refused_counts_against_nothing() {
        let limits = Arc::new(ConnectionLimits::new(100, Some(1), None));
        let now = Instant::now();
        let held = limits.admit(ONE, now).unwrap();
        for _ in 0..10 {
            assert!(refusal(&limits, ONE, now).is_some());
        }
        assert_eq!(limits.connections(), 1);
        drop(held);
    }
}
