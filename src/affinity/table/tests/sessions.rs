//! TLS sessions: the client that used them last, and the quota of a client.

use super::*;
use crate::affinity::record::{PinKey, PinRecord, PinUsage};

fn sessions_of(pins: &Pins, key: &Key) -> u32 {
    pins.sessions.quotas.of_client(pins.secret.client(key))
}

#[test]
fn a_session_hit_does_not_disturb_the_first_connections_of_its_address() {
    let pins = pins(100);
    let choose = |member| move || Some(Member(member));
    let Lookup::New(first, Member(8)) = pins.acquire(key(1), |_| Eligibility::Eligible, choose(8))
    else {
        panic!()
    };
    // A client behind the same address resumes a session of another backend before 8 has answered.
    assert!(pins.acquire_for_session(key(1), Member(7)).is_none());
    let Lookup::New(_second, Member(8)) =
        pins.acquire(key(1), |_| Eligibility::Eligible, choose(9))
    else {
        panic!("both first connections go to 8")
    };
    // A session of the same backend changes nothing.
    assert!(pins.acquire_for_session(key(1), Member(8)).is_some());
    assert!(first.answered(Member(8)).is_none());
}

#[test]
fn a_session_hit_creates_a_missing_pin_and_changes_no_other() {
    let pins = pins(100);
    let made = pins.acquire_for_session(key(1), Member(7)).unwrap();
    assert!(made.answered(Member(7)).is_none());
    let view = pins.view(&key(1)).unwrap();
    assert_eq!((view.member, view.origin), (Member(7), Origin::Session));
    assert!(pins.acquire_for_session(key(1), Member(8)).is_none());
    assert_eq!(pins.view(&key(1)).unwrap(), view);
}

#[test]
fn a_client_has_no_more_sessions_than_its_quota() {
    let pins = pins(100_000);
    let learn = |number, client| pins.learn_id(&session_id(number), Some(&key(client)), Member(7));
    let held: Vec<_> = (0..SESSIONS_A_CLIENT)
        .map(|number| learn(number, 1).unwrap())
        .collect();
    assert!(learn(SESSIONS_A_CLIENT, 1).is_none());
    // Known sessions do not count again, and other clients have quotas of their own.
    assert!(learn(0, 1).is_some() && learn(SESSIONS_A_CLIENT, 2).is_some());
    assert_eq!(sessions_of(&pins, &key(1)), SESSIONS_A_CLIENT);
    drop(held);
    pins.pass_time(Duration::from_secs(62));
    pins.sweep(usize::MAX);
    assert_eq!((pins.sessions(), sessions_of(&pins, &key(1))), (0, 0));
    assert!(learn(SESSIONS_A_CLIENT, 1).is_some());
}

#[test]
fn a_session_counts_for_the_client_that_used_it_last() {
    let pins = pins(100);
    let id = session_id(1);
    drop(pins.learn_id(&id, Some(&key(1)), Member(7)).unwrap());
    let resume = |client| pins.recognise(None, &id, Some(&key(client)), |_| Eligibility::Eligible);
    assert!(resume(2).is_some_and(|known| known.member == Member(7)));
    assert_eq!(
        [1, 2].map(|client| sessions_of(&pins, &key(client))),
        [0, 1]
    );
    assert_eq!([1, 2].map(|client| pins.sessions_of(&key(client))), [0, 1]);
    // The pool does not have its backend: as if the session were unknown, and its client does not change.
    assert!(
        pins.recognise(None, &id, Some(&key(3)), |_| Eligibility::NotInPool)
            .is_none()
    );
    assert_eq!(sessions_of(&pins, &key(2)), 1);
}

#[test]
fn a_full_table_uses_no_quota() {
    let pins = pins(1);
    let _held = pins.learn_id(&session_id(1), Some(&key(1)), Member(7));
    assert!(
        pins.learn_id(&session_id(2), Some(&key(2)), Member(7))
            .is_none()
    );
    assert_eq!(sessions_of(&pins, &key(2)), 0);
    let _ = pins.intern_member("fe01");
    let record = PinRecord {
        key: PinKey::Session {
            hash: [3; 16],
            client: pins.secret.client(&key(3)),
        },
        backend: "fe01".into(),
        origin: Origin::Session,
        age: Duration::ZERO,
        usage: PinUsage::Idle(Duration::from_secs(60)),
    };
    let imported = pins.import(&record, &pins.pin_group().keys);
    assert_eq!(imported.err(), Some(NotImported::Full));
    assert_eq!(sessions_of(&pins, &key(3)), 0);
}

#[test]
fn clients_have_no_quota_where_addresses_are_not_part_of_the_key() {
    for by_name in [true, false] {
        let settings = model::AffinitySettings {
            by_source: false,
            by_name,
            ..settings(100_000)
        };
        let pins = pins_of(&settings, &Secret::random());
        let everybody = by_name.then(|| pins.key([192, 0, 2, 1].into(), 1));
        let learn = |number| pins.learn_id(&session_id(number), everybody.as_ref(), Member(7));
        assert!((0..=SESSIONS_A_CLIENT).all(|number| learn(number).is_some()));
    }
}

#[test]
fn a_ticket_has_precedence_over_the_id_beside_it() {
    let pins = pins(100);
    let ticket: &[u8] = b"a ticket";
    drop(pins.learn_ticket(ticket, None, Member(7)).unwrap());
    drop(pins.learn_id(&session_id(1), None, Member(8)).unwrap());
    let find = |ticket: Option<&[u8]>, id| {
        let found = pins.recognise(ticket, &session_id(id), None, |_| Eligibility::Eligible);
        found.map(|found| found.member)
    };
    assert_eq!(find(Some(ticket), 1), Some(Member(7)));
    assert_eq!(find(Some(b""), 1), Some(Member(8)));
    assert_eq!(find(Some(b"another"), 2), None);
}
