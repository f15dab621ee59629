//! A disk without room, and room again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Site, all_come_home, come, kill, lines, told, written};
use crate::support::balancer::Balancer;
use crate::support::eventually;

const FAILURES: &str = "lyncpin_affinity_store_failures_total";
const CANNOT: &str = "affinity store: could not write the file";
const WELL: &str = "affinity store: the file can be written again";

/// Clients come until writing has failed, and twice more: it is told once.
fn fails(balancer: &Balancer) {
    eventually("writing fails", || {
        come(balancer, 20);
        (balancer.metric(FAILURES, &[]) >= 1.0).then_some(())
    });
    eventually("it is tried again", || {
        (balancer.metric(FAILURES, &[]) >= 3.0).then_some(())
    });
    assert_eq!(lines(balancer, CANNOT).len(), 1);
    assert!(lines(balancer, WELL).is_empty());
}

/// Once it is well, what came while it was not is in the file, too.
fn is_well_again(balancer: &Balancer) {
    let homes = come(balancer, 20);
    told(balancer, WELL);
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
fn a_full_disk_costs_no_connection_and_is_made_up_for_when_there_is_room() {
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
    // Nothing but what fits was left in the file, and nobody was turned away.
    all_come_home(&balancer, &before);
    drop(filling);
    std::fs::remove_file(ballast).unwrap();
    is_well_again(&balancer);
    let after = come(&balancer, 10);
    written(&balancer);

    // The disk goes with the process, so its file is carried over.
    std::fs::copy(inside(&file), site.file()).unwrap();
    kill(&mut balancer);
    let balancer = site.start();
    all_come_home(&balancer, &before);
    all_come_home(&balancer, &after);
}

#[test]
fn a_limit_on_the_size_of_files_is_no_end_of_the_process() {
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
    // Less than the beginning of any file.
    limit(Some(64));
    fails(&balancer);
    limit(None);
    is_well_again(&balancer);
}
