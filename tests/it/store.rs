//! The affinity store: pins and administrative states survive a stop, a kill and a reload.

mod damage;
mod full;
mod hung;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lyncpin::types::timestamp::Timestamp;
use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect_from, entries, request};
use crate::support::{eventually, own_address};

const NAMES: [&str; 2] = ["pin.contoso.test", "other.contoso.test"];

/// The backend of each client, by source and name.
type Assigned = BTreeMap<(IpAddr, &'static str), String>;

/// Three backends, and a store for several balancers, one after the other.
struct Site {
    backends: Vec<Backend>,
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self {
            backends: Backend::several(3),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("affinity")
    }

    fn yaml(&self, keys: &str) -> String {
        self.yaml_with(&self.file().display().to_string(), &self.backends, keys)
    }

    fn yaml_with(&self, file: &str, backends: &[Backend], keys: &str) -> String {
        let [name, other] = NAMES;
        format!(
            "listeners:\n\
             \x20 http: {{ bind: [\"HOST:8080\"], protocol: http, routes: [{{ names: [{name}, {other}], pool: web }}] }}\n\
             pools:\n  web: {{ {}, health: none, balance: round_robin {keys} }}\n\
             affinity_store: {{ file: \"{file}\" }}",
            entries(backends)
        )
    }

    fn start(&self) -> Balancer {
        Balancer::start(&self.yaml("")).ready()
    }

    /// The files that were set aside.
    fn aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().contains(".unreadable-"))
            .collect()
    }
}

/// Connects a client and returns the name of its backend.
fn backend_of(balancer: &Balancer, source: IpAddr, name: &str) -> String {
    let client = connect_from(source, balancer.at(8080)).unwrap();
    ask(&client, &request(name)).unwrap()
}

/// Connects this many new clients, each under both names.
fn connect_clients(balancer: &Balancer, count: usize) -> Assigned {
    let sources = (0..count).map(|_| own_address());
    let clients = sources.flat_map(|source| NAMES.map(|name| (source, name)));
    clients
        .map(|(source, name)| ((source, name), backend_of(balancer, source, name)))
        .collect()
}

#[track_caller]
fn assert_unchanged(balancer: &Balancer, assigned: &Assigned) {
    let now: Assigned = assigned
        .keys()
        .map(|&(source, name)| ((source, name), backend_of(balancer, source, name)))
        .collect();
    assert_eq!(&now, assigned);
    // By their pins, not because the policy happens to select the same backends.
    let lookups = |result| balancer.metric("lyncpin_affinity_lookups_total", &[result]);
    assert!(lookups("result=\"hit\"") >= assigned.len() as f64);
}

/// Waits until the file contains all changes made before this call.
fn written(balancer: &Balancer) {
    let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let second_from_now = since_epoch(SystemTime::now() + Duration::from_secs(1)).as_secs_f64();
    eventually("the file is written", || {
        let name = "lyncpin_affinity_store_last_write_timestamp_seconds";
        (balancer.metric(name, &[]) >= second_from_now).then_some(())
    });
}

/// Waits for the event whose message starts with `message`.
fn logged(balancer: &Balancer, message: &str) -> serde_json::Value {
    eventually(message, || lines(balancer, message).into_iter().next())
}

fn lines(balancer: &Balancer, message: &str) -> Vec<serde_json::Value> {
    let matches = |line: &serde_json::Value| {
        let text = line["message"].as_str();
        text.is_some_and(|text| text.starts_with(message))
    };
    balancer.log().into_iter().filter(matches).collect()
}

fn kill(balancer: &mut Balancer) {
    balancer.signal(Signal::KILL);
    balancer.wait();
}

fn state(balancer: &Balancer, backend: usize) -> serde_json::Value {
    balancer.status()["pools"][0]["backends"][backend].clone()
}

#[test]
fn pins_and_states_survive_a_restart() {
    let site = Site::new();
    let mut balancer = site.start();
    let assigned = connect_clients(&balancer, 50);
    assert_eq!(
        balancer
            .set_state("web", "b", r#"{"state":"drain","deadline":"1h"}"#)
            .status,
        200
    );
    let deadline = state(&balancer, 1)["deadline"].clone();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));

    let balancer = site.start();
    let restored = logged(
        &balancer,
        "affinity store: restored 100 pins, 1 state, from ",
    );
    assert!(restored["message"].as_str().unwrap().ends_with(" s old"));
    assert_unchanged(&balancer, &assigned);
    let drained = state(&balancer, 1);
    assert_eq!(drained["state"], "drain");
    let time =
        |deadline: &serde_json::Value| deadline.as_str().unwrap().parse::<Timestamp>().unwrap().0;
    let (before, now) = (time(&deadline), time(&drained["deadline"]));
    let difference = before.max(now).duration_since(before.min(now)).unwrap();
    assert!(difference < Duration::from_secs(1), "{difference:?}");
}

#[test]
fn a_kill_loses_no_change_that_is_older_than_a_second() {
    let site = Site::new();
    let mut balancer = site.start();
    let assigned = connect_clients(&balancer, 50);
    let held: Vec<_> = (0..5)
        .map(|_| {
            let source = own_address();
            let client = connect_from(source, balancer.at(8080)).unwrap();
            let backend = ask(&client, &request(NAMES[0])).unwrap();
            (source, client, backend)
        })
        .collect();
    assert_eq!(
        balancer
            .set_state("web", "c", r#"{"state":"maintain"}"#)
            .status,
        200
    );
    assert_eq!(
        balancer
            .set_state("web", "c", r#"{"state":"ready"}"#)
            .status,
        200
    );
    assert_eq!(
        balancer
            .set_state("web", "a", r#"{"state":"drain","deadline":"1h"}"#)
            .status,
        200
    );
    written(&balancer);
    kill(&mut balancer);

    // Twice, because restored pins must be stored again.
    for _ in 0..2 {
        let mut balancer = site.start();
        logged(
            &balancer,
            "affinity store: restored 105 pins, 1 state, from ",
        );
        assert_unchanged(&balancer, &assigned);
        for (source, _, at) in &held {
            assert_eq!(
                &backend_of(&balancer, *source, NAMES[0]),
                at,
                "the pin was in use when the process was killed"
            );
        }
        assert_eq!(
            (0..3)
                .map(|number| state(&balancer, number)["state"].clone())
                .collect::<Vec<_>>(),
            ["drain", "ready", "ready"]
        );
        written(&balancer);
        kill(&mut balancer);
    }
}

#[test]
fn after_a_restart_a_drain_past_its_deadline_gets_no_clients_and_its_pins_are_dropped() {
    let site = Site::new();
    let mut balancer = site.start();
    let assigned = connect_clients(&balancer, 12);
    let pinned_to_b = assigned.values().filter(|backend| *backend == "b").count();
    assert!(pinned_to_b > 0);
    balancer.set_state("web", "b", r#"{"state":"drain","deadline":"10s"}"#);
    written(&balancer);
    kill(&mut balancer);
    // Wait until the deadline has passed.
    std::thread::sleep(Duration::from_secs(10));

    let balancer = site.start();
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert_eq!(dropped["drained"], pinned_to_b);
    assert_eq!(state(&balancer, 1)["state"], "drain");
    for (&(source, name), before) in &assigned {
        let now = backend_of(&balancer, source, name);
        assert!(now != "b" && (before == "b" || *before == now));
    }
}

#[test]
fn pins_that_no_longer_match_the_configuration_are_dropped_and_counted() {
    let mut site = Site::new();
    let mut balancer = site.start();
    let assigned = connect_clients(&balancer, 12);
    balancer.signal(Signal::TERM);
    balancer.wait();
    site.backends.pop();
    let dropped_pins = assigned.values().filter(|backend| *backend == "c").count();

    let mut balancer = site.start();
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert_eq!(dropped["unknown"], dropped_pins);
    let remaining: Assigned = assigned
        .into_iter()
        .filter(|(_, backend)| backend != "c")
        .collect();
    assert_unchanged(&balancer, &remaining);
    balancer.signal(Signal::TERM);
    balancer.wait();

    // TLS sessions have their own keys. The keys of clients do not change.
    let with_sessions = ", affinity: { by: [source, name, tls_session] }";
    let mut balancer = Balancer::start(&site.yaml(with_sessions)).ready();
    assert_unchanged(&balancer, &remaining);
    balancer.signal(Signal::TERM);
    balancer.wait();

    // If clients no longer have keys, their pins are dropped.
    let balancer = Balancer::start(&site.yaml(", affinity: { by: [tls_session] }"));
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert!(dropped["other_keys"].as_u64().unwrap() >= remaining.len() as u64);
}

#[test]
fn a_reload_changes_the_store_and_loses_no_pin() {
    let site = Site::new();
    let with = |path: &str| site.yaml_with(path, &site.backends, "");
    let file = site.file().display().to_string();
    let memory = with(&file).replace(&format!("{{ file: \"{file}\" }}"), "memory");
    let mut balancer = Balancer::start(&memory).ready();
    let mut assigned = connect_clients(&balancer, 10);

    // From memory to a file, and from there to another file.
    balancer.reloaded(&with(&file));
    assigned.extend(connect_clients(&balancer, 10));
    let other = site.directory.path().join("other").display().to_string();
    balancer.reloaded(&with(&other));
    assigned.extend(connect_clients(&balancer, 10));

    // If the file cannot be opened, the reload is rejected and the store does not change.
    let rejected = balancer.reload(&with("/nowhere/at/all"));
    assert_eq!(rejected.status, 422, "{}", rejected.body);
    assert!(
        rejected.body.contains("affinity_store cannot be opened"),
        "{}",
        rejected.body
    );
    written(&balancer);
    kill(&mut balancer);

    let balancer = Balancer::start(&with(&other)).ready();
    logged(&balancer, "affinity store: restored 60 pins, ");
    assert_unchanged(&balancer, &assigned);

    // The first file is unlocked and complete.
    let earlier = site.start();
    logged(&earlier, "affinity store: restored 40 pins, ");

    // Back to memory, which releases the file.
    balancer.reloaded(&memory);
    let next = Balancer::start(&with(&other)).ready();
    logged(&next, "affinity store: restored 60 pins, ");
    assert_unchanged(&balancer, &assigned);
}
