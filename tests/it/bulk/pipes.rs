//! Without privilege the kernel limits the pipes of a user: the balancer stays below that limit, and copies if other processes have
//! used it up.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::process::geteuid;

use super::{counted, start_with, upload};
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::pattern::Pattern;
use crate::support::peers::pair;

/// The default limit of the kernel for the pipes of one user, in bytes (fs.pipe-user-pages-soft: 16384 pages).
const LIMIT: usize = 64 << 20;

/// Drops every capability except the one for ports below 1024.
fn without_privilege(command: &mut Command) {
    if !geteuid().is_root() {
        return;
    }
    let sets = ["--inh-caps", "--ambient-caps", "--bounding-set"];
    let mut changed = Command::new("setpriv");
    changed
        .args(sets.map(|set| format!("{set}=-all,+net_bind_service")))
        .arg(command.get_program())
        .args(command.get_args())
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    *command = changed;
}

/// Uses up the pipe limit of the user, as another program of the same user might. Balancers of other tests are
/// privileged, so the limit does not apply to them.
fn use_up_pipes() -> Vec<(OwnedFd, OwnedFd)> {
    const EACH: usize = 1 << 20;
    let pipe = || {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        // Without privilege the last ones fail, because some are in use already.
        let _ = fcntl_setpipe_size(&input, EACH);
        (output, input)
    };
    std::iter::repeat_with(pipe).take(LIMIT / EACH).collect()
}

/// Capacity in bytes of each pipe that the process reads from, except standard input.
fn pipe_sizes(balancer: &Balancer) -> Vec<usize> {
    let size = |path: &Path| {
        let target = std::fs::read_link(path).ok()?;
        // The link of a write end is writable (proc_pid_fd(5)).
        let reads = path.symlink_metadata().ok()?.permissions().mode() & 0o200 == 0;
        if !target.to_string_lossy().starts_with("pipe:") || !reads || path.ends_with("0") {
            return None;
        }
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let pipe = File::options().read(true).custom_flags(flags).open(path);
        fcntl_getpipe_size(pipe.ok()?).ok()
    };
    let directory = format!("/proc/{}/fd", balancer.pid());
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.filter_map(|entry| size(&entry.path())).collect()
}

/// Sends a stream and returns the number of its bytes that were spliced.
fn spliced(server: &TcpListener, balancer: &Balancer, seed: u64, length: u64) -> u64 {
    let before = counted(balancer, "to_backend");
    let (client, backend) = pair(balancer.at(5000), server, b"?");
    let pattern = Pattern { seed, length };
    let received = upload(&client, &backend, pattern, 1 << 20, 1 << 20);
    assert_eq!(received, pattern.sum());
    eventually("all bytes are counted", || {
        let (all, spliced) = counted(balancer, "to_backend");
        (all == before.0 + length + 1).then_some(spliced - before.1)
    })
}

#[test]
fn the_limit_of_an_unprivileged_user_is_respected_and_nothing_is_lost_if_it_is_used_up() {
    const LENGTH: u64 = 48 << 20;
    let (server, balancer) = start_with(without_privilege);
    assert!(spliced(&server, &balancer, 1, LENGTH) > LENGTH / 10 * 9);
    assert_eq!(pipe_sizes(&balancer).first(), Some(&(256 * 1024)));

    // Every stream that stalls keeps its pipe: there are more streams than pipes.
    let stalled: Vec<(TcpStream, TcpStream)> = (0..200)
        .map(|_| pair(balancer.at(5000), &server, b"?"))
        .collect();
    let block = vec![0; 1 << 20];
    for (client, _) in &stalled {
        client.set_nonblocking(true).unwrap();
        let mut client = client;
        while client.write(&block).is_ok() {}
    }
    let mut last = 0;
    eventually("the streams are stalled", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = counted(&balancer, "to_backend").0;
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    let sizes = pipe_sizes(&balancer);
    // A quarter of the limit remains for other processes.
    let held: usize = sizes.iter().sum();
    assert!(held <= LIMIT / 4 * 3, "{held} bytes of pipes");
    assert!(sizes.iter().all(|&size| size >= 64 * 1024), "{sizes:?}");
    drop(stalled);

    let (server, balancer) = start_with(without_privilege);
    let used_up = use_up_pipes();
    assert_eq!(spliced(&server, &balancer, 2, LENGTH), 0);
    assert!(pipe_sizes(&balancer).is_empty());
    drop(used_up);
    eventually("streams are spliced again", || {
        (spliced(&server, &balancer, 3, LENGTH) > LENGTH / 2).then_some(())
    });
}
