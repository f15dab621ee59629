//! Responses to rejected clients: each documented rejection byte for byte, and the errors that openssl and curl show.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::support::balancer::Balancer;
use crate::support::hello_builder::{HelloBuilder, sslv2_hello};
use crate::support::own_address;
use crate::support::peers::connect_from;
use crate::support::raw::{
    Answer, How, SERVED, TLS1_0, TLS1_2, all_ended, connect, counted, echo, hear, is_health,
    line_of, oversized_hello, say_and_hear, unused_address,
};

const HTTPS: u16 = 443;
const HTTPS_RESETS: u16 = 444;
const HTTPS_CLOSES: u16 = 445;
const HTTP: u16 = 80;
const TCP: u16 = 1000;

fn start() -> Balancer {
    let balancer = Balancer::start(&format!(
        r#"
listeners:
  alerts:
    bind: ["HOST:{HTTPS}"]
    protocol: tls
    routes: [{{ names: [{SERVED}], pool: web }}, {{ names: [down.test], pool: dead }}]
  resets:
    bind: ["HOST:{HTTPS_RESETS}"]
    protocol: tls
    routes: [{{ names: [{SERVED}], pool: web }}]
    refusal: reset
  closes:
    bind: ["HOST:{HTTPS_CLOSES}"]
    protocol: tls
    routes: [{{ names: [{SERVED}], pool: web }}]
    refusal: close
  http:
    bind: ["HOST:{HTTP}"]
    protocol: http
    routes: [{{ names: [{SERVED}], pool: web }}, {{ names: [down.test], pool: dead }}]
  tcp: {{ bind: ["HOST:{TCP}"], protocol: tcp, pool: dead, when_pool_down: refuse }}
pools:
  web: {{ backends: ["{web}"] }}
  dead: {{ backends: ["{dead}"] }}
timeouts: {{ client_hello: 700ms }}
"#,
        web = echo(),
        dead = unused_address(),
    ))
    .ready();
    is_health(&balancer, "dead", "down");
    balancer
}

struct Row {
    name: &'static str,
    port: u16,
    request: Vec<u8>,
    response: Answer,
    outcome: &'static str,
}

fn row(
    name: &'static str,
    port: u16,
    request: impl Into<Vec<u8>>,
    response: Answer,
    outcome: &'static str,
) -> Row {
    Row {
        name,
        port,
        request: request.into(),
        response,
        outcome,
    }
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A hello with a NUL in its name.
fn malformed() -> Vec<u8> {
    HelloBuilder::new().name(b"served.test\0.evil").build()
}

fn rows() -> Vec<Row> {
    let unknown = HelloBuilder::named("other.test").build();
    let nameless = HelloBuilder::new().build();
    vec![
        row(
            "unknown name",
            HTTPS,
            &*unknown,
            Answer::Alert(TLS1_2, 112),
            "unknown_name",
        ),
        row(
            "an address as name",
            HTTPS,
            HelloBuilder::named("192.0.2.1").build(),
            Answer::Alert(TLS1_2, 112),
            "unknown_name",
        ),
        row(
            "no name, TLS 1.3 offered",
            HTTPS,
            &*nameless,
            Answer::Alert(TLS1_2, 109),
            "no_name",
        ),
        row(
            "no name, TLS 1.2",
            HTTPS,
            HelloBuilder::new().versions(&[]).build(),
            Answer::Alert(TLS1_2, 40),
            "no_name",
        ),
        row(
            "no name, TLS 1.0",
            HTTPS,
            HelloBuilder::old(0x0301).build(),
            Answer::Alert(TLS1_0, 40),
            "no_name",
        ),
        row(
            "no name, SSLv2 format",
            HTTPS,
            sslv2_hello(0x0301, &[], &[9; 16]),
            Answer::Nothing,
            "no_name",
        ),
        row(
            "malformed",
            HTTPS,
            malformed(),
            Answer::Alert(TLS1_2, 50),
            "malformed",
        ),
        row(
            "too large",
            HTTPS,
            oversized_hello(),
            Answer::Alert(TLS1_2, 22),
            "too_large",
        ),
        row("not TLS", HTTPS, get(SERVED), Answer::Nothing, "not_tls"),
        row(
            "no data in time",
            HTTPS,
            "",
            Answer::Nothing,
            "hello_silent",
        ),
        row(
            "incomplete in time",
            HTTPS,
            &unknown[..40],
            Answer::Nothing,
            "hello_timeout",
        ),
        row(
            "no backend available",
            HTTPS,
            HelloBuilder::named("down.test").build(),
            Answer::Reset,
            "pool_down",
        ),
        row(
            "reset: unknown name",
            HTTPS_RESETS,
            &*unknown,
            Answer::Reset,
            "unknown_name",
        ),
        row(
            "reset: no name",
            HTTPS_RESETS,
            &*nameless,
            Answer::Reset,
            "no_name",
        ),
        row(
            "reset: malformed",
            HTTPS_RESETS,
            malformed(),
            Answer::Reset,
            "malformed",
        ),
        row(
            "reset: too large",
            HTTPS_RESETS,
            oversized_hello(),
            Answer::Reset,
            "too_large",
        ),
        row(
            "close: unknown name",
            HTTPS_CLOSES,
            &*unknown,
            Answer::Nothing,
            "unknown_name",
        ),
        row(
            "close: no name",
            HTTPS_CLOSES,
            &*nameless,
            Answer::Nothing,
            "no_name",
        ),
        row(
            "close: malformed",
            HTTPS_CLOSES,
            malformed(),
            Answer::Nothing,
            "malformed",
        ),
        row(
            "close: too large",
            HTTPS_CLOSES,
            oversized_hello(),
            Answer::Nothing,
            "too_large",
        ),
        row(
            "http: unknown name",
            HTTP,
            get("other.test"),
            Answer::Status(404),
            "unknown_name",
        ),
        row(
            "http: an address as name",
            HTTP,
            get("192.0.2.1"),
            Answer::Status(404),
            "unknown_name",
        ),
        row(
            "http: no name",
            HTTP,
            "GET / HTTP/1.0\r\n\r\n",
            Answer::Status(400),
            "no_name",
        ),
        row(
            "http: malformed",
            HTTP,
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            Answer::Status(400),
            "malformed",
        ),
        row(
            "http: too large",
            HTTP,
            format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "c".repeat(17_000)),
            Answer::Status(431),
            "too_large",
        ),
        row(
            "http: not HTTP",
            HTTP,
            &*unknown,
            Answer::Nothing,
            "not_http",
        ),
        row(
            "http: no data in time",
            HTTP,
            "",
            Answer::Nothing,
            "hello_silent",
        ),
        row(
            "http: incomplete in time",
            HTTP,
            "GET / HT",
            Answer::Status(408),
            "hello_timeout",
        ),
        row(
            "http: no backend available",
            HTTP,
            get("down.test"),
            Answer::Status(503),
            "pool_down",
        ),
        row(
            "tcp: no backend available",
            TCP,
            "",
            Answer::Reset,
            "pool_down",
        ),
    ]
}

#[test]
fn every_rejection_has_the_documented_response_log_line_and_count() {
    let balancer = start();
    let rows = rows();
    std::thread::scope(|scope| {
        for row in &rows {
            let balancer = &balancer;
            scope.spawn(move || {
                let source = own_address();
                let client = connect_from(source, balancer.at(row.port)).unwrap();
                say_and_hear(&client, &row.request).must_be(row.response, row.name);
                let line = line_of(balancer, source);
                assert_eq!(line["outcome"], row.outcome, "{}: {line}", row.name);
            });
        }
    });
    for row in &rows {
        let same = rows.iter().filter(|other| other.outcome == row.outcome);
        let label = format!("outcome=\"{}\"", row.outcome);
        let count = f64::from(u32::try_from(same.count()).unwrap());
        counted(&balancer, "lyncpin_connections_total", &[&label], count);
    }
    all_ended(&balancer);
}

/// Sends `first` and then `more` bytes, and only then reads the response.
fn keeps_sending(to: SocketAddr, first: &[u8], more: usize) -> (How, Vec<u8>) {
    let mut client = connect(to);
    client.write_all(first).unwrap();
    let block = vec![b'x'; 16 * 1024];
    let mut remaining = more;
    while remaining > 0 {
        let Ok(written) = client.write(&block[..remaining.min(block.len())]) else {
            break;
        };
        remaining -= written;
    }
    let response = hear(&client);
    (response.how, response.bytes)
}

#[test]
fn no_reset_overtakes_the_response_to_a_client_that_still_sends() {
    let balancer = start();
    let alert = [21, 3, 3, 0, 2, 2, 50];
    for _ in 0..20 {
        let (how, bytes) = keeps_sending(balancer.at(HTTPS), &malformed(), 100_000);
        assert_eq!((how, &*bytes), (How::Closed, &alert[..]));
        let (how, bytes) = keeps_sending(balancer.at(HTTP), get("other.test").as_bytes(), 100_000);
        assert_eq!(how, How::Closed);
        assert!(bytes.starts_with(b"HTTP/1.1 404 "));
    }
    // The balancer reads for a limited time. The response still arrives before the reset.
    let (_, bytes) = keeps_sending(balancer.at(HTTPS), &malformed(), 20_000_000);
    assert_eq!(bytes, alert);
    all_ended(&balancer);
}

#[test]
fn a_rejected_client_that_does_not_close_is_disconnected_after_a_short_time() {
    let balancer = start();
    let mut client = connect(balancer.at(HTTPS));
    client.write_all(&malformed()).unwrap();
    let mut alert = [0; 8];
    assert_eq!(client.read(&mut alert).unwrap(), 7);
    assert_eq!(client.read(&mut alert).unwrap(), 0);
    crate::support::eventually("the balancer closes its socket", || {
        client.write_all(b"x").err()
    });
}

#[test]
fn the_response_to_a_head_request_has_no_body() {
    let balancer = start();
    let response = say_and_hear(
        &connect(balancer.at(HTTP)),
        b"HEAD / HTTP/1.1\r\nHost: other.test\r\n\r\n",
    );
    assert_eq!(response.how, How::Closed);
    assert!(response.bytes.starts_with(b"HTTP/1.1 404 ") && response.bytes.ends_with(b"\r\n\r\n"));
}

fn s_client(to: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &to.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn openssl_shows_the_alert() {
    let balancer = start();
    let to = balancer.at(HTTPS);
    for (arguments, number, name) in [
        (&["-servername", "other.test"][..], 112, "unrecognized name"),
        (
            &["-servername", "other.test", "-tls1_2"],
            112,
            "unrecognized name",
        ),
        (&["-noservername"], 109, "missing extension"),
        (&["-noservername", "-tls1_2"], 40, "handshake failure"),
    ] {
        let output = s_client(to, arguments);
        assert!(
            output.contains(name) && output.contains(&format!("alert number {number}")),
            "{arguments:?}: {output}"
        );
    }
    let output = s_client(balancer.at(HTTPS_RESETS), &["-servername", "other.test"]);
    assert!(!output.contains("alert number"), "{output}");
}

fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("curl")
        .args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "20",
        ])
        .args(arguments)
        .output()
        .expect("curl is installed");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn curl_shows_the_status_and_the_alert() {
    let balancer = start();
    let url = format!("http://{}/", balancer.at(HTTP));
    let long = format!("Cookie: {}", "c".repeat(17_000));
    for (arguments, status) in [
        (&["-H", "Host: other.test"][..], "404"),
        (&["-H", "Host: down.test"], "503"),
        (&["-H", "Host:"], "400"),
        (&["-H", "Host: a b"], "400"),
        (&["-H", &*long, "-H", "Host: served.test"], "431"),
        (
            &["-H", "Host: other.test", "--data", &*"d".repeat(100_000)],
            "404",
        ),
    ] {
        let output = curl(&[arguments, &[&url]].concat());
        assert_eq!(output, (Some(0), status.to_owned()), "{arguments:.60?}");
    }
    let resolve = format!("other.test:{HTTPS}:{}", balancer.address);
    let (exit, output) = curl(&["--resolve", &resolve, "-k", "https://other.test/"]);
    assert_eq!(exit, Some(35), "{output}");
    assert!(output.contains("unrecognized name"), "{output}");
}
