//! A disk that hangs, and with it the writing thread of the store.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Site, all_come_home, come, logged, written};
use crate::support::eventually;
use crate::support::hang::Hang;

/// The longest that a stop or a reload waits for the disk.
const LIMIT: Duration = Duration::from_secs(10);
const LATE: &str = "affinity store: could not flush the last changes to disk within 10 s";

#[test]
fn a_stop_waits_ten_seconds_for_the_disk_and_logs_what_is_lost() {
    let site = Site::new();
    let mut balancer = site.start();
    come(&balancer, 3);
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
    // It waits for a connection, a response or the disk by now.
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
fn a_reload_moves_from_a_hanging_disk_to_another_and_loses_nothing() {
    let site = Site::new();
    let balancer = site.start();
    let homes = come(&balancer, 5);
    written(&balancer);
    let hang = Hang::of(balancer.pid(), "store");
    let more = come(&balancer, 5);
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("affinity").display().to_string();
    let yaml = site.yaml_with(&file, &site.backends, "");
    balancer.write(&yaml);
    let said = balancer.said(&["reload"]);
    assert_eq!(said.status, 0, "{said:?}");
    logged(&balancer, LATE);
    // What is written when the old disk responds again is in the other file as well.
    let last = come(&balancer, 5);
    drop(hang);
    let late = come(&balancer, 5);
    written(&balancer);
    let mut balancer = balancer;
    balancer.signal(Signal::KILL);
    balancer.wait();
    let next = crate::support::balancer::Balancer::start(&yaml).ready();
    for homes in [&homes, &more, &last, &late] {
        all_come_home(&next, homes);
    }
}

#[test]
fn a_stop_does_not_wait_for_a_disk_that_a_reload_is_leaving() {
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
