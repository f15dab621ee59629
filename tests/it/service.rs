//! Notifications to systemd, received by a socket of the test. `tests/machine` tests with systemd itself.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::front_ends::FrontEnds;
use crate::support::hang::Hang;

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    fn watch(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        if let Some(within) = watchdog {
            command.env("WATCHDOG_USEC", within.as_micros().to_string());
        }
    }

    /// The next message within `time`.
    fn next(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// Receives messages until one contains `text`.
    fn until(&self, text: &str) -> String {
        eventually(&format!("systemd receives {text:?}"), || {
            self.next(Duration::from_millis(100))
                .filter(|message| message.contains(text))
        })
    }
}

#[test]
fn systemd_receives_readiness_available_backends_and_the_stop() {
    let front_ends = FrontEnds::start(2);
    let manager = Manager::new();
    let balancer = Balancer::start_with(&front_ends.short_form(), |command| {
        manager.watch(command, None);
    });
    let first = eventually("a first message", || {
        manager.next(Duration::from_millis(100))
    });
    assert!(first.starts_with("READY=1\nSTATUS="), "{first}");
    manager.until("STATUS=4 of 4 listeners can serve, 4 of 4 backends are up");
    front_ends.all[0].stop();
    manager.until("STATUS=4 of 4 listeners can serve, 2 of 4 backends are up");
    balancer.signal(Signal::TERM);
    manager.until("STOPPING=1");
}

#[test]
fn the_watchdog_gets_keep_alives_unless_a_worker_hangs() {
    const WITHIN: Duration = Duration::from_millis(400);
    let front_ends = FrontEnds::start(1);
    let manager = Manager::new();
    let yaml = format!("{}\nworkers: 2\n", front_ends.short_form());
    let balancer = Balancer::start_with(&yaml, |command| manager.watch(command, Some(WITHIN)));
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    let hang = Hang::of(balancer.pid(), "worker-1");
    // Messages that were sent before the hang still arrive, and one keep-alive for which the worker had already reported.
    eventually("keep-alives stop", || {
        manager.next(6 * WITHIN).is_none().then_some(())
    });
    drop(hang);
    manager.until("WATCHDOG=1");
}
