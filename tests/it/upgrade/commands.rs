//! Commands after an upgrade reach the older processes, and the status shows those processes.

use std::net::{IpAddr, TcpStream};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::chromium::Chromium;
use crate::support::peers::{Backend, ask, assert_reset, connect_from, entries, is_alive};
use crate::support::{PATIENCE, eventually, own_address};

use super::{Service, is_running};

const TCP: u16 = 5000;
const POOL: &str = "health: none, affinity: { by: [source] }";

fn start(backends: &[Backend], pool: &str) -> Service {
    Service::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         workers: 2\npools:\n  web: {{ {}, {pool} }}",
        entries(backends)
    ))
}

/// Connects from a new client address; returns the address, the backend and the connection.
fn connect_client(service: &Service) -> (IpAddr, String, TcpStream) {
    let source = own_address();
    let client = connect_from(source, service.balancer.at(TCP)).unwrap();
    let server = ask(&client, b"?").unwrap();
    (source, server, client)
}

fn older(service: &Service) -> Vec<serde_json::Value> {
    let status = service.balancer.status();
    status["predecessors"].as_array().unwrap().clone()
}

/// Waits until the status shows these older processes and their connection counts.
fn wait_for_older(service: &Service, wanted: &[(Pid, u64)]) -> Vec<serde_json::Value> {
    eventually(&format!("older processes are {wanted:?}"), || {
        let shown = older(service);
        let seen: Vec<_> = shown
            .iter()
            .map(|one| (one["pid"].as_i64(), one["connections"].as_u64()))
            .collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(pid, connections)| (Some(i64::from(pid.as_raw_pid())), Some(*connections)))
            .collect();
        (seen == wanted).then_some(shown)
    })
}

fn first(service: &Service) -> Pid {
    service.group
}

#[test]
fn the_status_shows_each_older_process_and_its_connections_by_backend() {
    let backends = Backend::several(2);
    let service = start(&backends, POOL);
    let (_, server, one) = connect_client(&service);
    let second = service.upgrade();
    let (_, other, two) = connect_client(&service);
    service.upgrade();
    let shown = wait_for_older(&service, &[(first(&service), 1), (second, 1)]);
    for (older, server) in shown.iter().zip([&server, &other]) {
        assert_eq!(older["answers"], true, "{older}");
        assert_eq!(
            older["backends"],
            serde_json::json!([{ "pool": "web", "backend": server, "connections": 1 }])
        );
        assert!(older["until"].is_string() && older["since"].is_string());
    }
    let output = service.balancer.said(&["status"]);
    let wanted = format!("older process {}, replaced", first(&service).as_raw_pid());
    assert!(output.out.contains(&wanted), "{output:?}");
    assert!(
        output.out.contains(&format!(
            ": 1 connection (web/{server} 1), the rest is reset in "
        )),
        "{output:?}"
    );
    assert_eq!(service.balancer.metric("lyncpin_predecessors", &[]), 2.0);
    assert_eq!(
        service
            .balancer
            .metric("lyncpin_predecessor_connections", &[]),
        2.0
    );
    drop(one);
    wait_for_older(&service, &[(second, 1)]);
    drop(two);
    wait_for_older(&service, &[]);
    assert_eq!(
        service
            .balancer
            .metric("lyncpin_predecessor_connections", &[]),
        0.0
    );
}

#[test]
fn the_status_page_shows_older_processes_in_its_header() {
    let backends = Backend::several(1);
    let service = start(&backends, POOL);
    let (_, _, held) = connect_client(&service);
    let mut browser = Chromium::start(1280, 900);
    browser.open(&format!("http://{}/", service.balancer.at(9900)));
    browser.until("document.querySelector('#token').open");
    browser.write("test-token");
    browser.press("Enter");
    browser.until("document.querySelector('.pool tbody tr')");
    let head = "document.querySelector('#older')";
    browser.until(&format!("{head}.hidden"));
    service.upgrade();
    let wanted = format!(
        "Older process {}: 1 connection from before an upgrade, reset at ",
        first(&service).as_raw_pid()
    );
    browser.until(&format!(
        "!{head}.hidden && {head}.textContent.startsWith('{wanted}')"
    ));
    drop(held);
    browser.until(&format!("{head}.hidden"));
}

#[test]
fn a_reload_during_an_upgrade_gets_a_response() {
    let backends = Backend::several(1);
    let service = start(&backends, POOL);
    let done = std::sync::atomic::AtomicBool::new(false);
    let running = || !done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let command = scope.spawn(|| {
            while running() {
                let output = service.balancer.said(&["reload"]);
                let rejected = output.err.contains("an upgrade is under way");
                assert!(output.status == 0 || rejected, "{output:?}");
            }
        });
        for _ in 0..6 {
            service.upgrade();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        command.join().unwrap();
    });
}

#[test]
fn maintain_resets_the_connections_of_every_older_process() {
    let backends = Backend::several(1);
    let service = start(&backends, POOL);
    let held: Vec<TcpStream> = (0..3)
        .map(|_| {
            let held = connect_client(&service).2;
            service.upgrade();
            held
        })
        .collect();
    eventually("all three are shown", || {
        (older(&service).len() == 3).then_some(())
    });
    let output = service.balancer.said(&["maintain", "web/a", "--force"]);
    assert_eq!((output.status, output.err.as_str()), (0, ""), "{output:?}");
    let count = output.out.matches("  and in the older process ").count();
    assert_eq!(count, 3, "{output:?}");
    for held in &held {
        assert_reset(held);
    }
    wait_for_older(&service, &[]);
    // Each process logs the caller.
    eventually("four processes have logged the caller", || {
        let log = service.balancer.log();
        let logged = log
            .iter()
            .filter(|line| line["message"] == "administrative state");
        let logged: Vec<_> = logged.collect();
        for line in &logged {
            assert!(
                line["by"] == "command" && line["from"] != "unknown",
                "{line}"
            );
        }
        (logged.len() == 4).then_some(())
    });
}

#[test]
fn the_next_process_knows_the_connections_of_older_ones_from_the_start() {
    let backends = Backend::several(1);
    let service = start(&backends, POOL);
    let (_, _, held) = connect_client(&service);
    let is_known = || {
        let shown = older(&service);
        let held = serde_json::json!([{ "pool": "web", "backend": "a", "connections": 1 }]);
        assert_eq!(
            (&shown[0]["connections"], &shown[0]["backends"]),
            (&serde_json::json!(1), &held)
        );
        assert!(shown[0]["until"].is_string(), "{shown:?}");
        shown
    };
    service.upgrade();
    assert_eq!(is_known()[0]["answers"], true);
    // A process that no longer responds keeps its number across upgrades.
    kill_process(first(&service), Signal::STOP).unwrap();
    for _ in 0..2 {
        service.upgrade();
        is_known();
    }
    eventually("it does not respond", || {
        (is_known()[0]["answers"] == false).then_some(())
    });
    service.upgrade();
    assert_eq!(is_known()[0]["answers"], false);
    let output = service.balancer.said(&["maintain", "web/a", "--force"]);
    let wanted = format!(
        "process {} did not respond: its 1 connection was not reached\n",
        first(&service).as_raw_pid()
    );
    assert_eq!((output.status, output.err), (1, wanted));
    kill_process(first(&service), Signal::CONT).unwrap();
    assert_reset(&held);
}

#[test]
fn an_older_process_ends_with_its_last_connection_and_other_pins_stay_in_use() {
    let backends = Backend::several(2);
    let service = start(
        &backends,
        "health: none, affinity: { by: [source], ttl: 1s }",
    );
    let (_, _, held) = connect_client(&service);
    let second = service.upgrade();
    let (_, _, other) = connect_client(&service);
    service.upgrade();
    drop(other);
    eventually("the second process has ended", || {
        (!is_running(second) || is_zombie(second)).then_some(())
    });
    assert!(is_running(first(&service)) && is_alive(&held));
    let pins = || {
        let page = service.balancer.get("/api/v1/affinity").body;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        page["entries"].as_array().unwrap().clone()
    };
    eventually(
        "only the pin of the first process is left, held once",
        || {
            let pins = pins();
            (pins.len() == 1 && pins[0]["connections"] == 1).then_some(())
        },
    );
    // Longer than the TTL of an idle pin.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let pins = pins();
        assert_eq!(pins.len(), 1);
        assert_eq!(pins[0]["connections"], 1, "{pins:?}");
    }
    drop(held);
    eventually("the pin has ended", || pins().is_empty().then_some(()));
}

#[test]
fn a_drain_waits_for_connections_of_older_processes_until_its_deadline() {
    let backends = Backend::several(2);
    let service = start(&backends, POOL);
    let (_, server, held) = connect_client(&service);
    let (_, _, other) = std::iter::repeat_with(|| connect_client(&service))
        .find(|(_, got, _)| *got != server)
        .unwrap();
    service.upgrade();
    wait_for_older(&service, &[(first(&service), 2)]);
    // With the pins cleared, the drain waits only for the connection.
    let output = service.balancer.said(&["affinity", "clear", "--all"]);
    assert!(
        output.out.ends_with("2 connections not affected\n"),
        "{output:?}"
    );
    assert!(is_alive(&held) && is_alive(&other));
    let drain = ["drain", &server, "--deadline", "600s"];
    let output = service.balancer.said(&drain);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(is_alive(&held));
    assert_eq!(service.balancer.said(&["ready", &server]).status, 0);
    let mut waiting = service
        .balancer
        .command(&["drain", &server, "--deadline", "3s", "--wait"]);
    let begun = Instant::now();
    let Output { status, stdout, .. } = waiting.stderr(Stdio::piped()).output().unwrap();
    let out = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{out}");
    assert!(out.contains(": 1 connection, 0 pins, "), "{out}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{out}");
    assert_reset(&held);
    assert!(is_alive(&other));
}

#[test]
fn moved_pins_reset_their_connections_in_every_process_and_each_is_counted_once() {
    let backends = Backend::several(2);
    let service = start(&backends, POOL);
    let source = own_address();
    let mut held = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        for _ in 0..2 {
            let client = connect_from(source, service.balancer.at(TCP)).unwrap();
            servers.push(ask(&client, b"?").unwrap());
            held.push(client);
        }
        if held.len() < 6 {
            service.upgrade();
        }
    }
    let from = servers[0].clone();
    assert!(servers.iter().all(|server| *server == from));
    let to = if from == "a" { "b" } else { "a" };
    let output = service.balancer.said(&[
        "affinity",
        "move",
        "--client",
        &source.to_string(),
        "--to",
        to,
    ]);
    assert_eq!(
        output.out,
        format!("1 pin moved to {to}, 6 connections reset\n"),
        "{output:?}"
    );
    for held in &held {
        assert_reset(held);
    }
    let client = connect_from(source, service.balancer.at(TCP)).unwrap();
    assert_eq!(ask(&client, b"?").unwrap(), to);
}

#[test]
fn a_move_to_a_backend_unknown_to_the_older_process_resets_connections_there_too() {
    let backends = Backend::several(2);
    let service = start(&backends[..1], POOL);
    let (source, _, held) = connect_client(&service);
    service.change_file(|text| {
        let both = entries(&backends);
        text.replace(&entries(&backends[..1]), &both)
    });
    service.upgrade();
    let output = service.balancer.said(&[
        "affinity",
        "move",
        "--client",
        &source.to_string(),
        "--to",
        "web/b",
    ]);
    assert_eq!(
        output.out, "1 pin moved to web/b, 1 connection reset\n",
        "{output:?}"
    );
    assert_reset(&held);
    let client = connect_from(source, service.balancer.at(TCP)).unwrap();
    assert_eq!(ask(&client, b"?").unwrap(), "b");
}

#[test]
fn a_process_that_does_not_respond_is_reported_in_time_and_delays_nothing() {
    let backends = Backend::several(2);
    let service = start(&backends, POOL);
    let (source, server, held) = connect_client(&service);
    let second = service.upgrade();
    let (_, other, reached) = std::iter::repeat_with(|| connect_client(&service))
        .find(|(_, got, _)| *got == server)
        .unwrap();
    assert_eq!(server, other);
    service.upgrade();
    let shown = wait_for_older(
        &service,
        &[
            (first(&service), 1),
            (second, older_connections(&service, second)),
        ],
    );
    assert_eq!(shown.len(), 2);
    kill_process(first(&service), Signal::STOP).unwrap();
    let asking = service
        .balancer
        .command(&["maintain", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(service.balancer.get("/healthz").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
    let output = asking.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    let wanted = format!(
        "process {} did not respond: its 1 connection was not reached\n",
        first(&service).as_raw_pid()
    );
    assert_eq!(err, wanted);
    assert_reset(&reached);
    eventually("the status reports it", || {
        (older(&service)[0]["answers"] == false).then_some(())
    });
    let output = service.balancer.said(&["status"]);
    assert!(output.out.contains(", does not respond"), "{output:?}");
    let to = if server == "a" { "b" } else { "a" };
    let moved = [
        "affinity",
        "move",
        "--client",
        &source.to_string(),
        "--to",
        to,
    ];
    let output = service.balancer.said(&moved);
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, wanted.as_str()),
        "{output:?}"
    );
    assert_eq!(
        output.out,
        format!("1 pin moved to {to}, 0 connections reset\n")
    );
    // It receives the pending command when it continues.
    kill_process(first(&service), Signal::CONT).unwrap();
    assert_reset(&held);
}

fn older_connections(service: &Service, pid: Pid) -> u64 {
    eventually("the process is shown with connections", || {
        let shown = older(service);
        let one = shown
            .iter()
            .find(|one| one["pid"].as_i64() == Some(pid.as_raw_pid().into()))?;
        one["connections"].as_u64().filter(|count| *count > 0)
    })
}

#[test]
fn many_commands_to_a_process_that_hangs_do_not_block() {
    let backends = Backend::several(1);
    let service = start(&backends, POOL);
    let (_, _, held) = connect_client(&service);
    service.upgrade();
    wait_for_older(&service, &[(first(&service), 1)]);
    kill_process(first(&service), Signal::STOP).unwrap();
    let asked = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let set = service
                        .balancer
                        .set_state("web", "a", r#"{"state":"ready"}"#);
                    assert!(set.body.contains(r#""answered":false"#), "{}", set.body);
                }
            });
        }
    });
    assert!(asked.elapsed() < PATIENCE);
    kill_process(first(&service), Signal::CONT).unwrap();
    eventually("it responds again", || {
        (older(&service)[0]["answers"] == true).then_some(())
    });
    assert!(is_alive(&held));
}

#[test]
fn an_older_process_continues_its_checks_and_resets_connections_of_a_dead_backend() {
    let backends = Backend::several(2);
    let service = start(
        &backends,
        "health: { interval: 1s, timeout: 500ms, rise: 1, fall: 1 }, affinity: { by: [source] }",
    );
    let (_, server, held) = connect_client(&service);
    service.upgrade();
    wait_for_older(&service, &[(first(&service), 1)]);
    let dead = backends
        .iter()
        .find(|backend| backend.name == server)
        .unwrap();
    // The connection stays open at the backend, whose port refuses from now on.
    dead.refuse();
    assert_reset(&held);
}

#[test]
fn a_stop_of_the_serving_process_stops_the_older_ones_in_order() {
    let backends = Backend::several(1);
    let mut service = start(&backends, &format!("{POOL} }}\ntimeouts: {{ shutdown: 2s"));
    let (_, _, held) = connect_client(&service);
    let second = service.upgrade();
    wait_for_older(&service, &[(first(&service), 1)]);
    kill_process(second, Signal::TERM).unwrap();
    let signalled = Instant::now();
    assert!(is_alive(&held));
    assert_reset(&held);
    assert!(signalled.elapsed() >= Duration::from_secs(1));
    assert_eq!(service.balancer.wait().code(), Some(0));
    eventually("the serving process has ended", || {
        (!is_running(second) || is_zombie(second)).then_some(())
    });
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}
