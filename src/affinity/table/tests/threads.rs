//! What workers share, in thousands of orders of their steps (`tests/threads`).

use super::*;
use crate::affinity::record::PinChange;
use crate::affinity::shard::Completeness;

const THREADS: u32 = 3;

/// Runs this in `LYNCPIN_ROUNDS` orders: half of them random, half with few changes of thread at points that matter
/// (probabilistic concurrency testing).
pub(crate) fn in_many_orders(check: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("LYNCPIN_ROUNDS");
    let rounds: usize = rounds.map_or(5_000, |rounds| rounds.parse().unwrap());
    let check = Arc::new(check);
    let again = check.clone();
    shuttle::check_random(move || check(), rounds / 2);
    shuttle::check_pct(move || again(), rounds / 2, 3);
}

fn at_once(work: impl Fn(u32) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads = (1..=THREADS).map(|thread| {
        let work = work.clone();
        shuttle::thread::spawn(move || work(thread))
    });
    let threads: Vec<_> = threads.collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

/// Tables of two shards and two pins. A client may have one session.
fn tables() -> Arc<Pins> {
    let settings = settings(2);
    let mut pins = Pins::new(
        &settings,
        &Registry::default(),
        &Secret::from_bytes([7; 32]),
    );
    pins.clients = KeyTable::of_shards(2, 2, settings.ttl, Quotas::none());
    pins.sessions = KeyTable::of_shards(2, 2, settings.ttl, Quotas::of(1));
    Arc::new(pins)
}

/// One of the clients whose pins are in this shard.
fn client_of(pins: &Pins, shard: usize, number: usize) -> Key {
    let of_shard = (0..)
        .map(key)
        .filter(|key| pins.clients.shard_of(key) == shard);
    of_shard.skip(1).nth(number).unwrap()
}

/// The counts equal the pins, and no pin is in use.
fn is_at_rest(pins: &Pins) {
    let (mut clients, mut sessions) = (0, 0);
    pins.clients.each_shard(|shard| clients += shard.len());
    pins.sessions.each_shard(|shard| sessions += shard.len());
    assert_eq!((clients, sessions), (pins.len(), pins.sessions()));
    pins.export(&mut |record| assert_eq!(record.usage.connections(), 0));
}

fn come(pins: &Arc<Pins>, key: Key, to: u32) -> Option<(PinGuard<Key>, Member)> {
    match pins.acquire(key, |_| Eligibility::Eligible, || Some(Member(to))) {
        Lookup::New(claim, member) | Lookup::Pinned(claim, member) => {
            let _ = claim.answered(member);
            Some((claim, member))
        }
        Lookup::Unpinned(_) => None,
        other @ (Lookup::Stale(..) | Lookup::NotInPool | Lookup::NoBackend) => panic!("{other:?}"),
    }
}

#[test]
fn the_limit_is_never_exceeded_and_no_thread_waits_for_ever() {
    in_many_orders(|| {
        let pins = tables();
        let shared = pins.clone();
        at_once(move |thread| {
            for number in 0..2 {
                let shard = (thread as usize + number) % 2;
                let key = client_of(&shared, shard, thread as usize);
                let held = come(&shared, key, thread);
                assert!(shared.len() <= 2);
                let mut standing = 0;
                shared.clients.each_shard(|shard| standing += shard.len());
                // One shard after the other: each of the other threads may have moved one pin on meanwhile.
                assert!(standing <= 2 + THREADS as usize - 1);
                drop(held);
            }
        });
        is_at_rest(&pins);
        assert!(pins.len() <= 2);
    });
}

#[test]
fn when_all_threads_evict_from_each_other_one_gets_room() {
    in_many_orders(|| {
        let pins = tables();
        let idle = [0, 1].map(|shard| client_of(&pins, shard, 0));
        idle.iter().for_each(|&key| drop(come(&pins, key, 9)));
        let shared = pins.clone();
        at_once(move |thread| {
            let shard = thread as usize % 2;
            let held = [1, 2].map(|number| {
                let key = client_of(&shared, shard, number + thread as usize * 2);
                come(&shared, key, thread)
            });
            assert!(shared.len() <= 2);
            drop(held);
        });
        is_at_rest(&pins);
    });
}

#[test]
fn first_connections_of_one_client_agree() {
    in_many_orders(|| {
        let pins = tables();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (shared, list) = (pins.clone(), seen.clone());
        at_once(move |thread| {
            let held = come(&shared, key(1), thread).expect("there is room");
            list.lock().unwrap().push(held);
        });
        let held = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(held.len(), THREADS as usize);
        assert!(held.iter().all(|(_, member)| *member == held[0].1));
        let view = pins.view(&key(1)).unwrap();
        assert_eq!((view.in_use, view.member), (THREADS, held[0].1));
        drop(held);
        is_at_rest(&pins);
        assert_eq!(pins.view(&key(1)).unwrap().in_use, 0);
    });
}

#[test]
fn no_use_is_lost_while_pins_are_cleared_and_swept() {
    in_many_orders(|| {
        let pins = tables();
        let shared = pins.clone();
        at_once(move |thread| {
            if thread == THREADS {
                shared.clear(&TableFilter::default());
                shared.pass_time(Duration::from_secs(62));
                shared.sweep(9);
                return;
            }
            for _ in 0..2 {
                let held = come(&shared, key(1), thread).expect("there is room");
                let again = come(&shared, key(1), thread).expect("there is room");
                drop(held);
                assert!(again.0.pins().len() > 0, "a pin in use stands");
            }
        });
        is_at_rest(&pins);
    });
}

#[test]
fn quotas_add_up_to_the_pins_while_clients_roam() {
    in_many_orders(|| {
        let pins = tables();
        let id = session_id(1);
        drop(pins.learn_id(&id, Some(&key(1)), Member(7)).unwrap());
        let shared = pins.clone();
        at_once(move |thread| {
            let client = key(thread + 1);
            let found = shared.recognise(None, &id, Some(&client), |_| Eligibility::Eligible);
            let of_client = |client| {
                let client = shared.secret.client(&key(client));
                shared.sessions.quotas.of_client(client)
            };
            assert!((1..=THREADS + 1).all(|client| of_client(client) <= 1));
            if thread == 1 {
                shared.clear(&TableFilter::default());
            }
            drop(found);
        });
        let share = |client| {
            pins.sessions
                .quotas
                .of_client(pins.secret.client(&key(client)))
        };
        let counted: u32 = (1..=THREADS + 1).map(share).sum();
        assert_eq!(counted as usize, pins.sessions());
        pins.clear(&TableFilter::default());
        assert!((1..=THREADS + 1).all(|client| share(client) == 0));
        is_at_rest(&pins);
    });
}

#[test]
fn no_client_exceeds_its_quota_or_loses_part_of_it() {
    in_many_orders(|| {
        let pins = tables();
        let shared = pins.clone();
        at_once(move |thread| {
            let learned = shared.learn_id(&session_id(thread), Some(&key(1)), Member(7));
            let of_client = shared.secret.client(&key(1));
            assert!(shared.sessions() <= 2 && shared.sessions.quotas.of_client(of_client) <= 1);
            // Others fill the table meanwhile, and sessions are evicted.
            drop(learned);
            drop(shared.learn_id(&session_id(thread + 10), Some(&key(thread + 1)), Member(7)));
        });
        let share = |client| {
            pins.sessions
                .quotas
                .of_client(pins.secret.client(&key(client)))
        };
        let counted: u32 = (1..=THREADS + 1).map(share).sum();
        assert_eq!(counted as usize, pins.sessions());
        is_at_rest(&pins);
    });
}

#[test]
fn all_changes_add_up_to_the_table() {
    in_many_orders(|| {
        let pins = tables();
        let member = pins.intern_member("fe01");
        let other = pins.intern_member("fe02");
        let name = pins.intern_name("meet.contoso.com");
        pins.stop_time();
        pins.track();
        let changes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (shared, list) = (pins.clone(), changes.clone());
        at_once(move |thread| {
            let key = shared.key([192, 0, 2, 1].into(), name);
            match thread {
                1 => drop(come(&shared, key, member.0)),
                2 => {
                    shared.move_to(&TableFilter::default(), other);
                    shared.clear(&TableFilter::default());
                }
                _ => {
                    let mut part = Vec::new();
                    let all = shared.take_changes(&mut |change| part.push(change));
                    assert_eq!(all, Completeness::All);
                    list.lock().unwrap().extend(part);
                }
            }
        });
        let mut changes = std::mem::take(&mut *changes.lock().unwrap());
        assert_eq!(
            pins.take_changes(&mut |change| changes.push(change)),
            Completeness::All
        );
        let mut second = std::collections::HashMap::new();
        for change in changes {
            match change {
                PinChange::Set(record) => drop(second.insert(record.key.clone(), record)),
                PinChange::Removed(key) => drop(second.remove(&key)),
            }
        }
        let mut first = std::collections::HashMap::new();
        pins.export(&mut |record| drop(first.insert(record.key.clone(), record)));
        assert_eq!(first, second);
    });
}
