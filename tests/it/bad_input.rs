//! Clients of every bad kind: each ends in time with its own outcome, and nobody else notices.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::hello_builder::{HelloBuilder, extension, records, sslv2_hello, vec16};
use crate::support::raw::{
    Answer, Heard, How, Neighbour, SERVED, TLS1_0, TLS1_2, all_ended, connect, connect_from,
    counted, echo, echoed, hear, line_of, oversized_hello, raise_descriptors, reset, say_and_hear,
    served_hello,
};
use crate::support::{eventually, own_address};

const TLS: u16 = 443;
const HTTP: u16 = 80;
const TCP: u16 = 1000;
/// What a hello may take.
const HELLO: Duration = Duration::from_secs(3);

fn start() -> Balancer {
    raise_descriptors();
    Balancer::start(&format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}], no_name: refuse }}
  http: {{ bind: ["HOST:{HTTP}"], protocol: http, routes: [{{ names: [{SERVED}], pool: web }}] }}
  tcp: {{ bind: ["HOST:{TCP}"], protocol: tcp, pool: web }}
pools: {{ web: {{ backends: ["{}"] }} }}
timeouts: {{ client_hello: {}ms, half_close: 5s }}
"#,
        echo(),
        HELLO.as_millis()
    ))
    .ready()
}

/// What a client does until it hears the end; `None` where it does not stay to hear it.
type Act = Box<dyn FnOnce(TcpStream) -> Option<Heard> + Send>;

struct Case {
    what: &'static str,
    port: u16,
    act: Act,
    hears: Option<Answer>,
    outcome: &'static str,
}

/// Says all at once and listens.
fn says(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    hears: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    Case {
        what,
        port,
        act: Box::new(move |client| Some(say_and_hear(&client, &bytes))),
        hears: Some(hears),
        outcome,
    }
}

/// Says it a byte at a time, as slowly as `pace`.
fn drips(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    pace: Duration,
    hears: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    let act = move |mut client: TcpStream| {
        for byte in bytes {
            if client.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(pace);
        }
        Some(hear(&client))
    };
    Case {
        what,
        port,
        act: Box::new(act),
        hears: Some(hears),
        outcome,
    }
}

/// Says it and leaves, in order or not.
fn leaves(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    how: How,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    let act = move |mut client: TcpStream| {
        client.write_all(&bytes).unwrap();
        if how == How::Reset {
            // The bytes are read first, so that it is a reset in the middle and not one before.
            std::thread::sleep(Duration::from_millis(100));
            reset(client);
            return None;
        }
        client.shutdown(Shutdown::Write).unwrap();
        Some(hear(&client))
    };
    let hears = (how == How::Closed).then_some(Answer::Nothing);
    Case {
        what,
        port,
        act: Box::new(act),
        hears,
        outcome,
    }
}

/// Is served by the echo although it is strange: all of it comes back.
fn is_served(what: &'static str, port: u16, pieces: Vec<Vec<u8>>) -> Case {
    let act = move |mut client: TcpStream| {
        for piece in &pieces {
            client.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        client.shutdown(Shutdown::Write).unwrap();
        let heard = hear(&client);
        assert_eq!(
            (heard.how, heard.bytes),
            (How::Closed, pieces.concat()),
            "{what}"
        );
        None
    };
    Case {
        what,
        port,
        act: Box::new(act),
        hears: None,
        outcome: "client_closed",
    }
}

/// The hello with the two bytes at `place` of its one record overwritten.
fn with_u16(place: usize, value: u16) -> Vec<u8> {
    let mut hello = served_hello();
    hello[place..place + 2].copy_from_slice(&value.to_be_bytes());
    hello
}

/// Where the length of the extensions stands in the hello of [`served_hello`]: record and handshake header, version,
/// random, session id of 32, two suites, one compression method.
const EXTENSIONS: usize = 5 + 4 + 2 + 32 + 33 + 6 + 2;

fn tls_cases() -> Vec<Case> {
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
        says("garbage", TLS, garbage, Answer::Nothing, "not_tls"),
        says("silence", TLS, "", Answer::Nothing, "hello_silent"),
        drips(
            "a byte a second",
            TLS,
            &hello[..3],
            Duration::from_secs(1),
            Answer::Nothing,
            "hello_timeout",
        ),
        says(
            "an oversized hello",
            TLS,
            oversized_hello(),
            overflow,
            "too_large",
        ),
        says(
            "an oversized record",
            TLS,
            with_u16(3, 16_385),
            overflow,
            "too_large",
        ),
        says(
            "records of one byte without end",
            TLS,
            records(
                &HelloBuilder::named(SERVED).message_len(60_000).message(),
                0x0301,
                &[1],
            ),
            Answer::Alert(TLS1_0, 22),
            "too_large",
        ),
        says(
            "a record that is longer than what comes",
            TLS,
            &with_u16(3, record_len + 100)[..60],
            Answer::Nothing,
            "hello_timeout",
        ),
        says(
            "a record that is shorter than its message",
            TLS,
            with_u16(3, record_len - 4),
            Answer::Alert(TLS1_2, 50),
            "malformed",
        ),
        says(
            "a handshake that is longer than what comes",
            TLS,
            with_u16(7, record_len + 96),
            Answer::Nothing,
            "hello_timeout",
        ),
        says(
            "a handshake that is shorter than its fields",
            TLS,
            with_u16(7, 20),
            decode_error,
            "malformed",
        ),
        says(
            "extensions that are longer than the message",
            TLS,
            with_u16(EXTENSIONS, 60_000),
            decode_error,
            "malformed",
        ),
        says(
            "an extension that is longer than the rest",
            TLS,
            with_u16(EXTENSIONS + 4, 50_000),
            decode_error,
            "malformed",
        ),
        says(
            "a list that is longer than its extension",
            TLS,
            with_u16(EXTENSIONS + 6, 15),
            decode_error,
            "malformed",
        ),
        says(
            "a name that is longer than its list",
            TLS,
            with_u16(EXTENSIONS + 9, 12),
            decode_error,
            "malformed",
        ),
        says(
            "a name that is shorter than its list",
            TLS,
            with_u16(EXTENSIONS + 9, 9),
            decode_error,
            "malformed",
        ),
        says(
            "a NUL in the name",
            TLS,
            HelloBuilder::new().name(b"served.test\0").build(),
            decode_error,
            "malformed",
        ),
        says(
            "two names",
            TLS,
            HelloBuilder::new().raw_server_name(&two_names).build(),
            decode_error,
            "malformed",
        ),
        says(
            "no name in the list",
            TLS,
            HelloBuilder::new().raw_server_name(&[0, 0]).build(),
            decode_error,
            "malformed",
        ),
        says(
            "the extension twice",
            TLS,
            HelloBuilder::named(SERVED)
                .extension(0, &vec16(&entry(b"served.test")))
                .build(),
            decode_error,
            "malformed",
        ),
        says(
            "an empty record",
            TLS,
            [&[22, 3, 1, 0, 0][..], &hello].concat(),
            Answer::Alert(TLS1_0, 50),
            "malformed",
        ),
        says(
            "another record before the hello is whole",
            TLS,
            [
                &records(&HelloBuilder::named(SERVED).message()[..50], 0x0301, &[50])[..],
                &[23, 3, 3, 0, 1, 0],
            ]
            .concat(),
            decode_error,
            "malformed",
        ),
        says(
            "another handshake message",
            TLS,
            records(&[2, 0, 0, 40, 3, 3, 0, 0], 0x0303, &[8]),
            decode_error,
            "malformed",
        ),
        says(
            "an alert",
            TLS,
            [21, 3, 3, 0, 2, 1, 0],
            Answer::Nothing,
            "not_tls",
        ),
        says(
            "a sound SSLv2 hello",
            TLS,
            sslv2_hello(0x0301, &[], &[3; 16]),
            Answer::Nothing,
            "no_name",
        ),
        says(
            "an unsound SSLv2 hello",
            TLS,
            [0x80, 0x2e, 1, 9, 9, 0, 0],
            Answer::Nothing,
            "not_tls",
        ),
        says(
            "HTTP on the TLS port",
            TLS,
            "GET / HTTP/1.1\r\nHost: served.test\r\n\r\n",
            Answer::Nothing,
            "not_tls",
        ),
        says(
            "an extension of nothing but its header",
            TLS,
            HelloBuilder::named(SERVED)
                .extension(0xfff0, &extension(1, &[])[..2])
                .build()[..60]
                .to_vec(),
            Answer::Nothing,
            "hello_timeout",
        ),
        leaves(
            "a close in the hello",
            TLS,
            &hello[..60],
            How::Closed,
            "hello_closed",
        ),
        leaves(
            "a close before the hello",
            TLS,
            "",
            How::Closed,
            "hello_closed",
        ),
        leaves(
            "a reset in the hello",
            TLS,
            &hello[..60],
            How::Reset,
            "hello_reset",
        ),
        leaves(
            "a reset before the hello",
            TLS,
            "",
            How::Reset,
            "hello_reset",
        ),
        is_served("a half-close behind the hello", TLS, vec![hello.clone()]),
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
            "bytes right behind the hello",
            TLS,
            vec![[hello.clone(), vec![5; 300_000]].concat()],
        ),
    ]
}

fn http_cases() -> Vec<Case> {
    let bad = Answer::Status(400);
    let head = |more: &str| format!("GET / HTTP/1.1\r\nHost: {SERVED}\r\n{more}\r\n");
    vec![
        says(
            "http: garbage",
            HTTP,
            (0..=255).rev().collect::<Vec<u8>>(),
            Answer::Nothing,
            "not_http",
        ),
        says("http: silence", HTTP, "", Answer::Nothing, "hello_silent"),
        drips(
            "http: a byte a second",
            HTTP,
            "GET",
            Duration::from_secs(1),
            Answer::Status(408),
            "hello_timeout",
        ),
        says(
            "http: an oversized head",
            HTTP,
            head(&format!("X: {}\r\n", "x".repeat(20_000))),
            Answer::Status(431),
            "too_large",
        ),
        says(
            "http: a head without end",
            HTTP,
            head("").trim_end().repeat(1_000),
            bad,
            "malformed",
        ),
        says(
            "http: two hosts",
            HTTP,
            head("Host: other.test\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: a NUL in the name",
            HTTP,
            "GET / HTTP/1.1\r\nHost: served.test\0\r\n\r\n",
            bad,
            "malformed",
        ),
        says(
            "http: a NUL in a field",
            HTTP,
            head("X: \0\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: a folded field",
            HTTP,
            head("X: a\r\n b\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: lines without CR",
            HTTP,
            "GET / HTTP/1.1\nHost: served.test\n\n",
            bad,
            "malformed",
        ),
        says(
            "http: TLS on the HTTP port",
            HTTP,
            served_hello(),
            Answer::Nothing,
            "not_http",
        ),
        says(
            "http: HTTP/2 without asking",
            HTTP,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Answer::Nothing,
            "not_http",
        ),
        leaves(
            "http: a close in the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Closed,
            "hello_closed",
        ),
        leaves(
            "http: a reset in the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Reset,
            "hello_reset",
        ),
        is_served(
            "http: a half-close behind the head",
            HTTP,
            vec![head("").into()],
        ),
        is_served(
            "http: a head in pieces of one byte",
            HTTP,
            head("").bytes().map(|byte| vec![byte]).collect(),
        ),
        is_served("tcp: garbage is data", TCP, vec![(0..=255).collect()]),
        is_served("tcp: nothing at all", TCP, vec![]),
        leaves("tcp: a reset", TCP, "x", How::Reset, "client_reset"),
    ]
}

#[test]
fn each_bad_client_ends_in_time_with_its_own_outcome_and_nobody_else_notices() {
    let balancer = start();
    let neighbour = Neighbour::start(balancer.at(TLS));
    let cases: Vec<Case> = tls_cases().into_iter().chain(http_cases()).collect();
    let mut outcomes: Vec<&str> = cases.iter().map(|case| case.outcome).collect();
    std::thread::scope(|scope| {
        for case in cases {
            let balancer = &balancer;
            scope.spawn(move || {
                let source = own_address();
                let client = connect_from(source, balancer.at(case.port)).unwrap();
                let heard = (case.act)(client);
                if let (Some(heard), Some(answer)) = (&heard, case.hears) {
                    heard.must_be(answer, case.what);
                }
                let line = line_of(balancer, source);
                assert_eq!(line["outcome"], case.outcome, "{}: {line}", case.what);
                let took = line["duration_ms"].as_f64().unwrap();
                assert!(took < 10_000.0, "{}: {line}", case.what);
            });
        }
    });
    let exchanges = neighbour.noticed_nothing();
    all_ended(&balancer);
    outcomes.retain(|outcome| *outcome != "client_closed");
    for outcome in outcomes.clone() {
        let count = outcomes.iter().filter(|other| **other == outcome).count();
        let count = f64::from(u32::try_from(count).unwrap());
        counted(
            &balancer,
            "lyncpin_connections_total",
            &[&format!("outcome=\"{outcome}\"")],
            count,
        );
    }
    assert!(exchanges > 5, "{exchanges}");
}

#[test]
fn the_bound_of_a_hello_counts_from_accept_and_not_from_its_last_byte() {
    let balancer = start();
    let mut client = connect(balancer.at(TLS));
    let begun = std::time::Instant::now();
    let hello = served_hello();
    for byte in &hello[..100] {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(hear(&client).how, How::Open);
    let line = balancer.ended("hello_timeout");
    let took = Duration::from_secs_f64(line["duration_ms"].as_f64().unwrap() / 1000.0);
    assert!(
        took >= HELLO && took < HELLO + Duration::from_secs(4),
        "{line}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// Connects and resets, `count` times at each port, from a few threads.
fn storm(balancer: &Balancer, count: usize) {
    std::thread::scope(|scope| {
        for (port, first) in [
            (TLS, served_hello()),
            (HTTP, b"GET / HT".to_vec()),
            (TCP, vec![1]),
        ] {
            scope.spawn(move || {
                for number in 0..count {
                    let mut client = connect(balancer.at(port));
                    if number % 2 == 1 {
                        client.write_all(&first).unwrap();
                    }
                    reset(client);
                }
            });
        }
    });
}

/// `count` clients that dribble their hello.
fn slow_crowd(to: SocketAddr, count: usize) {
    let hello = served_hello();
    let mut crowd: Vec<TcpStream> = (0..count).map(|_| connect(to)).collect();
    for byte in &hello[..6] {
        for client in &mut crowd {
            // Who was connected first may have had its time.
            let _ = client.write_all(&[*byte]);
        }
        std::thread::sleep(HELLO / 8);
    }
    for client in &crowd {
        assert_ne!(hear(client).how, How::Open);
    }
}

#[test]
fn storms_and_slow_crowds_leave_neither_memory_nor_descriptors_nor_counts_behind() {
    const STORM: usize = 1_000;
    const CROWD: usize = 500;
    let balancer = start();
    let sockets = |balancer: &Balancer| balancer.descriptors().remove("socket").unwrap_or(0);
    all_ended(&balancer);
    let before = sockets(&balancer);
    let neighbour = Neighbour::start(balancer.at(TLS));
    let mut resident = Vec::new();
    for round in 1..=3 {
        std::thread::scope(|scope| {
            scope.spawn(|| storm(&balancer, STORM));
            scope.spawn(|| slow_crowd(balancer.at(TLS), CROWD));
        });
        let crowds = f64::from(u32::try_from(CROWD * round).unwrap());
        counted(
            &balancer,
            "lyncpin_connections_total",
            &["outcome=\"hello_timeout\""],
            crowds,
        );
        resident.push(balancer.resident_kib());
    }
    neighbour.noticed_nothing();
    all_ended(&balancer);
    eventually("the sockets are closed", || {
        (sockets(&balancer) <= before).then_some(())
    });
    let (first, last) = (resident[0], resident[2]);
    assert!(
        last < first + 6 * 1024,
        "resident KiB after each round: {resident:?}"
    );
    // Every connection has its line and its count, whoever it was and however short it stayed.
    let total = balancer.metric("lyncpin_connections_total", &[]);
    eventually("a line for each connection", || {
        (balancer.access().len() as f64 == total).then_some(())
    });
    assert!(total >= (3 * (3 * STORM + CROWD)) as f64, "{total}");
    assert_eq!(
        balancer.metric("lyncpin_connections_total", &["internal_error"]),
        0.0
    );
}

#[test]
fn a_request_with_a_long_body_reaches_its_server_whole() {
    let balancer = start();
    let head = format!("POST / HTTP/1.1\r\nHost: {SERVED}\r\nContent-Length: 500000\r\n\r\n");
    let whole = [head.into_bytes(), vec![b'b'; 500_000]].concat();
    let client = connect(balancer.at(HTTP));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            (&client).write_all(&whole).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let heard = hear(&client);
        assert_eq!(heard.how, How::Closed);
        assert!(heard.bytes == whole);
        writing.join().unwrap();
    });
    echoed(&connect(balancer.at(TCP)), b"still here").unwrap();
}
