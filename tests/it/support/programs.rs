//! Runs external programs to their end, with a time limit.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take; browsers on a busy machine are slow to start.
const BOUND: Duration = Duration::from_secs(90);

/// Exit status and output of a program.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Whether stdout or stderr contains the text.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }
}

/// Runs a program of this Debian package; its input stays open until it has ended.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str], input: &str) -> Said {
    let (child, stdin) = start(program, package, arguments, input);
    let output = wait(child, program);
    drop(stdin);
    output
}

/// Like [`run`], but closes the input at once.
pub(crate) fn feed(program: &str, package: &str, arguments: &[&str], input: &str) -> Said {
    let (child, stdin) = start(program, package, arguments, input);
    drop(stdin);
    wait(child, program)
}

fn start(program: &str, package: &str, arguments: &[&str], input: &str) -> (Child, ChildStdin) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; is the Debian package {package} installed?")
        });
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends at once does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    (child, stdin)
}

fn wait(mut child: Child, program: &str) -> Said {
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    let deadline = Instant::now() + BOUND;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "{program} does not end: {} {}",
                out.join().unwrap(),
                err.join().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Said {
        status,
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    })
}
