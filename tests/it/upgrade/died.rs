//! The old process dies in the middle of an upgrade: the new one, which holds every socket, serves.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::eventually;
use crate::support::peers::{Backend, ask, connect, entries};

use super::{Line, install};

const TCP: u16 = 5000;
const TAKEN_OVER: &str = "this process has taken over";
const DIED: &str =
    "the old process has died during the upgrade: this one serves with what it had passed on";
const DIED_EARLY: &str = "the old process died before it had transferred every socket; this process starts like a first one";

/// More than fits into a socket's buffer, a packet for each.
const MANY: usize = 600;

/// One pool that serves, and as many others as wanted, each with a table of pins of its own.
fn start(backends: &[Backend], others: usize) -> Line {
    let others: String = (0..others)
        .map(|number| {
            format!("  p{number}: {{ backends: [\"127.0.0.1:1\"], health: none, affinity: {{ by: [source] }} }}\n")
        })
        .collect();
    Line::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         workers: 2\npools:\n  web: {{ {}, health: none, affinity: {{ by: [source] }} }}\n{others}",
        entries(backends)
    ))
}

fn old(line: &Line) -> Pid {
    line.group
}

fn kill_old(line: &mut Line) {
    kill_process(old(line), Signal::KILL).unwrap();
    line.balancer.wait();
}

/// Has the old process start a new one, which waits for this file before it begins.
fn begins_with(line: &Line) -> PathBuf {
    let (real, go) = real(line, "go");
    let started = go.with_extension("started");
    line.put_script(&format!(
        "#!/bin/sh\n: > {}\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
        started.display(),
        go.display(),
        real.display()
    ));
    line.balancer.signal(Signal::USR2);
    eventually("the new process has been started", || {
        started.exists().then_some(())
    });
    go
}

/// Has the new process read its configuration from this pipe, which it does when it has heard everything but pins.
fn reads_from_pipe(line: &Line) -> PathBuf {
    let (real, pipe) = real(line, "pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    line.put_script(&format!(
        "#!/bin/sh\nexec {} run -c {}\n",
        real.display(),
        pipe.display()
    ));
    pipe
}

fn real(line: &Line, beside: &str) -> (PathBuf, PathBuf) {
    let real = line.program.path().join("real");
    install(&real);
    (real, line.program.path().join(beside))
}

/// The writing end, once the new process reads.
fn writing_end(pipe: &Path) -> std::fs::File {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let end = eventually("the new process reads its configuration", || {
        rustix::fs::open(pipe, flags, Mode::empty()).ok()
    });
    rustix::io::ioctl_fionbio(&end, false).unwrap();
    end.into()
}

fn serves(line: &Line) {
    eventually("the new process serves", || {
        let client = connect(line.balancer.at(TCP)).ok()?;
        ask(&client, b"?").ok()
    });
    for _ in 0..20 {
        let client = connect(line.balancer.at(TCP)).unwrap();
        ask(&client, b"?").unwrap();
    }
    let healthy = line.balancer.get("/readyz");
    assert_eq!(healthy.status, 200, "{healthy:?}");
    // And is whole: it can be upgraded itself.
    line.put_program();
    let pipe = line.program.path().join("pipe");
    if pipe.exists() {
        let file = pipe.with_extension("yaml");
        std::fs::copy(&line.file, &file).unwrap();
        std::fs::rename(file, pipe).unwrap();
    }
    line.upgrade();
    let client = connect(line.balancer.at(TCP)).unwrap();
    ask(&client, b"?").unwrap();
}

#[test]
fn before_a_word_was_heard() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let go = begins_with(&line);
    kill_old(&mut line);
    std::fs::write(go, "").unwrap();
    serves(&line);
}

#[test]
fn before_every_socket_was_passed_on() {
    let backends = Backend::several(2);
    let mut line = start(&backends, MANY);
    let go = begins_with(&line);
    kill_old(&mut line);
    std::fs::write(go, "").unwrap();
    serves(&line);
    line.says(DIED_EARLY, 1);
}

#[test]
fn in_the_middle_of_pins() {
    let backends = Backend::several(2);
    let mut line = start(&backends, MANY);
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut line);
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.says(TAKEN_OVER, 1);
    line.says(DIED, 1);
    serves(&line);
}

#[test]
fn when_states_were_told() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let said = line.balancer.said(&["drain", "b", "--deadline", "600s"]);
    assert_eq!(said.status, 0, "{said:?}");
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut line);
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.says(DIED, 1);
    let status = line.balancer.status();
    assert_eq!(status["pools"][0]["backends"][1]["state"], "drain");
    serves(&line);
}

#[test]
fn when_the_new_one_has_heard_everything_and_waits_for_its_time() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let client = connect(line.balancer.at(TCP)).unwrap();
    let server = ask(&client, b"?").unwrap();
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    let text = std::fs::read(&line.file).unwrap();
    end.write_all(&text).unwrap();
    drop(end);
    // Bound is what has been built; it is ready a moment later.
    line.says("bound", 2);
    let _ = kill_process(old(&line), Signal::KILL);
    line.balancer.wait();
    // What the old one knew is known.
    let source = client.local_addr().unwrap().ip();
    let body = eventually("the admin listener answers", || {
        line.balancer
            .try_get("/api/v1/affinity")
            .filter(|answer| answer.status == 200)
    });
    let body = body.body;
    assert!(
        body.contains(&format!("\"{source}/32\"")) && body.contains(&server),
        "{body}"
    );
    serves(&line);
}

/// The old process hears nothing any more and is not dead yet, until it is.
#[test]
fn when_the_old_one_hangs_before_it_dies() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_process(old(&line), Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    kill_old(&mut line);
    line.says(DIED, 1);
    serves(&line);
}

/// A stop that comes before the old process knows that the new one is ready ends both, whichever it sees first.
#[test]
fn a_stop_while_the_new_one_takes_over_ends_both() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_process(old(&line), Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.balancer.signal(Signal::TERM);
    kill_process(old(&line), Signal::CONT).unwrap();
    assert_eq!(line.balancer.wait().code(), Some(0));
    eventually("nothing serves", || connect(line.balancer.at(TCP)).err());
    line.says(DIED, 0);
}
