//! Damaged store files, and paths where a store file cannot be opened.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use super::{Assigned, Site, assert_unchanged, connect_clients, kill, lines, logged, written};
use crate::support::balancer::Balancer;
use crate::support::own_address;

const ASIDE: &str = "affinity store: the file was set aside";

/// A site whose balancer was killed, and the backends of its clients.
fn killed_site() -> (Site, Assigned) {
    let site = Site::new();
    let mut balancer = site.start();
    let assigned = connect_clients(&balancer, 10);
    written(&balancer);
    kill(&mut balancer);
    (site, assigned)
}

#[test]
fn a_torn_write_loses_only_itself() {
    let (site, assigned) = killed_site();
    // The last batch in the file is empty.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(site.file())
        .unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    let balancer = site.start();
    logged(
        &balancer,
        "affinity store: the last write to the file is incomplete",
    );
    assert_unchanged(&balancer, &assigned);
    assert!(site.aside().is_empty());
}

#[test]
fn a_damaged_file_is_set_aside_and_its_valid_part_is_used() {
    let (site, assigned) = killed_site();
    let mut bytes = std::fs::read(site.file()).unwrap();
    // The byte is in the head frame. After damage there, no pin can be used.
    bytes[62] ^= 1;
    std::fs::write(site.file(), &bytes).unwrap();
    let mut balancer = site.start();
    let event = logged(&balancer, ASIDE);
    assert_eq!(event["pins_used"], 0);
    assert!(
        event["why"].as_str().unwrap().contains("damaged"),
        "{event}"
    );
    let aside = site.aside();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(&aside[0]).unwrap(), bytes);
    assert_eq!(event["set_aside"], aside[0].display().to_string());
    // The new file works as the old one did before.
    let assigned: Assigned = assigned
        .into_keys()
        .map(|(source, name)| ((source, name), super::backend_of(&balancer, source, name)))
        .collect();
    written(&balancer);
    kill(&mut balancer);
    let balancer = site.start();
    assert_unchanged(&balancer, &assigned);
    assert!(lines(&balancer, ASIDE).is_empty());
}

#[test]
fn a_file_of_another_version_or_format_is_set_aside_unchanged() {
    // The magic, version 2 and the checksum of both.
    let newer = *b"lyncpin\0\x02\0\0\0\x35\x3c\xab\x53and an unknown form";
    for (bytes, why) in [
        (&newer[..], "version 2"),
        (b"root:x:0:0:", "not an affinity store"),
    ] {
        let site = Site::new();
        std::fs::write(site.file(), bytes).unwrap();
        let balancer = site.start();
        let event = logged(&balancer, ASIDE);
        assert!(event["why"].as_str().unwrap().contains(why), "{event}");
        assert_eq!(std::fs::read(&site.aside()[0]).unwrap(), bytes);
        connect_clients(&balancer, 1);
        written(&balancer);
        let mode = std::fs::metadata(site.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// Runs a balancer that must exit on its own.
fn run(yaml: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("balancer.yaml");
    let yaml = yaml.replace("HOST", &own_address().to_string());
    std::fs::write(
        &path,
        format!("{yaml}\nadmin: {{ bind: \"{}:9900\" }}\n", own_address()),
    )
    .unwrap();
    Command::new("timeout")
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["run", "-c"])
        .arg(path)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_start_fails(output: &Output, reason: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("affinity_store cannot be opened: ") && last.contains(reason),
        "{stderr}"
    );
}

#[test]
fn a_store_file_that_cannot_be_opened_prevents_the_start() {
    let site = Site::new();
    let yaml = |path: &Path| site.yaml_with(&path.display().to_string(), &site.backends, "");
    let missing = site.directory.path().join("missing/affinity");
    assert_start_fails(
        &run(&yaml(&missing)),
        "must exist and be writable: no such file",
    );
    assert_start_fails(
        &run(&yaml(site.directory.path())),
        "exists and is not a regular file",
    );
    assert_start_fails(
        &run(&yaml(Path::new("/dev/null"))),
        "exists and is not a regular file",
    );
}

#[test]
fn a_file_that_another_process_uses_is_not_changed() {
    let site = Site::new();
    let mut balancer = site.start();
    assert_start_fails(&run(&site.yaml("")), "another process uses");
    let assigned = connect_clients(&balancer, 3);
    balancer.signal(Signal::TERM);
    balancer.wait();
    assert_unchanged(&Balancer::start(&site.yaml("")).ready(), &assigned);
}
