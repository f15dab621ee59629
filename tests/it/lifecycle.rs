//! Start, stop, and the state of the ports in between.

mod resolver;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::peers::raise_descriptors;
use crate::support::raw::{
    AdminLine, Answer, How, Neighbour, SERVED, connect, counted, echo, echoed, exchange, hear,
    is_health, served, served_hello, ticks, unused_address,
};
use crate::support::{at, eventually, own_address};

const TLS: u16 = 443;

fn yaml(backend: SocketAddr, shutdown: &str) -> String {
    format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}] }}
pools: {{ web: {{ backends: [{{ name: fe01, address: "{backend}" }}] }} }}
timeouts: {{ client_hello: 60s, shutdown: {shutdown} }}
workers: 2
"#
    )
}

fn start(shutdown: &str) -> Balancer {
    Balancer::start(&yaml(echo(), shutdown)).ready()
}

fn logs_stopping(balancer: &Balancer) {
    eventually("the stop is logged", || {
        balancer
            .log()
            .into_iter()
            .find(|line| line["message"] == "stopping")
    });
}

fn lines(balancer: &Balancer, outcome: &str) -> usize {
    balancer
        .access()
        .iter()
        .filter(|line| line["outcome"] == outcome)
        .count()
}

#[test]
fn a_stop_resets_connections_after_the_timeout_and_each_has_its_log_line() {
    let mut balancer = start("2s");
    let open: Vec<TcpStream> = (0..3).map(|_| served(balancer.at(TLS))).collect();
    let mut silent = connect(balancer.at(TLS));
    silent.write_all(&served_hello()[..30]).unwrap();
    counted(&balancer, "lyncpin_connections_active", &[], 4.0);
    balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    eventually("/readyz fails", || {
        balancer
            .try_get("/readyz")
            .filter(|answer| answer.status == 503)
    });
    assert_eq!(balancer.get("/healthz").status, 200);
    eventually("the port refuses", || {
        TcpStream::connect(balancer.at(TLS)).err()
    });
    for stream in &open {
        echoed(stream, b"still served").unwrap();
    }
    for stream in &open {
        hear(stream).must_be(Answer::Reset, "an open connection");
    }
    assert!(signalled.elapsed() >= Duration::from_secs(2));
    hear(&silent).must_be(Answer::Reset, "a connection without a complete ClientHello");
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(10));
    eventually("four log lines", || {
        (lines(&balancer, "shutdown") == 4).then_some(())
    });
}

#[test]
fn a_stop_ends_with_the_last_connection() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut balancer = start("60s");
        let stream = served(balancer.at(TLS));
        balancer.signal(signal);
        logs_stopping(&balancer);
        echoed(&stream, b"still served").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        hear(&stream).must_be(Answer::Nothing, "the one connection");
        let closed = Instant::now();
        assert_eq!(balancer.wait().code(), Some(0));
        assert!(closed.elapsed() < Duration::from_secs(10));
        eventually("its log line", || {
            (lines(&balancer, "client_closed") == 1).then_some(())
        });
    }
}

#[test]
fn a_second_signal_stops_the_balancer_at_once() {
    let mut balancer = start("300s");
    let stream = served(balancer.at(TLS));
    let silent = connect(balancer.at(TLS));
    counted(&balancer, "lyncpin_connections_active", &[], 2.0);
    balancer.signal(Signal::TERM);
    logs_stopping(&balancer);
    balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    hear(&stream).must_be(Answer::Reset, "an open connection");
    hear(&silent).must_be(Answer::Reset, "a silent one");
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(
        signalled.elapsed() < Duration::from_secs(5),
        "{:?}",
        signalled.elapsed()
    );
    eventually("two log lines", || {
        (lines(&balancer, "shutdown") == 2).then_some(())
    });
}

#[test]
fn clients_in_the_accept_queue_at_a_stop_are_served() {
    const QUEUED: usize = 40;
    let mut balancer = start("30s");
    balancer.signal(Signal::STOP);
    let queued: Vec<TcpStream> = (0..QUEUED).map(|_| connect(balancer.at(TLS))).collect();
    for mut stream in &queued {
        stream.write_all(&served_hello()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    balancer.signal(Signal::TERM);
    balancer.signal(Signal::CONT);
    for stream in &queued {
        let received = hear(stream);
        assert_eq!(
            (received.how, received.bytes),
            (How::Closed, served_hello())
        );
    }
    assert_eq!(balancer.wait().code(), Some(0));
    eventually("a log line for each", || {
        (lines(&balancer, "client_closed") == QUEUED).then_some(())
    });
}

/// A session that reaches a backend at the last moment misses the order to end. Its stream is truncated, so it must not look
/// complete.
#[test]
fn a_connection_made_at_the_last_moment_is_reset_and_not_closed() {
    let mut balancer = start("1s");
    let early = served(balancer.at(TLS));
    let late: Vec<TcpStream> = (0..4).map(|_| connect(balancer.at(TLS))).collect();
    let hello = served_hello();
    for mut stream in &late {
        stream.write_all(&hello[..30]).unwrap();
    }
    counted(&balancer, "lyncpin_connections_active", &[], 5.0);
    balancer.signal(Signal::TERM);
    hear(&early).must_be(Answer::Reset, "the early one");
    for mut stream in &late {
        stream.write_all(&hello[30..]).unwrap();
    }
    for stream in &late {
        let received = hear(stream);
        assert_eq!((received.how, received.bytes), (How::Reset, hello.clone()));
    }
    assert_eq!(balancer.wait().code(), Some(0));
    eventually("a log line for each", || {
        (lines(&balancer, "shutdown") == 5).then_some(())
    });
}

/// Runs `lyncpin run` with a configuration of its own until it ends.
fn run(yaml: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    let whole = format!(
        "{yaml}\nadmin: {{ bind: \"{}\" }}\n",
        at(own_address(), 9900)
    );
    std::fs::write(&file, whole).unwrap();
    Command::new("timeout")
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn is_rejected(output: &Output, address: SocketAddr) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains("listener \"tls\" cannot bind")
            && last.contains(&address.to_string())
            && last.contains("another instance"),
        "{text}"
    );
}

#[test]
fn a_second_instance_fails_to_start_and_reports_why() {
    let yaml = yaml(echo(), "1s");
    let balancer = Balancer::start(&yaml).ready();
    let second = run(&yaml.replace("HOST", &balancer.address.to_string()));
    is_rejected(&second, balancer.at(TLS));
    exchange(balancer.at(TLS)).unwrap();
}

#[test]
fn a_second_instance_fails_to_start_also_while_the_port_is_closed() {
    let yaml = yaml(unused_address(), "1s");
    let balancer = Balancer::start(&yaml);
    is_health(&balancer, "web", "down");
    eventually("the port refuses", || {
        TcpStream::connect(balancer.at(TLS)).err()
    });
    let second = run(&yaml.replace("HOST", &balancer.address.to_string()));
    is_rejected(&second, balancer.at(TLS));
}

#[test]
fn the_next_instance_starts_at_once_on_a_port_that_had_connections() {
    let yaml = yaml(echo(), "1s");
    let mut first = Balancer::start(&yaml).ready();
    let address = first.address.to_string();
    // The balancer closes first, so TIME_WAIT is on its side.
    let received = crate::support::raw::say_and_hear(&connect(first.at(TLS)), b"garbage");
    received.must_be(Answer::Nothing, "garbage");
    let _open = served(first.at(TLS));
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0));
    let to = first.at(TLS);
    let _second = Balancer::start(&yaml.replace("HOST", &address)).ready();
    exchange(to).unwrap();
}

#[test]
fn an_address_that_the_machine_does_not_have_is_bound() {
    let more = yaml(echo(), "1s").replace("[\"HOST:443\"]", "[\"HOST:443\", \"192.0.2.77:443\"]");
    let balancer = Balancer::start(&more).ready();
    exchange(balancer.at(TLS)).unwrap();
    counted(
        &balancer,
        "lyncpin_listener_open",
        &["listener=\"tls\""],
        1.0,
    );
    assert!(
        balancer
            .get("/api/v1/status")
            .body
            .contains("192.0.2.77:443")
    );
}

#[test]
fn an_admin_listener_is_bound_to_an_address_that_the_machine_does_not_have() {
    let yaml = yaml(echo(), "1s");
    for admin in [
        "bind: \"HOST:9900\", metrics_bind: \"192.0.2.77:9901\", token_file: \"TOKEN\"",
        "bind: \"HOST:9900\", metrics_bind: \"[2001:db8::77]:9901\", token_file: \"TOKEN\"",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, "test-token\n").unwrap();
        let admin = admin.replace("TOKEN", &token.display().to_string());
        let balancer = Balancer::start(&format!("{yaml}\nadmin: {{ {admin} }}\n")).ready();
        exchange(balancer.at(TLS)).unwrap();
    }
}

#[test]
fn sigusr1_does_nothing() {
    let balancer = start("1s");
    let held = served(balancer.at(TLS));
    for _ in 0..3 {
        balancer.signal(Signal::USR1);
    }
    echoed(&held, b"still there").unwrap();
    exchange(balancer.at(TLS)).unwrap();
    assert_eq!(balancer.get("/readyz").status, 200);
}

#[test]
fn a_port_that_closes_and_opens_quickly_is_served_by_every_worker_afterwards() {
    let balancer = start("1s");
    let to = balancer.at(TLS);
    let mut admin = AdminLine::open(&balancer);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Load, so that the workers are late.
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = exchange(to);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..400 {
                admin.set_state("web", "fe01", "maintain");
                admin.set_state("web", "fe01", "ready");
            }
        }));
        // Also after a failure: clients that continue would use up the ports of every other test.
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    eventually("the port listens", || TcpStream::connect(to).ok());
    for _ in 0..40 {
        exchange(to).unwrap();
    }
    let before = ticks(&balancer);
    // A worker that spins on its socket would use this whole second.
    std::thread::sleep(Duration::from_secs(1));
    let spent = ticks(&balancer) - before;
    assert!(spent < 50, "{spent} ticks in a second");
}

/// Long names in the configuration make the log line of a connection long.
fn long_lines() -> String {
    let long = "l".repeat(250);
    yaml(echo(), "1s").replace(
        "listeners:\n",
        &format!(
            "listeners:\n  {long}: {{ bind: [\"HOST:1000\"], protocol: tcp, pool: {long}, when_pool_down: refuse }}\n"
        ),
    )
    .replace(
        "pools: {",
        &format!("pools: {{ {long}: {{ backends: [\"{}\"] }},", unused_address()),
    )
}

#[test]
fn a_log_without_a_reader_stops_nothing_and_lost_lines_are_counted() {
    raise_descriptors();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("log");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    // Opened for reading and writing, so that the balancer can open its end at once. The test never reads.
    let _unread = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let mut balancer = Balancer::start_with(&long_lines(), |command| {
        let mut redirected = Command::new("sh");
        redirected
            .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""])
            .arg(command.get_program())
            .args(command.get_args())
            .env("LOG", &fifo)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        *command = redirected;
    })
    .ready();
    is_health(&balancer, &"l".repeat(250), "down");
    let neighbour = Neighbour::start(balancer.at(TLS));
    let lost = || balancer.metric("lyncpin_log_lines_lost_total", &[]);
    let begun = Instant::now();
    while lost() == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(40), "no line is lost");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        // The balancer resets it soon.
                        drop(TcpStream::connect(balancer.at(1000)));
                    }
                });
            }
        });
    }
    neighbour.noticed_nothing();
    exchange(balancer.at(TLS)).unwrap();
    let total = balancer.metric("lyncpin_connections_total", &[]);
    assert!(lost() < total, "{total}");
    balancer.signal(Signal::TERM);
    let signalled = Instant::now();
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(
        signalled.elapsed() < Duration::from_secs(8),
        "{:?}",
        signalled.elapsed()
    );
}

/// Starts the balancer with a configuration that is never written, optionally as process 1 of its own PID namespace.
fn with_a_hanging_file(fifo: &std::path::Path, is_first: bool, watch: bool) -> std::process::Child {
    let mut command = if is_first {
        let mut own = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            own.args(["--user", "--map-root-user"]);
        }
        own.args(["--pid", "--fork", "--kill-child"]);
        own.arg(env!("CARGO_BIN_EXE_lyncpin"));
        own
    } else {
        Command::new(env!("CARGO_BIN_EXE_lyncpin"))
    };
    command.arg("run").arg("-c").arg(fifo);
    if watch {
        command.arg("--watch");
    }
    command.env_remove("NOTIFY_SOCKET");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The process that waits for the file: the child or its own child.
fn waiting_process(child: &std::process::Child, is_first: bool) -> rustix::process::Pid {
    let own = i32::try_from(child.id()).unwrap();
    let pid = eventually("the balancer catches signals", || {
        let pid = if is_first {
            let path = format!("/proc/{own}/task/{own}/children");
            let children = std::fs::read_to_string(path).ok()?;
            children.split_whitespace().next()?.parse().ok()?
        } else {
            own
        };
        // The bit of SIGUSR2 in the mask of caught signals (proc(5)). Its handler is installed last.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << 11) != 0).then_some(pid)
    });
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[test]
fn a_stop_ends_a_start_that_waits_for_its_configuration_and_other_signals_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("balancer.yaml");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for (is_first, watch, stop) in [
        (false, false, Signal::TERM),
        (false, true, Signal::INT),
        (true, false, Signal::TERM),
        (true, true, Signal::TERM),
    ] {
        let mut child = with_a_hanging_file(&fifo, is_first, watch);
        let pid = waiting_process(&child, is_first);
        for harmless in [Signal::USR1, Signal::HUP, Signal::USR2] {
            rustix::process::kill_process(pid, harmless).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none());
        rustix::process::kill_process(pid, stop).unwrap();
        let ended = eventually("it ends", || child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0), "first: {is_first}, watch: {watch}");
    }
}
