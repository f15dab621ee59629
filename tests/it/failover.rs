//! Failover from the view of clients: servers die, fail partly, hang and return.

mod administration;
mod local;
mod pools;
mod returns;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::front_ends::{FrontEnds, WebClient, http};
use crate::support::nginx::{Nginx, NginxServer};
use crate::support::peers::{assert_reset, connect_from, request};
use crate::support::{eventually, own_address};

/// A client with its own address, an open connection, and the server of that connection.
struct Client {
    source: IpAddr,
    held: WebClient,
    server: String,
}

/// `count` TLS clients, each with an open connection.
fn clients(front_ends: &FrontEnds, balancer: &Balancer, count: usize) -> Vec<Client> {
    let connect = |_| {
        let source = own_address();
        let mut held = front_ends.https(source, balancer.at(443)).unwrap();
        let server = held.server().unwrap();
        Client {
            source,
            held,
            server,
        }
    };
    (0..count).map(connect).collect()
}

/// Waits until the checks report this health for the backend in both pools.
fn wait_until(balancer: &Balancer, backend: &str, up: bool) {
    let backend = format!("backend=\"{backend}\"");
    eventually("the checks report this state", || {
        let ups = balancer.metric("lyncpin_backend_up", &[&backend]);
        (ups == if up { 2.0 } else { 0.0 }).then_some(())
    });
}

/// Waits until a new client is sent to this server.
fn assert_takes_new_clients(balancer: &Balancer, server: &str) {
    // The clients stay connected, so this server soon has the fewest connections.
    let mut held = Vec::new();
    eventually("the server gets a new client", || {
        let mut client = http(own_address(), balancer.at(80)).unwrap();
        let name = client.server().unwrap();
        held.push(client);
        (name == server).then_some(())
    });
}

#[test]
fn clients_of_a_killed_front_end_are_reset_move_at_once_and_stay_after_its_return() {
    let front_ends = FrontEnds::start(3);
    // Checks every 5 s: the test ends before they detect anything.
    let balancer = Balancer::start(&front_ends.short_form()).ready();
    eventually("all are up", || {
        (balancer.metric("lyncpin_backend_up", &[]) == 6.0).then_some(())
    });
    let all = clients(&front_ends, &balancer, 9);
    let killed = all[0].server.clone();
    let (victims, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|client| client.server == killed);
    assert_eq!(victims.len(), 3, "least connections over three servers");
    front_ends.named(&killed).stop();
    let mut moved = Vec::new();
    for mut victim in victims {
        victim.held.assert_reset();
        let begun = Instant::now();
        let mut held = front_ends.https(victim.source, balancer.at(443)).unwrap();
        let server = held.server().unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        assert_ne!(server, killed);
        // The other ports route to the same server.
        let mut clear = http(victim.source, balancer.at(80)).unwrap();
        assert_eq!(clear.server().unwrap(), server);
        moved.push(Client {
            source: victim.source,
            held,
            server,
        });
    }
    balancer.ended("backend_reset");
    front_ends.named(&killed).restart().unwrap();
    for client in others.into_iter().chain(moved) {
        let mut held = client.held;
        assert_eq!(
            held.server().unwrap(),
            client.server,
            "open connections are not affected"
        );
        let mut again = front_ends.https(client.source, balancer.at(443)).unwrap();
        assert_eq!(again.server().unwrap(), client.server);
    }
    assert_takes_new_clients(&balancer, &killed);
    let broken = ["reason=\"refused\"", "group=\"external-web\""];
    assert_eq!(
        balancer.metric("lyncpin_affinity_pins_broken_total", &broken),
        3.0
    );
}

#[test]
fn a_flapping_sip_port_moves_only_clients_that_connect_while_it_is_down() {
    let front_ends = FrontEnds::start(3);
    let balancer = Balancer::start(&front_ends.expanded()).ready();
    for number in 1..=3 {
        wait_until(&balancer, &format!("fe0{number}"), true);
    }
    let all = clients(&front_ends, &balancer, 12);
    let flapping = all[0].server.clone();
    let (mut victims, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|client| client.server == flapping);
    assert_eq!(victims.len(), 4);
    // Partly failed: the web service still responds.
    front_ends.named(&flapping).close_sip();
    wait_until(&balancer, &flapping, false);
    for victim in &mut victims {
        victim.held.assert_reset();
    }
    balancer.ended("backend_down");
    let reconnected: Vec<(IpAddr, String)> = victims[..2]
        .iter()
        .map(|client| {
            let mut clear = http(client.source, balancer.at(8080)).unwrap();
            let server = clear.server().unwrap();
            assert_ne!(server, flapping);
            (client.source, server)
        })
        .collect();
    front_ends.named(&flapping).open_sip().unwrap();
    wait_until(&balancer, &flapping, true);
    let others = others.into_iter().map(|client| {
        let mut held = client.held;
        assert_eq!(
            held.server().unwrap(),
            client.server,
            "open connections are not affected"
        );
        (client.source, client.server)
    });
    let not_reconnected = victims[2..]
        .iter()
        .map(|client| (client.source, flapping.clone()));
    for (source, server) in reconnected.into_iter().chain(not_reconnected).chain(others) {
        for port in [443, 4443] {
            let mut client = front_ends.https(source, balancer.at(port)).unwrap();
            assert_eq!(client.server().unwrap(), server, "{source} {port}");
        }
        for port in [80, 8080] {
            let mut client = http(source, balancer.at(port)).unwrap();
            assert_eq!(client.server().unwrap(), server, "{source} {port}");
        }
    }
    assert_eq!(
        balancer.metric("lyncpin_affinity_pins_broken_total", &["reason=\"down\""]),
        2.0
    );
    assert_eq!(
        balancer.metric("lyncpin_affinity_pins_broken_total", &[]),
        2.0
    );
    assert_takes_new_clients(&balancer, &flapping);
}

#[test]
fn connections_of_a_partly_failed_front_end_are_kept_with_on_down_keep() {
    let front_ends = FrontEnds::start(2);
    let yaml = front_ends
        .expanded()
        .replace("on_down: close", "on_down: keep");
    let balancer = Balancer::start(&yaml).ready();
    wait_until(&balancer, "fe01", true);
    wait_until(&balancer, "fe02", true);
    let mut client = clients(&front_ends, &balancer, 1).remove(0);
    front_ends.named(&client.server).close_sip();
    wait_until(&balancer, &client.server, false);
    assert_eq!(client.held.server().unwrap(), client.server);
    let mut again = front_ends.https(client.source, balancer.at(443)).unwrap();
    assert_ne!(again.server().unwrap(), client.server);
    assert_eq!(client.held.server().unwrap(), client.server);
    assert!(
        balancer
            .access()
            .iter()
            .all(|line| line["outcome"] != "backend_down")
    );
}

#[test]
fn connections_are_kept_if_no_other_front_end_is_available() {
    let front_ends = FrontEnds::start(2);
    let balancer = Balancer::start(&front_ends.expanded()).ready();
    wait_until(&balancer, "fe01", true);
    wait_until(&balancer, "fe02", true);
    let mut all = clients(&front_ends, &balancer, 2);
    let (mut first, mut last) = (all.remove(0), all.remove(0));
    assert_ne!(first.server, last.server);
    front_ends.named(&first.server).close_sip();
    first.held.assert_reset();
    front_ends.named(&last.server).close_sip();
    wait_until(&balancer, &last.server, false);
    assert_eq!(last.held.server().unwrap(), last.server);
}

#[test]
fn a_long_poll_is_reset_when_its_server_dies() {
    let front_ends = FrontEnds::start(2);
    let balancer = Balancer::start(&front_ends.short_form()).ready();
    let mut client = clients(&front_ends, &balancer, 1).remove(0);
    let post = "POST /ucwa/oauth/v1/applications HTTP/1.1\r\nHost: lyncweb.contoso.test\r\nContent-Length: 0\r\n\r\n";
    let created = exchange(&mut client.held, post);
    let events = created.split("\"events\":{\"href\":\"").nth(1).unwrap();
    let events = events.split('"').next().unwrap();
    write!(
        client.held,
        "GET {events} HTTP/1.1\r\nHost: lyncweb.contoso.test\r\n\r\n"
    )
    .unwrap();
    let server = front_ends.named(&client.server);
    eventually("the long poll is pending", || {
        (server.waiting_polls() == 1).then_some(())
    });
    server.stop();
    client.held.assert_reset();
}

/// Sends a request and reads the JSON response.
fn exchange(client: &mut WebClient, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    while !response.ends_with('}') {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer).unwrap();
        assert!(read > 0, "{response}");
        response += std::str::from_utf8(&buffer[..read]).unwrap();
    }
    response
}

#[test]
fn clients_of_a_server_that_hangs_move_to_another() {
    let start = |body| {
        Nginx::start(&NginxServer {
            protocols: &[],
            body,
            ..NginxServer::default()
        })
    };
    let servers = [("one.", start("one.")), ("two.", start("two."))];
    let name = "hang.contoso.test";
    let balancer = Balancer::start(&format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [{name}], pool: web }}] }} }}\n\
         pools:\n  web:\n    backends: [{{ name: one., address: \"{}\" }}, {{ name: two., address: \"{}\" }}]\n    \
         health: {{ interval: 200ms, timeout: 200ms, checks: [{{ http: {{ path: /, status: [200] }} }}] }}",
        servers[0].1.address, servers[1].1.address
    ))
    .ready();
    let is_up = |server: &str, up: f64| {
        let backend = format!("backend=\"{server}\"");
        eventually("the checks report this state", || {
            (balancer.metric("lyncpin_backend_up", &[&backend]) == up).then_some(())
        });
    };
    is_up("one.", 1.0);
    is_up("two.", 1.0);
    let source = own_address();
    let connect_and_ask = |to: SocketAddr| -> (TcpStream, String) {
        let mut client = connect_from(source, to).unwrap();
        client.write_all(&request(name)).unwrap();
        let mut response = String::new();
        while !response.ends_with("one.") && !response.ends_with("two.") {
            let mut buffer = [0; 4096];
            let read = client.read(&mut buffer).unwrap();
            assert!(read > 0, "{response}");
            response += std::str::from_utf8(&buffer[..read]).unwrap();
        }
        let server = response.split_off(response.len() - 4);
        (client, server)
    };
    let (held, first) = connect_and_ask(balancer.at(80));
    let frozen = &servers.iter().find(|(body, _)| *body == first).unwrap().1;
    // Its kernel still accepts connections, but it sends nothing.
    frozen.signal(Signal::STOP);
    assert_reset(&held);
    balancer.ended("backend_down");
    let (_held, second) = connect_and_ask(balancer.at(80));
    assert_ne!(second, first);
    frozen.signal(Signal::CONT);
    is_up(&first, 1.0);
    assert_eq!(connect_and_ask(balancer.at(80)).1, second);
}
