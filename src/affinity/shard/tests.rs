mod model;
mod whole;

use super::*;
use crate::config::model::SourcePrefix;

type Shard = super::Shard<Key>;
type View = super::PinView<Key>;

const TTL: Duration = Duration::from_secs(60);

fn shard() -> Shard {
    Shard::new(TTL)
}

fn key(client: u8) -> Key {
    Key {
        source: [client; 16],
        name: 1,
    }
}

/// So few tags that keys collide, in the index and in their tags.
fn tag(client: u8) -> Tag {
    Tag(u32::from(client % 5) * 8)
}

fn view(shard: &Shard, client: u8, now: u64) -> Option<View> {
    shard.view((&key(client), tag(client)), Moment(now))
}

/// Clears every pin to `member`, in steps of three.
fn release(shard: &mut Shard, member: Member, now: u64) -> usize {
    let (mut released, mut from) = (0, Some(0));
    while let Some(handle) = from {
        from = shard.visit(handle, 3, Moment(now), |pin| {
            if pin.member != member {
                return PinAction::Keep;
            }
            released += 1;
            PinAction::Clear
        });
    }
    released
}

fn fit(takes: bool) -> Eligibility {
    if takes {
        Eligibility::Eligible
    } else {
        Eligibility::Ineligible
    }
}

fn begin(shard: &mut Shard, client: u8, now: u64, up: &[u32], bound: usize) -> KeyLookup {
    let choose = || up.first().map(|&member| Member(member));
    let room = |shard: &mut Shard| shard.len() < bound || shard.evict();
    shard.acquire(
        (key(client), tag(client)),
        Moment(now),
        Origin::Policy,
        |member| fit(up.contains(&member.0)),
        choose,
        room,
    )
}

fn pin(shard: &mut Shard, client: u8, now: u64, to: u32) {
    let KeyLookup::New(handle, member) = begin(shard, client, now, &[to], 100) else {
        panic!("wanted a new pin")
    };
    shard.answered(handle, member);
    shard.release(handle, Moment(now));
}

#[test]
fn first_connections_at_once_agree() {
    let mut shard = shard();
    let KeyLookup::New(_, first) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    // The policy would select 8 now, but the key has been sent to 7.
    let KeyLookup::New(_, second) = begin(&mut shard, 1, 0, &[8, 7], 10) else {
        panic!()
    };
    assert_eq!(first, second);
}

#[test]
fn a_pin_expires_ttl_after_the_end_of_its_last_connection() {
    let mut shard = shard();
    pin(&mut shard, 1, 1_000, 7);
    assert!(matches!(
        begin(&mut shard, 1, 60_999, &[8, 7], 10),
        KeyLookup::Pinned(_, Member(7))
    ));
    // In use now: it does not expire however long that lasts.
    assert!(matches!(
        begin(&mut shard, 1, 10_000_000, &[8, 7], 10),
        KeyLookup::Pinned(..)
    ));
    pin(&mut shard, 2, 1_000, 7);
    assert!(matches!(
        begin(&mut shard, 2, 61_000, &[8, 7], 10),
        KeyLookup::New(_, Member(8))
    ));
}

#[test]
fn a_pin_moves_only_when_another_backend_has_answered() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let KeyLookup::Stale(handle, Member(8)) = begin(&mut shard, 1, 0, &[8], 10) else {
        panic!()
    };
    shard.release(handle, Moment(0));
    assert!(matches!(
        begin(&mut shard, 1, 0, &[8, 7], 10),
        KeyLookup::Pinned(_, Member(7))
    ));
    let KeyLookup::Stale(handle, Member(8)) = begin(&mut shard, 1, 0, &[8], 10) else {
        panic!()
    };
    assert_eq!(shard.answered(handle, Member(8)), Some(Member(7)));
    assert!(matches!(
        begin(&mut shard, 1, 0, &[7, 8], 10),
        KeyLookup::Pinned(_, Member(8))
    ));
}

#[test]
fn connections_that_fail_at_once_agree_on_the_next_backend() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let KeyLookup::Pinned(one, _) = begin(&mut shard, 1, 0, &[7, 8, 9], 10) else {
        panic!()
    };
    let KeyLookup::Pinned(two, _) = begin(&mut shard, 1, 0, &[7, 8, 9], 10) else {
        panic!()
    };
    let untried = |member: Member| fit(member.0 != 7);
    assert_eq!(
        shard.next_member(one, untried, || Some(Member(8))),
        Some(Member(8))
    );
    assert_eq!(
        shard.next_member(two, untried, || Some(Member(9))),
        Some(Member(8))
    );
    assert_eq!(shard.answered(one, Member(8)), Some(Member(7)));
    assert_eq!(shard.answered(two, Member(8)), None);
}

#[test]
fn a_late_answer_of_the_old_backend_does_not_move_the_pin_back() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let KeyLookup::Pinned(slow, _) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    let KeyLookup::Pinned(fast, _) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    shard.next_member(fast, |member| fit(member.0 != 7), || Some(Member(8)));
    shard.answered(fast, Member(8));
    assert_eq!(shard.answered(slow, Member(7)), None);
    assert!(matches!(
        begin(&mut shard, 1, 0, &[7, 8], 10),
        KeyLookup::Pinned(_, Member(8))
    ));
}

#[test]
fn a_full_table_evicts_the_pin_that_was_idle_longest() {
    let mut shard = shard();
    for client in 1..=3 {
        pin(&mut shard, client, u64::from(client), 7);
    }
    assert!(matches!(
        begin(&mut shard, 1, 10, &[7], 3),
        KeyLookup::Pinned(..)
    ));
    assert!(matches!(
        begin(&mut shard, 4, 10, &[8], 3),
        KeyLookup::New(..)
    ));
    assert_eq!(shard.len(), 3);
    assert!(view(&shard, 2, 10).is_none());
    assert!(view(&shard, 3, 10).is_some());
}

#[test]
fn a_pin_in_use_is_never_evicted() {
    let mut shard = shard();
    assert!(matches!(
        begin(&mut shard, 1, 0, &[7], 1),
        KeyLookup::New(..)
    ));
    assert_eq!(
        begin(&mut shard, 2, 0, &[8], 1),
        KeyLookup::Unpinned(Member(8))
    );
}

#[test]
fn a_key_whose_backends_never_answered_leaves_no_pin() {
    let mut shard = shard();
    let KeyLookup::New(handle, _) = begin(&mut shard, 1, 0, &[7], 10) else {
        panic!()
    };
    shard.release(handle, Moment(0));
    assert!(shard.is_empty());
    assert_eq!(begin(&mut shard, 1, 0, &[], 10), KeyLookup::NoBackend);
    assert!(shard.is_empty());
}

#[test]
fn released_pins_are_cleared_even_in_use() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    pin(&mut shard, 2, 0, 8);
    pin(&mut shard, 3, 0, 7);
    let KeyLookup::Pinned(handle, _) = begin(&mut shard, 3, 0, &[7], 10) else {
        panic!()
    };
    assert_eq!((shard.pins_to(Member(7)), shard.pins_to(Member(8))), (2, 1));
    assert_eq!(release(&mut shard, Member(7), 0), 2);
    assert_eq!((shard.pins_to(Member(7)), shard.pins_to(Member(8))), (0, 1));
    assert!(matches!(
        begin(&mut shard, 1, 0, &[9], 10),
        KeyLookup::New(_, Member(9))
    ));
    assert!(matches!(
        begin(&mut shard, 2, 0, &[8], 10),
        KeyLookup::Pinned(..)
    ));
    shard.release(handle, Moment(0));
    assert!(view(&shard, 3, 0).is_none());
    assert_eq!(shard.len(), 2);
}

#[test]
fn a_pin_takes_at_most_128_bytes_in_all() {
    assert_eq!(
        (size_of::<PinCell<Key>>(), align_of::<PinCell<Key>>()),
        (64, 64)
    );
    assert_eq!(size_of::<PinCell<Session>>(), 64);
    let mut shard = shard();
    // From the fewest pins of a shard in a full table to more than the most; while growing, and with the last cell full.
    for client in 1..=20_000u32 {
        let mut key = key(0);
        key.source[..4].copy_from_slice(&client.to_be_bytes());
        let tag = Tag(client.wrapping_mul(0x9e37_79b9));
        let (up, choose) = (|_| Eligibility::Eligible, || Some(Member(1)));
        let KeyLookup::New(handle, member) =
            shard.acquire((key, tag), Moment(0), Origin::Policy, up, choose, |_| true)
        else {
            panic!("wanted a new pin")
        };
        shard.answered(handle, member);
        shard.release(handle, Moment(0));
        // While the index grows, the old and the new one exist.
        let index = shard.index.allocated() / 2 * 3;
        let bytes = size_of::<Shard>() + index + shard.pins.allocated();
        let each = bytes / shard.len();
        assert!(client < 1000 || each <= 128, "{each} bytes of {client}");
    }
}

#[test]
fn using_pins_repeatedly_takes_no_memory() {
    let mut shard = shard();
    let mut sizes = (0..1000).map(|round| {
        for client in 0..100 {
            let found = begin(&mut shard, client, round, &[7], 100);
            let (KeyLookup::New(handle, member) | KeyLookup::Pinned(handle, member)) = found else {
                panic!("wanted a pin")
            };
            shard.answered(handle, member);
            shard.release(handle, Moment(round));
        }
        shard.pins.allocated() + shard.index.allocated()
    });
    let first = sizes.next();
    assert!(sizes.all(|size| Some(size) == first));
}

#[test]
fn of_pins_used_since_they_were_listed_the_longest_idle_of_a_few_is_evicted() {
    let mut shard = shard();
    for client in 0..8 {
        pin(&mut shard, client, 0, 7);
    }
    // All are listed by the end of their first connection, and return in another order.
    for (client, now) in [(3, 5_000), (0, 9_000), (1, 10_000), (2, 11_000)] {
        let KeyLookup::Pinned(handle, _) = begin(&mut shard, client, now, &[7], 100) else {
            panic!()
        };
        shard.release(handle, Moment(now));
    }
    let gone = |shard: &Shard| -> Vec<u8> {
        (0..8)
            .filter(|&client| view(shard, client, 12_000).is_none())
            .collect()
    };
    (0..4).for_each(|_| assert!(shard.evict()));
    assert_eq!(gone(&shard), [4, 5, 6, 7], "never used again");
    (0..2).for_each(|_| assert!(shard.evict()));
    assert_eq!(gone(&shard), [0, 3, 4, 5, 6, 7]);
}

#[test]
fn a_pin_is_swept_when_the_span_of_its_expiry_has_passed() {
    for start in (0..200_000).step_by(777) {
        let mut shard = shard();
        pin(&mut shard, 1, start, 7);
        let expires = Moment(start + 60_000);
        let over = (0..)
            .find(|&later| shard.wheel.span(Moment(expires.0 + later)) > shard.wheel.span(expires));
        let over = Moment(expires.0 + over.unwrap());
        assert!(over.0 - expires.0 <= 1_000);
        assert_eq!(shard.sweep(Moment(over.0 - 1), 9), 0);
        assert_eq!(shard.sweep(over, 9), 1, "{start}");
    }
}

#[test]
fn a_late_sweep_still_finds_every_expired_pin() {
    let mut shard = shard();
    for round in 0..50u64 {
        let client = u8::try_from(round).unwrap();
        // No sweep for three times the time to live.
        pin(&mut shard, client, round * 180_000, 7);
    }
    assert_eq!(shard.sweep(Moment(50 * 180_000), 2), 1, "the last");
    assert!(shard.is_empty());
    for client in 0..100 {
        pin(&mut shard, client, 20_000_000, 7);
    }
    assert_eq!(shard.sweep(Moment(90_000_000), 60), 60);
    assert_eq!(shard.sweep(Moment(90_000_000), 60), 40);
}

#[test]
fn a_pin_to_a_backend_of_another_pool_does_not_change() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let found = shard.acquire(
        (key(1), tag(1)),
        Moment(0),
        Origin::Policy,
        |_| Eligibility::NotInPool,
        || Some(Member(8)),
        |_| true,
    );
    assert_eq!(found, KeyLookup::NotInPool);
    assert_eq!(
        view(&shard, 1, 0).map(|pin| (pin.member, pin.in_use)),
        Some((Member(7), 0))
    );
}

#[test]
fn only_the_prefix_of_a_source_counts() {
    let prefix = SourcePrefix { ipv4: 24, ipv6: 64 };
    let bits = |text: &str| source_bits(text.parse().unwrap(), prefix);
    assert_eq!(bits("192.0.2.1"), bits("192.0.2.254"));
    assert_ne!(bits("192.0.2.1"), bits("192.0.3.1"));
    assert_eq!(bits("2001:db8::1"), bits("2001:db8::ffff:1"));
    assert_ne!(bits("2001:db8::1"), bits("2001:db8:0:1::1"));
    let none = SourcePrefix { ipv4: 0, ipv6: 0 };
    assert_eq!(source_bits("2001:db8::1".parse().unwrap(), none), [0; 16]);
}

#[test]
fn a_new_time_to_live_counts_from_the_end_of_the_last_connection() {
    let mut shard = shard();
    for client in 1..=20 {
        pin(&mut shard, client, 1_000 * u64::from(client), 7);
    }
    let KeyLookup::Pinned(held, _) = begin(&mut shard, 1, 20_000, &[7], 100) else {
        panic!()
    };
    let expires = |shard: &Shard, client| view(shard, client, 20_000).and_then(|pin| pin.expires);
    for ttl in [10, 100_000, 30] {
        shard.set_ttl(Duration::from_secs(ttl), Moment(20_000));
        assert_eq!(expires(&shard, 20), Some(Moment(20_000 + ttl * 1_000)));
        assert_eq!(expires(&shard, 1), None, "in use");
    }
    // By then the pins of the first ten seconds have expired, except the one in use.
    while shard.sweep(Moment(41_000), 3) > 0 {}
    assert_eq!((shard.len(), shard.pins_to(Member(7))), (11, 11));
    shard.release(held, Moment(41_000));
    assert_eq!(
        view(&shard, 1, 41_000).unwrap().expires,
        Some(Moment(71_000))
    );
    while shard.sweep(Moment(72_000), 100) > 0 {}
    assert!(shard.is_empty());
}
