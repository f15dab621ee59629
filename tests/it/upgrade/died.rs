//! The old process dies in the middle of an upgrade: the new one, which holds every socket, serves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::eventually;
use crate::support::peers::{Backend, ask, assert_reset, connect, entries};

use super::{Line, install};

const TCP: u16 = 5000;
const TAKEN_OVER: &str = "this process has taken over";
const DIED: &str =
    "the old process died during the upgrade: this one serves with what it had received";
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

/// Has the old process start a new one, which waits for this file first.
fn waits_for_file(line: &Line) -> PathBuf {
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

/// Has the new process read its configuration from this pipe, which it does once it has received everything but pins.
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
        "#!/bin/sh\necho $$ > {0}.pid\nexec {1} run -c {0}\n",
        pipe.display(),
        real.display()
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
    // It is complete: it can be upgraded itself.
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
fn the_new_process_serves_if_the_old_one_dies_before_the_first_message() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let go = waits_for_file(&line);
    kill_old(&mut line);
    std::fs::write(go, "").unwrap();
    serves(&line);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_before_it_has_passed_every_socket() {
    let backends = Backend::several(2);
    let mut line = start(&backends, MANY);
    let go = waits_for_file(&line);
    kill_old(&mut line);
    std::fs::write(go, "").unwrap();
    serves(&line);
    line.expect_log(DIED_EARLY, 1);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_while_it_sends_pins() {
    let backends = Backend::several(2);
    let mut line = start(&backends, MANY);
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut line);
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.expect_log(TAKEN_OVER, 1);
    line.expect_log(DIED, 1);
    serves(&line);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_after_it_has_sent_states() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let output = line.balancer.said(&["drain", "b", "--deadline", "600s"]);
    assert_eq!(output.status, 0, "{output:?}");
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut line);
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.expect_log(DIED, 1);
    let status = line.balancer.status();
    assert_eq!(status["pools"][0]["backends"][1]["state"], "drain");
    serves(&line);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_before_the_commit() {
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
    // It is ready a moment after this line.
    line.expect_log("bound", 2);
    let _ = kill_process(old(&line), Signal::KILL);
    line.balancer.wait();
    // The state of the old process is restored.
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

/// The old process hangs, and dies later.
#[test]
fn the_new_process_serves_if_the_old_one_hangs_and_then_dies() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    let pipe = reads_from_pipe(&line);
    line.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_process(old(&line), Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    kill_old(&mut line);
    line.expect_log(DIED, 1);
    serves(&line);
}

/// A stop that comes before the old process knows that the new one is ready ends both, whichever it sees first.
#[test]
fn a_stop_during_the_handover_ends_both_processes() {
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
    line.expect_log(DIED, 0);
}

/// The serving process stops while its successor, which is ready, hangs: the upgrade is cancelled, and the process before
/// ends with the service.
#[test]
fn a_stop_in_the_last_step_of_an_upgrade_ends_the_older_process_too() {
    let backends = Backend::several(2);
    let mut line = start(&backends, 0);
    line.change_file(|text| text + "timeouts: { shutdown: 1s }\n");
    let held = connect(line.balancer.at(TCP)).unwrap();
    ask(&held, b"?").unwrap();
    let second = line.upgrade();
    let pipe = reads_from_pipe(&line);
    kill_process(second, Signal::USR2).unwrap();
    let mut end = writing_end(&pipe);
    kill_process(second, Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&line.file).unwrap()).unwrap();
    drop(end);
    line.expect_log("bound", 3);
    let third = std::fs::read_to_string(pipe.with_extension("pid")).unwrap();
    let third = Pid::from_raw(third.trim().parse().unwrap()).unwrap();
    eventually("the third process waits for the commit", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", third.as_raw_pid()));
        stat.unwrap().contains(") S ").then_some(())
    });
    kill_process(third, Signal::STOP).unwrap();
    kill_process(second, Signal::CONT).unwrap();
    eventually("no process accepts", || {
        let client = connect(line.balancer.at(TCP)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        ask(&client, b"?").err()
    });
    kill_process(second, Signal::TERM).unwrap();
    assert_reset(&held);
    assert_eq!(line.balancer.wait().code(), Some(0));
}
