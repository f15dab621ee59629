//! Process 1 of a container, whose exit ends all others: it stays, forwards signals, and exits with the status of the serving
//! process.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, assert_reset, connect, entries, is_alive};
use crate::support::{PATIENCE, eventually};

const TCP: u16 = 5000;

/// A balancer in its own PID namespace.
struct Container {
    balancer: Balancer,
}

/// Process 1 is the balancer.
const ALONE: &[&str] = &[];
/// Process 1 is an init that ends with its child and exits with the same status.
const BELOW_INIT: &[&str] = &["sh", "-c", "\"$@\" & wait $!", "sh"];

impl Container {
    fn start(backends: &[Backend], before: &[&str]) -> Self {
        let yaml = format!(
            "listeners:\n\
             \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
             timeouts: {{ shutdown: 2s }}\nworkers: 1\n\
             pools:\n  web: {{ {}, health: none, affinity: {{ by: [source] }} }}",
            entries(backends)
        );
        let balancer = Balancer::start_with(&yaml, |command| {
            let mut own = Command::new("unshare");
            // A user other than root also needs a user namespace.
            if !rustix::process::geteuid().is_root() {
                own.args(["--user", "--map-root-user"]);
            }
            own.args(["--pid", "--fork", "--kill-child", "--mount-proc"])
                .args(before)
                .arg(command.get_program())
                .args(command.get_args())
                .env_remove("NOTIFY_SOCKET")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            *command = own;
        });
        // If that is not allowed, the harness has panicked with the error of unshare.
        Self {
            balancer: balancer.ready(),
        }
    }

    /// The processes inside: the id in the namespace, and the id outside.
    fn processes(&self) -> BTreeMap<i32, Pid> {
        let parents = parents();
        let mut inside = BTreeMap::new();
        for &pid in parents.keys() {
            let mut above = pid;
            while let Some(&parent) = parents.get(&above) {
                if u32::try_from(parent) == Ok(self.balancer.pid()) {
                    inside.extend(id_inside(pid).zip(Pid::from_raw(pid)));
                }
                above = parent;
            }
        }
        inside
    }

    fn upgrade(&self) -> i32 {
        let answer = self.balancer.ask("POST", "/api/v1/upgrade", "").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        i32::try_from(body["pid"].as_i64().unwrap()).unwrap()
    }

    fn signal(&self, pid: i32, signal: Signal) {
        let known = self.processes();
        kill_process(known[&pid], signal).unwrap();
    }

    fn connect_client(&self) -> TcpStream {
        let client = connect(self.balancer.at(TCP)).unwrap();
        ask(&client, b"?").unwrap();
        client
    }

    fn older(&self) -> Vec<i64> {
        let status = self.balancer.status();
        let older = status["predecessors"].as_array().unwrap();
        older
            .iter()
            .map(|one| one["pid"].as_i64().unwrap())
            .collect()
    }

    fn wait_for_metric(&self, series: &str, label: &str, wanted: f64) {
        eventually(&format!("{series} is {wanted}"), || {
            (self.balancer.metric(series, &[label]) == wanted).then_some(())
        });
    }
}

/// Every process of this machine that is visible from here, and its parent.
fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (state != "Z").then_some((pid, parent))
    };
    pids.filter_map(parent).collect()
}

fn id_inside(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[test]
fn process_1_stays_through_upgrades_forwards_signals_and_exits_as_the_serving_process() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, ALONE);
    let one = container.connect_client();
    let second = container.upgrade();
    let two = container.connect_client();
    let third = container.upgrade();
    let three = container.connect_client();
    for held in [&one, &two, &three] {
        assert!(is_alive(held));
    }
    eventually("both older processes are shown", || {
        (container.older() == [1, second.into()]).then_some(())
    });
    // Without connections process 1 stays, and the status does not list it.
    drop(one);
    eventually("process 1 is not shown any more", || {
        (container.older() == [i64::from(second)]).then_some(())
    });
    assert!(is_alive(&two) && is_alive(&three));
    // The second process ends, and its child gets another parent.
    drop(two);
    eventually("the second process has ended and is reaped", || {
        let inside: Vec<i32> = container.processes().into_keys().collect();
        (inside == [1, third]).then_some(())
    });
    assert!(is_alive(&three));
    let reloads = container
        .balancer
        .metric("lyncpin_config_reloads_total", &["result=\"accepted\""]);
    container.signal(1, Signal::HUP);
    container.wait_for_metric(
        "lyncpin_config_reloads_total",
        "result=\"accepted\"",
        reloads + 1.0,
    );
    container.signal(1, Signal::USR2);
    eventually("there is a fourth process", || {
        let known = container.processes();
        (known.len() == 3 && container.older() == [i64::from(third)]).then_some(())
    });
    let four = container.connect_client();
    let signalled = Instant::now();
    container.signal(1, Signal::TERM);
    // Connections get `timeouts.shutdown`, in both processes.
    assert!(is_alive(&three) && is_alive(&four));
    assert_reset(&three);
    assert_reset(&four);
    assert!(signalled.elapsed() >= Duration::from_secs(1));
    assert_eq!(container.balancer.wait().code(), Some(0));
    assert!(signalled.elapsed() < PATIENCE);
}

#[test]
fn process_1_ends_with_the_status_of_a_successor_that_dies() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, ALONE);
    let held = container.connect_client();
    let second = container.upgrade();
    let also_held = container.connect_client();
    let third = container.upgrade();
    assert!(is_alive(&held) && is_alive(&also_held));
    assert_ne!(second, third);
    // Its parent drains and must not delay the exit.
    container.signal(third, Signal::KILL);
    assert_eq!(container.balancer.wait().code(), Some(128 + 9));
}

#[test]
fn connections_of_older_processes_keep_the_shutdown_timeout_when_the_serving_process_has_none() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, ALONE);
    let one = container.connect_client();
    container.upgrade();
    let two = container.connect_client();
    container.upgrade();
    let signalled = Instant::now();
    container.signal(1, Signal::TERM);
    assert_reset(&one);
    assert!(signalled.elapsed() >= Duration::from_secs(1));
    assert_reset(&two);
    assert_eq!(container.balancer.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_every_process_at_once() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, ALONE);
    let held = container.connect_client();
    container.upgrade();
    let also_held = container.connect_client();
    container.signal(1, Signal::TERM);
    eventually("the stop has begun", || {
        (container
            .balancer
            .try_get("/readyz")
            .is_none_or(|answer| answer.status == 503))
        .then_some(())
    });
    container.signal(1, Signal::TERM);
    assert_reset(&also_held);
    assert_reset(&held);
    assert_eq!(container.balancer.wait().code(), Some(0));
}

#[test]
fn a_successor_that_hangs_is_killed_when_process_1_stops() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, ALONE);
    let second = container.upgrade();
    container.signal(second, Signal::STOP);
    container.signal(1, Signal::TERM);
    assert_eq!(container.balancer.wait().code(), Some(128 + 9));
}

/// As with `docker run --init`: the init ends with its child.
#[test]
fn the_child_of_an_init_process_stays_too() {
    let backends = Backend::several(1);
    let mut container = Container::start(&backends, BELOW_INIT);
    let child = *container
        .processes()
        .keys()
        .nth(1)
        .expect("the balancer is a child of process 1");
    let held = container.connect_client();
    let second = container.upgrade();
    drop(held);
    let third = container.upgrade();
    eventually("only process 1 and the serving process are left", || {
        let inside: Vec<i32> = container.processes().into_keys().collect();
        (inside == [1, child, third]).then_some(())
    });
    assert_ne!(second, third);
    let held = container.connect_client();
    assert!(is_alive(&held));
    container.signal(child, Signal::TERM);
    assert_reset(&held);
    assert_eq!(container.balancer.wait().code(), Some(0));
}
