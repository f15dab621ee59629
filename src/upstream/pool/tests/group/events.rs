//! The events of the group test.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
pub(super) enum GroupEvent {
    Open(usize, u8, Option<u8>),
    Connected(usize),
    Fail(usize),
    Learn(usize, u8),
    End(usize),
    Health(usize, usize, bool),
    State(usize, u8),
    Move(Whom, usize),
    Clear(Whom),
    Pin(u8, usize),
    Pass(u64),
    Sweep,
}

/// The pins that an administrator selects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whom {
    pub(super) client: Option<u8>,
    pub(super) leading_to: Option<usize>,
}

pub(super) fn event() -> impl Strategy<Value = GroupEvent> {
    let (pool, client, session) = (|| 0..POOLS.len(), || 0..CLIENTS, || 0..SESSIONS);
    let (name, which) = (|| 0..NAMES.len(), || 0..12usize);
    let whom = || {
        let one = |of| prop::option::of(of);
        (one(client()), prop::option::of(name()))
            .prop_map(|(client, leading_to)| Whom { client, leading_to })
    };
    prop_oneof![
        9 => (pool(), client(), prop::option::of(session())).prop_map(|(a, b, c)| GroupEvent::Open(a, b, c)),
        7 => which().prop_map(GroupEvent::Connected),
        2 => which().prop_map(GroupEvent::Fail),
        4 => (which(), session()).prop_map(|(a, b)| GroupEvent::Learn(a, b)),
        8 => which().prop_map(GroupEvent::End),
        2 => (pool(), name(), prop::bool::weighted(0.7)).prop_map(|(a, b, up)| GroupEvent::Health(a, b, up)),
        2 => (name(), 0..6u8).prop_map(|(a, b)| GroupEvent::State(a, b)),
        1 => (whom(), name()).prop_map(|(a, b)| GroupEvent::Move(a, b)),
        1 => whom().prop_map(GroupEvent::Clear),
        1 => (client(), name()).prop_map(|(a, b)| GroupEvent::Pin(a, b)),
        2 => (0..40_000u64).prop_map(GroupEvent::Pass),
        1 => Just(GroupEvent::Sweep),
    ]
}
