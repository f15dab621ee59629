//! A disk that hangs, and with it the thread that writes the store.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Site, assert_unchanged, connect_clients, logged, written};
use crate::support::eventually;
use crate::support::hang::Hang;

/// The maximum time that a stop or a reload waits for the disk.
const LIMIT: Duration = Duration::from_secs(10);
const LATE: &str = "affinity store: could not flush the last changes to disk within 10 s";

#[test]
fn a_stop_waits_ten_seconds_for_the_disk_and_logs_the_loss() {
    let site = Site::new();
    let mut balancer = site.start();
    connect_clients(&balancer, 3);
    let _hang = Hang::of(balancer.pid(), "store");
    let stopped = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(stopped.elapsed() >= LIMIT && stopped.elapsed() < 2 * LIMIT);
    logged(&balancer, LATE);
}

#[test]
fn a_second_signal_does_not_wait_for_the_disk() {
    let site = Site::new();
    let mut balancer = site.start();
    let _hang = Hang::of(balancer.pid(), "store");
    balancer.signal(Signal::TERM);
    logged(&balancer, "stopping");
    // Give it time to start waiting for the disk.
    std::thread::sleep(Duration::from_millis(200));
    let stopped = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(stopped.elapsed() < LIMIT / 2, "{:?}", stopped.elapsed());
    logged(
        &balancer,
        "affinity store: the stop did not wait for the disk",
    );
}

#[test]
fn a_reload_moves_the_store_from_a_hanging_disk_to_another_and_loses_no_pin() {
    let site = Site::new();
    let balancer = site.start();
    let assigned = connect_clients(&balancer, 5);
    written(&balancer);
    let hang = Hang::of(balancer.pid(), "store");
    let more = connect_clients(&balancer, 5);
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("affinity").display().to_string();
    let yaml = site.yaml_with(&file, &site.backends, "");
    balancer.write(&yaml);
    let output = balancer.said(&["reload"]);
    assert_eq!(output.status, 0, "{output:?}");
    logged(&balancer, LATE);
    // Changes from before and after the old disk responds again must be in the other file.
    let last = connect_clients(&balancer, 5);
    drop(hang);
    let late = connect_clients(&balancer, 5);
    written(&balancer);
    let mut balancer = balancer;
    balancer.signal(Signal::KILL);
    balancer.wait();
    let next = crate::support::balancer::Balancer::start(&yaml).ready();
    for assigned in [&assigned, &more, &last, &late] {
        assert_unchanged(&next, assigned);
    }
}

#[test]
fn after_a_reload_away_from_a_hanging_disk_a_stop_does_not_wait_for_it() {
    let site = Site::new();
    let mut balancer = site.start();
    let _hang = Hang::of(balancer.pid(), "store");
    balancer.write(
        &site
            .yaml_with("FILE", &site.backends, "")
            .replace("affinity_store: { file: \"FILE\" }", ""),
    );
    balancer.signal(Signal::HUP);
    eventually("the new configuration is in force", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", balancer.pid())).unwrap();
        let mut names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name.trim() == "store stop").then_some(())
    });
    let stopped = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(stopped.elapsed() < LIMIT / 2, "{:?}", stopped.elapsed());
}
