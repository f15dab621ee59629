//! Hellos of other programs, with the results of independent decoders. The tests read them from outside the repository.
//! They are not copied into it because their licences differ.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use lyncpin::protocol::tls::client_hello::{
    ClientHello, Format, HelloProgress, MalformedHello, ProtocolVersion,
};
use lyncpin::types::host_name::HostName;

use super::{assert_split_does_not_matter, deframed, describe, in_pieces, whole};
use crate::support::hello_builder::records;

/// One line of the index.
struct Row {
    file: String,
    bytes: Vec<u8>,
    expected: String,
    /// The expected result and others that are tolerable.
    accepted: Vec<String>,
    firm: bool,
    /// The fields that the other decoders found.
    flags: String,
}

/// The rows, or `None` if the corpus is not available. The function prints that the test did not run.
fn rows(test: &str) -> Option<Vec<Row>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/hellos");
    let index = directory.join("index.tsv");
    let Ok(text) = std::fs::read_to_string(&index) else {
        // Not `eprintln!`: the test harness captures its output and drops it if the test passes.
        let line = format!(
            "NOT RUN: {test}: there is no corpus at {}\n",
            index.display()
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    };
    Some(
        text.lines()
            .skip(1)
            .map(|line| row(&directory.join("data"), line))
            .collect(),
    )
}

fn row(data: &Path, line: &str) -> Row {
    let columns: Vec<&str> = line.split('\t').collect();
    let [
        file,
        _size,
        _family,
        expected,
        tolerated,
        confidence,
        flags,
        ..,
    ] = columns[..]
    else {
        panic!("a short line in the index: {line}");
    };
    let others = tolerated.split('|').filter(|result| *result != "-");
    Row {
        file: file.to_owned(),
        bytes: std::fs::read(data.join(file)).unwrap(),
        expected: expected.to_owned(),
        accepted: [expected]
            .into_iter()
            .chain(others)
            .map(str::to_owned)
            .collect(),
        firm: confidence == "firm",
        flags: flags.to_owned(),
    }
}

/// Whether the result in the index agrees with the parser. The index has no result for an exceeded limit, and its names
/// are not normalised.
fn agrees(indexed: &str, result: &HelloProgress) -> bool {
    match (indexed.strip_prefix("sni="), describe(result)) {
        (Some(name), described) => match HostName::parse_sent(&unescaped(name)) {
            Ok(Some(name)) => described == format!("sni={name}"),
            Ok(None) => described == "no-host-name",
            Err(_) => false,
        },
        (None, described) => {
            let class = described.split(':').next().unwrap_or_default();
            indexed
                == if class == "too-large" {
                    "malformed"
                } else {
                    class
                }
        }
    }
}

/// Decodes `%xx` to bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    bytes
}

/// Offsets at which to split `len` bytes, in random steps of 1 to 400.
fn random_splits(len: usize, mut seed: u64) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < len {
        cuts.push(at);
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        at += 1 + usize::try_from(seed >> 33).unwrap() % 400;
    }
    cuts
}

#[test]
fn the_corpus_has_the_expected_results_however_it_is_split() {
    let Some(rows) = rows("the_corpus_has_the_expected_results_however_it_is_split") else {
        return;
    };
    let mut failures = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        let result = assert_split_does_not_matter(&row.bytes, 1 + row.bytes.len() / 1000);
        for seed in 0..5 {
            assert_eq!(
                in_pieces(&row.bytes, random_splits(row.bytes.len(), seed)),
                result,
                "{}",
                row.file
            );
        }
        if !row
            .accepted
            .iter()
            .any(|accepted| agrees(accepted, &result))
        {
            failures.push(format!(
                "{}: {}, expected {}",
                row.file,
                describe(&result),
                row.accepted.join(" or ")
            ));
        }
        let agreement = if agrees(&row.expected, &result) {
            "as expected"
        } else {
            "tolerated"
        };
        let class = row.expected.split('=').next().unwrap_or_default();
        *counts.entry(format!("{class} {agreement}")).or_default() += 1;
    }
    eprintln!("{} rows: {counts:?}", rows.len());
    assert!(
        failures.is_empty(),
        "{} of {} rows:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

#[test]
fn firm_rows_have_the_expected_results_in_other_records() {
    let Some(rows) = rows("firm_rows_have_the_expected_results_in_other_records") else {
        return;
    };
    let mut reframed = 0;
    for row in rows.iter().filter(|row| row.firm) {
        let result = whole(&row.bytes);
        let hello_bytes = match &result {
            HelloProgress::Hello(hello) if hello.format == Format::Tls => {
                &row.bytes[..hello.wire_len]
            }
            // If the records themselves are invalid, the same bytes in other records are a different case.
            HelloProgress::Malformed(
                MalformedHello::RecordType
                | MalformedHello::RecordVersion
                | MalformedHello::EmptyRecord,
            )
            | HelloProgress::Hello(_)
            | HelloProgress::NotTls(_)
            | HelloProgress::TooLarge(_) => continue,
            HelloProgress::NeedMore | HelloProgress::Malformed(_) => &row.bytes,
        };
        let handshake = deframed(hello_bytes);
        for lens in [
            &[1][..],
            &[2],
            &[3, 1, 7],
            &[4, 9],
            &[39, 1, 200],
            &[1000],
            &[16_384],
        ] {
            let wire = records(&handshake, 0x0301, lens);
            let reparsed = in_pieces(&wire, random_splits(wire.len(), 7));
            assert_eq!(
                describe(&reparsed),
                describe(&result),
                "{} in records of {lens:?}",
                row.file
            );
            if let HelloProgress::Hello(hello) = reparsed {
                assert_eq!(
                    hello.wire_len,
                    wire.len(),
                    "{} in records of {lens:?}",
                    row.file
                );
            }
            reframed += 1;
        }
    }
    eprintln!("{reframed} firm hellos in other records");
}

/// The flags of a hello in the notation of the index.
fn flags(hello: &ClientHello, bytes: &[u8]) -> Vec<String> {
    let trailing = bytes.len() - hello.wire_len;
    let version = hello.versions.highest;
    [
        (trailing > 0, format!("bytes-after-hello:{trailing}")),
        (hello.alpn.iter().next().is_some(), "alpn".to_owned()),
        (hello.early_data, "early-data".to_owned()),
        (hello.ech, "ech".to_owned()),
        (version == ProtocolVersion::SSL3, "ssl3".to_owned()),
        (version == ProtocolVersion::TLS1_0, "tls1.0".to_owned()),
        (version == ProtocolVersion::TLS1_1, "tls1.1".to_owned()),
    ]
    .into_iter()
    .filter_map(|(holds, flag)| holds.then_some(flag))
    .collect()
}

#[test]
fn fields_of_firm_rows_agree_with_other_decoders() {
    let Some(rows) = rows("fields_of_firm_rows_agree_with_other_decoders") else {
        return;
    };
    let mut compared = 0;
    for row in rows.iter().filter(|row| row.firm) {
        let HelloProgress::Hello(hello) = whole(&row.bytes) else {
            continue;
        };
        // The index counts the bytes after the record, the parser those after the message in the record.
        if hello.format == Format::Sslv2 || row.flags.contains("hs-after-hello") {
            continue;
        }
        // TLS 1.2 and 1.3 are not compared. The index counts drafts of 1.3 as 1.2, and a version field of 0x0304 as an
        // offer of 1.3, which contradicts RFC 8446 section 4.2.1.
        let known = ["alpn", "early-data", "ech", "ssl3", "tls1.0", "tls1.1"];
        let named = row
            .flags
            .split(',')
            .map(|flag| if flag == "ech-inner" { "ech" } else { flag });
        let mut indexed: Vec<&str> = named
            .filter(|flag| known.contains(flag) || flag.starts_with("bytes-after-hello:"))
            .collect();
        let mut parsed = flags(&hello, &row.bytes);
        indexed.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(parsed, indexed, "{}", row.file);
        compared += 1;
    }
    eprintln!("the fields of {compared} firm hellos agree with the index");
}
