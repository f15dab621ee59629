//! The events of a shard.

use proptest::prelude::*;

use super::*;

/// The eligibility of each backend, by its number.
pub(super) type Fits = [u8; MEMBERS as usize];

#[derive(Debug, Clone, Copy)]
pub(super) enum TableEvent {
    Come(u8, u64, Fits),
    Resume(u8, u64, Fits),
    Teach(u8, u64, u32),
    Answer(usize),
    /// Even if the backend is not the pin's candidate.
    AnswerBy(usize),
    Fail(usize, Fits),
    End(usize),
    Wait(u64),
    Sweep(usize),
    Set(u8, u32),
    Visit(u32, [u8; MEMBERS as usize]),
    Import(u8, u32, u64),
    /// Changes are recorded from now on.
    Track,
    TakeChanges,
}

pub(super) fn event() -> impl Strategy<Value = TableEvent> {
    let key = || 0..KEYS;
    let client = || 0..3u64;
    let member = || 0..MEMBERS;
    // Eligible twice as often as not, and sometimes not in the pool.
    let fits = || prop::array::uniform4(0..7u8);
    let open = || 0..9usize;
    prop_oneof![
        6 => (key(), client(), fits()).prop_map(|(key, client, fits)| TableEvent::Come(key, client, fits)),
        3 => (key(), client(), fits()).prop_map(|(key, client, fits)| TableEvent::Resume(key, client, fits)),
        3 => (key(), client(), member()).prop_map(|(key, client, to)| TableEvent::Teach(key, client, to)),
        5 => open().prop_map(TableEvent::Answer),
        1 => open().prop_map(TableEvent::AnswerBy),
        1 => (open(), fits()).prop_map(|(at, fits)| TableEvent::Fail(at, fits)),
        8 => open().prop_map(TableEvent::End),
        2 => (0..40_000u64).prop_map(TableEvent::Wait),
        2 => (0..2_000u64).prop_map(TableEvent::Wait),
        2 => prop_oneof![0..4usize, Just(100)].prop_map(TableEvent::Sweep),
        2 => (key(), member()).prop_map(|(key, to)| TableEvent::Set(key, to)),
        2 => (1..4u32, prop::array::uniform4(0..9u8)).prop_map(|(step, does)| TableEvent::Visit(step, does)),
        2 => (key(), member(), 0..90_000u64).prop_map(|(key, to, left)| TableEvent::Import(key, to, left)),
        1 => Just(TableEvent::Track),
        4 => Just(TableEvent::TakeChanges),
    ]
}

pub(super) fn fits(fits: &Fits, member: u32) -> Eligibility {
    match fits[member as usize] {
        0..4 => Eligibility::Eligible,
        4..6 => Eligibility::Ineligible,
        _ => Eligibility::NotInPool,
    }
}

/// The policy selects the first eligible one.
pub(super) fn chosen(of: &Fits) -> Option<u32> {
    (0..MEMBERS).find(|&member| fits(of, member) == Eligibility::Eligible)
}

/// What a walk does with a pin to this member.
pub(super) fn action(does: &[u8; MEMBERS as usize], member: Member) -> PinAction {
    match u32::from(does[member.0 as usize]) {
        to if to < MEMBERS => PinAction::Move(Member(to)),
        4 => PinAction::Clear,
        _ => PinAction::Keep,
    }
}
