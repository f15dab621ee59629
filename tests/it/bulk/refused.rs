//! If a sandbox, an old kernel or a shortage of descriptors makes splice(2) or pipe(2) fail, streams are copied, and one warning is
//! logged.

use std::process::{Command, Stdio};

use super::{counted, start_with, upload};
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::pattern::{Pattern, read_sum};
use crate::support::peers::{close_write, pair};

/// Runs the program that follows the first two arguments, a system call and the error with which it fails (seccomp(2)).
const SECCOMP: &str = r#"
import ctypes, errno, os, platform, struct, sys
calls = {"x86_64": {"splice": 275, "pipe2": 293}, "aarch64": {"splice": 76, "pipe2": 59}}[platform.machine()]
def step(code, true, false, value):
    return struct.pack("HBBI", code, true, false, value)
error = getattr(errno, sys.argv[2])
filter = b"".join([
    step(0x20, 0, 0, 0),                          # the call's number
    step(0x15, 0, 1, calls[sys.argv[1]]),
    step(0x06, 0, 0, 0x00050000 | error),         # SECCOMP_RET_ERRNO
    step(0x06, 0, 0, 0x7FFF0000),                 # SECCOMP_RET_ALLOW
])
held = ctypes.create_string_buffer(filter, len(filter))
program = struct.pack("HxxxxxxP", len(filter) // 8, ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[3], sys.argv[3:])
"#;

/// Runs the balancer through another program.
fn run_through(command: &mut Command, program: &str, arguments: &[&str]) {
    let mut changed = Command::new(program);
    changed
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args())
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    *command = changed;
}

/// Sends streams in both directions, concurrently and one after the other, on several connections.
fn streams_pass(prepare: impl FnOnce(&mut Command)) -> Balancer {
    const LENGTH: u64 = 12 << 20;
    let (server, balancer) = start_with(prepare);
    for seed in 1..=4 {
        let (client, backend) = pair(balancer.at(5000), &server, b"?");
        let pattern = Pattern {
            seed,
            length: LENGTH,
        };
        let down = Pattern {
            seed: seed + 100,
            ..pattern
        };
        std::thread::scope(|threads| {
            threads.spawn(|| {
                down.write(&backend, 1 << 20).unwrap();
                close_write(&backend);
            });
            let received = threads.spawn(|| read_sum(&client, 1 << 20).unwrap());
            let up = upload(&client, &backend, pattern, 1 << 20, 1 << 20);
            assert_eq!(up, pattern.sum());
            assert_eq!(received.join().unwrap(), down.sum());
        });
    }
    eventually("all connections have ended in order", || {
        let lines = balancer.access();
        let in_order = |line: &&serde_json::Value| {
            let outcome = line["outcome"].as_str().unwrap_or_default();
            matches!(outcome, "client_closed" | "backend_closed")
        };
        (lines.iter().filter(in_order).count() == 4).then_some(())
    });
    for direction in ["to_backend", "to_client"] {
        eventually("all bytes are counted", || {
            let (all, _) = counted(&balancer, direction);
            (all == 4 * (LENGTH + u64::from(direction == "to_backend"))).then_some(())
        });
    }
    balancer
}

fn warnings(balancer: &Balancer) -> Vec<serde_json::Value> {
    let is_copy_warning = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "warn" && message.contains("copying streams")
    };
    balancer.log().into_iter().filter(is_copy_warning).collect()
}

#[test]
fn streams_are_copied_if_splice_or_pipe_fails() {
    let refused = [
        ("splice", "EINVAL"),
        ("splice", "ENOSYS"),
        ("splice", "EPERM"),
        ("splice", "ESPIPE"),
        ("splice", "EBADF"),
        ("pipe2", "EPERM"),
        ("pipe2", "ENOSYS"),
        ("pipe2", "EMFILE"),
        ("pipe2", "ENFILE"),
    ];
    for (call, error) in refused {
        let arguments = ["-c", SECCOMP, call, error];
        let balancer = streams_pass(|command| run_through(command, "python3", &arguments));
        assert_eq!(counted(&balancer, "to_backend").1, 0, "{call} {error}");
        let warnings = warnings(&balancer);
        assert_eq!(warnings.len(), 1, "{call} {error}: {warnings:?}");
    }
}

/// The first calls succeed, later ones fail: a pipe may be full by then.
#[test]
fn nothing_is_lost_if_splice_fails_in_the_middle_of_a_stream() {
    for (first, error) in [(2, "EINVAL"), (3, "EPERM"), (4, "ENOSYS"), (8, "EBADF")] {
        let inject = format!("inject=splice:error={error}:when={first}+");
        // -D: the balancer is this process' child, and strace is the balancer's.
        let arguments = [
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=splice",
            "-e",
        ];
        let arguments = [&arguments[..], &[&inject]].concat();
        let balancer = streams_pass(|command| run_through(command, "strace", &arguments));
        let warnings = warnings(&balancer);
        assert_eq!(warnings.len(), 1, "{inject}: {warnings:?}");
    }
}
