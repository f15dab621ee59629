//! Upgrades that fail: the reason is reported, and the old process continues unchanged.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::raw::{echoed, exchange, served};

use super::{Service, TLS, yaml};

fn assert_unchanged(service: &Service) {
    for _ in 0..20 {
        exchange(service.balancer.at(TLS)).unwrap();
    }
    let failed = ["result=\"failed\""];
    assert!(service.balancer.metric("lyncpin_upgrades_total", &failed) >= 1.0);
}

#[test]
fn a_broken_configuration_is_reported_and_the_old_process_continues() {
    let service = Service::start(&yaml());
    let open = served(service.balancer.at(TLS));
    let pid = service.balancer.pid();
    service.change_file(|text| text.replace("pool: web", "pool: wep"));
    // The invalid file also has the admin address, so the address is given.
    let output = service.fails_to_upgrade();
    assert!(output.err.contains("wep"), "{output:?}");
    assert_unchanged(&service);
    echoed(&open, b"still served").unwrap();
    service.change_file(|text| text.replace("pool: wep", "pool: web"));
    let successor = service.upgrade();
    assert_ne!(u32::try_from(successor.as_raw_pid()).unwrap(), pid);
    exchange(service.balancer.at(TLS)).unwrap();
}

#[test]
fn an_address_that_cannot_be_bound_is_reported_and_the_old_process_continues() {
    let service = Service::start(&yaml());
    let taken = std::net::TcpListener::bind(service.balancer.at(4000)).unwrap();
    let host = service.balancer.address.to_string();
    let one = format!("\"{host}:{TLS}\"");
    service.change_file(|text| text.replace(&one, &format!("{one}, \"{host}:4000\"")));
    let output = service.fails_to_upgrade();
    assert!(output.err.contains("cannot bind"), "{output:?}");
    assert_unchanged(&service);
    drop(taken);
    service.upgrade();
    exchange(service.balancer.at(4000)).unwrap();
}

#[test]
fn a_program_that_fails_is_reported_and_the_old_process_continues() {
    let service = Service::start(&yaml());
    let open = served(service.balancer.at(TLS));
    service.put_script("#!/bin/sh\nexit 3\n");
    let output = service.fails_to_upgrade();
    assert!(output.err.contains("exit status: 3"), "{output:?}");
    assert_unchanged(&service);
    std::fs::remove_file(service.path()).unwrap();
    let output = service.fails_to_upgrade();
    assert!(output.err.contains("cannot start "), "{output:?}");
    assert_unchanged(&service);
    echoed(&open, b"still served").unwrap();
    service.put_program();
    service.upgrade();
    exchange(service.balancer.at(TLS)).unwrap();
    echoed(&open, b"still served").unwrap();
}

/// Takes the whole time limit of 30 s.
#[test]
fn a_program_that_hangs_is_killed_and_until_then_no_other_upgrade_is_accepted() {
    let service = Service::start(&yaml());
    service.put_script("#!/bin/sh\nexec sleep 1000\n");
    let begun = Instant::now();
    let asking = service
        .balancer
        .command(&["upgrade"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    service.expect_log("an upgrade begins", 1);
    let second = service.balancer.ask("POST", "/api/v1/upgrade", "").unwrap();
    assert_eq!(second.status, 409, "{second:?}");
    // No other request waits for it.
    let asked = Instant::now();
    let reload = service.balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(reload.status, 409, "{reload:?}");
    assert!(
        reload.body.contains("an upgrade is under way"),
        "{reload:?}"
    );
    let reload = service.balancer.said(&["reload"]);
    assert_eq!(reload.status, 1);
    assert!(reload.err.contains("an upgrade is under way"), "{reload:?}");
    assert!(asked.elapsed() < Duration::from_secs(20));
    exchange(service.balancer.at(TLS)).unwrap();
    let output = asking.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("did not respond within 30 s"), "{text}");
    assert_unchanged(&service);
    service.put_program();
    service.upgrade();
    exchange(service.balancer.at(TLS)).unwrap();
}

#[test]
fn a_stop_cancels_an_upgrade() {
    let mut service = Service::start(&yaml());
    service.put_script("#!/bin/sh\nexec sleep 1000\n");
    service.balancer.signal(Signal::USR2);
    service.expect_log("an upgrade begins", 1);
    service.balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    assert_eq!(service.balancer.wait().code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(20));
}

/// Killed after it has received everything, while the old process waits for its reply.
#[test]
fn a_program_that_dies_during_the_upgrade_is_reported_and_the_old_process_continues() {
    let service = Service::start(&yaml());
    let real = service.program.path().join("real");
    super::install(&real);
    // Its configuration is a pipe without a writer, so that it hangs once it has received everything but pins.
    let script = format!(
        "#!/bin/sh\n( sleep 1; kill -9 $$ ) &\nexec {} run -c {}\n",
        real.display(),
        service.program.path().join("fifo").display()
    );
    let made = std::process::Command::new("mkfifo")
        .arg(service.program.path().join("fifo"))
        .status();
    assert!(made.unwrap().success());
    service.put_script(&script);
    let output = service.fails_to_upgrade();
    assert!(output.err.contains("exited (signal: 9"), "{output:?}");
    assert_unchanged(&service);
}

/// The error names the missing file.
#[test]
fn without_proc_an_upgrade_is_rejected_with_that_reason() {
    let balancer = crate::support::balancer::Balancer::start_with(&yaml(), |command| {
        let mut own = std::process::Command::new("unshare");
        // A user other than root also needs a user namespace.
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
