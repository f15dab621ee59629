//! Listening sockets over a reload: sockets that are kept, added, removed, or moved to another listener.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use super::{WEB, routed, server};
use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect, is_alive, request};
use crate::support::{at, eventually, own_address};

/// Listeners by name, port, protocol (`http` by the name `www.test`, or `tcp`) and pool.
fn listeners(all: &[(&str, u16, &str, &str)], backends: &[Backend]) -> String {
    let mut yaml = String::from("listeners:\n");
    for (name, port, protocol, pool) in all {
        let routing = match *protocol {
            "tcp" => format!("pool: {pool}"),
            _ => format!("routes: [{{ names: [www.test], pool: {pool} }}]"),
        };
        yaml +=
            &format!("  {name}: {{ bind: [\"HOST:{port}\"], protocol: {protocol}, {routing} }}\n");
    }
    let pools = routed("a", backends);
    yaml + &pools[pools.find("pools:").unwrap()..]
}

/// The name of the server behind a port, for a client whose request both protocols accept.
fn server_at(to: SocketAddr) -> String {
    ask(&connect(to).unwrap(), &request("www.test")).unwrap()
}

fn refuses(to: SocketAddr) {
    eventually("the port refuses", || {
        let refused = TcpStream::connect(to).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

/// Inodes of the sockets that listen on this address (proc_net(5)).
fn sockets_at(to: SocketAddr) -> Vec<String> {
    let std::net::IpAddr::V4(ip) = to.ip() else {
        panic!("tests have IPv4 addresses");
    };
    let wanted = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    // State 0A is LISTEN.
    let listening = rows.filter(|row| row[1] == wanted && row[3] == "0A");
    let mut inodes: Vec<String> = listening.map(|row| row[9].to_owned()).collect();
    inodes.sort();
    inodes
}

#[test]
fn a_new_listener_serves_and_a_removed_one_refuses_while_its_connections_live() {
    let backends = Backend::several(2);
    let one = [("one", 81, "http", "a")];
    let two = [("two", 82, "tcp", "b")];
    let balancer = Balancer::start(&listeners(&one, &backends)).ready();
    let held = connect(balancer.at(81)).unwrap();
    assert_eq!(ask(&held, &request("www.test")).unwrap(), "a");
    refuses(balancer.at(82));
    balancer.reloaded(&listeners(&two, &backends));
    assert_eq!(server_at(balancer.at(82)), "b");
    refuses(balancer.at(81));
    assert!(is_alive(&held));
    assert_eq!(sockets_at(balancer.at(81)), [""; 0]);
    let status = balancer.status();
    assert_eq!(status["listeners"][0]["name"], "two");
    assert_eq!(
        status["listeners"][0]["bind"][0],
        balancer.at(82).to_string()
    );
    balancer.reloaded(&listeners(&one, &backends));
    assert_eq!(server_at(balancer.at(81)), "a");
    assert!(is_alive(&held));
}

#[test]
fn clients_in_the_accept_queue_of_a_removed_address_are_served() {
    let backends = Backend::several(2);
    let one = [("web", WEB, "http", "b"), ("one", 81, "http", "a")];
    let balancer = Balancer::start(&listeners(&one, &backends)).ready();
    assert_eq!(server_at(balancer.at(81)), "a");
    balancer.write(&listeners(&one[..1], &backends));
    balancer.signal(Signal::STOP);
    let queued: Vec<_> = (0..40).map(|_| connect(balancer.at(81)).unwrap()).collect();
    balancer.signal(Signal::HUP);
    balancer.signal(Signal::CONT);
    for stream in &queued {
        assert_eq!(ask(stream, &request("www.test")).unwrap(), "a");
    }
    refuses(balancer.at(81));
    assert!(queued.iter().all(is_alive));
    assert_eq!(server(&balancer), "b");
}

#[test]
fn an_address_keeps_its_sockets_with_another_name_another_protocol_and_after_a_swap() {
    let backends = Backend::several(2);
    let before = [("one", 81, "http", "a"), ("two", 82, "tcp", "b")];
    let balancer = Balancer::start(&listeners(&before, &backends)).ready();
    let sockets = [sockets_at(balancer.at(81)), sockets_at(balancer.at(82))];
    assert!(sockets.iter().all(|sockets| !sockets.is_empty()));
    let served = || [server_at(balancer.at(81)), server_at(balancer.at(82))];
    assert_eq!(served(), ["a", "b"]);
    for (next, wanted) in [
        (
            [("one", 82, "http", "a"), ("two", 81, "tcp", "b")],
            ["b", "a"],
        ),
        (
            [("three", 82, "http", "b"), ("four", 81, "tcp", "a")],
            ["a", "b"],
        ),
        (
            [("three", 82, "tcp", "b"), ("four", 81, "http", "a")],
            ["a", "b"],
        ),
    ] {
        balancer.reloaded(&listeners(&next, &backends));
        assert_eq!(served(), wanted);
        let now = [sockets_at(balancer.at(81)), sockets_at(balancer.at(82))];
        assert_eq!(now, sockets);
    }
}

#[test]
fn every_address_that_cannot_be_bound_is_reported_and_nothing_changes() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    let taken = [81, 82].map(|port| TcpListener::bind(balancer.at(port)).unwrap());
    let next = [
        ("web", WEB, "http", "b"),
        ("one", 81, "http", "b"),
        ("two", 82, "http", "b"),
        ("three", 83, "http", "b"),
    ];
    let answer = balancer.reload(&listeners(&next, &backends));
    assert_eq!(answer.status, 422, "{}", answer.body);
    for port in [81, 82] {
        let error = format!("cannot bind {}", balancer.at(port));
        assert!(answer.body.contains(&error), "{}", answer.body);
    }
    assert_eq!(server(&balancer), "a");
    assert_eq!(sockets_at(balancer.at(83)), [""; 0]);
    drop(taken);
    balancer.reloaded(&listeners(&next, &backends));
    for port in [WEB, 81, 82, 83] {
        assert_eq!(server_at(balancer.at(port)), "b");
    }
}

/// The probe for a second instance would find this one.
#[test]
fn an_address_changes_to_all_addresses_and_back() {
    const PORT: u16 = 18_431;
    let backends = Backend::several(2);
    let bound = |host: &str, pool: &str| {
        let yaml = listeners(&[("one", PORT, "tcp", pool)], &backends);
        yaml.replace("bind: [\"HOST:", &format!("bind: [\"{host}:"))
    };
    let balancer = Balancer::start(&bound("HOST", "a")).ready();
    assert_eq!(server_at(balancer.at(PORT)), "a");
    balancer.reloaded(&bound("0.0.0.0", "b"));
    assert_eq!(server_at(balancer.at(PORT)), "b");
    assert_eq!(server_at(at(own_address(), PORT)), "b");
    balancer.reloaded(&bound("HOST", "a"));
    assert_eq!(server_at(balancer.at(PORT)), "a");
    refuses(at(own_address(), PORT));
}

#[test]
fn a_port_without_a_pool_that_can_serve_closes_and_opens_with_the_next_reload() {
    let backends = Backend::several(1);
    let unresolvable = "listeners: { web: { bind: [\"HOST:80\"], protocol: http, routes: [{ names: [www.test], pool: none }] } }\n\
                  pools: { none: { backends: [\"nobody.invalid:80\"] } }\n";
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    assert_eq!(server(&balancer), "a");
    balancer.reloaded(unresolvable);
    refuses(balancer.at(WEB));
    balancer.reloaded(&routed("a", &backends));
    assert_eq!(server(&balancer), "a");
}
