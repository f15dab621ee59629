//! Our sample hellos in `tests/data/hello`. The fuzzer and the benchmarks use them too.
//!
//! `LYNCPIN_WRITE_SAMPLES=1 cargo test --test it samples` rewrites them after a change of the
//! builder.

use std::path::Path;

use super::{assert_split_does_not_matter, describe};
use crate::support::hello_builder::{HelloBuilder, records, sslv2_hello, vec16};

/// File name, expected result, bytes.
type Sample = (&'static str, &'static str, Vec<u8>);

fn valid() -> Vec<Sample> {
    let lync = || HelloBuilder::named("lyncdiscover.contoso.com");
    let browser = || lync().grease().alpn(&["h2", "http/1.1"]).ticket(&[]);
    let followed_by = |hello: Vec<u8>, bytes: &[u8]| [&hello[..], bytes].concat();
    let found = "sni=lyncdiscover.contoso.com";
    vec![
        (
            "tls12",
            found,
            lync().versions(&[]).record_version(0x0303).build(),
        ),
        (
            "tls12-ticket",
            found,
            lync().versions(&[]).ticket(&[0x7c; 192]).build(),
        ),
        ("tls13-517-bytes", found, browser().message_len(512).build()),
        (
            "tls13-post-quantum",
            found,
            browser().post_quantum().message_len(1730).build(),
        ),
        (
            "tls13-post-quantum-two-records",
            found,
            browser().post_quantum().records(&[1200]).build(),
        ),
        ("tls13-ech", found, browser().ech(208).build()),
        (
            "tls13-early-data",
            found,
            followed_by(
                lync().early_data().build(),
                &[23, 3, 3, 0, 4, 0xea, 0xea, 0xea, 0xea],
            ),
        ),
        (
            "tls13-ticket-over-records",
            found,
            lync().ticket(&[0x7c; 40_000]).build(),
        ),
        ("records-of-one-byte", found, lync().records(&[1]).build()),
        (
            "record-header-alone-then-rest",
            found,
            lync().records(&[4, 16_384]).build(),
        ),
        (
            "name-upper-case-trailing-dot",
            found,
            HelloBuilder::named("LyncDiscover.Contoso.COM.").build(),
        ),
        (
            "name-underscore",
            "sni=fe_01.contoso.local",
            HelloBuilder::named("fe_01.contoso.local").build(),
        ),
        (
            "name-ip",
            "no-host-name",
            HelloBuilder::named("192.0.2.7").build(),
        ),
        (
            "no-name",
            "no-sni",
            HelloBuilder::new().alpn(&["h2"]).build(),
        ),
        (
            "tls10-no-extensions",
            "no-sni",
            HelloBuilder::old(0x0301).build(),
        ),
        ("ssl3", "no-sni", HelloBuilder::old(0x0300).build()),
        ("sslv2", "no-sni", sslv2_hello(0x0301, &[], &[7; 32])),
    ]
}

fn invalid() -> Vec<Sample> {
    let entry = |name: &[u8]| [&[0][..], &vec16(name)].concat();
    let two = vec16(&[entry(b"contoso.com"), entry(b"fabrikam.com")].concat());
    let named = || HelloBuilder::named("contoso.com");
    let mut longer = named().build();
    longer[8] += 1;
    longer[4] += 1;
    longer.push(0);
    vec![
        ("cut", "incomplete", named().build()[..60].to_vec()),
        (
            "bad-name-nul",
            "malformed: the server name is not a host name: the name has a control byte",
            HelloBuilder::new()
                .name(b"contoso.com\0.fabrikam.com")
                .build(),
        ),
        (
            "bad-name-empty",
            "malformed: the server name is not a host name: the name is empty",
            HelloBuilder::new().name(b"").build(),
        ),
        (
            "bad-name-list-empty",
            "malformed: the list of server names is empty",
            HelloBuilder::new().raw_server_name(&[0, 0]).build(),
        ),
        (
            "bad-two-names",
            "malformed: there is more than one server name",
            HelloBuilder::new().raw_server_name(&two).build(),
        ),
        (
            "bad-duplicate-extension",
            "malformed: an extension comes twice",
            named().extension(23, &[]).extension(23, &[]).build(),
        ),
        (
            "bad-trailing-byte",
            "malformed: bytes follow the extensions",
            longer,
        ),
        (
            "bad-empty-record",
            "malformed: a record is empty",
            records(&named().message(), 0x0301, &[30, 0, 100]),
        ),
        (
            "bad-server-hello",
            "malformed: the first handshake message is not a client hello",
            records(&[2, 0, 0, 40], 0x0303, &[4]),
        ),
        (
            "too-large-record",
            "too-large: a record is longer than 16384 bytes",
            vec![22, 3, 1, 0x40, 0x01],
        ),
        (
            "too-large-message",
            "too-large: the hello is longer than 65536 bytes",
            records(&[1, 1, 0, 1, 3, 3], 0x0301, &[6]),
        ),
        (
            "not-tls-http",
            "not-tls: the first byte does not begin a TLS handshake",
            b"GET / HTTP/1.1\r\nHost: contoso.com\r\n\r\n".to_vec(),
        ),
    ]
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hello")
}

#[test]
fn samples_have_the_expected_results_however_they_are_split() {
    for (file, expected, bytes) in valid().into_iter().chain(invalid()) {
        let step = 1 + bytes.len() / 2000;
        assert_eq!(
            describe(&assert_split_does_not_matter(&bytes, step)),
            expected,
            "{file}"
        );
    }
}

#[test]
fn stored_samples_match_the_builder() {
    let samples = [valid(), invalid()].concat();
    for (file, _, bytes) in &samples {
        let path = directory().join(format!("{file}.bin"));
        if std::env::var_os("LYNCPIN_WRITE_SAMPLES").is_some() {
            std::fs::write(&path, bytes).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_default();
        assert!(
            stored == *bytes,
            "{file}.bin differs from the output of the builder"
        );
    }
    let stored = std::fs::read_dir(directory()).unwrap().count();
    assert_eq!(
        stored,
        samples.len(),
        "a file in tests/data/hello has no sample"
    );
}
