//! The old process dies during an upgrade. The new process holds every socket and serves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::eventually;
use crate::support::peers::{Backend, ask, assert_reset, connect, entries};

use super::{Service, install};

const TCP: u16 = 5000;
const TAKEN_OVER: &str = "this process has taken over";
const DIED: &str =
    "the old process died during the upgrade: this one serves with what it had received";
const DIED_EARLY: &str = "the old process died before it had transferred every socket; this process starts like a first one";

/// More packets than fit into the buffer of a socket.
const MANY: usize = 600;

/// One pool that serves, and this number of other pools, each with its own affinity table.
fn start(backends: &[Backend], others: usize) -> Service {
    let others: String = (0..others)
        .map(|number| {
            format!("  p{number}: {{ backends: [\"127.0.0.1:1\"], health: none, affinity: {{ by: [source] }} }}\n")
        })
        .collect();
    Service::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         workers: 2\npools:\n  web: {{ {}, health: none, affinity: {{ by: [source] }} }}\n{others}",
        entries(backends)
    ))
}

fn old(service: &Service) -> Pid {
    service.group
}

fn kill_old(service: &mut Service) {
    kill_process(old(service), Signal::KILL).unwrap();
    service.balancer.wait();
}

/// Starts an upgrade whose new process first waits for this file.
fn waits_for_file(service: &Service) -> PathBuf {
    let (real, go) = real(service, "go");
    let started = go.with_extension("started");
    service.put_script(&format!(
        "#!/bin/sh\n: > {}\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
        started.display(),
        go.display(),
        real.display()
    ));
    service.balancer.signal(Signal::USR2);
    eventually("the new process has been started", || {
        started.exists().then_some(())
    });
    go
}

/// Makes the next new process read its configuration from this pipe, after it has received all but the pins.
fn reads_from_pipe(service: &Service) -> PathBuf {
    let (real, pipe) = real(service, "pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    service.put_script(&format!(
        "#!/bin/sh\necho $$ > {0}.pid\nexec {1} run -c {0}\n",
        pipe.display(),
        real.display()
    ));
    pipe
}

fn real(service: &Service, other: &str) -> (PathBuf, PathBuf) {
    let real = service.program.path().join("real");
    install(&real);
    (real, service.program.path().join(other))
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

fn assert_serves(service: &Service) {
    eventually("the new process serves", || {
        let client = connect(service.balancer.at(TCP)).ok()?;
        ask(&client, b"?").ok()
    });
    for _ in 0..20 {
        let client = connect(service.balancer.at(TCP)).unwrap();
        ask(&client, b"?").unwrap();
    }
    let healthy = service.balancer.get("/readyz");
    assert_eq!(healthy.status, 200, "{healthy:?}");
    // Its state is complete: it can be upgraded itself.
    service.put_program();
    let pipe = service.program.path().join("pipe");
    if pipe.exists() {
        let file = pipe.with_extension("yaml");
        std::fs::copy(&service.file, &file).unwrap();
        std::fs::rename(file, pipe).unwrap();
    }
    service.upgrade();
    let client = connect(service.balancer.at(TCP)).unwrap();
    ask(&client, b"?").unwrap();
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_before_the_first_message() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    let go = waits_for_file(&service);
    kill_old(&mut service);
    std::fs::write(go, "").unwrap();
    assert_serves(&service);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_before_it_has_sent_every_socket() {
    let backends = Backend::several(2);
    let mut service = start(&backends, MANY);
    let go = waits_for_file(&service);
    kill_old(&mut service);
    std::fs::write(go, "").unwrap();
    assert_serves(&service);
    service.expect_log(DIED_EARLY, 1);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_while_it_sends_pins() {
    let backends = Backend::several(2);
    let mut service = start(&backends, MANY);
    let pipe = reads_from_pipe(&service);
    service.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut service);
    end.write_all(&std::fs::read(&service.file).unwrap())
        .unwrap();
    drop(end);
    service.expect_log(TAKEN_OVER, 1);
    service.expect_log(DIED, 1);
    assert_serves(&service);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_after_it_has_sent_states() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    let output = service.balancer.said(&["drain", "b", "--deadline", "600s"]);
    assert_eq!(output.status, 0, "{output:?}");
    let pipe = reads_from_pipe(&service);
    service.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_old(&mut service);
    end.write_all(&std::fs::read(&service.file).unwrap())
        .unwrap();
    drop(end);
    service.expect_log(DIED, 1);
    let status = service.balancer.status();
    assert_eq!(status["pools"][0]["backends"][1]["state"], "drain");
    assert_serves(&service);
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_before_the_commit() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    let client = connect(service.balancer.at(TCP)).unwrap();
    let server = ask(&client, b"?").unwrap();
    let pipe = reads_from_pipe(&service);
    service.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    let text = std::fs::read(&service.file).unwrap();
    end.write_all(&text).unwrap();
    drop(end);
    // It is ready shortly after this log line.
    service.expect_log("bound", 2);
    let _ = kill_process(old(&service), Signal::KILL);
    service.balancer.wait();
    // The state of the old process is restored.
    let source = client.local_addr().unwrap().ip();
    let body = eventually("the admin listener responds", || {
        service
            .balancer
            .try_get("/api/v1/affinity")
            .filter(|answer| answer.status == 200)
    });
    let body = body.body;
    assert!(
        body.contains(&format!("\"{source}/32\"")) && body.contains(&server),
        "{body}"
    );
    assert_serves(&service);
}

/// The old process hangs, and dies later.
#[test]
fn the_new_process_serves_if_the_old_one_hangs_and_then_dies() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    let pipe = reads_from_pipe(&service);
    service.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_process(old(&service), Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&service.file).unwrap())
        .unwrap();
    drop(end);
    kill_old(&mut service);
    service.expect_log(DIED, 1);
    assert_serves(&service);
}

/// A stop before the old process knows that the new one is ready ends both processes, in either order of events.
#[test]
fn a_stop_during_the_handoff_ends_both_processes() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    let pipe = reads_from_pipe(&service);
    service.balancer.signal(Signal::USR2);
    let mut end = writing_end(&pipe);
    kill_process(old(&service), Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&service.file).unwrap())
        .unwrap();
    drop(end);
    service.balancer.signal(Signal::TERM);
    kill_process(old(&service), Signal::CONT).unwrap();
    assert_eq!(service.balancer.wait().code(), Some(0));
    eventually("nothing serves", || connect(service.balancer.at(TCP)).err());
    service.expect_log(DIED, 0);
}

/// The serving process stops while its successor, which is ready, hangs: the upgrade is cancelled, and the older
/// process ends with the service.
#[test]
fn a_stop_in_the_last_step_of_an_upgrade_ends_the_older_process_too() {
    let backends = Backend::several(2);
    let mut service = start(&backends, 0);
    service.change_file(|text| text + "timeouts: { shutdown: 1s }\n");
    let held = connect(service.balancer.at(TCP)).unwrap();
    ask(&held, b"?").unwrap();
    let second = service.upgrade();
    let pipe = reads_from_pipe(&service);
    kill_process(second, Signal::USR2).unwrap();
    let mut end = writing_end(&pipe);
    kill_process(second, Signal::STOP).unwrap();
    end.write_all(&std::fs::read(&service.file).unwrap())
        .unwrap();
    drop(end);
    service.expect_log("bound", 3);
    let third = std::fs::read_to_string(pipe.with_extension("pid")).unwrap();
    let third = Pid::from_raw(third.trim().parse().unwrap()).unwrap();
    eventually("the third process waits for the commit", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", third.as_raw_pid()));
        stat.unwrap().contains(") S ").then_some(())
    });
    kill_process(third, Signal::STOP).unwrap();
    kill_process(second, Signal::CONT).unwrap();
    eventually("no process accepts", || {
        let client = connect(service.balancer.at(TCP)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        ask(&client, b"?").err()
    });
    kill_process(second, Signal::TERM).unwrap();
    assert_reset(&held);
    assert_eq!(service.balancer.wait().code(), Some(0));
}
