//! Name servers that do not respond: a stop does not wait for them.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::raw::counted;
use crate::support::{at, eventually, own_address};

/// Much shorter than the resolver takes to give up on a name.
const SOON: Duration = Duration::from_secs(5);

/// Name servers that receive queries and send no response, and a resolver configuration with their addresses.
struct DeadServers {
    sockets: Vec<UdpSocket>,
    directory: tempfile::TempDir,
}

impl DeadServers {
    fn start(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sockets: Vec<UdpSocket> = (0..count)
            .map(|_| {
                UdpSocket::bind(at(own_address(), 53))
                    .expect("port 53 of a loopback address: to be run as root, or with CAP_NET_BIND_SERVICE")
            })
            .collect();
        let lines: Vec<String> = sockets
            .iter()
            .map(|socket| format!("nameserver {}\n", socket.local_addr().unwrap().ip()))
            .collect();
        std::fs::write(directory.path().join("resolv.conf"), lines.concat()).unwrap();
        std::fs::write(directory.path().join("nsswitch.conf"), "hosts: dns\n").unwrap();
        Self { sockets, directory }
    }

    /// Makes the command use these name servers.
    fn serve(&self, command: &Command) -> Command {
        let user = if rustix::process::geteuid().is_root() {
            "-m"
        } else {
            "-rm"
        };
        let mount = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                     mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\"";
        let mut inside = Command::new("unshare");
        inside
            .args([user, "bash", "-c", mount])
            .arg(self.directory.path())
            .arg(command.get_program())
            .args(command.get_args())
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        inside
    }

    /// Waits until the first server receives a query.
    fn are_asked(&self) {
        let first = &self.sockets[0];
        first.set_nonblocking(true).unwrap();
        eventually("a name server receives a query", || {
            first.recv(&mut [0; 512]).ok()
        });
    }
}

fn yaml(names: usize, backend: SocketAddr) -> String {
    let unresolved: Vec<String> = (0..names)
        .map(|number| format!("fe{number:03}.contoso.com:443"))
        .collect();
    format!(
        "listeners: {{ web: {{ bind: [\"HOST:80\"], protocol: tcp, pool: web }} }}\n\
         pools:\n\
         \x20 web: {{ backends: [\"{backend}\"] }}\n\
         \x20 other: {{ backends: [{}] }}\n",
        unresolved.join(", ")
    )
}

#[test]
fn a_stop_does_not_wait_for_the_resolver() {
    for (servers, names) in [(1, 1), (3, 3), (3, 600)] {
        let dead = DeadServers::start(servers);
        let yaml = yaml(names, crate::support::raw::echo());
        let mut balancer =
            Balancer::start_with(&yaml, |command| *command = dead.serve(command)).ready();
        dead.are_asked();
        // Some threads remain for other work, however many wait for the resolver.
        let answer = balancer.get("/api/v1/affinity/client?client=192.0.2.1");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(
            balancer.ask("POST", "/api/v1/reload", "").unwrap().status,
            200
        );
        balancer.signal(Signal::TERM);
        let signalled = Instant::now();
        assert_eq!(balancer.wait().code(), Some(0));
        assert!(
            signalled.elapsed() < SOON,
            "{servers} servers, {names} names: {:?}",
            signalled.elapsed()
        );
    }
}

#[test]
fn a_reload_waits_briefly_for_new_names_and_a_stop_does_not() {
    let dead = DeadServers::start(1);
    let backend = crate::support::raw::echo();
    let mut balancer = Balancer::start_with(&yaml(1, backend), |command| {
        *command = dead.serve(command);
    })
    .ready();
    let begun = Instant::now();
    balancer.reloaded(&yaml(5, backend));
    assert!(begun.elapsed() < 2 * SOON);
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"accepted\""],
        1.0,
    );
    balancer.write(&yaml(9, backend));
    balancer.signal(Signal::HUP);
    balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(signalled.elapsed() < SOON, "{:?}", signalled.elapsed());
}
