//! Eight threads that connect, fail, learn sessions and disconnect concurrently, while a server fails and an administrator
//! moves, clears, lists and sweeps pins: all counts are zero at the end.
//!
//! `LYNCPIN_ROUNDS` is the number of connections of each thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::affinity::record::{PinChange, PinKey, PinRecord};
use crate::affinity::shard::{Completeness, Moment};
use crate::affinity::table::{Cursor, TableFilter};
use crate::protocol::tls::client_hello::SessionId;

const THREADS: u64 = 8;
/// Several shards, and fewer pins than clients.
const BOUND: usize = 4096;
const CLIENTS: u64 = 6000;

struct World {
    pins: Arc<Pins>,
    pools: Vec<Arc<Pool>>,
    is_over: AtomicBool,
}

impl World {
    fn new() -> Self {
        let pins = pins_of(BOUND);
        // Time passes in one thread, the one that takes the changes.
        pins.stop_time();
        let of = |name: &str, backends: [&str; 3]| {
            let backends = backends.map(|named| backend(name, named, None)).to_vec();
            let balance = Balance::LeastConnections;
            let pins = Some(pins.clone());
            Arc::new(Pool::new(
                name.into(),
                backends,
                balance,
                pins,
                None,
                OnDown::Close,
            ))
        };
        let pools = vec![
            of("https", ["fe01", "fe02", "fe03"]),
            of("http", ["fe03", "fe01", "fe02"]),
        ];
        pins.track();
        Self {
            pins,
            pools,
            is_over: AtomicBool::new(false),
        }
    }

    /// The connections of one worker, a few of them at a time.
    fn work(&self, thread: u64, rounds: u64) {
        let mut chance = Sequence(mix(thread));
        let mut open = Vec::new();
        for _ in 0..rounds {
            let number = u32::try_from(chance.below(CLIENTS)).unwrap();
            let client = PoolClient {
                source: std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
                name_id: 1,
            };
            let pool = &self.pools[usize::from(chance.below(2) == 0)];
            // All backends may be down for a moment; that is not tested here.
            if let Ok(mut pick) = pool.pick(client, None) {
                if chance.below(10) == 0 {
                    pick.redispatch(ConnectFailure::Refused);
                }
                pick.connected(None);
                let granted = (chance.below(4) == 0).then(|| self.learn(&pick, client, number));
                let _ = pick.disconnect_reason();
                open.push((pick, granted));
            }
            assert!(self.pins.len() <= BOUND && self.pins.sessions() <= BOUND);
            if open.len() > 8 {
                open.swap_remove(usize::try_from(chance.below(8)).unwrap());
            }
        }
    }

    fn learn(
        &self,
        pick: &Selection,
        client: PoolClient,
        number: u32,
    ) -> Option<PinGuard<Session>> {
        let id = SessionId::new(&number.to_be_bytes()).unwrap();
        let key = self.pins.key(client.source, client.name_id);
        let member = self.pins.intern_member(&pick.backend().name);
        drop(
            self.pins
                .recognise(None, &id, Some(&key), |_| Eligibility::Eligible),
        );
        self.pins.learn_id(&id, Some(&key), member)
    }

    /// Concurrent administration until the workers end; returns the records that a change log would have.
    fn administer(&self) -> HashMap<PinKey, (Moment, PinRecord)> {
        let mut chance = Sequence(1);
        let mut recorded = HashMap::new();
        while !self.is_over.load(Ordering::Acquire) {
            self.administer_once(&mut chance);
            self.read_changes(&mut recorded);
        }
        self.read_changes(&mut recorded);
        recorded
    }

    fn read_changes(&self, recorded: &mut HashMap<PinKey, (Moment, PinRecord)>) {
        let now = self.pins.now();
        let all = self.pins.take_changes(&mut |change| match change {
            PinChange::Set(kept) => drop(recorded.insert(kept.key.clone(), (now, kept))),
            PinChange::Removed(key) => drop(recorded.remove(&key)),
        });
        assert_eq!(all, Completeness::All);
    }

    fn administer_once(&self, chance: &mut Sequence) {
        let some = TableFilter {
            clients: Some("10.0.4.0/22".parse().unwrap()),
            ..TableFilter::default()
        };
        let fe02 = self.pins.intern_member("fe02");
        let dying = &self.pools[0].backends[0];
        match chance.below(8) {
            0 => drop(self.pins.move_to(&some, fe02)),
            1 => drop(self.pins.clear(&some)),
            2 => drop(self.pins.clear_member(fe02)),
            3 => dying.set_health(Health::Down, "test"),
            4 => dying.set_health(Health::Up, "test"),
            5 => self.pins.sweep(100),
            6 => self.pins.pass_time(Duration::from_secs(5)),
            _ => self.list(),
        }
    }

    fn list(&self) {
        let mut cursor = Some(Cursor::default());
        let mut listed = std::collections::HashSet::new();
        while let Some(from) = cursor {
            let (found, next) = self.pins.page(&TableFilter::default(), from, 100, 300);
            listed.extend(found.into_iter().map(|kept| kept.key));
            cursor = next;
        }
        // Pins may be added to pages that were read already, and removed from pages still to be read.
        assert!(listed.len() <= usize::try_from(CLIENTS).unwrap());
    }
}

/// A pseudorandom sequence.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }
}

#[test]
fn all_counts_are_zero_after_eight_concurrent_threads() {
    let rounds = std::env::var("LYNCPIN_ROUNDS").map_or(4_000, |rounds| rounds.parse().unwrap());
    let world = World::new();
    let recorded = std::thread::scope(|scope| {
        let administrator = scope.spawn(|| world.administer());
        let workers = (1..=THREADS).map(|thread| {
            let world = &world;
            scope.spawn(move || world.work(thread, rounds))
        });
        let workers: Vec<_> = workers.collect();
        let ended: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        world.is_over.store(true, Ordering::Release);
        assert!(ended.iter().all(Result::is_ok));
        administrator.join().unwrap()
    });
    let pins = &world.pins;
    let backends = world.pools.iter().flat_map(|pool| &pool.backends);
    assert!(backends.clone().all(|backend| backend.in_flight() == 0));
    let mut standing = HashMap::new();
    pins.export(&mut |kept| drop(standing.insert(kept.key.clone(), kept)));
    assert!(
        standing
            .values()
            .all(|record| record.usage.connections() == 0)
    );
    let now = pins.now();
    let recorded: HashMap<_, _> = recorded
        .into_iter()
        .filter_map(|(key, (then, record))| {
            let record = record.after(Duration::from_millis(now.0 - then.0))?;
            Some((key, record))
        })
        .collect();
    assert_eq!(standing, recorded);
    let names = ["fe01", "fe02", "fe03"].map(|name| pins.intern_member(name));
    let pinned: usize = names.iter().map(|&member| pins.pins_to(member)).sum();
    assert_eq!(pinned, pins.len());
    pins.pass_time(Duration::from_secs(62));
    pins.sweep(usize::MAX);
    assert_eq!((pins.len(), pins.sessions()), (0, 0));
    assert!(names.iter().all(|&member| pins.pins_to(member) == 0));
}
