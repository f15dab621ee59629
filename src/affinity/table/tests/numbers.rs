//! The numbers of texts, and the hashes of sessions.

use super::*;

#[test]
fn a_name_has_the_same_number_in_another_process() {
    let names = ["meet.contoso.com", "dialin.contoso.com", "*.fabrikam.com"];
    let (here, there) = (Interner::default(), Interner::default());
    let numbers = names.map(|name| here.made_of(name));
    let mut others: Vec<u32> = names.iter().rev().map(|name| there.made_of(name)).collect();
    others.reverse();
    assert_eq!(numbers.to_vec(), others);
    for (name, number) in names.into_iter().zip(numbers) {
        assert_eq!(here.text(number).as_deref(), Some(name));
        assert_eq!(
            (here.made_of(name), here.known(name)),
            (number, Some(number))
        );
    }
    assert_eq!((here.known("contoso.com"), here.text(0)), (None, None));
}

#[test]
fn numbers_of_backends_are_small_and_unique() {
    let members = Interner::default();
    let names: Vec<String> = (1..=100).map(|number| format!("fe{number:03}")).collect();
    let numbers: Vec<u32> = names.iter().map(|name| members.of(name)).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    assert_eq!(members.of("fe007"), 7);
}

#[test]
fn ids_tickets_and_other_secrets_have_other_hashes() {
    let (one, other) = (Secret::random(), Secret::random());
    let id = session_id(1);
    assert_ne!(one.session_id(&id), one.ticket(id.as_bytes()));
    assert_ne!(one.session_id(&id), one.session_id(&session_id(2)));
    assert_ne!(one.session_id(&id), other.session_id(&id));
    let restored = Secret::from_bytes(*one.bytes());
    assert_eq!(one.session_id(&id), restored.session_id(&id));
    assert_eq!(one.client(&key(1)), restored.client(&key(1)));
    let named = |name| Key { name, ..key(1) };
    assert_ne!(one.client(&named(1)), one.client(&named(2)));
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", Secret::from_bytes([0x41; 32])), "Secret");
}
