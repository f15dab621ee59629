//! What tests share: addresses of their own, the balancer as a process, and patience.

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

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that is bound to happen; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A loopback address that no other test of this process has, and no other process of tests soon: all of 127/8 is
/// this machine's, so ports can be fixed and never collide.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = number.to_be_bytes();
    let process = u8::try_from(std::process::id() % 200).expect("below 200");
    Ipv4Addr::new(127, 20 + process, high, low.wrapping_add(1)).into()
}

/// A port of an address.
pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Waits until `condition` gives something, and says what was waited for where it never does.
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
