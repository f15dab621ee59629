//! Reloads of everything but listeners and pools: limits, the admin listener, the log, workers.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{WEB, routed, server};
use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect, is_alive, request};
use crate::support::raw::{How, hear};
use crate::support::{at, eventually, own_address};

/// The same with more at the end.
fn and(backends: &[Backend], more: &str) -> String {
    routed("a", backends) + more + "\n"
}

#[test]
fn limits_and_timeouts_apply_to_new_connections_and_end_none() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&and(&backends, "")).ready();
    let held = connect(balancer.at(WEB)).unwrap();
    ask(&held, &request("www.test")).unwrap();
    balancer.reloaded(&and(
        &backends,
        "limits: { connections: 2 }\ntimeouts: { client_hello: 300ms }",
    ));
    assert_eq!(balancer.status()["limits"]["connections"], 2);
    // One that says nothing is a place less until its time is over, which is the new one.
    let silent = connect(balancer.at(WEB)).unwrap();
    hear(&silent);
    balancer.ended("hello_silent");
    balancer.reloaded(&and(&backends, "limits: { connections: 1 }"));
    // The reset may be there before the client knows that it is connected.
    let refused = connect(balancer.at(WEB));
    assert!(refused.is_err() || refused.is_ok_and(|stream| hear(&stream).how == How::Reset));
    balancer.ended("limit_connections");
    assert!(is_alive(&held));
    balancer.reloaded(&and(&backends, "limits: { per_source: 1 }"));
    assert_eq!(server(&balancer), "a");
    assert!(is_alive(&held));
}

/// The status of the response to a request with this token.
fn asked(admin: std::net::SocketAddr, token: &str) -> Option<u16> {
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
    let balancer = Balancer::start(&and(&backends, "")).ready();
    let (old, new) = (balancer.at(9900), at(own_address(), 9901));
    let token = balancer.directory().join("token");
    assert_eq!(asked(old, "test-token"), Some(200));

    std::fs::write(&token, "another-token").unwrap();
    balancer.reloaded(&and(&backends, ""));
    assert_eq!(asked(old, "test-token"), Some(401));
    assert_eq!(asked(old, "another-token"), Some(200));

    // Who asks where it is no more gets the answer all the same.
    std::fs::write(&token, "test-token").unwrap();
    balancer.reload(&and(&backends, ""));
    balancer.signal(rustix::process::Signal::HUP);
    eventually("the token is in force", || {
        (asked(old, "test-token") == Some(200)).then_some(())
    });
    let moved = format!(
        "admin: {{ bind: \"{new}\", metrics_bind: \"{old}\", token_file: \"{}\" }}",
        token.display()
    );
    balancer.reloaded(&and(&backends, &moved));
    assert_eq!(asked(new, "test-token"), Some(200));
    assert_eq!(asked(old, "test-token"), Some(404), "metrics alone");

    let file = balancer.directory().join("admin.sock");
    let moved = format!("admin: {{ bind: \"unix:{}\" }}", file.display());
    balancer.write(&and(&backends, &moved));
    balancer.signal(rustix::process::Signal::HUP);
    eventually("it is a file", || file.exists().then_some(()));
    eventually("the others are closed", || {
        let closed = [old, new].map(|at| TcpStream::connect(at).is_err());
        (closed == [true; 2]).then_some(())
    });
    assert_eq!(server(&balancer), "a");
}

/// The status of the response to a request with this Host.
fn asked_as(admin: std::net::SocketAddr, host: &str) -> Option<u16> {
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
    let balancer = Balancer::start(&and(&backends, "")).ready();
    let (at, token) = (balancer.at(9900), balancer.directory().join("token"));
    let hosts = |hosts: &str| {
        let admin = format!(
            "admin: {{ bind: \"{at}\", token_file: \"{}\", hosts: [{hosts}] }}",
            token.display()
        );
        balancer.reloaded(&and(&backends, &admin));
    };
    assert_eq!(asked_as(at, "lb.contoso.com"), Some(403));
    hosts("lb.contoso.com, lb");
    for host in [
        "lb.contoso.com",
        "LB.contoso.com.:9900",
        "lb:80",
        "localhost",
    ] {
        assert_eq!(asked_as(at, host), Some(200), "{host}");
    }
    for host in [
        "x.lb.contoso.com",
        "contoso.com",
        "lb.contoso.com:x",
        "evil.example",
    ] {
        assert_eq!(asked_as(at, host), Some(403), "{host}");
    }
    hosts("lb.fabrikam.com");
    assert_eq!(asked_as(at, "lb.fabrikam.com"), Some(200));
    assert_eq!(asked_as(at, "lb.contoso.com"), Some(403));
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
    assert_eq!(asked(balancer.at(9900), "test-token"), Some(200));
}

#[test]
fn a_reload_changes_the_format_of_the_log() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&and(&backends, "")).ready();
    server(&balancer);
    balancer.ended("client_closed");
    balancer.reloaded(&and(
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
    balancer.reloaded(&and(&backends, "log: { format: json, access: false }"));
    let before = balancer.log().len();
    server(&balancer);
    balancer.reloaded(&and(&backends, "log: { format: json, access: false }"));
    let log = eventually("the line of the reload", || {
        let log = balancer.log().split_off(before);
        let told =
            |line: &serde_json::Value| line["message"] == "the configuration has been reloaded";
        log.iter().any(told).then_some(log)
    });
    assert!(
        log.iter().all(|line| line["target"] != "access"),
        "{log:#?}"
    );
}

#[test]
fn workers_do_not_change_and_a_warning_says_so() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&and(&backends, "workers: 2")).ready();
    let answer = balancer.reload(&and(&backends, "workers: 3"));
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("workers stays at 2"), "{warning}");
    assert_eq!(balancer.status()["workers"], 2);
    assert_eq!(server(&balancer), "a");
    let said = balancer.command(&["reload"]).output().unwrap();
    let warned = String::from_utf8_lossy(&said.stderr);
    assert!(
        warned.starts_with("warning: workers stays at 2"),
        "{warned}"
    );
    assert_eq!(said.status.code(), Some(0));
}
