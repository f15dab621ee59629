//! Pins and administrative states survive the process, however it ends.

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

/// The backends of clients, by source and name.
type Homes = BTreeMap<(IpAddr, &'static str), String>;

/// Three backends, and a store that one balancer after another uses.
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

/// The backend that a client gets.
fn home(balancer: &Balancer, source: IpAddr, name: &str) -> String {
    let client = connect_from(source, balancer.at(8080)).unwrap();
    ask(&client, &request(name)).unwrap()
}

/// The backends of this many new clients, each under both names.
fn come(balancer: &Balancer, count: usize) -> Homes {
    let sources = (0..count).map(|_| own_address());
    let asked = sources.flat_map(|source| NAMES.map(|name| (source, name)));
    asked
        .map(|(source, name)| ((source, name), home(balancer, source, name)))
        .collect()
}

#[track_caller]
fn all_come_home(balancer: &Balancer, homes: &Homes) {
    let now: Homes = homes
        .keys()
        .map(|&(source, name)| ((source, name), home(balancer, source, name)))
        .collect();
    assert_eq!(&now, homes);
    // By their pins, and not because the policy selected the same.
    let lookups = |result| balancer.metric("lyncpin_affinity_lookups_total", &[result]);
    assert!(lookups("result=\"hit\"") >= homes.len() as f64);
}

/// Waits until the file has everything up to now.
fn written(balancer: &Balancer) {
    let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let second_from_now = since_epoch(SystemTime::now() + Duration::from_secs(1)).as_secs_f64();
    eventually("the file is written", || {
        let name = "lyncpin_affinity_store_last_write_timestamp_seconds";
        (balancer.metric(name, &[]) >= second_from_now).then_some(())
    });
}

/// The event whose message starts with this.
fn logged(balancer: &Balancer, message: &str) -> serde_json::Value {
    eventually(message, || lines(balancer, message).into_iter().next())
}

fn lines(balancer: &Balancer, message: &str) -> Vec<serde_json::Value> {
    let begins = |line: &serde_json::Value| {
        let text = line["message"].as_str();
        text.is_some_and(|text| text.starts_with(message))
    };
    balancer.log().into_iter().filter(begins).collect()
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
    let homes = come(&balancer, 50);
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
    all_come_home(&balancer, &homes);
    let drained = state(&balancer, 1);
    assert_eq!(drained["state"], "drain");
    let time =
        |deadline: &serde_json::Value| deadline.as_str().unwrap().parse::<Timestamp>().unwrap().0;
    let (before, now) = (time(&deadline), time(&drained["deadline"]));
    let moved = before.max(now).duration_since(before.min(now)).unwrap();
    assert!(moved < Duration::from_secs(1), "{moved:?}");
}

#[test]
fn a_kill_loses_nothing_that_is_older_than_a_second() {
    let site = Site::new();
    let mut balancer = site.start();
    let homes = come(&balancer, 50);
    let held: Vec<_> = (0..5)
        .map(|_| {
            let source = own_address();
            let client = connect_from(source, balancer.at(8080)).unwrap();
            let home = ask(&client, &request(NAMES[0])).unwrap();
            (source, client, home)
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

    // Twice: restored pins are stored as well.
    for _ in 0..2 {
        let mut balancer = site.start();
        logged(
            &balancer,
            "affinity store: restored 105 pins, 1 state, from ",
        );
        all_come_home(&balancer, &homes);
        for (source, _, at) in &held {
            assert_eq!(&home(&balancer, *source, NAMES[0]), at, "in use to the end");
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
fn a_drain_whose_deadline_has_passed_takes_no_client_and_its_pins_are_dropped() {
    let site = Site::new();
    let mut balancer = site.start();
    let homes = come(&balancer, 12);
    let of_b = homes.values().filter(|home| *home == "b").count();
    assert!(of_b > 0);
    balancer.set_state("web", "b", r#"{"state":"drain","deadline":"10s"}"#);
    written(&balancer);
    kill(&mut balancer);
    // The deadline must pass.
    std::thread::sleep(Duration::from_secs(10));

    let balancer = site.start();
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert_eq!(dropped["drained"], of_b);
    assert_eq!(state(&balancer, 1)["state"], "drain");
    for (&(source, name), before) in &homes {
        let now = home(&balancer, source, name);
        assert!(now != "b" && (before == "b" || *before == now));
    }
}

#[test]
fn what_the_configuration_no_longer_has_is_dropped_and_counted() {
    let mut site = Site::new();
    let mut balancer = site.start();
    let homes = come(&balancer, 12);
    balancer.signal(Signal::TERM);
    balancer.wait();
    site.backends.pop();
    let gone = homes.values().filter(|home| *home == "c").count();

    let mut balancer = site.start();
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert_eq!(dropped["unknown"], gone);
    let left: Homes = homes.into_iter().filter(|(_, home)| home != "c").collect();
    all_come_home(&balancer, &left);
    balancer.signal(Signal::TERM);
    balancer.wait();

    // TLS sessions are keys of their own, and clients' keys stay what they are.
    let with_sessions = ", affinity: { by: [source, name, tls_session] }";
    let mut balancer = Balancer::start(&site.yaml(with_sessions)).ready();
    all_come_home(&balancer, &left);
    balancer.signal(Signal::TERM);
    balancer.wait();

    // Where clients have no keys any more, their pins are dropped.
    let balancer = Balancer::start(&site.yaml(", affinity: { by: [tls_session] }"));
    let dropped = logged(
        &balancer,
        "affinity store: pins and states that are no longer valid",
    );
    assert!(dropped["other_keys"].as_u64().unwrap() >= left.len() as u64);
}

#[test]
fn a_reload_moves_the_store_and_loses_nothing() {
    let site = Site::new();
    let with = |place: &str| site.yaml_with(place, &site.backends, "");
    let file = site.file().display().to_string();
    let memory = with(&file).replace(&format!("{{ file: \"{file}\" }}"), "memory");
    let mut balancer = Balancer::start(&memory).ready();
    let mut homes = come(&balancer, 10);

    // From memory to a file, and on to another one.
    balancer.reloaded(&with(&file));
    homes.extend(come(&balancer, 10));
    let other = site.directory.path().join("other").display().to_string();
    balancer.reloaded(&with(&other));
    homes.extend(come(&balancer, 10));

    // A path where no file can be changes nothing.
    let refused = balancer.reload(&with("/nowhere/at/all"));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(
        refused.body.contains("affinity_store cannot be opened"),
        "{}",
        refused.body
    );
    written(&balancer);
    kill(&mut balancer);

    let balancer = Balancer::start(&with(&other)).ready();
    logged(&balancer, "affinity store: restored 60 pins, ");
    all_come_home(&balancer, &homes);

    // The first file is unlocked and complete.
    let earlier = site.start();
    logged(&earlier, "affinity store: restored 40 pins, ");

    // And back to memory, which releases the file.
    balancer.reloaded(&memory);
    let next = Balancer::start(&with(&other)).ready();
    logged(&next, "affinity store: restored 60 pins, ");
    all_come_home(&balancer, &homes);
}
