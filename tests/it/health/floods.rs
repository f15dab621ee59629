//! Servers that send without end: a check reads a limited number of bytes, and other checks are not affected.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::raw::{echo, is_health, ticks};

/// A server that waits for a request, sends `first`, and then repeats `again` as fast as possible. It writes `again` in
/// pieces of `cut` bytes.
fn flood(first: &[u8], again: &[u8], cut: usize) -> SocketAddr {
    let (first, again) = (first.to_vec(), Arc::new(again.to_vec()));
    serve(move |mut stream| {
        let _request_len = stream.read(&mut [0; 4096])?;
        stream.set_nodelay(true)?;
        stream.write_all(&first)?;
        // A limit, in case the client does not close the connection.
        for _ in 0..200_000 {
            for piece in again.chunks(cut) {
                stream.write_all(piece)?;
            }
        }
        Ok(())
    })
}

fn serve(respond: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let respond = Arc::new(respond);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let respond = respond.clone();
            // An error means that the client has closed the connection.
            std::thread::spawn(move || respond(stream));
        }
    });
    address
}

/// Like [`flood`], over TLS.
fn flood_over_tls(first: &'static [u8], again: &'static [u8]) -> SocketAddr {
    let key = rcgen::generate_simple_self_signed(["fe01.contoso.test".to_owned()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    let secret =
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let session =
            rustls::ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(session, stream);
        let _request_len = stream.read(&mut [0; 4096])?;
        stream.write_all(first)?;
        let again = again.repeat(200);
        for _ in 0..10_000 {
            stream.write_all(&again)?;
        }
        Ok(())
    })
}

/// A pool with the flooding server, and a pool with a healthy server.
fn yaml(flooding: SocketAddr, check: &str) -> String {
    format!(
        "listeners: {{ web: {{ bind: [\"HOST:80\"], protocol: tcp, pool: healthy }} }}\n\
         pools:\n\
         \x20 flooding: {{ backends: [\"{flooding}\"], health: {{ interval: 1s, timeout: 900ms, rise: 1, fall: 1, checks: [{check}] }} }}\n\
         \x20 healthy: {{ backends: [\"{}\"], health: {{ interval: 200ms, timeout: 150ms, rise: 1, fall: 1, checks: [tcp: {{}}] }} }}\n",
        echo()
    )
}

/// Asserts that `check` gives the flooding server this health, that checks use little CPU, and that checks of the
/// healthy server do not fail.
#[track_caller]
fn check(flooding: SocketAddr, check: &str, health: &str) {
    let balancer = Balancer::start(&yaml(flooding, check)).ready();
    is_health(&balancer, "flooding", health);
    let checks = || balancer.metric("lyncpin_health_checks_total", &["pool=\"flooding\""]);
    let (before, first, started) = (ticks(&balancer), checks(), Instant::now());
    while checks() < first + 3.0 {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "checks stopped"
        );
        assert_eq!(balancer.get("/healthz").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    let spent = ticks(&balancer) - before;
    // Three checks take about three seconds: one busy core would use about 300 ticks.
    assert!(
        spent < 100,
        "{check}: {spent} ticks in {:?}",
        started.elapsed()
    );
    let failed = ["pool=\"healthy\"", "result=\"fail\""];
    let failed = balancer.metric("lyncpin_health_checks_total", &failed);
    assert!(
        failed < 2.0,
        "{check}: {failed} checks of the healthy server failed"
    );
}

const HTTP: &str = "http: { path: / }";
const HTTPS: &str = "https: { path: / }";
const TLS: &str = "tls: {}";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

#[test]
fn interim_responses_without_end_fail_a_check() {
    for interim in [
        &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ] {
        check(flood(b"", interim, 4096), HTTP, "down");
        check(flood(b"", interim, 1), HTTP, "down");
    }
    check(
        flood_over_tls(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        HTTPS,
        "down",
    );
}

#[test]
fn a_few_interim_responses_are_ignored() {
    let answer = [
        &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(3)[..],
        OK,
        b"Content-Length: 0\r\n\r\n",
    ];
    let address = flood(&answer.concat(), b"", 1);
    check(address, HTTP, "up");
}

#[test]
fn a_response_head_without_end_fails_a_check() {
    check(flood(OK, b"X: y\r\n", 4096), HTTP, "down");
    check(flood(OK, b"X: y\r\n", 1), HTTP, "down");
    check(flood(b"HTTP/1.1 200 ", b"O", 1), HTTP, "down");
    check(flood(b"", b"\r\n", 4096), HTTP, "down");
    check(flood_over_tls(OK, b"X: y\r\n"), HTTPS, "down");
}

#[test]
fn a_body_without_end_does_not_fail_a_check() {
    check(
        flood(b"HTTP/1.1 200 OK\r\n\r\n", b"and on", 4096),
        HTTP,
        "up",
    );
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(flood(chunked, b"1\r\nx\r\n", 4096), HTTP, "up");
    check(flood(chunked, b"1\r\nx\r\n", 1), HTTP, "up");
    check(
        flood(&[&chunked[..], b"1;"].concat(), b"x", 4096),
        HTTP,
        "up",
    );
    check(
        flood(&[&chunked[..], b"0\r\n"].concat(), b"X: y\r\n", 4096),
        HTTP,
        "up",
    );
    check(
        flood_over_tls(b"HTTP/1.1 200 OK\r\n\r\n", b"and on"),
        HTTPS,
        "up",
    );
}

#[test]
fn tls_records_without_end_fail_a_check() {
    // Among them warning alerts, empty handshake fragments, a message that does not end, and change_cipher_spec.
    for record in [
        &b"\x15\x03\x03\x00\x02\x01\x70"[..],
        b"\x16\x03\x03\x00\x00",
        b"\x16\x03\x03\x00\x04\x0b\xff\xff\xff",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
        b"\x17\x03\x03\x00\x01\x00",
    ] {
        for kind in [TLS, HTTPS] {
            check(flood(b"", record, 4096), kind, "down");
        }
    }
    check(flood(b"", b"\x15\x03\x03\x00\x02\x01\x70", 1), TLS, "down");
}
