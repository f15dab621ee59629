//! Each limit of `GrantReader`, exact to the byte, and properties over random handshakes.

use super::*;

#[test]
fn the_limit_of_a_record_is_exact() {
    check(&[], &[22, 3, 1, 0x40, 0x00], &[], ReaderStatus::Reading);
    grants_nothing(&[22, 3, 1, 0x40, 0x01]);
}

#[test]
fn the_limit_of_a_skipped_message_is_exact() {
    let certificate_of = |len| {
        let messages = [
            hello(0x0303, &[5; 32], &[]),
            message(11, &vec![0; len]),
            message(14, b""),
        ];
        read_in_pieces(&[], &handshake(&messages), usize::MAX)
    };
    let granted = (vec![id(&[5; 32])], ReaderStatus::Done);
    assert_eq!(certificate_of(MAX_MESSAGE), granted);
    assert_eq!(
        certificate_of(MAX_MESSAGE + 1),
        (vec![], ReaderStatus::Done)
    );
}

#[test]
fn the_limit_of_a_ticket_is_exact() {
    // Its lifetime and its length take six bytes of the message.
    let longest = vec![7; MAX_MESSAGE - 6];
    let granted = (vec![ticket(&longest)], ReaderStatus::Done);
    for piece in [1, 1000, usize::MAX] {
        assert_eq!(read_in_pieces(&[], &full(&[], &longest), piece), granted);
    }
    grants_nothing(&full(&[], &vec![7; MAX_MESSAGE - 5]));
}

#[test]
fn the_limit_of_all_bytes_is_exact() {
    let granted_at = |wire_len: usize| {
        // Eight records, and the ChangeCipherSpec.
        let payload = wire_len - 8 * 5 - change().len();
        let hello = hello(0x0303, &[5; 32], &[]);
        let supplement = message(23, &[0; MAX_MESSAGE]);
        let status = payload - hello.len() - supplement.len() - 4 - 4;
        let status = message(22, &vec![0; status]);
        let flight = [hello, supplement, status, message(14, b"")].concat();
        let bytes = [records(&flight, 16384), change()].concat();
        assert_eq!(bytes.len(), wire_len);
        read_in_pieces(&[], &bytes, 700)
    };
    let granted = (vec![id(&[5; 32])], ReaderStatus::Done);
    assert_eq!(granted_at(MAX_WIRE), granted);
    assert_eq!(granted_at(MAX_WIRE + 1), (vec![], ReaderStatus::Done));
}

#[test]
fn a_certificate_is_never_held() {
    let flight = [hello(0x0303, &[5; 32], &[]), message(11, &[0; 60_000])].concat();
    let mut reader = GrantReader::new(SessionId::default());
    let mut most = 0;
    for part in records(&flight, 16384).chunks(100) {
        reader.read(part, &mut |_| panic!("nothing is granted"));
        most = most.max(reader.held());
    }
    assert!(most < 100, "{most} is more than a ServerHello");
    assert_eq!(reader.held(), 0);
}

#[test]
fn a_ticket_in_pieces_takes_no_more_memory_than_its_message() {
    let flight = [hello(0x0303, &[5; 32], &[]), new_ticket(&[7; 5000])].concat();
    let mut reader = GrantReader::new(SessionId::default());
    for part in records(&flight, 16384).chunks(1) {
        reader.read(part, &mut |_| panic!("nothing is granted"));
        assert!(reader.held() <= 5006, "{}", reader.held());
    }
    assert!(reader.held() >= 5000, "it waits for the ChangeCipherSpec");
}

#[test]
fn nothing_is_held_besides_a_ticket() {
    let longest = new_ticket(&[7; MAX_MESSAGE - 6]);
    for next in [hello(0x0303, &[5; 32], &[]), new_ticket(&[7; 60_000])] {
        let flight = [hello(0x0303, &[], &[]), longest.clone(), next];
        let bytes = records(&flight.concat(), 16384);
        // `read_in_pieces` asserts the memory limit.
        assert_eq!(
            read_in_pieces(&[], &bytes, 1000),
            (vec![], ReaderStatus::Done)
        );
    }
}

#[test]
fn the_reader_is_small() {
    let size = size_of::<GrantReader>();
    assert!(size <= 192, "{size}");
}

/// Messages and records in allowed and forbidden orders, possibly with one broken byte.
fn handshakes() -> impl Strategy<Value = Vec<u8>> {
    let any_message = prop_oneof![
        4 => (0x02ff_u16..0x0305, 0_usize..33).prop_map(|(version, len)| hello(version, &vec![5; len], &[])),
        3 => Just(rest_of_flight()),
        3 => (0_usize..400).prop_map(|len| new_ticket(&vec![7; len])),
        1 => (0_u8..26, 0_usize..40).prop_map(|(kind, len)| message(kind, &vec![0; len])),
    ];
    let flight = (proptest::collection::vec(any_message, 0..4), 1_usize..300)
        .prop_map(|(messages, fragment)| records(&messages.concat(), fragment));
    let any_record = prop_oneof![
        4 => flight,
        1 => Just(record(21, &[1, 112])),
        1 => Just(end()),
    ];
    let sound = (0_usize..33, 0_usize..400, 1_usize..300).prop_map(|(id, ticket, fragment)| {
        let first = [hello(0x0303, &vec![5; id], &[]), rest_of_flight()].concat();
        let second = new_ticket(&vec![7; ticket]);
        [records(&first, fragment), records(&second, fragment), end()].concat()
    });
    let any_order =
        proptest::collection::vec(any_record, 0..4).prop_map(|records| records.concat());
    let broken = proptest::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (prop_oneof![sound, any_order], broken).prop_map(|(mut bytes, broken)| {
        if let Some((at, value)) = broken
            && !bytes.is_empty()
        {
            *at.get_mut(&mut bytes) = value;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn grants_do_not_depend_on_the_split(
        bytes in handshakes(),
        offered in 0_usize..33,
        cuts in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        let offered = vec![5; offered];
        let expected = read_in_pieces(&offered, &bytes, usize::MAX);
        let mut reader = GrantReader::new(SessionId::new(&offered).unwrap());
        let (mut kept, mut hearing) = (vec![], ReaderStatus::Reading);
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at(rest.len().min(*cut));
            hearing = reader.read(part, &mut |grant| kept.push(grant.into()));
            rest = after;
        }
        prop_assert_eq!((kept, hearing), expected);
    }

    #[test]
    fn no_bytes_cause_a_panic_or_hold_more_than_a_message(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        before in 0_usize..4,
        piece in 1_usize..100,
    ) {
        let hello = record(22, &hello(0x0301, &[5; 32], &[]));
        let known = [&[][..], &hello, &record(22, &rest_of_flight()), &record(22, &[4, 0])];
        let bytes = [&known[..=before].concat(), &bytes[..]].concat();
        // `read_in_pieces` asserts the memory limit.
        let (kept, _) = read_in_pieces(&[], &bytes, piece);
        prop_assert!(kept.len() <= 2);
    }

    #[test]
    fn no_records_cause_a_panic_or_hold_more_than_a_message(
        records in proptest::collection::vec((20_u8..24, proptest::collection::vec(any::<u8>(), 1..2000)), 0..100),
        kind in 0_u8..30,
        claim in 0_usize..70_000,
    ) {
        let claim = [&[kind][..], &claim.to_be_bytes()[5..]].concat();
        let first = [&hello(0x0301, &[5; 32], &[])[..], &claim].concat();
        let rest = records.iter().flat_map(|(kind, fragment)| record(*kind, fragment));
        let bytes: Vec<u8> = record(22, &first).into_iter().chain(rest).collect();
        let (kept, _) = read_in_pieces(&[], &bytes, 1400);
        prop_assert!(kept.len() <= 2);
    }
}
