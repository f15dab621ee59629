use std::hash::RandomState;

use super::*;
use crate::config::model::SourcePrefix;

const TTL: Duration = Duration::from_secs(60);

fn shard() -> Shard<RandomState> {
    Shard::new(RandomState::new(), TTL)
}

fn key(client: u8) -> Key {
    Key {
        source: [client; 16],
        name: 1,
    }
}

fn fit(takes: bool) -> Fit {
    if takes { Fit::Takes } else { Fit::Refuses }
}

fn begin(shard: &mut Shard<RandomState>, client: u8, now: u64, up: &[u32], bound: usize) -> Found {
    let choose = || up.first().map(|&member| Member(member));
    let room = |shard: &mut Shard<RandomState>| shard.len() < bound || shard.evict();
    shard.begin(
        key(client),
        Moment(now),
        |member| fit(up.contains(&member.0)),
        choose,
        room,
    )
}

fn pin(shard: &mut Shard<RandomState>, client: u8, now: u64, to: u32) {
    let Found::New(place, member) = begin(shard, client, now, &[to], 100) else {
        panic!("wanted a new pin")
    };
    shard.answered(place, member);
    shard.end(place, Moment(now));
}

#[test]
fn first_connections_at_once_agree() {
    let mut shard = shard();
    let Found::New(_, first) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    // The policy would now say 8, but the key has been sent to 7.
    let Found::New(_, second) = begin(&mut shard, 1, 0, &[8, 7], 10) else {
        panic!()
    };
    assert_eq!(first, second);
}

#[test]
fn a_pin_lives_ttl_from_the_end_of_its_last_connection() {
    let mut shard = shard();
    pin(&mut shard, 1, 1_000, 7);
    assert!(matches!(
        begin(&mut shard, 1, 60_999, &[8, 7], 10),
        Found::Pinned(_, Member(7))
    ));
    // In use now: it does not expire however long that lasts.
    assert!(matches!(
        begin(&mut shard, 1, 10_000_000, &[8, 7], 10),
        Found::Pinned(..)
    ));
    pin(&mut shard, 2, 1_000, 7);
    assert!(matches!(
        begin(&mut shard, 2, 61_000, &[8, 7], 10),
        Found::New(_, Member(8))
    ));
}

#[test]
fn a_pin_moves_only_when_another_backend_has_answered() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let Found::Stale(place, Member(8)) = begin(&mut shard, 1, 0, &[8], 10) else {
        panic!()
    };
    shard.end(place, Moment(0));
    assert!(matches!(
        begin(&mut shard, 1, 0, &[8, 7], 10),
        Found::Pinned(_, Member(7))
    ));
    let Found::Stale(place, Member(8)) = begin(&mut shard, 1, 0, &[8], 10) else {
        panic!()
    };
    assert_eq!(shard.answered(place, Member(8)), Some(Member(7)));
    assert!(matches!(
        begin(&mut shard, 1, 0, &[7, 8], 10),
        Found::Pinned(_, Member(8))
    ));
}

#[test]
fn connections_that_fail_at_once_agree_on_the_next_backend() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let Found::Pinned(one, _) = begin(&mut shard, 1, 0, &[7, 8, 9], 10) else {
        panic!()
    };
    let Found::Pinned(two, _) = begin(&mut shard, 1, 0, &[7, 8, 9], 10) else {
        panic!()
    };
    let untried = |member: Member| fit(member.0 != 7);
    assert_eq!(
        shard.next(one, untried, || Some(Member(8))),
        Some(Member(8))
    );
    assert_eq!(
        shard.next(two, untried, || Some(Member(9))),
        Some(Member(8))
    );
    assert_eq!(shard.answered(one, Member(8)), Some(Member(7)));
    assert_eq!(shard.answered(two, Member(8)), None);
}

#[test]
fn a_late_answer_of_the_old_backend_does_not_move_the_pin_back() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let Found::Pinned(slow, _) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    let Found::Pinned(fast, _) = begin(&mut shard, 1, 0, &[7, 8], 10) else {
        panic!()
    };
    shard.next(fast, |member| fit(member.0 != 7), || Some(Member(8)));
    shard.answered(fast, Member(8));
    assert_eq!(shard.answered(slow, Member(7)), None);
    assert!(matches!(
        begin(&mut shard, 1, 0, &[7, 8], 10),
        Found::Pinned(_, Member(8))
    ));
}

#[test]
fn a_full_table_gives_up_the_pin_that_was_idle_longest() {
    let mut shard = shard();
    for client in 1..=3 {
        pin(&mut shard, client, u64::from(client), 7);
    }
    assert!(matches!(
        begin(&mut shard, 1, 10, &[7], 3),
        Found::Pinned(..)
    ));
    assert!(matches!(begin(&mut shard, 4, 10, &[8], 3), Found::New(..)));
    assert_eq!(shard.len(), 3);
    assert!(shard.view(&key(2), Moment(10)).is_none());
    assert!(shard.view(&key(3), Moment(10)).is_some());
}

#[test]
fn a_pin_in_use_never_gives_way() {
    let mut shard = shard();
    assert!(matches!(begin(&mut shard, 1, 0, &[7], 1), Found::New(..)));
    assert_eq!(begin(&mut shard, 2, 0, &[8], 1), Found::Unpinned(Member(8)));
}

#[test]
fn a_key_whose_backends_never_answered_leaves_nothing_behind() {
    let mut shard = shard();
    let Found::New(place, _) = begin(&mut shard, 1, 0, &[7], 10) else {
        panic!()
    };
    shard.end(place, Moment(0));
    assert!(shard.is_empty());
    assert_eq!(begin(&mut shard, 1, 0, &[], 10), Found::Nowhere);
    assert!(shard.is_empty());
}

#[test]
fn released_pins_are_gone_also_where_they_are_in_use() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    pin(&mut shard, 2, 0, 8);
    pin(&mut shard, 3, 0, 7);
    let Found::Pinned(place, _) = begin(&mut shard, 3, 0, &[7], 10) else {
        panic!()
    };
    assert_eq!(
        (shard.leading_to(Member(7)), shard.leading_to(Member(8))),
        (2, 1)
    );
    assert_eq!(shard.release(Member(7)), 2);
    assert_eq!(
        (shard.leading_to(Member(7)), shard.leading_to(Member(8))),
        (0, 1)
    );
    assert!(matches!(
        begin(&mut shard, 1, 0, &[9], 10),
        Found::New(_, Member(9))
    ));
    assert!(matches!(
        begin(&mut shard, 2, 0, &[8], 10),
        Found::Pinned(..)
    ));
    shard.end(place, Moment(0));
    assert!(shard.view(&key(3), Moment(0)).is_none());
    assert_eq!(shard.len(), 2);
}

#[test]
fn a_pin_costs_at_most_64_bytes_beside_its_index() {
    assert!(size_of::<Pin>() <= 64, "{}", size_of::<Pin>());
}

#[test]
fn a_pin_to_a_foreign_backend_is_left_alone() {
    let mut shard = shard();
    pin(&mut shard, 1, 0, 7);
    let found = shard.begin(
        key(1),
        Moment(0),
        |_| Fit::Foreign,
        || Some(Member(8)),
        |_| true,
    );
    assert_eq!(found, Found::Foreign);
    assert_eq!(
        shard
            .view(&key(1), Moment(0))
            .map(|pin| (pin.member, pin.in_use)),
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
