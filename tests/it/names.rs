//! Names in SNI and Host as clients send them, with ports, final dots and errors: routing, and the same result by `explain`.

use std::io::{Read as _, Write as _};

use crate::support::balancer::Balancer;
use crate::support::hello_builder::HelloBuilder;
use crate::support::own_address;
use crate::support::peers::{Backend, connect_from};
use crate::support::raw::line_of;

const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// Names that match a route go to pool `web`, others to `other`.
fn start(web: &Backend, other: &Backend) -> Balancer {
    let routes = "routes: [{ names: [served.test, \"*.apps.test\", fe_01.test], pool: web }], unknown_name: other";
    Balancer::start(&format!(
        "listeners:\n\
         \x20 https: {{ bind: [\"HOST:{HTTPS}\"], protocol: tls, {routes} }}\n\
         \x20 http: {{ bind: [\"HOST:{HTTP}\"], protocol: http, {routes} }}\n\
         pools:\n\
         \x20 web: {{ backends: [\"{}\"], health: none }}\n\
         \x20 other: {{ backends: [\"{}\"], health: none }}\n",
        web.address, other.address
    ))
    .ready()
}

/// The pool of a client that sends these bytes, or the outcome of its rejection.
fn pool_of(balancer: &Balancer, port: u16, bytes: &[u8]) -> String {
    let source = own_address();
    let client = connect_from(source, balancer.at(port)).unwrap();
    let mut writer = &client;
    writer.write_all(bytes).unwrap();
    // A served client receives a byte from the backend, a rejected one the end of the connection.
    let mut received = [0; 1];
    let _ = (&client).read(&mut received);
    drop(client);
    let line = line_of(balancer, source);
    let result = line["pool"].as_str().or(line["outcome"].as_str());
    result.unwrap().to_owned()
}

/// The pool of a client that requests this name according to `explain`, or the reason of its rejection.
fn explained(balancer: &Balancer, listener: &str, name: &str) -> String {
    let options = ["--listener", listener, "--source", "192.0.2.7", "--json"];
    let arguments = [&["explain", "--name", name][..], &options].concat();
    let output = balancer.said(&arguments);
    let explained: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    let result = explained["pool"].as_str().or(explained["refused"].as_str());
    result.unwrap().to_owned()
}

#[test]
fn a_port_and_a_final_dot_are_ignored_in_sni_and_host() {
    let (web, other) = (Backend::start("a"), Backend::start("b"));
    let balancer = start(&web, &other);
    for (name, sni, host) in [
        ("served.test:443", "web", "web"),
        ("Served.Test.:8443", "web", "web"),
        ("served.test:", "web", "web"),
        ("x.apps.test:4443", "web", "web"),
        ("fe_01.test:443", "web", "web"),
        ("unknown.test:443", "other", "other"),
        ("192.0.2.1:443", "other", "other"),
        ("[2001:db8::1]:443", "other", "other"),
        ("*.apps.test", "other", "other"),
        // The grammar of the Host field forbids these (RFC 9112, section 3.2).
        ("served.test:65536", "other", "malformed"),
        ("served.test:443:443", "other", "malformed"),
        ("https://served.test", "other", "malformed"),
        ("served test", "other", "malformed"),
        ("b\u{fc}cher.test", "other", "malformed"),
        ("served..test:443", "malformed", "malformed"),
        (":443", "malformed", "malformed"),
    ] {
        let hello = HelloBuilder::named(name).build();
        assert_eq!(pool_of(&balancer, HTTPS, &hello), sni, "SNI {name}");
        assert_eq!(explained(&balancer, "https", name), sni, "SNI {name}");
        let head = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        assert_eq!(
            pool_of(&balancer, HTTP, head.as_bytes()),
            host,
            "Host {name}"
        );
    }
}

#[test]
fn a_rejected_request_for_an_invalid_host_name_is_logged_with_its_reason() {
    let (web, other) = (Backend::start("a"), Backend::start("b"));
    let balancer = start(&web, &other);
    let yaml = std::fs::read_to_string(balancer.file()).unwrap();
    balancer.write_raw(&yaml.replace("unknown_name: other", "unknown_name: refuse"));
    let reloaded = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    for name in ["192.0.2.1:443", "*.apps.test"] {
        let hello = HelloBuilder::named(name).build();
        assert_eq!(pool_of(&balancer, HTTPS, &hello), "unknown_name");
    }
    let line = balancer.ended("unknown_name");
    assert_eq!(
        line["detail"],
        "the client requested an IP address or an invalid host name"
    );
}
