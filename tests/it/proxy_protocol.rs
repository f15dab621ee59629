//! PROXY headers that the balancer sends: to HAProxy and nginx, which require them, and byte for byte to a server of our
//! own.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use crate::support::balancer::Balancer;
use crate::support::haproxy::HaProxy;
use crate::support::nginx::{Nginx, NginxServer};
use crate::support::peers::connect_from;
use crate::support::raw::{SERVED, line_of, served_hello, unused_address};
use crate::support::{PATIENCE, at, eventually, own_address};

const HTTPS: u16 = 443;
const HTTP: u16 = 80;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An `http` listener before one pool, whose `send_proxy_protocol` and further keys are these.
fn http_balancer(backend: SocketAddr, send: &str, keys: &str) -> Balancer {
    Balancer::start(&format!(
        "listeners:\n\
         \x20 http: {{ bind: [\"HOST:{HTTP}\"], protocol: http, unknown_name: web }}\n\
         pools:\n\
         \x20 web: {{ backends: [\"{backend}\"], send_proxy_protocol: {send}, {keys} }}\n"
    ))
}

/// Requests a page and returns the whole response.
fn get(balancer: &Balancer, source: IpAddr, name: &str) -> (SocketAddr, String) {
    let mut client = connect_from(source, balancer.at(HTTP)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    (client.local_addr().unwrap(), response)
}

/// A server that the test plays itself.
fn listener() -> TcpListener {
    TcpListener::bind(at(own_address(), 7000)).unwrap()
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = eventually("a connection", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Everything that comes until the other side closes.
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn v1_header(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    format!(
        "PROXY TCP4 {} {} {} {}\r\n",
        client.ip(),
        destination.ip(),
        client.port(),
        destination.port()
    )
    .into_bytes()
}

#[test]
fn haproxy_reads_the_client_the_name_and_the_identifier_from_the_header() {
    let haproxy = HaProxy::start();
    for (send, with_tlvs) in [
        ("v1", false),
        ("v2", false),
        ("{ v2: [authority, unique_id, crc32c] }", true),
    ] {
        let balancer = http_balancer(haproxy.address, send, "health: none").ready();
        let source = own_address();
        let (client, response) = get(&balancer, source, "meet.contoso.com");
        let destination = balancer.at(HTTP);
        assert!(response.starts_with("HTTP/1.1 200"), "{send}: {response}");
        for line in [
            format!("source {} {}\n", client.ip(), client.port()),
            format!("destination {} {}\n", destination.ip(), destination.port()),
        ] {
            assert!(response.contains(&line), "{send}: {line} in {response}");
        }
        let id = line_of(&balancer, source)["unique_id"].clone();
        if with_tlvs {
            let id = id.as_str().expect("the identifier is in the log");
            assert!(
                response.contains(&format!("unique_id {id}\n")),
                "{response}"
            );
            assert!(
                response.contains("authority meet.contoso.com\n"),
                "{response}"
            );
        } else {
            assert!(id.is_null(), "{send}: {id}");
            assert!(response.contains("authority \n"), "{send}: {response}");
        }
    }
}

#[test]
fn without_a_header_haproxy_rejects_the_connection() {
    let haproxy = HaProxy::start();
    let balancer = http_balancer(haproxy.address, "none", "health: none").ready();
    let mut client = connect_from(own_address(), balancer.at(HTTP)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n")
        .unwrap();
    let mut response = Vec::new();
    // Closed or reset, but nothing comes back.
    let _ = client.read_to_end(&mut response);
    assert_eq!(response, b"");
}

#[test]
fn nginx_reads_the_client_from_the_header() {
    for send in ["v1", "v2", "{ v2: [crc32c, authority] }"] {
        let nginx = Nginx::start(&NginxServer {
            protocols: &[],
            proxy_protocol: true,
            ..NginxServer::default()
        });
        let balancer = http_balancer(nginx.address, send, "health: none").ready();
        let (client, response) = get(&balancer, own_address(), "meet.contoso.com");
        assert!(response.starts_with("HTTP/1.1 200"), "{send}: {response}");
        eventually("nginx logs the client", || {
            let from = format!("|{}:{}", client.ip(), client.port());
            nginx
                .requests()
                .iter()
                .any(|line| line.ends_with(&from))
                .then_some(())
        });
    }
}

#[test]
fn health_checks_of_the_traffic_port_send_the_header_of_a_local_connection() {
    let haproxy = HaProxy::start();
    let checks = "health: { interval: 200ms, timeout: 200ms, fall: 1, checks: [{ http: { path: /, host: meet.contoso.com } }] }";
    for (send, up) in [
        ("v1", true),
        ("v2", true),
        ("{ v2: [crc32c] }", true),
        ("none", false),
    ] {
        let balancer = http_balancer(haproxy.address, send, checks);
        let health = if up { "up" } else { "down" };
        eventually(&format!("{send}: the backend is {health}"), || {
            let status = balancer.status();
            (status["pools"][0]["backends"][0]["health"] == health).then_some(())
        });
    }
}

#[test]
fn each_kind_of_check_sends_the_header_first_and_only_to_the_traffic_port() {
    for (check, first_after_the_header) in [
        ("{ tcp: {} }", None),
        ("{ tls: {} }", Some(0x16)),
        ("{ https: { path: /, host: meet.contoso.com } }", Some(0x16)),
        ("{ http: { path: /, host: meet.contoso.com } }", Some(b'G')),
    ] {
        let traffic = listener();
        let address = traffic.local_addr().unwrap();
        let health = format!("health: {{ interval: 200ms, timeout: 200ms, checks: [{check}] }}");
        let _balancer = http_balancer(address, "v2", &health);
        let checked = accept(&traffic);
        assert_eq!(read(&checked, 12), SIGNATURE, "{check}");
        // LOCAL, no addresses, no TLVs.
        assert_eq!(read(&checked, 4), [0x20, 0, 0, 0], "{check}");
        match first_after_the_header {
            Some(first) => assert_eq!(read(&checked, 1), [first], "{check}"),
            None => assert_eq!(read_to_end(&checked), b"", "{check}"),
        }
    }
    let traffic = listener();
    let address = traffic.local_addr().unwrap();
    let elsewhere = TcpListener::bind(at(address.ip(), 0)).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let health = format!(
        "health: {{ interval: 200ms, timeout: 200ms, checks: [{{ tls: {{ port: {port} }} }}] }}"
    );
    let _balancer = http_balancer(address, "v2", &health);
    assert_eq!(read(&accept(&elsewhere), 1), [0x16]);
}

/// A `tls` listener; `pools` are the lines under `pools:`.
fn tls_balancer(pools: &str) -> Balancer {
    Balancer::start(&format!(
        "listeners:\n\
         \x20 https: {{ bind: [\"HOST:{HTTPS}\"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}] }}\n\
         pools:\n{pools}"
    ))
    .ready()
}

#[test]
fn the_header_is_sent_once_before_the_hello_and_is_not_counted() {
    let server = listener();
    let address = server.local_addr().unwrap();
    let balancer = tls_balancer(&format!(
        "\x20 web: {{ backends: [\"{address}\"], send_proxy_protocol: v1, health: none }}\n"
    ));
    let source = own_address();
    let mut client = connect_from(source, balancer.at(HTTPS)).unwrap();
    let hello = served_hello();
    client.write_all(&hello).unwrap();
    let mut backend = accept(&server);
    let header = v1_header(client.local_addr().unwrap(), balancer.at(HTTPS));
    assert_eq!(read(&backend, header.len()), header);
    assert_eq!(read(&backend, hello.len()), hello);
    client.write_all(b"more").unwrap();
    assert_eq!(read(&backend, 4), b"more");
    backend.write_all(b"back").unwrap();
    assert_eq!(read(&client, 4), b"back");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&backend), b"");
    drop(backend);
    let line = line_of(&balancer, source);
    assert_eq!(line["bytes_to_backend"], hello.len() + 4, "{line}");
    let counted = balancer.metric("lyncpin_bytes_total", &["direction=\"to_backend\""]);
    assert!(
        (counted - (hello.len() + 4) as f64).abs() < 0.5,
        "{counted} bytes"
    );
}

#[test]
fn a_connection_that_is_redispatched_sends_one_header() {
    let server = listener();
    let (open, closed) = (server.local_addr().unwrap(), unused_address());
    let balancer = tls_balancer(&format!(
        "\x20 web: {{ backends: [\"{closed}\", \"{open}\"], balance: round_robin, send_proxy_protocol: v1, \
         health: none, affinity: none }}\n"
    ));
    let hello = served_hello();
    let tries: Vec<u64> = (0..2)
        .map(|_| {
            let source = own_address();
            let mut client = connect_from(source, balancer.at(HTTPS)).unwrap();
            client.write_all(&hello).unwrap();
            let backend = accept(&server);
            let mut expected = v1_header(client.local_addr().unwrap(), balancer.at(HTTPS));
            expected.extend(&hello);
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&backend), expected);
            drop(backend);
            line_of(&balancer, source)["tries"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(tries.iter().max(), Some(&2), "{tries:?}");
}

#[test]
fn a_backup_pool_has_its_own_setting() {
    let (here, spare) = (unused_address(), listener());
    let address = spare.local_addr().unwrap();
    let balancer = tls_balancer(&format!(
        "\x20 web: {{ backends: [\"{here}\"], backup: spare, send_proxy_protocol: v1, health: {{ interval: 100ms, timeout: 100ms, fall: 1 }} }}\n\
         \x20 spare: {{ backends: [\"{address}\"], send_proxy_protocol: v2, health: none }}\n"
    ));
    eventually("the pool is down", || {
        let status = balancer.status();
        let pools = status["pools"].as_array()?;
        let web = pools.iter().find(|pool| pool["name"] == "web")?;
        (web["backends"][0]["health"] == "down").then_some(())
    });
    let mut client = connect_from(own_address(), balancer.at(HTTPS)).unwrap();
    client.write_all(&served_hello()).unwrap();
    let backend = accept(&spare);
    assert_eq!(read(&backend, 12), SIGNATURE);
}

#[test]
fn on_a_tcp_listener_the_header_comes_before_the_client_has_sent_anything() {
    let server = listener();
    let address = server.local_addr().unwrap();
    let balancer = Balancer::start(&format!(
        "listeners:\n\
         \x20 smtp: {{ bind: [\"HOST:25\"], protocol: tcp, pool: mail }}\n\
         pools:\n\
         \x20 mail: {{ backends: [\"{address}\"], send_proxy_protocol: v2, health: none }}\n"
    ))
    .ready();
    let client = connect_from(own_address(), balancer.at(25)).unwrap();
    let mut backend = accept(&server);
    assert_eq!(read(&backend, 12), SIGNATURE);
    assert_eq!(read(&backend, 4), [0x21, 0x11, 0, 12]);
    read(&backend, 12);
    backend.write_all(b"220 ready\r\n").unwrap();
    assert_eq!(read(&client, 11), b"220 ready\r\n");
}

#[test]
fn a_reload_changes_the_header_of_new_connections() {
    let server = listener();
    let address = server.local_addr().unwrap();
    let with = |send: &str| {
        format!(
            "listeners:\n\
             \x20 smtp: {{ bind: [\"HOST:25\"], protocol: tcp, pool: mail }}\n\
             pools:\n\
             \x20 mail: {{ backends: [\"{address}\"], send_proxy_protocol: {send}, health: none }}\n"
        )
    };
    let balancer = Balancer::start(&with("none")).ready();
    let mut before = connect_from(own_address(), balancer.at(25)).unwrap();
    before.write_all(b"plain").unwrap();
    let held = accept(&server);
    assert_eq!(read(&held, 5), b"plain");
    balancer.reloaded(&with("v1"));
    let after = connect_from(own_address(), balancer.at(25)).unwrap();
    let header = v1_header(after.local_addr().unwrap(), balancer.at(25));
    assert_eq!(read(&accept(&server), header.len()), header);
    before.write_all(b"still plain").unwrap();
    assert_eq!(read(&held, 11), b"still plain");
}
