//! Reloads of everything but listeners and pools: limits, the admin listener, the log, workers.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{WEB, routed, server};
use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect, is_alive, request};
use crate::support::raw::{How, hear};
use crate::support::{at, eventually, own_address};

/// The same configuration, with this text appended.
fn with(backends: &[Backend], more: &str) -> String {
    routed("a", backends) + more + "\n"
}

#[test]
fn limits_and_timeouts_apply_to_new_connections_only() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&with(&backends, "")).ready();
    let held = connect(balancer.at(WEB)).unwrap();
    ask(&held, &request("www.test")).unwrap();
    balancer.reloaded(&with(
        &backends,
        "limits: { connections: 2 }\ntimeouts: { client_hello: 300ms }",
    ));
    assert_eq!(balancer.status()["limits"]["connections"], 2);
    // A silent connection counts towards the limit until the (new) timeout closes it.
    let silent = connect(balancer.at(WEB)).unwrap();
    hear(&silent);
    balancer.ended("hello_silent");
    balancer.reloaded(&with(&backends, "limits: { connections: 1 }"));
    // The reset can arrive before `connect` returns.
    let refused = connect(balancer.at(WEB));
    assert!(refused.is_err() || refused.is_ok_and(|stream| hear(&stream).how == How::Reset));
    balancer.ended("limit_connections");
    assert!(is_alive(&held));
    balancer.reloaded(&with(&backends, "limits: { per_source: 1 }"));
    assert_eq!(server(&balancer), "a");
    assert!(is_alive(&held));
}

/// The status of the response to a request with this token.
fn status_with_token(admin: std::net::SocketAddr, token: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(admin).ok()?;
    write!(
        stream,
        "GET /api/v1/status HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn the_admin_listener_moves_and_its_token_changes() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&with(&backends, "")).ready();
    let (old, new) = (balancer.at(9900), at(own_address(), 9901));
    let token = balancer.directory().join("token");
    assert_eq!(status_with_token(old, "test-token"), Some(200));

    std::fs::write(&token, "another-token").unwrap();
    balancer.reloaded(&with(&backends, ""));
    assert_eq!(status_with_token(old, "test-token"), Some(401));
    assert_eq!(status_with_token(old, "another-token"), Some(200));

    // A request to the old address still gets its response.
    std::fs::write(&token, "test-token").unwrap();
    balancer.reload(&with(&backends, ""));
    balancer.signal(rustix::process::Signal::HUP);
    eventually("the token is in force", || {
        (status_with_token(old, "test-token") == Some(200)).then_some(())
    });
    let moved = format!(
        "admin: {{ bind: \"{new}\", metrics_bind: \"{old}\", token_file: \"{}\" }}",
        token.display()
    );
    balancer.reloaded(&with(&backends, &moved));
    assert_eq!(status_with_token(new, "test-token"), Some(200));
    assert_eq!(
        status_with_token(old, "test-token"),
        Some(404),
        "metrics alone"
    );

    let file = balancer.directory().join("admin.sock");
    let moved = format!("admin: {{ bind: \"unix:{}\" }}", file.display());
    balancer.write(&with(&backends, &moved));
    balancer.signal(rustix::process::Signal::HUP);
    eventually("the socket exists", || file.exists().then_some(()));
    eventually("the old listeners are closed", || {
        let closed = [old, new].map(|at| TcpStream::connect(at).is_err());
        (closed == [true; 2]).then_some(())
    });
    assert_eq!(server(&balancer), "a");
}

/// The status of the response to a request with this Host.
fn status_with_host(admin: std::net::SocketAddr, host: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(admin).ok()?;
    write!(
        stream,
        "GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer test-token\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_reload_changes_the_host_names_of_the_admin_listener() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&with(&backends, "")).ready();
    let (at, token) = (balancer.at(9900), balancer.directory().join("token"));
    let hosts = |hosts: &str| {
        let admin = format!(
            "admin: {{ bind: \"{at}\", token_file: \"{}\", hosts: [{hosts}] }}",
            token.display()
        );
        balancer.reloaded(&with(&backends, &admin));
    };
    assert_eq!(status_with_host(at, "lb.contoso.com"), Some(403));
    hosts("lb.contoso.com, lb");
    for host in [
        "lb.contoso.com",
        "LB.contoso.com.:9900",
        "lb:80",
        "localhost",
    ] {
        assert_eq!(status_with_host(at, host), Some(200), "{host}");
    }
    for host in [
        "x.lb.contoso.com",
        "contoso.com",
        "lb.contoso.com:x",
        "evil.example",
    ] {
        assert_eq!(status_with_host(at, host), Some(403), "{host}");
    }
    hosts("lb.fabrikam.com");
    assert_eq!(status_with_host(at, "lb.fabrikam.com"), Some(200));
    assert_eq!(status_with_host(at, "lb.contoso.com"), Some(403));
}

#[test]
fn a_token_that_cannot_be_read_changes_nothing() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    let bind = format!(
        "admin: {{ bind: \"{}\", token_file: /nonexistent/token }}\n",
        balancer.at(9900)
    );
    let answer = balancer.reload(&(routed("b", &backends) + &bind));
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.contains("/nonexistent/token"),
        "{}",
        answer.body
    );
    assert_eq!(server(&balancer), "a");
    assert_eq!(
        status_with_token(balancer.at(9900), "test-token"),
        Some(200)
    );
}

#[test]
fn a_reload_changes_the_format_of_the_log() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&with(&backends, "")).ready();
    server(&balancer);
    balancer.ended("client_closed");
    balancer.reloaded(&with(
        &backends,
        "log: { format: text, client_address: prefix }",
    ));
    server(&balancer);
    eventually("a line of text", || {
        let text = |line: &serde_json::Value| {
            line.as_str()
                .is_some_and(|line| line.contains("target=access"))
        };
        balancer.log().iter().any(text).then_some(())
    });
    balancer.reloaded(&with(&backends, "log: { format: json, access: false }"));
    let before = balancer.log().len();
    server(&balancer);
    balancer.reloaded(&with(&backends, "log: { format: json, access: false }"));
    let log = eventually("the line of the reload", || {
        let log = balancer.log().split_off(before);
        let is_reload =
            |line: &serde_json::Value| line["message"] == "the configuration has been reloaded";
        log.iter().any(is_reload).then_some(log)
    });
    assert!(
        log.iter().all(|line| line["target"] != "access"),
        "{log:#?}"
    );
}

#[test]
fn workers_do_not_change_and_a_warning_reports_it() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&with(&backends, "workers: 2")).ready();
    let answer = balancer.reload(&with(&backends, "workers: 3"));
    assert_eq!(answer.status, 200);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let warning = body["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("workers stays at 2"), "{warning}");
    assert_eq!(balancer.status()["workers"], 2);
    assert_eq!(server(&balancer), "a");
    let output = balancer.command(&["reload"]).output().unwrap();
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(
        warned.starts_with("warning: workers stays at 2"),
        "{warned}"
    );
    assert_eq!(output.status.code(), Some(0));
}
