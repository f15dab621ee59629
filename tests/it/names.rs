//! Names as clients send them, with what stands around them, through a balancer and in what it explains.

use std::io::{Read as _, Write as _};

use crate::support::balancer::Balancer;
use crate::support::hello_builder::HelloBuilder;
use crate::support::own_address;
use crate::support::peers::{Backend, connect_from};
use crate::support::raw::line_of;

const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// Names of the routes lead to `web`, others to `other`.
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

/// The pool of a client that says this, or the outcome of its refusal.
fn pool_of(balancer: &Balancer, port: u16, says: &[u8]) -> String {
    let source = own_address();
    let client = connect_from(source, balancer.at(port)).unwrap();
    let mut writer = &client;
    writer.write_all(says).unwrap();
    // Whoever is served gets a word of the backend; whoever is refused hears the end.
    let mut heard = [0; 1];
    let _ = (&client).read(&mut heard);
    drop(client);
    let line = line_of(balancer, source);
    let word = line["pool"].as_str().or(line["outcome"].as_str());
    word.unwrap().to_owned()
}

/// What `explain` says of a client that asks for this.
fn explained(balancer: &Balancer, listener: &str, name: &str) -> String {
    let asked = ["--listener", listener, "--source", "192.0.2.7", "--json"];
    let named = [&["explain", "--name", name][..], &asked].concat();
    let said = balancer.said(&named);
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let word = answer["pool"].as_str().or(answer["refused"].as_str());
    word.unwrap().to_owned()
}

#[test]
fn a_port_and_a_dot_behind_a_name_do_not_count_in_sni_and_in_host() {
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
        // In a Host field these are against its grammar (RFC 9112, section 3.2).
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
fn what_no_host_name_is_has_its_reason_in_the_log_where_no_pool_takes_it() {
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
    let told = balancer.ended("unknown_name");
    assert_eq!(
        told["detail"],
        "the client requested an IP address or an invalid host name"
    );
}
