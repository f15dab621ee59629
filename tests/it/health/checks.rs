//! Checks of servers that misbehave.

use std::time::Duration;

use lyncpin::config::model::CheckKind;
use tokio::net::TcpListener;

use super::servers::Server;
use super::watch::{House, eventually, health, pool, report, report_within, request, tls};
use crate::support::nginx::ReservedPort;

const SHORT: Duration = Duration::from_millis(200);

fn all_kinds() -> [CheckKind; 4] {
    let tcp = CheckKind::Tcp;
    let [http, https] = both_http();
    [tcp, tls(), http, https]
}

fn both_http() -> [CheckKind; 2] {
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
async fn a_silent_server_passes_tcp_and_fails_the_others_in_time() {
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
async fn an_unreachable_address_fails_in_time() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no response, or an error from the network.
    let seen = report_within(CheckKind::Tcp, "192.0.2.1:9".parse().unwrap(), SHORT).await;
    assert_eq!(seen.passing, Some(false));
    assert!(seen.took < SHORT * 10, "{seen:?}");
}

#[tokio::test]
async fn a_server_that_closes_fails() {
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
async fn garbage_fails_at_once() {
    let server =
        Server::saying(b"\x00\x01\x02 what is this, and who would want it \xff\xfe\r\n").await;
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
async fn a_trickling_server_fails_in_time() {
    // An endless warning, and an endless head.
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
async fn an_endless_body_does_not_change_the_result() {
    let server =
        Server::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nand then nothing").await;
    let seen = report_within(CheckKind::Http(request()), server.address, SHORT).await;
    assert_eq!((seen.passing, &*seen.detail), (Some(true), "status 200"));
    assert!(seen.took < SHORT * 10, "{seen:?}");
}

#[tokio::test]
async fn an_endless_head_fails() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for _ in 0..4000 {
        head.extend_from_slice(b"X-More: and more and more and more\r\n");
    }
    let server = Server::saying(head.leak()).await;
    let seen = report(CheckKind::Http(request()), server.address).await;
    assert_eq!(
        (seen.passing, &*seen.detail),
        (Some(false), "the head of the response is too large")
    );
}

#[tokio::test]
async fn an_alert_is_reported_by_name() {
    let server = Server::saying(b"\x15\x03\x03\x00\x02\x02\x70").await;
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
async fn an_application_sees_few_or_no_tcp_checks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let house = House::new();
    let backend = house.backend("web", "fe01", &listener.local_addr().unwrap().to_string());
    let checks = health([CheckKind::Tcp]);
    let _monitor = house.watch(vec![pool(&[&backend], Some(checks))]);
    eventually("twenty checks", || house.counted("web") >= 20).await;
    assert!(backend.accepts_new());
    let mut accepted = 0;
    while tokio::time::timeout(Duration::ZERO, listener.accept())
        .await
        .is_ok()
    {
        accepted += 1;
    }
    // None, unless the machine stalls for 40 ms between two system calls.
    assert!(accepted < 10, "{accepted}");
}
