//! Properties of the parser over generated hellos: valid hellos, valid hellos with changed bytes, and random bytes.

use lyncpin::protocol::tls::client_hello::{HelloProgress, ServerName};
use lyncpin::types::host_name::{HostName, is_ip_literal};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{assert_split_does_not_matter, in_pieces, whole};
use crate::support::hello_builder::HelloBuilder;

/// A valid hello for a random name, with random extensions, options and records.
fn hellos() -> impl Strategy<Value = (String, HelloBuilder)> {
    let name = "[a-z0-9_]{1,12}(\\.[a-z][a-z0-9-]{0,10}){1,4}";
    let extensions = vec((64_u16..60_000, vec(any::<u8>(), 0..40)), 0..12);
    (
        name,
        extensions,
        vec(any::<u8>(), 0..=32),
        vec(1_usize..600, 0..5),
        0_u8..32,
    )
        .prop_map(|(name, mut extensions, session_id, lens, kinds)| {
            extensions.sort();
            extensions.dedup_by_key(|(kind, _)| *kind);
            // The builder itself uses 0x2a2a and 0x3a3a for GREASE.
            extensions.retain(|(kind, _)| ![0x2a2a, 0x3a3a, 0xfe0d].contains(kind));
            let mut builder = HelloBuilder::named(&name)
                .session_id(&session_id)
                .records(&lens);
            for (bit, change) in [
                HelloBuilder::grease,
                HelloBuilder::post_quantum,
                HelloBuilder::early_data,
            ]
            .iter()
            .enumerate()
            {
                if kinds & (1 << bit) != 0 {
                    builder = change(builder);
                }
            }
            if kinds & 8 != 0 {
                builder = builder.alpn(&["h2", "http/1.1"]);
            }
            if kinds & 16 != 0 {
                builder = builder.ticket(&[0x7c; 300]);
            }
            if kinds & 32 != 0 {
                builder = builder.versions(&[]).legacy_version(0x0302);
            }
            for (kind, content) in extensions {
                builder = builder.extension(kind, &content);
            }
            (name, builder)
        })
}

/// Asserts the properties that every result must have.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    let result = assert_split_does_not_matter(bytes, 1);
    if let HelloProgress::Hello(hello) = &result {
        prop_assert!(hello.wire_len <= bytes.len());
        // The hello is exactly these bytes.
        prop_assert_eq!(&whole(&bytes[..hello.wire_len]), &result);
        prop_assert_eq!(whole(&bytes[..hello.wire_len - 1]), HelloProgress::NeedMore);
        if let ServerName::Name(name) = &hello.server_name {
            prop_assert_eq!(
                &HostName::parse(name.as_str().as_bytes()),
                &Ok(name.clone())
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn valid_hellos_are_parsed_in_any_records_and_pieces(
        (name, builder) in hellos(),
        trailing in vec(any::<u8>(), 0..20),
        mut cuts in vec(0_usize..2500, 0..10),
    ) {
        let hello_bytes = builder.build();
        let wire = [&hello_bytes[..], &trailing].concat();
        cuts.sort_unstable();
        cuts.retain(|&cut| cut <= wire.len());
        let result = in_pieces(&wire, cuts);
        let HelloProgress::Hello(hello) = result else { panic!("{result:?}") };
        let expected = HostName::parse(name.as_bytes()).unwrap();
        prop_assert_eq!(hello.server_name, ServerName::Name(expected));
        prop_assert_eq!(hello.wire_len, hello_bytes.len());
        check_any(&wire)?;
    }

    #[test]
    fn the_result_for_a_changed_hello_does_not_depend_on_its_split(
        (_, builder) in hellos(),
        changes in vec((0_usize..600, any::<u8>()), 1..6),
        cut in 0_usize..3000,
    ) {
        let mut wire = builder.build();
        for (at, value) in changes {
            let len = wire.len();
            wire[at % len] = value;
        }
        wire.truncate(cut.max(40));
        check_any(&wire)?;
    }

    #[test]
    fn the_result_for_random_bytes_does_not_depend_on_their_split(
        start in prop_oneof![
            Just(&b""[..]),
            Just(&[22, 3, 1][..]),
            Just(&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 3][..]),
            Just(&[0x80, 46, 1, 3, 1][..]),
        ],
        noise in vec(any::<u8>(), 0..200),
    ) {
        check_any(&[start, &noise].concat())?;
    }

    #[test]
    fn a_parsed_name_is_normalised(
        bytes in vec(prop_oneof![32_u8..127, Just(b'.'), any::<u8>()], 0..80),
    ) {
        if let Ok(name) = HostName::parse(&bytes) {
            let text = name.as_str().as_bytes();
            prop_assert_eq!(&HostName::parse(text), &Ok(name.clone()));
            prop_assert!(bytes.strip_suffix(b".").unwrap_or(&bytes).eq_ignore_ascii_case(text));
            prop_assert!(!is_ip_literal(text));
            prop_assert!(!text.iter().any(|byte| byte.is_ascii_uppercase() || *byte <= b' '));
        }
    }
}
