//! Invalid ClientHellos and other data sent to a `tls` listener.

use std::time::Duration;

use super::TLS;
use super::case::{Case, is_served, sends, sends_and_ends, sends_slowly};
use crate::support::hello_builder::{HelloBuilder, extension, records, sslv2_hello, vec16};
use crate::support::raw::{Answer, How, SERVED, TLS1_0, TLS1_2, oversized_hello, served_hello};

/// The valid hello, with the two bytes at `offset` replaced by `value`.
fn with_u16(offset: usize, value: u16) -> Vec<u8> {
    let mut hello = served_hello();
    hello[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
    hello
}

/// The offset of the extensions length in [`served_hello`]: after the record header, handshake header, version, random,
/// session ID of 32 bytes, two cipher suites and one compression method.
const EXTENSIONS: usize = 5 + 4 + 2 + 32 + 33 + 6 + 2;

pub(super) fn cases() -> Vec<Case> {
    let hello = served_hello();
    let decode_error = Answer::Alert(TLS1_2, 50);
    let overflow = Answer::Alert(TLS1_2, 22);
    let entry = |name: &[u8]| [&[0][..], &vec16(name)].concat();
    let two_names = vec16(&[entry(b"served.test"), entry(b"other.test")].concat());
    let record_len = u16::from_be_bytes([hello[3], hello[4]]);
    let garbage: Vec<u8> = (0..4096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0] | 1)
        .collect();
    let garbage = [vec![0x17], garbage].concat();
    vec![
        sends("garbage", TLS, garbage, Answer::Nothing, "not_tls"),
        sends("no data", TLS, "", Answer::Nothing, "hello_silent"),
        sends_slowly(
            "one byte per second",
            TLS,
            &hello[..3],
            Duration::from_secs(1),
            Answer::Nothing,
            "hello_timeout",
        ),
        sends(
            "an oversized hello",
            TLS,
            oversized_hello(),
            overflow,
            "too_large",
        ),
        sends(
            "an oversized record",
            TLS,
            with_u16(3, 16_385),
            overflow,
            "too_large",
        ),
        sends(
            "too many records of one byte",
            TLS,
            records(
                &HelloBuilder::named(SERVED).message_len(60_000).message(),
                0x0301,
                &[1],
            ),
            Answer::Alert(TLS1_0, 22),
            "too_large",
        ),
        sends(
            "a record that is longer than the data sent",
            TLS,
            &with_u16(3, record_len + 100)[..60],
            Answer::Nothing,
            "hello_timeout",
        ),
        sends(
            "a record that is shorter than its message",
            TLS,
            with_u16(3, record_len - 4),
            Answer::Alert(TLS1_2, 50),
            "malformed",
        ),
        sends(
            "a handshake message that is longer than the data sent",
            TLS,
            with_u16(7, record_len + 96),
            Answer::Nothing,
            "hello_timeout",
        ),
        sends(
            "a handshake message that is shorter than its fields",
            TLS,
            with_u16(7, 20),
            decode_error,
            "malformed",
        ),
        sends(
            "extensions that are longer than the message",
            TLS,
            with_u16(EXTENSIONS, 60_000),
            decode_error,
            "malformed",
        ),
        sends(
            "an extension that is longer than the rest",
            TLS,
            with_u16(EXTENSIONS + 4, 50_000),
            decode_error,
            "malformed",
        ),
        sends(
            "a list that is longer than its extension",
            TLS,
            with_u16(EXTENSIONS + 6, 15),
            decode_error,
            "malformed",
        ),
        sends(
            "a name that is longer than its list",
            TLS,
            with_u16(EXTENSIONS + 9, 12),
            decode_error,
            "malformed",
        ),
        sends(
            "a name that is shorter than its list",
            TLS,
            with_u16(EXTENSIONS + 9, 9),
            decode_error,
            "malformed",
        ),
        sends(
            "a NUL in the name",
            TLS,
            HelloBuilder::new().name(b"served.test\0").build(),
            decode_error,
            "malformed",
        ),
        sends(
            "two names",
            TLS,
            HelloBuilder::new().raw_server_name(&two_names).build(),
            decode_error,
            "malformed",
        ),
        sends(
            "an empty list of names",
            TLS,
            HelloBuilder::new().raw_server_name(&[0, 0]).build(),
            decode_error,
            "malformed",
        ),
        sends(
            "a duplicate server_name extension",
            TLS,
            HelloBuilder::named(SERVED)
                .extension(0, &vec16(&entry(b"served.test")))
                .build(),
            decode_error,
            "malformed",
        ),
        sends(
            "an empty record",
            TLS,
            [&[22, 3, 1, 0, 0][..], &hello].concat(),
            Answer::Alert(TLS1_0, 50),
            "malformed",
        ),
        sends(
            "a record of another type within the hello",
            TLS,
            [
                &records(&HelloBuilder::named(SERVED).message()[..50], 0x0301, &[50])[..],
                &[23, 3, 3, 0, 1, 0],
            ]
            .concat(),
            decode_error,
            "malformed",
        ),
        sends(
            "a handshake message that is not a hello",
            TLS,
            records(&[2, 0, 0, 40, 3, 3, 0, 0], 0x0303, &[8]),
            decode_error,
            "malformed",
        ),
        sends(
            "an alert",
            TLS,
            [21, 3, 3, 0, 2, 1, 0],
            Answer::Nothing,
            "not_tls",
        ),
        sends(
            "a valid SSLv2 hello",
            TLS,
            sslv2_hello(0x0301, &[], &[3; 16]),
            Answer::Nothing,
            "no_name",
        ),
        sends(
            "an invalid SSLv2 hello",
            TLS,
            [0x80, 0x2e, 1, 9, 9, 0, 0],
            Answer::Nothing,
            "not_tls",
        ),
        sends(
            "HTTP on the TLS port",
            TLS,
            "GET / HTTP/1.1\r\nHost: served.test\r\n\r\n",
            Answer::Nothing,
            "not_tls",
        ),
        sends(
            "a hello that ends within an extension",
            TLS,
            HelloBuilder::named(SERVED)
                .extension(0xfff0, &extension(1, &[])[..2])
                .build()[..60]
                .to_vec(),
            Answer::Nothing,
            "hello_timeout",
        ),
        sends_and_ends(
            "a close within the hello",
            TLS,
            &hello[..60],
            How::Closed,
            "hello_closed",
        ),
        sends_and_ends(
            "a close before the hello",
            TLS,
            "",
            How::Closed,
            "hello_closed",
        ),
        sends_and_ends(
            "a reset within the hello",
            TLS,
            &hello[..60],
            How::Reset,
            "hello_reset",
        ),
        sends_and_ends(
            "a reset before the hello",
            TLS,
            "",
            How::Reset,
            "hello_reset",
        ),
        is_served("a half-close after the hello", TLS, vec![hello.clone()]),
        is_served(
            "a hello in split records",
            TLS,
            vec![HelloBuilder::named(SERVED).records(&[1, 3, 40]).build()],
        ),
        is_served(
            "a hello in records of one byte",
            TLS,
            vec![HelloBuilder::named(SERVED).records(&[1]).build()],
        ),
        is_served(
            "a hello in pieces of one byte",
            TLS,
            hello[..80]
                .iter()
                .map(|&byte| vec![byte])
                .chain([hello[80..].to_vec()])
                .collect(),
        ),
        is_served(
            "a hello of 64 KiB",
            TLS,
            vec![HelloBuilder::named(SERVED).message_len(65_536).build()],
        ),
        is_served(
            "bytes directly after the hello",
            TLS,
            vec![[hello.clone(), vec![5; 300_000]].concat()],
        ),
    ]
}
