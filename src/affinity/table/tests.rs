mod numbers;
mod operate;
mod records;
mod sessions;
#[cfg(lyncpin_shuttle)]
pub(crate) mod threads;

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::protocol::tls::client_hello::SessionId;

fn pins(max_entries: usize) -> Arc<Pins> {
    pins_of(&settings(max_entries), &Secret::random())
}

fn pins_of(settings: &model::AffinitySettings, secret: &Secret) -> Arc<Pins> {
    Arc::new(Pins::new(settings, &Registry::default(), secret))
}

fn settings(max_entries: usize) -> model::AffinitySettings {
    model::AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: true,
        source_prefix: model::SourcePrefix { ipv4: 32, ipv6: 64 },
        ttl: Duration::from_secs(60),
        group: "web".into(),
        max_entries,
    }
}

/// A connection of a client that `member` has answered.
fn hold(pins: &Arc<Pins>, key: Key, member: Member) -> PinGuard<Key> {
    match pins.acquire(key, |_| Eligibility::Eligible, || Some(member)) {
        Lookup::Pinned(claim, _) | Lookup::New(claim, _) => {
            let _ = claim.answered(member);
            claim
        }
        other @ (Lookup::Stale(..)
        | Lookup::Unpinned(_)
        | Lookup::NotInPool
        | Lookup::NoBackend) => {
            panic!("{other:?}")
        }
    }
}

fn session_id(number: u32) -> SessionId {
    SessionId::new(&number.to_be_bytes()).unwrap()
}

fn key(client: u32) -> Key {
    let mut source = [0; 16];
    source[12..].copy_from_slice(&client.to_be_bytes());
    Key { source, name: 1 }
}

#[test]
fn eight_threads_agree_on_every_key_and_release_every_pin() {
    let pins = pins(100_000);
    let first: Vec<_> = (0..500).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 1..=8u32 {
            let (pins, first) = (&pins, &first);
            scope.spawn(move || {
                for (client, seen) in (0..).zip(first) {
                    let (Lookup::New(claim, member) | Lookup::Pinned(claim, member)) = pins
                        .acquire(
                            key(client),
                            |_| Eligibility::Eligible,
                            || Some(Member(thread)),
                        )
                    else {
                        panic!("every client gets a pin")
                    };
                    assert!(claim.answered(member).is_none());
                    let seen_first = seen.compare_exchange(
                        0,
                        member.0 as usize,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    );
                    assert!(seen_first.is_ok_and(|_| true) || seen_first == Err(member.0 as usize));
                }
            });
        }
    });
    assert_eq!(pins.len(), 500);
    assert!((0..500).all(|client| pins.view(&key(client)).is_some_and(|pin| pin.in_use == 0)));
}

#[test]
fn the_limit_holds_over_all_shards() {
    let pins = pins(4096);
    for client in 0..20_000 {
        let Lookup::New(claim, member) =
            pins.acquire(key(client), |_| Eligibility::Eligible, || Some(Member(1)))
        else {
            panic!()
        };
        assert!(claim.answered(member).is_none());
    }
    assert!(pins.len() <= 4096 && pins.len() > 4000, "{}", pins.len());
}

#[test]
fn released_pins_no_longer_count() {
    let pins = pins(100);
    let fe01 = pins.intern_member("fe01");
    let Lookup::New(claim, member) = pins.acquire(key(1), |_| Eligibility::Eligible, || Some(fe01))
    else {
        panic!()
    };
    assert!(claim.answered(member).is_none());
    drop(claim);
    assert_eq!((pins.len(), pins.clear_member(fe01), pins.len()), (1, 1, 0));
    assert_eq!(pins.member_name(fe01).as_deref(), Some("fe01"));
}

#[test]
fn a_new_client_gets_a_pin_while_any_shard_has_an_idle_one() {
    let pins = pins(4096);
    // All but one are in use, and that one can be in any shard.
    let begin =
        |client| match pins.acquire(key(client), |_| Eligibility::Eligible, || Some(Member(1))) {
            Lookup::New(claim, member) => {
                assert!(claim.answered(member).is_none());
                Some(claim)
            }
            Lookup::Pinned(..)
            | Lookup::Stale(..)
            | Lookup::Unpinned(_)
            | Lookup::NotInPool
            | Lookup::NoBackend => None,
        };
    let held: Vec<_> = (1..4096).map(|client| begin(client).unwrap()).collect();
    drop(begin(0).unwrap());
    for client in 5000..5010 {
        drop(begin(client).unwrap());
    }
    let last = begin(6000).unwrap();
    assert!(begin(6001).is_none(), "every pin is in use now");
    assert_eq!(pins.len(), 4096);
    drop((held, last));
}

#[test]
fn the_limit_holds_at_every_moment() {
    let pins = pins(2048);
    let over = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (pins, over) = (&pins, &over);
            scope.spawn(move || {
                for client in 0..5_000 {
                    let found = pins.acquire(
                        key(thread * 5_000 + client),
                        |_| Eligibility::Eligible,
                        || Some(Member(1)),
                    );
                    if let Lookup::New(claim, member) = found {
                        assert!(claim.answered(member).is_none());
                    }
                    over.fetch_max(pins.len(), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(over.into_inner() <= 2048);
    let mut standing = 0;
    pins.clients.each_shard(|shard| standing += shard.len());
    assert_eq!(standing, pins.len());
}

#[test]
fn shards_are_small_enough_that_growing_their_index_is_quick() {
    for (max_entries, shards) in [(1, 1), (4096, 4), (1_000_000, 64), (100_000_000, 8192)] {
        assert_eq!(pins(max_entries).clients.shards(), shards);
    }
}
