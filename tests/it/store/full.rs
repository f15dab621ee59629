//! A full disk that gets room again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Site, all_come_home, come, kill, lines, logged, written};
use crate::support::balancer::Balancer;
use crate::support::eventually;

const FAILURES: &str = "lyncpin_affinity_store_failures_total";
const CANNOT: &str = "affinity store: could not write the file";
const RECOVERED: &str = "affinity store: the file can be written again";

/// Connects clients until writing has failed, and twice more. It is logged once.
fn fails(balancer: &Balancer) {
    eventually("writing fails", || {
        come(balancer, 20);
        (balancer.metric(FAILURES, &[]) >= 1.0).then_some(())
    });
    eventually("writing is retried", || {
        (balancer.metric(FAILURES, &[]) >= 3.0).then_some(())
    });
    assert_eq!(lines(balancer, CANNOT).len(), 1);
    assert!(lines(balancer, RECOVERED).is_empty());
}

/// After the recovery, clients that connected before are in the file as well.
fn recovers(balancer: &Balancer) {
    let homes = come(balancer, 20);
    logged(balancer, RECOVERED);
    assert_eq!(lines(balancer, CANNOT).len(), 1);
    written(balancer);
    all_come_home(balancer, &homes);
}

/// Runs the balancer in a namespace of its own, with a disk of 512 KiB over the directory.
fn with_small_disk(directory: &Path) -> impl FnOnce(&mut Command) {
    let directory = directory.to_owned();
    move |command| {
        // A user who is not root gets the namespace together with one of users.
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
fn a_full_disk_costs_no_connection_and_the_file_is_complete_when_there_is_room_again() {
    let site = Site::new();
    let small = tempfile::tempdir().unwrap();
    let file = small.path().join("affinity");
    let yaml = site.yaml_with(&file.display().to_string(), &site.backends, "");
    let mut balancer = Balancer::start_with(&yaml, with_small_disk(small.path())).ready();
    let before = come(&balancer, 10);
    written(&balancer);

    let inside =
        |path: &Path| PathBuf::from(format!("/proc/{}/root{}", balancer.pid(), path.display()));
    let ballast = inside(&small.path().join("ballast"));
    let mut filling = std::fs::File::create(&ballast).unwrap();
    while filling.write_all(&[0; 4096]).is_ok() {}
    fails(&balancer);
    // No connection was rejected.
    all_come_home(&balancer, &before);
    drop(filling);
    std::fs::remove_file(ballast).unwrap();
    recovers(&balancer);
    let after = come(&balancer, 10);
    written(&balancer);

    // The disk disappears with the process, so its file is copied.
    std::fs::copy(inside(&file), site.file()).unwrap();
    kill(&mut balancer);
    let balancer = site.start();
    all_come_home(&balancer, &before);
    all_come_home(&balancer, &after);
}

#[test]
fn a_limit_on_the_size_of_files_does_not_end_the_process() {
    let site = Site::new();
    let balancer = site.start();
    come(&balancer, 10);
    written(&balancer);
    let pid = Pid::from_raw(i32::try_from(balancer.pid()).unwrap());
    let limit = |most| {
        let limit = Rlimit {
            current: most,
            maximum: None,
        };
        prlimit(pid, Resource::Fsize, limit).unwrap();
    };
    // Less than the head of a file.
    limit(Some(64));
    fails(&balancer);
    limit(None);
    recovers(&balancer);
}
