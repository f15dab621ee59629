//! Private networks: a test runs itself again in a network namespace, where it may change links, addresses and settings.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::eventually;

/// Set in the environment of the run inside the namespace.
const INSIDE: &str = "LYNCPIN_TEST_NETWORK";
/// Deadline for a run inside the namespace.
const BOUND: Duration = Duration::from_secs(150);

/// Runs `test` in a network namespace with nothing but loopback; `name` is the full name of the test. Without privilege
/// this requires a user namespace; if the machine allows neither, a message is printed and nothing is tested.
pub(crate) fn in_own_network(name: &str, test: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        // Only this thread changes its namespace.
        return std::thread::spawn(test).join().unwrap();
    }
    let spaces: &[&str] = if geteuid().is_root() {
        &["--net"]
    } else {
        &["--user", "--map-root-user", "--net"]
    };
    let allowed = Command::new("unshare").args(spaces).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("{name}: not tested, since this machine allows no network namespaces");
        return;
    }
    let mut inside = Command::new("unshare")
        .args(spaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = inside.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > BOUND {
            inside.kill().unwrap();
            inside.wait().unwrap();
            panic!("{name} took too long in its own network");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{name} failed in its own network");
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
}

/// Another network namespace, connected by a link; only inside [`in_own_network`].
pub(crate) struct Far {
    /// Keeps the namespace alive.
    keeper: Child,
    /// Addresses of the near side.
    pub(crate) near: [IpAddr; 2],
    /// Addresses of the far side; [`Far::vanish`] removes them.
    pub(crate) far: [IpAddr; 2],
}

impl Far {
    pub(crate) fn start() -> Self {
        let keeper = Command::new("unshare")
            .args(["--net", "sleep", "300"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = keeper.id().to_string();
        let far = Self {
            keeper,
            near: ["198.51.100.1", "2001:db8::1"].map(|address| address.parse().unwrap()),
            far: ["198.51.100.2", "2001:db8::2"].map(|address| address.parse().unwrap()),
        };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        eventually("the other namespace exists", || {
            let other = std::fs::read_link(far.name_space()).ok()?;
            (other != own).then_some(())
        });
        let link = [
            "link", "add", "near", "type", "veth", "peer", "name", "far", "netns",
        ];
        run("ip", &[&link[..], &[&pid]].concat());
        for address in ["198.51.100.1/24", "2001:db8::1/64"] {
            run("ip", &["address", "add", address, "dev", "near", "nodad"]);
        }
        run("ip", &["link", "set", "near", "up"]);
        far.run(&["link", "set", "lo", "up"]);
        far.run(&["link", "set", "far", "up"]);
        far.addresses("add");
        far
    }

    fn name_space(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }

    /// Runs ip(8) in the far namespace.
    fn run(&self, arguments: &[&str]) {
        let net = format!("--net={}", self.name_space());
        run("nsenter", &[&[net.as_str(), "ip"], arguments].concat());
    }

    fn addresses(&self, action: &str) {
        for address in ["198.51.100.2/24", "2001:db8::2/64"] {
            let nodad: &[&str] = if action == "add" { &["nodad"] } else { &[] };
            self.run(&[&["address", action, address, "dev", "far"], nodad].concat());
        }
    }

    /// Removes the far addresses: packets are no longer answered, but no link goes down and no peer is notified.
    pub(crate) fn vanish(&self) {
        self.addresses("del");
    }

    /// Restores the addresses after [`Far::vanish`].
    pub(crate) fn come_back(&self) {
        self.addresses("add");
    }

    /// Sets the link down.
    pub(crate) fn cut(&self) {
        self.run(&["link", "set", "far", "down"]);
    }

    /// Runs `act` in the far namespace, on its own thread: a socket stays in the namespace where it was created.
    pub(crate) fn there<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let name_space = File::open(self.name_space()).unwrap();
        std::thread::scope(|threads| {
            let there = threads.spawn(|| {
                let kind = LinkNameSpaceType::Network;
                move_into_link_name_space(name_space.as_fd(), Some(kind)).unwrap();
                act()
            });
            there.join().unwrap()
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
