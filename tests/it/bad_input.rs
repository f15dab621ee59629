//! Clients that send invalid data: each connection ends in time, is logged with its own outcome, and does not affect
//! other clients.

mod case;
mod plain;
mod tls;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::peers::{connect_from, raise_descriptors, reset};
use crate::support::raw::{
    How, Neighbour, SERVED, all_ended, connect, counted, echo, echoed, hear, line_of, served_hello,
};
use crate::support::{eventually, own_address};
use case::Case;

const TLS: u16 = 443;
const HTTP: u16 = 80;
const TCP: u16 = 1000;
/// The value of `timeouts.client_hello`.
const HELLO: Duration = Duration::from_secs(3);

fn start() -> Balancer {
    raise_descriptors();
    Balancer::start(&format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}], no_name: refuse }}
  http: {{ bind: ["HOST:{HTTP}"], protocol: http, routes: [{{ names: [{SERVED}], pool: web }}] }}
  tcp: {{ bind: ["HOST:{TCP}"], protocol: tcp, pool: web }}
pools: {{ web: {{ backends: ["{}"] }} }}
timeouts: {{ client_hello: {}ms, half_close: 5s }}
"#,
        echo(),
        HELLO.as_millis()
    ))
    .ready()
}

#[test]
fn each_invalid_client_ends_in_time_with_its_own_outcome_and_does_not_affect_others() {
    let balancer = start();
    let neighbour = Neighbour::start(balancer.at(TLS));
    let cases: Vec<Case> = tls::cases().into_iter().chain(plain::cases()).collect();
    let mut outcomes: Vec<&str> = cases.iter().map(|case| case.outcome).collect();
    std::thread::scope(|scope| {
        for case in cases {
            let balancer = &balancer;
            scope.spawn(move || {
                let source = own_address();
                let client = connect_from(source, balancer.at(case.port)).unwrap();
                let received = (case.act)(client);
                if let (Some(received), Some(expected)) = (&received, case.response) {
                    received.must_be(expected, case.name);
                }
                let line = line_of(balancer, source);
                assert_eq!(line["outcome"], case.outcome, "{}: {line}", case.name);
                let took = line["duration_ms"].as_f64().unwrap();
                assert!(took < 10_000.0, "{}: {line}", case.name);
            });
        }
    });
    let exchanges = neighbour.noticed_nothing();
    all_ended(&balancer);
    outcomes.retain(|outcome| *outcome != "client_closed");
    for outcome in outcomes.clone() {
        let count = outcomes.iter().filter(|other| **other == outcome).count();
        let count = f64::from(u32::try_from(count).unwrap());
        counted(
            &balancer,
            "lyncpin_connections_total",
            &[&format!("outcome=\"{outcome}\"")],
            count,
        );
    }
    assert!(exchanges > 5, "{exchanges}");
}

#[test]
fn the_time_limit_of_a_hello_runs_from_accept_and_is_not_extended_by_more_bytes() {
    let balancer = start();
    let mut client = connect(balancer.at(TLS));
    let started = std::time::Instant::now();
    let hello = served_hello();
    for byte in &hello[..100] {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(hear(&client).how, How::Open);
    let line = balancer.ended("hello_timeout");
    let took = Duration::from_secs_f64(line["duration_ms"].as_f64().unwrap() / 1000.0);
    assert!(
        took >= HELLO && took < HELLO + Duration::from_secs(4),
        "{line}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// Opens and resets `count` connections on each port, with one thread for each port.
fn reset_storm(balancer: &Balancer, count: usize) {
    std::thread::scope(|scope| {
        for (port, first) in [
            (TLS, served_hello()),
            (HTTP, b"GET / HT".to_vec()),
            (TCP, vec![1]),
        ] {
            scope.spawn(move || {
                for number in 0..count {
                    let mut client = connect(balancer.at(port));
                    if number % 2 == 1 {
                        client.write_all(&first).unwrap();
                    }
                    reset(client);
                }
            });
        }
    });
}

/// Opens `count` connections that send their hello too slowly.
fn slow_clients(to: SocketAddr, count: usize) {
    let hello = served_hello();
    let mut clients: Vec<TcpStream> = (0..count).map(|_| connect(to)).collect();
    for byte in &hello[..6] {
        for client in &mut clients {
            // The balancer may have closed the first clients already.
            let _ = client.write_all(&[*byte]);
        }
        std::thread::sleep(HELLO / 8);
    }
    for client in &clients {
        assert_ne!(hear(client).how, How::Open);
    }
}

#[test]
fn many_resets_and_slow_clients_leak_no_memory_descriptors_or_counts() {
    const RESETS: usize = 1_000;
    const SLOW: usize = 500;
    let balancer = start();
    let sockets = |balancer: &Balancer| balancer.descriptors().remove("socket").unwrap_or(0);
    all_ended(&balancer);
    let before = sockets(&balancer);
    let neighbour = Neighbour::start(balancer.at(TLS));
    let mut resident = Vec::new();
    for round in 1..=3 {
        std::thread::scope(|scope| {
            scope.spawn(|| reset_storm(&balancer, RESETS));
            scope.spawn(|| slow_clients(balancer.at(TLS), SLOW));
        });
        let timed_out = f64::from(u32::try_from(SLOW * round).unwrap());
        counted(
            &balancer,
            "lyncpin_connections_total",
            &["outcome=\"hello_timeout\""],
            timed_out,
        );
        resident.push(balancer.resident_kib());
    }
    neighbour.noticed_nothing();
    all_ended(&balancer);
    eventually("the sockets are closed", || {
        (sockets(&balancer) <= before).then_some(())
    });
    let (first, last) = (resident[0], resident[2]);
    assert!(
        last < first + 6 * 1024,
        "resident KiB after each round: {resident:?}"
    );
    // Every connection has a log line and a count, even the shortest.
    let total = balancer.metric("lyncpin_connections_total", &[]);
    eventually("a log line for each connection", || {
        (balancer.access().len() as f64 == total).then_some(())
    });
    assert!(total >= (3 * (3 * RESETS + SLOW)) as f64, "{total}");
    assert_eq!(
        balancer.metric("lyncpin_connections_total", &["internal_error"]),
        0.0
    );
}

#[test]
fn a_request_with_a_long_body_is_forwarded_completely() {
    let balancer = start();
    let head = format!("POST / HTTP/1.1\r\nHost: {SERVED}\r\nContent-Length: 500000\r\n\r\n");
    let whole = [head.into_bytes(), vec![b'b'; 500_000]].concat();
    let client = connect(balancer.at(HTTP));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (&client).write_all(&whole).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let response = hear(&client);
        assert_eq!(response.how, How::Closed);
        assert!(response.bytes == whole);
        writer.join().unwrap();
    });
    echoed(&connect(balancer.at(TCP)), b"still here").unwrap();
}
