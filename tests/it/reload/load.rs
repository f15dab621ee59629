//! A hundred reloads under load: on listeners that stay configured, every connection reaches the right server.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::reloads;
use crate::support::balancer::Balancer;
use crate::support::own_address;
use crate::support::peers::{
    Backend, ask, connect_from, is_alive, raise_descriptors, request, reset,
};
use crate::support::raw::counted;

const RELOADS: usize = 100;
/// Attempted new connections a second; a busy machine may accept fewer.
const RATE: u32 = 2000;
/// Threads that open them.
const OFFERING: u32 = 4;
/// Connections that stay open through all reloads.
const LONG: usize = 500;

/// The permanent listeners, which swap their ports at every reload.
const NAMED: [u16; 2] = [80, 81];
/// A permanent listener without names, always routed to the pool `a`.
const PLAIN: u16 = 82;
/// A listener that exists in every second configuration.
const GUEST: u16 = 83;

/// The server that `moving.test` is routed to in the configuration of this number.
fn moving(number: usize) -> &'static str {
    ["a", "b"][number % 2]
}

/// `steady.test` is always routed to `a`; everything else changes each time.
fn yaml(number: usize, backends: &[Backend]) -> String {
    let [first, second] = if number.is_multiple_of(2) {
        NAMED
    } else {
        [NAMED[1], NAMED[0]]
    };
    let routes = format!(
        "[{{ names: [steady.test], pool: a }}, {{ names: [moving.test, extra{number}.test], pool: {} }}, \
         {{ names: [\"*.many.test\"], pool: pair{} }}]",
        moving(number),
        number % 3
    );
    let named = |name: &str, port: u16| {
        format!("  {name}: {{ bind: [\"HOST:{port}\"], protocol: http, routes: {routes} }}\n")
    };
    let mut yaml = format!(
        "listeners:\n{}{}",
        named("one", first),
        named("two", second)
    );
    yaml += &format!(
        "  plain{}: {{ bind: [\"HOST:{PLAIN}\"], protocol: tcp, pool: a }}\n",
        number % 4
    );
    if number.is_multiple_of(2) {
        yaml += &format!(
            "  guest: {{ bind: [\"HOST:{GUEST}\"], protocol: tcp, pool: pair{} }}\n",
            number % 3
        );
    }
    yaml += "pools:\n";
    for backend in &backends[..2] {
        yaml += &format!(
            "  {}: {{ backends: [{}] }}\n",
            backend.name,
            backend.entry()
        );
    }
    let weighted = |index: usize| {
        let Backend { name, address, .. } = &backends[index];
        let weight = 1 + (number + index) % 5;
        format!("{{ name: {name}, address: \"{address}\", weight: {weight} }}")
    };
    yaml += &format!(
        "  pair{}: {{ backends: [{}, {}], balance: round_robin, affinity: {{ ttl: {}s }} }}\n",
        number % 3,
        weighted(2),
        weighted(3),
        60 + number
    );
    yaml
}

/// The configurations that can be in force: from the last acknowledged one to the last one that has begun.
#[derive(Default)]
struct InForce {
    acknowledged: AtomicUsize,
    begun: AtomicUsize,
}

/// A kind of client of the permanent listeners.
#[derive(Clone, Copy)]
enum ClientKind {
    Steady,
    Moving,
    Many,
    Plain,
}

impl ClientKind {
    const ALL: [Self; 4] = [Self::Steady, Self::Moving, Self::Many, Self::Plain];

    fn port(self, number: usize) -> u16 {
        match self {
            Self::Plain => PLAIN,
            Self::Steady | Self::Moving | Self::Many => NAMED[number % 2],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Steady | Self::Plain => "steady.test",
            Self::Moving => "moving.test",
            Self::Many => "x.many.test",
        }
    }

    fn may_reach(self, server: &str, mut configurations: std::ops::RangeInclusive<usize>) -> bool {
        match self {
            Self::Steady | Self::Plain => server == "a",
            Self::Moving => configurations.any(|number| moving(number) == server),
            Self::Many => ["c", "d"].contains(&server),
        }
    }
}

/// Connects and sends a request; returns an error if the wrong server responds.
fn attempt(
    balancer: IpAddr,
    kind: ClientKind,
    number: usize,
    in_force: &InForce,
) -> Result<TcpStream, String> {
    let source = IpAddr::from([127, 10, 0, u8::try_from(1 + number % 200).unwrap()]);
    let first = in_force.acknowledged.load(Ordering::SeqCst);
    let to = (balancer, kind.port(number / 2)).into();
    let failed =
        |action: &str, error: io::Error| format!("{} at {to}: {action}: {error}", kind.name());
    let stream = connect_from(source, to).map_err(|error| failed("connect", error))?;
    let server = ask(&stream, &request(kind.name())).map_err(|error| failed("request", error))?;
    let last = in_force.begun.load(Ordering::SeqCst);
    if kind.may_reach(&server, first..=last) {
        Ok(stream)
    } else {
        Err(format!(
            "{} at {to} reached {server} with {first} to {last} in force",
            kind.name()
        ))
    }
}

/// Attempts a share of the rate until it is stopped; returns how many were served, or the first error.
fn offer(
    balancer: IpAddr,
    index: usize,
    in_force: &InForce,
    ended: &AtomicBool,
) -> Result<usize, String> {
    let pause = Duration::from_secs(1) * OFFERING / RATE;
    let mut next = Instant::now();
    let mut served = 0;
    while !ended.load(Ordering::SeqCst) {
        let number = served * 4 + index;
        let kind = ClientKind::ALL[(number / 4) % ClientKind::ALL.len()];
        // Reset, so that no port stays in TIME_WAIT.
        reset(attempt(balancer, kind, number, in_force)?);
        served += 1;
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(served)
}

#[test]
fn a_hundred_reloads_under_load_refuse_reset_and_misroute_no_connection() {
    raise_descriptors();
    let backends = Backend::several(4);
    let balancer = Balancer::start(&yaml(0, &backends)).ready();
    counted(&balancer, "lyncpin_backend_up", &[], 4.0);
    let in_force = Arc::new(InForce::default());
    let mut long: Vec<TcpStream> = (0..LONG)
        .map(|number| {
            attempt(
                balancer.address,
                ClientKind::ALL[number % 4],
                number,
                &in_force,
            )
            .unwrap()
        })
        .collect();
    // These connect through a listener and to pools that later reloads remove.
    let guests = (0..20).map(|_| {
        let stream = connect_from(own_address(), balancer.at(GUEST)).unwrap();
        ask(&stream, b"a guest\n").unwrap();
        stream
    });
    long.extend(guests);

    let ended = Arc::new(AtomicBool::new(false));
    let offering: Vec<_> = (0..OFFERING as usize)
        .map(|index| {
            let (in_force, ended, address) = (in_force.clone(), ended.clone(), balancer.address);
            std::thread::spawn(move || offer(address, index, &in_force, &ended))
        })
        .collect();
    for number in 1..=RELOADS {
        in_force.begun.store(number, Ordering::SeqCst);
        balancer.reloaded(&yaml(number, &backends));
        in_force.acknowledged.store(number, Ordering::SeqCst);
        // Each configuration gets some traffic.
        std::thread::sleep(Duration::from_millis(20));
    }
    ended.store(true, Ordering::SeqCst);
    let offered = offering.into_iter().map(|thread| thread.join().unwrap());
    let offered: Result<Vec<usize>, String> = offered.collect();
    let served: usize = offered
        .unwrap_or_else(|wrong| {
            let mut lines = balancer.access();
            lines.retain(|line| line["outcome"] != "client_reset");
            panic!("{wrong}: {lines:#?}")
        })
        .into_iter()
        .sum();
    assert!(served >= RELOADS, "{served}");
    assert_eq!(reloads(&balancer, "accepted"), RELOADS as f64);
    for stream in &long {
        assert!(is_alive(stream));
    }
    let living = long.len() as f64;
    counted(&balancer, "lyncpin_connections_active", &[], living);
    let outcomes = balancer.metrics().into_keys();
    let refused = |series: &String| {
        let whole = series.starts_with("lyncpin_connections_total");
        whole && !series.contains("outcome=\"client_reset\"")
    };
    assert_eq!(outcomes.filter(refused).collect::<Vec<_>>(), [""; 0]);
    drop(long);
    counted(&balancer, "lyncpin_connections_active", &[], 0.0);
}
