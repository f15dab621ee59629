//! Shared by the tests: unique addresses, the balancer as a process, peers, and waiting with a deadline.

pub(crate) mod balancer;
pub(crate) mod chromium;
pub(crate) mod front_ends;
pub(crate) mod hang;
pub(crate) mod haproxy;
pub(crate) mod hello_builder;
pub(crate) mod network;
pub(crate) mod nginx;
pub(crate) mod pattern;
pub(crate) mod peers;
pub(crate) mod programs;
pub(crate) mod raw;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Deadline for everything that must happen; much longer than it normally takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A loopback address that no other test of this process uses, and for some time no other test process. All of 127/8
/// is local, so tests can use fixed ports without collisions.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = number.to_be_bytes();
    let process = u8::try_from(std::process::id() % 200).expect("below 200");
    Ipv4Addr::new(127, 20 + process, high, low.wrapping_add(1)).into()
}

/// Five ports for a demo, which listens on 127.0.0.1 like other programs: below the range of ephemeral ports, and different ones
/// for each test of this process.
pub(crate) fn demo_ports() -> [u16; 5] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    [(); 5].map(|()| {
        loop {
            let number = TAKEN.fetch_add(1, Ordering::Relaxed);
            let port = 20_000 + (std::process::id() % 5_000 + number) % 10_000;
            let port = u16::try_from(port).expect("below 30,000");
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}

/// The socket address of a port.
pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Waits until `condition` returns a value; panics with `what` after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
