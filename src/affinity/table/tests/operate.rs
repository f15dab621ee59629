//! What an administrator queries and changes.

use std::collections::HashMap;

use ipnet::IpNet;

use super::*;
use crate::affinity::record::PinKey;

fn address(client: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0x0a00_0000 + client).into()
}

fn clients(net: &str) -> TableFilter {
    TableFilter {
        clients: Some(net.parse().unwrap()),
        ..TableFilter::default()
    }
}

#[test]
fn pages_have_each_lasting_pin_once_while_others_come_and_go() {
    let pins = pins(10_000);
    let fe01 = pins.intern_member("fe01");
    let name = pins.intern_name("meet.contoso.com");
    let come = |client| drop(hold(&pins, pins.key(address(client), name), fe01));
    (0..3000).for_each(come);
    let mut met: HashMap<PinKey, u32> = HashMap::new();
    let (mut cursor, mut pages) = (Some(Cursor::default()), 0..);
    while let Some(from) = cursor {
        let page = pages.next().unwrap();
        let (found, next) = pins.page(&TableFilter::default(), from, 17, 50);
        assert!(found.len() <= 17);
        for pin in found {
            *met.entry(pin.key).or_default() += 1;
        }
        cursor = next.map(|next| next.to_string().parse().unwrap());
        // Other clients, each for a moment.
        come(100_000 + page);
        come(200_000 + page);
        if page % 3 == 0 {
            pins.clear(&clients("10.1.0.0/16"));
        }
    }
    let key_of = |client| pins.key(address(client), name).pin_key(&pins);
    assert!((0..3000).all(|client| met.get(&key_of(client)) == Some(&1)));
    assert!(met.values().all(|&times| times == 1));
}

#[test]
fn a_page_visits_no_more_cells_than_allowed() {
    let pins = pins(1000);
    let fe01 = pins.intern_member("fe01");
    (0..600).for_each(|client| drop(hold(&pins, key(client), fe01)));
    let (found, next) = pins.page(&TableFilter::default(), Cursor::default(), 1000, 100);
    assert_eq!(
        (found.len(), next.unwrap().to_string()),
        (100, "0-100".into())
    );
    // A cursor beyond the end of the table finds nothing.
    for text in ["0-600", "0-4294967295", "7-0", "18446744073709551615-1"] {
        let (found, next) = pins.page(&TableFilter::default(), text.parse().unwrap(), 10, 10);
        assert_eq!((found, next), (Vec::new(), None), "{text}");
    }
    assert!(
        ["", "1", "-1", "1-", "a-b", "1-2-3"]
            .iter()
            .all(|text| text.parse::<Cursor>().is_err())
    );
}

#[test]
fn a_filter_selects_clients_whose_prefix_overlaps_the_network() {
    let cases = [
        // The group's prefix, the client's address, the filter, whether it is selected.
        ((32, 64), "192.0.2.7", "192.0.2.7/32", true),
        ((32, 64), "192.0.2.7", "192.0.2.8/32", false),
        ((32, 64), "192.0.2.7", "192.0.2.0/24", true),
        ((32, 64), "192.0.2.7", "198.51.100.0/24", false),
        ((32, 64), "192.0.2.7", "0.0.0.0/0", true),
        ((32, 64), "192.0.2.7", "::/0", false),
        ((24, 64), "192.0.2.7", "192.0.2.200/32", true),
        ((24, 64), "192.0.2.7", "192.0.3.7/32", false),
        ((24, 64), "192.0.2.7", "192.0.2.0/24", true),
        ((24, 64), "192.0.2.7", "192.0.0.0/16", true),
        ((0, 64), "192.0.2.7", "198.51.100.1/32", true),
        ((0, 64), "192.0.2.7", "2001:db8::1/128", false),
        ((32, 64), "2001:db8:0:1::7", "2001:db8:0:1::/64", true),
        ((32, 64), "2001:db8:0:1::7", "2001:db8:0:1::9/128", true),
        ((32, 64), "2001:db8:0:1::7", "2001:db8:0:2::9/128", false),
        ((32, 64), "2001:db8:0:1::7", "2001:db8::/32", true),
        ((32, 64), "2001:db8:0:1::7", "2001:db9::/32", false),
        ((32, 64), "2001:db8:0:1::7", "0.0.0.0/0", false),
        ((32, 128), "2001:db8::7", "2001:db8::/126", false),
        ((32, 128), "2001:db8::7", "2001:db8::/125", true),
        ((32, 0), "2001:db8::7", "2001:db9::/64", true),
        ((32, 0), "2001:db8::7", "192.0.2.7/32", false),
    ];
    for ((ipv4, ipv6), client, net, matches) in cases {
        let settings = model::AffinitySettings {
            source_prefix: model::SourcePrefix { ipv4, ipv6 },
            ..settings(100)
        };
        let pins = pins_of(&settings, &Secret::random());
        let fe01 = pins.intern_member("fe01");
        drop(hold(&pins, pins.key(client.parse().unwrap(), 1), fe01));
        let filter = TableFilter {
            clients: Some(net.parse::<IpNet>().unwrap()),
            ..TableFilter::default()
        };
        let (found, _) = pins.page(&filter, Cursor::default(), 10, 1000);
        assert_eq!(
            !found.is_empty(),
            matches,
            "{client} of /{ipv4} /{ipv6} in {net}"
        );
        assert_eq!(pins.clear(&filter).pins == 1, matches, "{client} in {net}");
    }
}

#[test]
fn a_filter_by_address_selects_nothing_where_addresses_are_not_part_of_the_key() {
    let settings = model::AffinitySettings {
        by_source: false,
        ..settings(100)
    };
    let pins = pins_of(&settings, &Secret::random());
    let fe01 = pins.intern_member("fe01");
    drop(hold(&pins, pins.key([192, 0, 2, 1].into(), 1), fe01));
    assert_eq!(pins.clear(&clients("0.0.0.0/0")), ChangeTotals::default());
    assert_eq!(pins.clear(&clients("::/0")), ChangeTotals::default());
    assert_eq!(pins.clear(&TableFilter::default()).pins, 1);
}

#[test]
fn a_move_moves_the_sessions_of_those_clients_and_ends_only_their_connections() {
    let pins = pins(100);
    let [fe01, fe02] = ["fe01", "fe02"].map(|name| pins.intern_member(name));
    let keys = [1, 2, 3].map(|client| pins.key(address(client), 1));
    let held = keys.map(|key| hold(&pins, key, fe01));
    let learn = |number: u32, at| {
        let client = &keys[number as usize];
        pins.learn_id(&session_id(number), Some(client), at)
            .unwrap()
    };
    let sessions = [learn(0, fe01), learn(1, fe01), learn(2, fe02)];
    let recalls = pins.moves();
    let touched = pins.move_to(&clients("10.0.0.1/32"), fe02);
    assert_ne!(pins.moves(), recalls);
    let wanted = ChangeTotals {
        pins: 1,
        sessions: 1,
        connections: 1,
    };
    assert_eq!(touched, wanted);
    assert_eq!(
        keys.map(|key| pins.view(&key).unwrap().member),
        [fe02, fe01, fe01]
    );
    assert_eq!(
        held.each_ref().map(PinGuard::has_moved),
        [true, false, false]
    );
    assert_eq!(
        sessions.each_ref().map(PinGuard::has_moved),
        [true, false, false]
    );
    let found = [0, 1, 2].map(|number| {
        let client = Some(&keys[number as usize]);
        let found = pins.recognise(None, &session_id(number), client, |_| Eligibility::Eligible);
        found.unwrap().member
    });
    assert_eq!(found, [fe02, fe01, fe02]);
    // Later clients are not affected, and what is there already is not moved again.
    assert!(!hold(&pins, keys[0], fe02).has_moved());
    assert_eq!(
        pins.move_to(&clients("10.0.0.1/32"), fe02),
        ChangeTotals::default()
    );
}

#[test]
fn a_connection_from_before_a_move_does_not_move_the_pin_back() {
    let pins = pins(100);
    let [fe01, fe02] = ["fe01", "fe02"].map(|name| pins.intern_member(name));
    drop(pins.learn_id(&session_id(1), Some(&key(1)), fe01));
    let late = pins.recognise(None, &session_id(1), Some(&key(1)), |_| {
        Eligibility::Eligible
    });
    let late = late.unwrap().guard;
    pins.move_to(&TableFilter::default(), fe02);
    assert_eq!(late.answered_by(fe01), None);
    drop(late);
    let found = pins.recognise(None, &session_id(1), Some(&key(1)), |_| {
        Eligibility::Eligible
    });
    assert_eq!(found.unwrap().member, fe02);
}

#[test]
fn sessions_are_cleared_by_their_own_backend_not_by_that_of_their_client() {
    let pins = pins(100);
    let [fe01, fe02] = ["fe01", "fe02"].map(|name| pins.intern_member(name));
    let client = pins.key(address(1), 1);
    drop(hold(&pins, client, fe02));
    drop(pins.learn_id(&session_id(1), Some(&client), fe01));
    drop(pins.learn_id(&session_id(2), Some(&client), fe02));
    let filter = TableFilter {
        members: Some(vec![fe01]),
        ..clients("10.0.0.0/8")
    };
    let touched = pins.clear(&filter);
    assert_eq!((touched.pins, touched.sessions), (0, 1));
    assert_eq!(pins.sessions_of(&client), 1);
    assert_eq!(pins.view(&client).unwrap().member, fe02);
}

#[test]
fn a_pin_of_an_administrator_counts_at_once_and_connections_stay_open() {
    let pins = pins(2);
    let [fe01, fe02] = ["fe01", "fe02"].map(|name| pins.intern_member(name));
    let held = hold(&pins, key(1), fe01);
    assert_eq!(pins.pin(key(1), fe02), Ok(Some(fe01)));
    assert_eq!(pins.pin(key(1), fe02), Ok(None));
    assert!(!held.has_moved());
    assert_eq!(pins.view(&key(1)).unwrap().origin, Origin::Administrator);
    let _second = hold(&pins, key(2), fe01);
    assert!(pins.pin(key(3), fe01).is_err(), "every pin is in use");
    drop(held);
    assert_eq!(pins.pin(key(3), fe01), Ok(None));
    assert_eq!(pins.len(), 2);
}
