//! Checks of servers that misbehave.

use std::time::Duration;

use lyncpin::config::model::CheckKind;
use tokio::net::TcpListener;

use super::servers::Server;
use super::watch::{Fixture, eventually, health, pool, report, report_within, request, tls};
use crate::support::nginx::ReservedPort;

const SHORT: Duration = Duration::from_millis(200);

fn all_kinds() -> [CheckKind; 4] {
    let tcp = CheckKind::Tcp;
    let [http, https] = http_kinds();
    [tcp, tls(), http, https]
}

fn http_kinds() -> [CheckKind; 2] {
    [CheckKind::Http(request()), CheckKind::Https(request())]
}

#[tokio::test]
async fn a_refused_connection_fails_every_kind_of_check() {
    let port = ReservedPort::new();
    for kind in all_kinds() {
        let seen = report(kind, port.address).await;
        assert_eq!(seen.passing, Some(false));
        assert_eq!(seen.detail, "connection refused");
    }
}

#[tokio::test]
async fn a_silent_server_passes_tcp_checks_and_fails_the_others_by_timeout() {
    let server = Server::silent().await;
    for kind in all_kinds() {
        let seen = report_within(kind.clone(), server.address, SHORT).await;
        if kind == CheckKind::Tcp {
            assert_eq!(seen.passing, Some(true), "{seen:?}");
            continue;
        }
        assert_eq!(seen.passing, Some(false), "{seen:?}");
        assert_eq!(seen.detail, "connected, but no response within 200ms");
        assert!(seen.took >= SHORT && seen.took < SHORT * 10, "{seen:?}");
    }
}

#[tokio::test]
async fn an_unreachable_address_fails_within_the_timeout() {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737): either no response or a network error.
    let seen = report_within(CheckKind::Tcp, "192.0.2.1:9".parse().unwrap(), SHORT).await;
    assert_eq!(seen.passing, Some(false));
    assert!(seen.took < SHORT * 10, "{seen:?}");
}

#[tokio::test]
async fn a_server_that_closes_without_a_response_fails() {
    let server = Server::closing().await;
    for kind in [
        tls(),
        CheckKind::Http(request()),
        CheckKind::Https(request()),
    ] {
        let seen = report(kind, server.address).await;
        assert_eq!(seen.passing, Some(false));
        assert_eq!(seen.detail, "closed without a response");
    }
}

#[tokio::test]
async fn a_garbage_response_fails_without_waiting_for_the_timeout() {
    let server = Server::responding_with(b"\x00\x01\x02 neither TLS nor HTTP \xff\xfe\r\n").await;
    let details = ["the response is not TLS", "the response is not HTTP"];
    for (kind, detail) in [tls(), CheckKind::Http(request())].into_iter().zip(details) {
        let seen = report(kind, server.address).await;
        assert_eq!((seen.passing, &*seen.detail), (Some(false), detail));
        assert!(seen.took < Duration::from_secs(4), "{seen:?}");
    }
    let seen = report(CheckKind::Https(request()), server.address).await;
    assert_eq!(seen.passing, Some(false), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_trickles_bytes_fails_by_timeout() {
    // One sends TLS warning alerts without end, the other a response head without end.
    let tls_server = Server::trickling(b"\x15\x03\x01\x00\x02\x01\x70").await;
    let http_server = Server::trickling(b"HTTP/1.1 200 OK\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").await;
    for (kind, server) in [
        (tls(), tls_server),
        (CheckKind::Http(request()), http_server),
    ] {
        let seen = report_within(kind, server.address, SHORT).await;
        assert_eq!(seen.passing, Some(false), "{seen:?}");
        assert_eq!(seen.detail, "connected, but no response within 200ms");
        assert!(seen.took < SHORT * 10, "{seen:?}");
    }
}

#[tokio::test]
async fn an_incomplete_body_does_not_change_the_result() {
    let server = Server::responding_with(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nand then nothing",
    )
    .await;
    let seen = report_within(CheckKind::Http(request()), server.address, SHORT).await;
    assert_eq!((seen.passing, &*seen.detail), (Some(true), "status 200"));
    assert!(seen.took < SHORT * 10, "{seen:?}");
}

#[tokio::test]
async fn an_oversized_response_head_fails() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for _ in 0..4000 {
        head.extend_from_slice(b"X-More: and more and more and more\r\n");
    }
    let server = Server::responding_with(head.leak()).await;
    let seen = report(CheckKind::Http(request()), server.address).await;
    assert_eq!(
        (seen.passing, &*seen.detail),
        (Some(false), "the head of the response is too large")
    );
}

#[tokio::test]
async fn a_tls_alert_is_reported_by_name() {
    let server = Server::responding_with(b"\x15\x03\x03\x00\x02\x02\x70").await;
    let seen = report(tls(), server.address).await;
    assert_eq!(
        (seen.passing, &*seen.detail),
        (
            Some(false),
            "the server rejected the handshake with the alert unrecognized_name"
        )
    );
}

#[tokio::test]
async fn the_server_application_accepts_few_or_no_tcp_checks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", &listener.local_addr().unwrap().to_string());
    let checks = health([CheckKind::Tcp]);
    let _monitor = fixture.watch(vec![pool(&[&backend], Some(checks))]);
    eventually("twenty checks", || fixture.counted("web") >= 20).await;
    assert!(backend.accepts_new());
    let mut accepted = 0;
    while tokio::time::timeout(Duration::ZERO, listener.accept())
        .await
        .is_ok()
    {
        accepted += 1;
    }
    // Zero, unless the machine stalls for 40 ms between two system calls.
    assert!(accepted < 10, "{accepted}");
}
