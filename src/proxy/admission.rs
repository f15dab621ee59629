//! Limits on concurrent connections and on the connection rate of one source.
//!
//! Owns the counters behind `limits`. Must not know listeners. Invariants: each [`Admission`] is counted once and released by
//! `Drop`; a source takes memory only while it has connections or has connected recently.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::affinity::shard::source_bits;
use crate::config::model::SourcePrefix;
use crate::types::outcome::Outcome;

/// One source is an IPv4 address or an IPv6 /64, which is the prefix of one site or phone.
const SOURCE_PREFIX: SourcePrefix = SourcePrefix { ipv4: 32, ipv6: 64 };
const SHARDS: usize = 16;

type Sources = HashMap<[u8; 16], ClientSource>;

#[derive(Debug)]
struct ClientSource {
    connections: u32,
    /// When the source may have opened all its connections at the configured rate (the theoretical arrival time of GCRA, ITU-T
    /// I.371).
    paid_until: Instant,
}

/// The limits in force and the current counts.
#[derive(Debug)]
pub struct ConnectionLimits {
    max: AtomicU32,
    /// [`u32::MAX`] is no limit.
    per_source: AtomicU32,
    /// Nanoseconds between two new connections of a source at the configured rate; 0 is no limit.
    interval: AtomicU64,
    connections: AtomicU32,
    hasher: RandomState,
    sources: [Mutex<Sources>; SHARDS],
}

impl ConnectionLimits {
    /// Allows at most `max` connections at once and, for each source, `per_source` at once and `rate` new ones a second.
    #[must_use]
    pub fn new(max: u32, per_source: Option<u32>, rate: Option<u32>) -> Self {
        let limits = Self {
            max: AtomicU32::new(max),
            per_source: AtomicU32::new(u32::MAX),
            interval: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            hasher: RandomState::new(),
            sources: Default::default(),
        };
        limits.set(max, per_source, rate);
        limits
    }

    /// Changes the limits to those of [`ConnectionLimits::new`]. No connection is ended. If sources were not counted before,
    /// existing connections do not count for any source.
    pub fn set(&self, max: u32, per_source: Option<u32>, rate: Option<u32>) {
        let rate = rate.filter(|&rate| rate > 0).map(u64::from);
        let interval = rate.map_or(0, |rate| 1_000_000_000 / rate);
        self.max.store(max, Ordering::Relaxed);
        self.per_source
            .store(per_source.unwrap_or(u32::MAX), Ordering::Relaxed);
        self.interval.store(interval, Ordering::Relaxed);
    }

    fn per_source(&self) -> Option<u32> {
        let limit = self.per_source.load(Ordering::Relaxed);
        (limit != u32::MAX).then_some(limit)
    }

    fn interval(&self) -> Option<Duration> {
        let interval = self.interval.load(Ordering::Relaxed);
        (interval != 0).then_some(Duration::from_nanos(interval))
    }

    /// The limit of concurrent connections.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Number of current connections.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection from `source`.
    ///
    /// # Errors
    ///
    /// The limit that it would exceed.
    pub fn admit(self: &Arc<Self>, source: IpAddr, now: Instant) -> Result<Admission, Outcome> {
        let incremented =
            |connections: u32| (connections < self.max_connections()).then(|| connections + 1);
        let counted =
            self.connections
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, incremented);
        counted.map_err(|_| Outcome::LimitConnections)?;
        let mut admission = Admission {
            limits: self.clone(),
            source: None,
        };
        if self.per_source().is_some() || self.interval().is_some() {
            let source = source_bits(source, SOURCE_PREFIX);
            self.admit_source(source, now)?;
            admission.source = Some(source);
        }
        Ok(admission)
    }

    fn admit_source(&self, source: [u8; 16], now: Instant) -> Result<(), Outcome> {
        let mut sources = self.shard(&source);
        let known = sources.entry(source).or_insert(ClientSource {
            connections: 0,
            paid_until: now,
        });
        if self
            .per_source()
            .is_some_and(|max| known.connections >= max)
        {
            return Err(Outcome::LimitPerSource);
        }
        if let Some(interval) = self.interval() {
            let paid_until = known.paid_until.max(now) + interval;
            // A burst of one second's worth is allowed.
            if paid_until > now + Duration::from_secs(1) {
                return Err(Outcome::LimitRate);
            }
            known.paid_until = paid_until;
        }
        known.connections += 1;
        Ok(())
    }

    /// Removes sources that have no connections and are within their rate; to be called periodically.
    pub fn sweep(&self, now: Instant) {
        for sources in &self.sources {
            lock(sources).retain(|_, source| source.connections > 0 || source.paid_until > now);
        }
    }

    fn shard(&self, source: &[u8; 16]) -> MutexGuard<'_, Sources> {
        let hash = usize::try_from(self.hasher.hash_one(source) & 0xffff).unwrap_or(0);
        lock(&self.sources[hash % SHARDS])
    }
}

/// One counted connection; released by `Drop`.
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
            if known.connections == 0 && self.limits.interval().is_none() {
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

    fn rejection(limits: &Arc<ConnectionLimits>, source: IpAddr, now: Instant) -> Option<Outcome> {
        limits.admit(source, now).err()
    }

    #[test]
    fn the_limit_of_all_connections_is_enforced_and_released() {
        let limits = Arc::new(ConnectionLimits::new(2, None, None));
        let now = Instant::now();
        let held = [
            limits.admit(ONE, now).unwrap(),
            limits.admit(ONE, now).unwrap(),
        ];
        assert_eq!(
            rejection(&limits, OTHER, now),
            Some(Outcome::LimitConnections)
        );
        drop(held);
        assert_eq!(
            (rejection(&limits, OTHER, now), limits.connections()),
            (None, 0)
        );
    }

    #[test]
    fn one_source_does_not_use_up_the_limit_of_another() {
        let limits = Arc::new(ConnectionLimits::new(100, Some(1), None));
        let now = Instant::now();
        let held = limits.admit(ONE, now).unwrap();
        assert_eq!(rejection(&limits, ONE, now), Some(Outcome::LimitPerSource));
        assert_eq!(rejection(&limits, OTHER, now), None);
        drop(held);
        assert_eq!(rejection(&limits, ONE, now), None);
        assert!(
            limits
                .sources
                .iter()
                .all(|sources| lock(sources).is_empty())
        );
    }

    #[test]
    fn a_source_that_connects_too_fast_is_rejected_until_its_next_interval() {
        let limits = Arc::new(ConnectionLimits::new(100, None, Some(10)));
        let start = Instant::now();
        assert!((0..10).all(|_| rejection(&limits, ONE, start).is_none()));
        assert_eq!(rejection(&limits, ONE, start), Some(Outcome::LimitRate));
        assert_eq!(rejection(&limits, OTHER, start), None);
        assert_eq!(
            rejection(&limits, ONE, start + Duration::from_millis(100)),
            None
        );
        assert_eq!(
            rejection(&limits, ONE, start + Duration::from_millis(150)),
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
    fn changed_limits_apply_at_once_and_end_no_connection() {
        let limits = Arc::new(ConnectionLimits::new(100, None, None));
        let now = Instant::now();
        let before: Vec<Admission> = (0..3).map(|_| limits.admit(ONE, now).unwrap()).collect();
        limits.set(100, Some(1), None);
        let counted = limits.admit(ONE, now).unwrap();
        assert_eq!(rejection(&limits, ONE, now), Some(Outcome::LimitPerSource));
        limits.set(4, None, None);
        assert_eq!(
            rejection(&limits, ONE, now),
            Some(Outcome::LimitConnections)
        );
        drop((before, counted));
        assert_eq!(
            (rejection(&limits, ONE, now), limits.connections()),
            (None, 0)
        );
    }

    #[test]
    fn a_rejected_connection_is_not_counted() {
        let limits = Arc::new(ConnectionLimits::new(100, Some(1), None));
        let now = Instant::now();
        let held = limits.admit(ONE, now).unwrap();
        for _ in 0..10 {
            assert!(rejection(&limits, ONE, now).is_some());
        }
        assert_eq!(limits.connections(), 1);
        drop(held);
    }
}
