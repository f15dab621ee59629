//! Upgrades that fail: the reason is reported, and the old process goes on unchanged.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::raw::{echoed, exchange, served};

use super::{Line, TLS, yaml};

fn goes_on(line: &Line) {
    for _ in 0..20 {
        exchange(line.balancer.at(TLS)).unwrap();
    }
    let failed = ["result=\"failed\""];
    assert!(line.balancer.metric("lyncpin_upgrades_total", &failed) >= 1.0);
}

#[test]
fn a_broken_configuration_is_reported_and_the_old_process_goes_on() {
    let line = Line::start(&yaml());
    let open = served(line.balancer.at(TLS));
    let pid = line.balancer.pid();
    line.change_file(|text| text.replace("pool: web", "pool: wep"));
    // Whom to ask is in the file, too; it is given.
    let output = line.fails_to_upgrade();
    assert!(output.err.contains("wep"), "{output:?}");
    goes_on(&line);
    echoed(&open, b"still served").unwrap();
    line.change_file(|text| text.replace("pool: wep", "pool: web"));
    let successor = line.upgrade();
    assert_ne!(u32::try_from(successor.as_raw_pid()).unwrap(), pid);
    exchange(line.balancer.at(TLS)).unwrap();
}

#[test]
fn an_address_that_cannot_be_bound_is_reported_and_the_old_process_goes_on() {
    let line = Line::start(&yaml());
    let taken = std::net::TcpListener::bind(line.balancer.at(4000)).unwrap();
    let host = line.balancer.address.to_string();
    let one = format!("\"{host}:{TLS}\"");
    line.change_file(|text| text.replace(&one, &format!("{one}, \"{host}:4000\"")));
    let output = line.fails_to_upgrade();
    assert!(output.err.contains("cannot bind"), "{output:?}");
    goes_on(&line);
    drop(taken);
    line.upgrade();
    exchange(line.balancer.at(4000)).unwrap();
}

#[test]
fn a_program_that_fails_is_reported_and_the_old_process_goes_on() {
    let line = Line::start(&yaml());
    let open = served(line.balancer.at(TLS));
    line.put_script("#!/bin/sh\nexit 3\n");
    let output = line.fails_to_upgrade();
    assert!(output.err.contains("exit status: 3"), "{output:?}");
    goes_on(&line);
    std::fs::remove_file(line.path()).unwrap();
    let output = line.fails_to_upgrade();
    assert!(output.err.contains("cannot start "), "{output:?}");
    goes_on(&line);
    echoed(&open, b"still served").unwrap();
    line.put_program();
    line.upgrade();
    exchange(line.balancer.at(TLS)).unwrap();
    echoed(&open, b"still served").unwrap();
}

/// Takes the whole time limit, half a minute.
#[test]
fn a_program_that_hangs_is_killed_and_until_then_no_other_upgrade_is_accepted() {
    let line = Line::start(&yaml());
    line.put_script("#!/bin/sh\nexec sleep 1000\n");
    let begun = Instant::now();
    let asking = line
        .balancer
        .command(&["upgrade"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    line.expect_log("an upgrade begins", 1);
    let second = line.balancer.ask("POST", "/api/v1/upgrade", "").unwrap();
    assert_eq!(second.status, 409, "{second:?}");
    // Nothing waits for it.
    let asked = Instant::now();
    let reload = line.balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(reload.status, 409, "{reload:?}");
    assert!(
        reload.body.contains("an upgrade is under way"),
        "{reload:?}"
    );
    let reload = line.balancer.said(&["reload"]);
    assert_eq!(reload.status, 1);
    assert!(reload.err.contains("an upgrade is under way"), "{reload:?}");
    assert!(asked.elapsed() < Duration::from_secs(20));
    exchange(line.balancer.at(TLS)).unwrap();
    let output = asking.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("did not respond within 30 s"), "{text}");
    goes_on(&line);
    line.put_program();
    line.upgrade();
    exchange(line.balancer.at(TLS)).unwrap();
}

#[test]
fn a_stop_cancels_an_upgrade() {
    let mut line = Line::start(&yaml());
    line.put_script("#!/bin/sh\nexec sleep 1000\n");
    line.balancer.signal(Signal::USR2);
    line.expect_log("an upgrade begins", 1);
    line.balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    assert_eq!(line.balancer.wait().code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(20));
}

/// Killed after it has received everything, while the old process waits for its reply.
#[test]
fn a_program_that_dies_during_the_upgrade_is_reported_and_the_old_process_goes_on() {
    let line = Line::start(&yaml());
    let real = line.program.path().join("real");
    super::install(&real);
    // Its configuration is a pipe without a writer, so that it hangs once it has received everything but pins.
    let script = format!(
        "#!/bin/sh\n( sleep 1; kill -9 $$ ) &\nexec {} run -c {}\n",
        real.display(),
        line.program.path().join("fifo").display()
    );
    let made = std::process::Command::new("mkfifo")
        .arg(line.program.path().join("fifo"))
        .status();
    assert!(made.unwrap().success());
    line.put_script(&script);
    let output = line.fails_to_upgrade();
    assert!(output.err.contains("exited (signal: 9"), "{output:?}");
    goes_on(&line);
}

/// The missing file is the reported reason.
#[test]
fn without_proc_an_upgrade_is_rejected_with_that_reason() {
    let balancer = crate::support::balancer::Balancer::start_with(&yaml(), |command| {
        let mut own = std::process::Command::new("unshare");
        // A user who is not root gets the namespace together with one of users.
        if !rustix::process::geteuid().is_root() {
            own.args(["--user", "--map-root-user"]);
        }
        own.args(["--mount", "sh", "-c"])
            .arg("mount -t tmpfs none /proc && exec \"$@\"")
            .arg("sh")
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        *command = own;
    });
    let output = balancer.said(&["upgrade"]);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(
        output.err.contains("check that /proc is mounted"),
        "{output:?}"
    );
    assert!(!output.err.contains("lyncpin run"), "{output:?}");
    let answer = balancer.ask("POST", "/api/v1/upgrade", "").unwrap();
    assert_eq!(answer.status, 409, "{}", answer.body);
    exchange(balancer.at(TLS)).unwrap();
}
