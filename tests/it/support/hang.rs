//! Threads and files that do not go on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A thread that does not go on, while this lives; other threads of its process do.
pub(crate) struct Hang(Child);

impl Hang {
    /// Of the thread of this name.
    pub(crate) fn of(process: u32, name: &str) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/hang"))
            .args([&process.to_string(), name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/machine/hang starts; is the Debian package python3 installed?");
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(
            said, "hangs\n",
            "a process may be traced by another one of its user: as root, or with kernel.yama.ptrace_scope=0"
        );
        Self(child)
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // It lets go when its input ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A file system that does not answer, in the place of this file: who opens it waits until somebody opens the other end
/// (fifo(7)), which nobody does.
pub(crate) fn stalls(file: &Path) {
    let _ = std::fs::remove_file(file);
    let made = Command::new("mkfifo").arg(file).status();
    assert!(made.expect("mkfifo is there (coreutils)").success());
}
