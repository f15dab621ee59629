//! Peers that vanish silently are detected; peers that still acknowledge are kept, however long they read nothing.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::balancer::Balancer;
use crate::support::network::{Far, in_own_network};
use crate::support::pattern::{Pattern, read_sum};
use crate::support::peers::{close_write, read_to_end};
use crate::support::{PATIENCE, at, eventually, own_address};

/// `tcp_user` of the balancer.
const TCP_USER: Duration = Duration::from_secs(2);
/// Much longer than `tcp_user`.
const LONG: Duration = Duration::from_secs(8);
/// Most additional time before a vanished peer is detected, on a busy machine.
const MARGIN: Duration = Duration::from_secs(25);

fn start(bind: &[SocketAddr], server: SocketAddr) -> Balancer {
    let bind: Vec<String> = bind.iter().map(|bind| format!("\"{bind}\"")).collect();
    Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [{}], protocol: tcp, pool: one }} }}\n\
         pools: {{ one: {{ backends: [\"{server}\"], health: none, affinity: none }} }}\n\
         timeouts: {{ tcp_user: 2s, tcp_keepalive: 2s }}\nworkers: 2",
        bind.join(", ")
    ))
}

/// Writes until every buffer on the path is full.
fn fill(mut stream: &TcpStream) {
    let short = Some(Duration::from_millis(500));
    stream.set_write_timeout(short).unwrap();
    let bytes = vec![7; 1 << 20];
    loop {
        match stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (&stream).write_all(b"?").unwrap();
    stream
}

fn accept(server: &TcpListener) -> TcpStream {
    let (stream, _) = server.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Read::read_exact(&mut &stream, &mut [0]).unwrap();
    stream
}

/// Asserts that `count` connections end with `outcome` soon after the peers vanished.
fn assert_detected(balancer: &Balancer, outcome: &str, count: usize, vanished: Instant) {
    let ended = || {
        let lines = balancer.access();
        let lines = lines.iter().filter(|line| line["outcome"] == outcome);
        lines.count()
    };
    eventually("all are detected", || (ended() == count).then_some(()));
    let took = vanished.elapsed();
    assert!(took < TCP_USER + MARGIN, "after {took:?}");
    assert_eq!(balancer.access().len(), count);
}

fn active(balancer: &Balancer) -> f64 {
    balancer.metric("lyncpin_connections_active", &[])
}

/// Connections with one end in another network namespace, which vanishes.
fn vanishing(outcome: &str, far_is_client: bool, cut: bool) {
    let far = Far::start();
    let (near_address, far_address) = (far.near, far.far);
    let listen_at = |addresses: [IpAddr; 2]| {
        addresses.map(|address| TcpListener::bind(at(address, 7000)).unwrap())
    };
    let own = own_address();
    for family in 0..2 {
        let server = if far_is_client {
            TcpListener::bind((own, 7000 + family)).unwrap()
        } else {
            let [first, second] = far.there(|| listen_at(far_address));
            if family == 0 { first } else { second }
        };
        let index = usize::from(family);
        let to = if far_is_client {
            at(near_address[index], 5000)
        } else {
            at(own, 5000)
        };
        let balancer = start(&[to], server.local_addr().unwrap());
        // The near end and the far one.
        let pair = || {
            let client = if far_is_client {
                far.there(|| connect(to))
            } else {
                connect(to)
            };
            let backend = accept(&server);
            if far_is_client {
                (backend, client)
            } else {
                (client, backend)
            }
        };
        let idle = pair();
        let paused = pair();
        fill(&paused.0);
        let paused_half_closed = pair();
        close_write(&paused_half_closed.1);
        fill(&paused_half_closed.0);
        let paused_both_ways = pair();
        fill(&paused_both_ways.0);
        fill(&paused_both_ways.1);
        let busy = pair();
        // No peer may be declared lost during this time.
        std::thread::sleep(LONG);
        assert!(balancer.access().is_empty(), "{:?}", balancer.access());
        assert_eq!(active(&balancer), 5.0);
        if cut {
            far.cut();
        } else {
            far.vanish();
        }
        let vanished = Instant::now();
        (&busy.0).write_all(b"are you there?").unwrap();
        assert_detected(&balancer, outcome, 5, vanished);
        drop((idle, paused, paused_half_closed, paused_both_ways, busy));
        if cut {
            return;
        }
        far.come_back();
    }
}

#[test]
fn vanished_clients_are_detected_and_clients_that_read_nothing_are_kept() {
    in_own_network(
        "vanished::vanished_clients_are_detected_and_clients_that_read_nothing_are_kept",
        || vanishing("client_lost", true, false),
    );
}

#[test]
fn vanished_backends_are_detected_and_backends_that_read_nothing_are_kept() {
    in_own_network(
        "vanished::vanished_backends_are_detected_and_backends_that_read_nothing_are_kept",
        || vanishing("backend_lost", false, false),
    );
}

#[test]
fn clients_behind_a_link_that_goes_down_are_detected() {
    in_own_network(
        "vanished::clients_behind_a_link_that_goes_down_are_detected",
        || vanishing("client_lost", true, true),
    );
}

/// A stream in each direction whose reader pauses for longer than `tcp_user`, with the smallest receive window.
#[test]
fn a_reader_that_pauses_for_longer_than_tcp_user_receives_every_byte() {
    let server = TcpListener::bind((own_address(), 7000)).unwrap();
    let to = at(own_address(), 5000);
    let balancer = start(&[to], server.local_addr().unwrap());
    let pattern = |seed| Pattern {
        seed,
        length: 24 << 20,
    };
    std::thread::scope(|threads| {
        for seed in 0..6 {
            let client = connect(to);
            let backend = accept(&server);
            let (from, reader) = if seed % 2 == 0 {
                (backend, client)
            } else {
                (client, backend)
            };
            if seed >= 2 {
                SockRef::from(&reader)
                    .set_recv_buffer_size(64 * 1024)
                    .unwrap();
            }
            if seed >= 4 {
                close_write(&reader);
            }
            let pattern = pattern(seed);
            threads.spawn(move || {
                pattern.write(&from, 1 << 20).unwrap();
                close_write(&from);
                assert_eq!(read_to_end(&from).unwrap(), 0);
            });
            threads.spawn(move || {
                // The stream must survive this pause.
                std::thread::sleep(LONG);
                assert_eq!(read_sum(&reader, 1 << 20).unwrap(), pattern.sum());
                let _ = reader.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    eventually("all connections have ended in order", || {
        let lines = balancer.access();
        let in_order = |line: &&serde_json::Value| {
            let outcome = line["outcome"].as_str().unwrap_or_default();
            matches!(outcome, "client_closed" | "backend_closed")
        };
        (lines.iter().filter(in_order).count() == 6).then_some(())
    });
}

#[test]
fn the_idle_timeout_ends_a_stalled_reader_if_shorter_or_longer_than_tcp_user() {
    for (idle, user) in [("1s", "60s"), ("4s", "1s")] {
        let server = TcpListener::bind((own_address(), 7000)).unwrap();
        let address = server.local_addr().unwrap();
        let balancer = Balancer::start(&format!(
            "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: one }} }}\n\
             pools: {{ one: {{ backends: [\"{address}\"], health: none }} }}\n\
             timeouts: {{ idle: {idle}, tcp_user: {user}, tcp_keepalive: 1s }}"
        ));
        let client = connect(balancer.at(5000));
        let backend = accept(&server);
        // Writes until no byte moves and the balancer ends the connection.
        let bytes = vec![7; 1 << 20];
        backend.set_write_timeout(Some(PATIENCE)).unwrap();
        while (&backend).write(&bytes).is_ok() {}
        balancer.ended("idle_timeout");
        drop(client);
    }
}
