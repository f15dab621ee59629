//! Eight threads that come, fail, learn and leave at once, beside a server that falls and an administrator who moves,
//! forgets, lists and sweeps: whatever they do, what is counted comes to nothing when all have left.
//!
//! `LYNCPIN_ROUNDS` says how often each thread comes; the test is content with little.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::affinity::shard::Completeness;
use crate::affinity::table::{Cursor, PinKey, TableChange, TableFilter};
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

    /// One worker's connections, a few of which live at a time.
    fn work(&self, thread: u64, rounds: u64) {
        let mut chance = Chance(mix(thread));
        let mut open = Vec::new();
        for _ in 0..rounds {
            let number = u32::try_from(chance.below(CLIENTS)).unwrap();
            let client = PoolClient {
                source: std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
                name: 1,
            };
            let pool = &self.pools[usize::from(chance.below(2) == 0)];
            // All may be down for a moment, which is not what this is about.
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
        let key = self.pins.key(client.source, client.name);
        let member = self.pins.number_member(&pick.backend().name);
        drop(
            self.pins
                .recognise(None, &id, Some(&key), |_| Eligibility::Takes),
        );
        self.pins.learn_id(&id, Some(&key), member)
    }

    /// What happens beside them, until they have done; says what a second table was told.
    fn meddle(&self) -> HashMap<PinKey, crate::affinity::table::PinRecord> {
        let mut chance = Chance(1);
        let mut told = HashMap::new();
        while !self.is_over.load(Ordering::Acquire) {
            self.meddle_once(&mut chance);
            self.listen(&mut told);
        }
        self.listen(&mut told);
        told
    }

    fn listen(&self, told: &mut HashMap<PinKey, crate::affinity::table::PinRecord>) {
        let all = self.pins.take_changes(&mut |change| match change {
            TableChange::Set(kept) => drop(told.insert(kept.key.clone(), kept)),
            TableChange::Gone(key) => drop(told.remove(&key)),
        });
        assert_eq!(all, Completeness::All);
    }

    fn meddle_once(&self, chance: &mut Chance) {
        let some = TableFilter {
            clients: Some("10.0.4.0/22".parse().unwrap()),
            ..TableFilter::default()
        };
        let fe02 = self.pins.number_member("fe02");
        let dying = &self.pools[0].backends[0];
        match chance.below(8) {
            0 => drop(self.pins.move_to(&some, fe02)),
            1 => drop(self.pins.clear(&some)),
            2 => drop(self.pins.release(fe02)),
            3 => dying.set_health(Health::Down, "test"),
            4 => dying.set_health(Health::Up, "test"),
            5 => self.pins.sweep(100),
            6 => self.pins.pass_time(Duration::from_secs(5)),
            _ => self.list(),
        }
    }

    fn list(&self) {
        let mut cursor = Some(Cursor::default());
        let mut met = std::collections::HashSet::new();
        while let Some(from) = cursor {
            let (found, next) = self.pins.page(&TableFilter::default(), from, 100, 300);
            met.extend(found.into_iter().map(|kept| kept.key));
            cursor = next;
        }
        // Some come to places that were looked at already, while others go from places still to be looked at.
        assert!(met.len() <= usize::try_from(CLIENTS).unwrap());
    }
}

/// A sequence of numbers that nobody needs to guess.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }
}

#[test]
fn whatever_eight_threads_do_at_once_all_counts_come_to_nothing() {
    let rounds = std::env::var("LYNCPIN_ROUNDS").map_or(4_000, |rounds| rounds.parse().unwrap());
    let world = World::new();
    let mut told = std::thread::scope(|scope| {
        let meddler = scope.spawn(|| world.meddle());
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
        meddler.join().unwrap()
    });
    let pins = &world.pins;
    pins.stop_time();
    let backends = world.pools.iter().flat_map(|pool| &pool.backends);
    assert!(backends.clone().all(|backend| backend.in_flight() == 0));
    let mut standing = HashMap::new();
    pins.export(&mut |kept| drop(standing.insert(kept.key.clone(), kept)));
    assert!(standing.values().all(|kept| kept.in_use == 0));
    told.retain(|_, kept| kept.expires.is_none_or(|expires| expires > pins.now()));
    assert_eq!(standing, told);
    let names = ["fe01", "fe02", "fe03"].map(|name| pins.number_member(name));
    let leading: usize = names.iter().map(|&member| pins.leading_to(member)).sum();
    assert_eq!(leading, pins.len());
    pins.pass_time(Duration::from_secs(62));
    pins.sweep(usize::MAX);
    assert_eq!((pins.len(), pins.sessions()), (0, 0));
    assert!(names.iter().all(|&member| pins.leading_to(member) == 0));
}
