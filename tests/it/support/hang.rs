//! Threads and files that hang.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Stops one thread of a process until dropped; the other threads continue.
pub(crate) struct Hang(Child);

impl Hang {
    /// Stops the thread of this name.
    pub(crate) fn of(process: u32, name: &str) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/hang"))
            .args([&process.to_string(), name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/machine/hang starts; is the Debian package python3 installed?");
        let mut output = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut output)
            .unwrap();
        assert_eq!(
            output, "hangs\n",
            "a process may be traced by another one of its user: as root, or with kernel.yama.ptrace_scope=0"
        );
        Self(child)
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // The helper releases the thread when its input ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Simulates a file system that hangs: replaces the file by a FIFO, whose open(2) blocks until the other end is opened
/// (fifo(7)), which never happens.
pub(crate) fn stalls(file: &Path) {
    let _ = std::fs::remove_file(file);
    let made = Command::new("mkfifo").arg(file).status();
    assert!(made.expect("mkfifo is installed (coreutils)").success());
}
