//! A full disk that has free space again later.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Site, assert_unchanged, connect_clients, kill, lines, logged, written};
use crate::support::balancer::Balancer;
use crate::support::eventually;

const FAILURES: &str = "lyncpin_affinity_store_failures_total";
const FAILED: &str = "affinity store: could not write the file";
const RECOVERED: &str = "affinity store: the file can be written again";

/// Connects clients until a write has failed, and waits for two failed retries. The failure is logged once.
fn assert_writes_fail(balancer: &Balancer) {
    eventually("writing fails", || {
        connect_clients(balancer, 20);
        (balancer.metric(FAILURES, &[]) >= 1.0).then_some(())
    });
    eventually("writing is retried", || {
        (balancer.metric(FAILURES, &[]) >= 3.0).then_some(())
    });
    assert_eq!(lines(balancer, FAILED).len(), 1);
    assert!(lines(balancer, RECOVERED).is_empty());
}

/// Waits for the recovery. Clients that connected before it must be in the file too.
fn assert_writes_recover(balancer: &Balancer) {
    let assigned = connect_clients(balancer, 20);
    logged(balancer, RECOVERED);
    assert_eq!(lines(balancer, FAILED).len(), 1);
    written(balancer);
    assert_unchanged(balancer, &assigned);
}

/// Runs the balancer in its own mount namespace, with a tmpfs of 512 KiB mounted on the directory.
fn with_small_disk(directory: &Path) -> impl FnOnce(&mut Command) {
    let directory = directory.to_owned();
    move |command| {
        // A user other than root needs a user namespace as well.
        let user = if rustix::process::geteuid().is_root() {
            "-m"
        } else {
            "-rm"
        };
        let mut small = Command::new("unshare");
        small
            .args([
                user,
                "bash",
                "-c",
                "mount -t tmpfs -o size=512k none \"$0\" && exec \"$@\"",
            ])
            .arg(directory)
            .arg(command.get_program())
            .args(command.get_args())
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        *command = small;
    }
}

#[test]
fn a_full_disk_rejects_no_connection_and_the_file_is_complete_once_there_is_space_again() {
    let site = Site::new();
    let small = tempfile::tempdir().unwrap();
    let file = small.path().join("affinity");
    let yaml = site.yaml_with(&file.display().to_string(), &site.backends, "");
    let mut balancer = Balancer::start_with(&yaml, with_small_disk(small.path())).ready();
    let before = connect_clients(&balancer, 10);
    written(&balancer);

    let inside =
        |path: &Path| PathBuf::from(format!("/proc/{}/root{}", balancer.pid(), path.display()));
    let ballast = inside(&small.path().join("ballast"));
    let mut filling = std::fs::File::create(&ballast).unwrap();
    while filling.write_all(&[0; 4096]).is_ok() {}
    assert_writes_fail(&balancer);
    // No connection was rejected.
    assert_unchanged(&balancer, &before);
    drop(filling);
    std::fs::remove_file(ballast).unwrap();
    assert_writes_recover(&balancer);
    let after = connect_clients(&balancer, 10);
    written(&balancer);

    // The tmpfs disappears with the process, so the test copies the file first.
    std::fs::copy(inside(&file), site.file()).unwrap();
    kill(&mut balancer);
    let balancer = site.start();
    assert_unchanged(&balancer, &before);
    assert_unchanged(&balancer, &after);
}

#[test]
fn a_file_size_limit_does_not_end_the_process() {
    let site = Site::new();
    let balancer = site.start();
    connect_clients(&balancer, 10);
    written(&balancer);
    let pid = Pid::from_raw(i32::try_from(balancer.pid()).unwrap());
    let limit = |bytes| {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(pid, Resource::Fsize, limit).unwrap();
    };
    // Less than the head of a store file.
    limit(Some(64));
    assert_writes_fail(&balancer);
    limit(None);
    assert_writes_recover(&balancer);
}
