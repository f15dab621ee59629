//! Twenty upgrades in a row under load, including one program that fails and one invalid configuration.

use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::own_address;
use crate::support::peers::{Backend, ask, connect_from, entries, is_alive, raise_descriptors};

use super::Service;

const TCP: u16 = 5000;
const LONG: usize = 500;
const UPGRADES: usize = 20;
const CLIENTS: usize = 200;
const THREADS: usize = 4;
/// The interval of attempts; a busy machine may make fewer.
const EVERY: Duration = Duration::from_micros(2_000);

/// Connects repeatedly; each connection must be served, by the server that the client had before.
fn reconnect_repeatedly(
    service: &Service,
    clients: &[(IpAddr, String)],
    done: &AtomicBool,
    count: &AtomicUsize,
) {
    let begun = Instant::now();
    for (number, (client, server)) in (0u32..).zip(clients.iter().cycle()) {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let stream =
            connect_from(*client, service.balancer.at(TCP)).expect("every connection is accepted");
        let served = ask(&stream, b"?").expect("every request gets its response");
        assert_eq!(served, *server, "the pin of {client}");
        count.fetch_add(1, Ordering::Relaxed);
        let due = begun + EVERY * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn twenty_upgrades_under_load_lose_no_connection_and_no_pin() {
    raise_descriptors();
    let backends = Backend::several(3);
    let service = Service::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         workers: 2\npools:\n  web: {{ {}, affinity: {{ by: [source] }} }}",
        entries(&backends)
    ));
    let connect_client = |client: IpAddr| {
        let stream = connect_from(client, service.balancer.at(TCP)).unwrap();
        (ask(&stream, b"?").unwrap(), stream)
    };
    let long: Vec<(String, TcpStream)> = (0..LONG).map(|_| connect_client(own_address())).collect();
    let clients: Vec<(IpAddr, String)> = (0..CLIENTS)
        .map(|_| own_address())
        .map(|client| (client, connect_client(client).0))
        .collect();
    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let share = CLIENTS / THREADS;
        let threads: Vec<_> = clients
            .chunks(share)
            .map(|clients| scope.spawn(|| reconnect_repeatedly(&service, clients, &done, &count)))
            .collect();
        let ended = Ended(&done);
        for number in 0..UPGRADES {
            if number == 7 {
                service.put_script("#!/bin/sh\nexit 1\n");
                service.fails_to_upgrade();
                service.put_program();
            }
            if number == 13 {
                service.change_file(|text| text.replace("pool: web", "pool: wep"));
                service.fails_to_upgrade();
                service.change_file(|text| text.replace("pool: wep", "pool: web"));
            }
            service.upgrade();
        }
        drop(ended);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    for (_, stream) in &long {
        assert!(is_alive(stream));
    }
    for (client, server) in &clients {
        assert_eq!(connect_client(*client).0, *server);
    }
    assert!(count.into_inner() > UPGRADES);
}

/// Ends the load when dropped, also after a panic.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
