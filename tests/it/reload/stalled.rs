//! A file system that does not respond delays only the reload that reads it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{routed, server};
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::hang::stalls;
use crate::support::peers::Backend;
use crate::support::raw::{counted, ticks};

/// Much longer than a stop takes, and shorter than a reload waits for a file.
const SOON: Duration = Duration::from_secs(6);

fn start(backends: &[Backend]) -> Balancer {
    Balancer::start(&routed("a", backends)).ready()
}

/// The balancer with a configuration, token or store that stalls at the next read.
fn stalled(what: &str, backends: &[Backend]) -> Balancer {
    let balancer = start(backends);
    let directory = balancer.directory();
    match what {
        "configuration" => stalls(&balancer.file()),
        "token" => stalls(&directory.join("token")),
        "store" => {
            // The lock is the first file of the store that is opened.
            stalls(&directory.join("affinity.lock"));
            let store = format!(
                "affinity_store: {{ file: {}/affinity }}\n",
                directory.display()
            );
            balancer.write(&(routed("a", backends) + &store));
        }
        other => panic!("{other}"),
    }
    balancer
}

fn threads(balancer: &Balancer) -> usize {
    let tasks = format!("/proc/{}/task", balancer.pid());
    std::fs::read_dir(tasks).unwrap().count()
}

/// Waits until a thread is blocked on the file.
fn waits(balancer: &Balancer) {
    eventually("a thread reads", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", balancer.pid())).unwrap();
        let mut names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name.trim() == "reload").then_some(())
    });
}

#[test]
fn a_reload_that_waits_for_a_file_delays_neither_the_admin_listener_nor_clients_nor_a_stop() {
    for what in ["configuration", "token", "store"] {
        let backends = Backend::several(1);
        let mut balancer = stalled(what, &backends);
        balancer.signal(Signal::HUP);
        waits(&balancer);
        for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
            let asked = Instant::now();
            assert_eq!(balancer.get(path).status, 200, "{what}");
            assert!(asked.elapsed() < SOON, "{what} {path}");
        }
        assert_eq!(server(&balancer), "a");
        let signalled = Instant::now();
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait().code(), Some(0), "{what}");
        assert!(
            signalled.elapsed() < SOON,
            "{what}: {:?}",
            signalled.elapsed()
        );
    }
}

#[test]
fn a_reload_that_waits_too_long_is_rejected_with_the_name_of_the_file_and_one_thread_waits() {
    let backends = Backend::several(1);
    let balancer = stalled("configuration", &backends);
    let before = threads(&balancer);
    let output = balancer.said(&["reload"]);
    assert_eq!(output.status, 1, "{output:?}");
    let file = balancer.file().display().to_string();
    assert!(
        output.err.contains("did not respond within 10 s"),
        "{output:?}"
    );
    assert!(output.err.contains(&file), "{output:?}");
    for _ in 0..20 {
        balancer.signal(Signal::HUP);
        let output = balancer.said(&["reload"]);
        assert_eq!(output.status, 1, "{output:?}");
        assert!(
            output.err.contains("an earlier reload still waits for"),
            "{output:?}"
        );
    }
    assert!(threads(&balancer) <= before + 1);
    eventually("every rejected reload is counted", || {
        let rejected = balancer.metric("lyncpin_config_reloads_total", &["result=\"rejected\""]);
        (rejected >= 22.0).then_some(())
    });
    // The file system responds again: the other end of the pipe is opened and closed.
    std::fs::write(balancer.file(), "").unwrap();
    std::fs::remove_file(balancer.file()).unwrap();
    eventually("the next reload is accepted", || {
        (balancer.reload(&routed("a", &backends)).status == 200).then_some(())
    });
}

#[test]
fn a_configuration_without_an_end_is_read_up_to_the_size_limit() {
    let backends = Backend::several(1);
    let balancer = start(&backends);
    let run = |arguments: &[&str]| {
        Command::new("timeout")
            .arg("20")
            .arg(env!("CARGO_BIN_EXE_lyncpin"))
            .args(arguments)
            .output()
            .unwrap()
    };
    for command in ["check", "run", "expand", "status", "reload"] {
        let output = run(&[command, "-c", "/dev/zero"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{command}: {text}"
        );
        assert!(
            text.contains("larger than 1 MiB") && text.len() < 2_000,
            "{command}: {text}"
        );
    }
    assert_eq!(
        run(&["run", "--watch", "-c", "/dev/zero"]).status.code(),
        Some(2)
    );
    let resident = balancer.resident_kib();
    std::fs::remove_file(balancer.file()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", balancer.file()).unwrap();
    let answer = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("larger than 1 MiB"), "{}", answer.body);
    assert!(balancer.resident_kib() < resident + 20_000);
    // A character cut by the size limit is not reported as a second error.
    let large = "# \u{fc}".repeat(400_000);
    std::fs::remove_file(balancer.file()).unwrap();
    balancer.write_raw(&large);
    let answer = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert!(answer.body.contains("larger than 1 MiB"), "{}", answer.body);
}

#[test]
fn a_path_that_is_not_a_file_is_reported_and_changes_nothing() {
    let backends = Backend::several(1);
    let balancer = start(&backends);
    std::fs::remove_file(balancer.file()).unwrap();
    std::fs::create_dir(balancer.file()).unwrap();
    let answer = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("cannot be read"), "{}", answer.body);
    assert_eq!(server(&balancer), "a");
}

#[test]
fn a_watched_file_that_stalls_delays_nothing_and_is_reloaded_once_it_can_be_read() {
    let backends = Backend::several(2);
    let watching = |command: &mut Command| {
        command.arg("--watch");
    };
    let mut balancer = Balancer::start_with(&routed("a", &backends), watching).ready();
    stalls(&balancer.directory().join("pipe"));
    std::fs::rename(balancer.directory().join("pipe"), balancer.file()).unwrap();
    let before = ticks(&balancer);
    for _ in 0..20 {
        // Each of these is an event in the directory.
        std::fs::write(balancer.directory().join("notes"), "b").unwrap();
        assert_eq!(balancer.get("/readyz").status, 200);
    }
    assert!(ticks(&balancer) - before < 100);
    std::fs::remove_file(balancer.file()).unwrap();
    balancer.write(&routed("b", &backends));
    super::routes_to(&balancer, "b");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
}

/// A process; killed when dropped.
struct Started(std::process::Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A start that waits for the file stalled by `prepare` ends with SIGTERM.
fn stalls_at_start(prepare: impl FnOnce(&Path) -> String) {
    let directory = tempfile::tempdir().unwrap();
    let address = crate::support::own_address();
    let yaml = prepare(directory.path());
    let file = directory.path().join("balancer.yaml");
    std::fs::write(&file, yaml.replace("HOST", &address.to_string())).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut started = Started(child);
    let id = started.0.id();
    let named = |wanted: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
        let mut names = tasks
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name.trim() == wanted)
    };
    eventually("it starts", || named("start").then_some(()));
    let pid = rustix::process::Pid::from_child(&started.0);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let signalled = Instant::now();
    let status = eventually("it ends", || started.0.try_wait().unwrap());
    assert!(signalled.elapsed() < SOON);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_start_that_waits_for_a_file_system_can_be_stopped() {
    let web = "listeners: { web: { bind: [\"HOST:80\"], protocol: tcp, pool: p } }\n\
               pools: { p: { backends: [\"HOST:81\"] } }\n";
    stalls_at_start(|directory| {
        let token = directory.join("token");
        stalls(&token);
        format!(
            "{web}admin: {{ bind: \"HOST:9900\", token_file: {} }}\n",
            token.display()
        )
    });
    stalls_at_start(|directory| {
        stalls(&directory.join("affinity.lock"));
        let file = directory.join("affinity");
        format!(
            "{web}admin: {{ bind: \"HOST:9900\" }}\naffinity_store: {{ file: {} }}\n",
            file.display()
        )
    });
}

#[test]
fn the_watchdog_gets_keep_alives_while_a_reload_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let backends = Backend::several(1);
    let balancer = Balancer::start_with(&routed("a", &backends), |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000");
    })
    .ready();
    stalls(&balancer.directory().join("token"));
    balancer.signal(Signal::HUP);
    waits(&balancer);
    let mut fed = 0;
    while fed < 5 {
        let mut buffer = [0; 4096];
        let length = socket
            .recv(&mut buffer)
            .expect("the watchdog gets a keep-alive");
        fed += usize::from(buffer[..length].starts_with(b"WATCHDOG=1"));
    }
}

#[test]
fn a_configuration_can_be_read_from_a_pipe() {
    let address = crate::support::own_address();
    let yaml = routed("a", &Backend::several(1)).replace("HOST", &address.to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["check", "-c", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), yaml.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stalled_reload_does_not_count_as_accepted() {
    let backends = Backend::several(1);
    let balancer = stalled("token", &backends);
    let answer = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("the token file"), "{}", answer.body);
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"rejected\""],
        1.0,
    );
}
